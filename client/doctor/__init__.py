"""`tacit doctor`: looks at everything between this machine and an answer, and says what to do about what is wrong."""
