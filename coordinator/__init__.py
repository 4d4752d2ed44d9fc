"""Registry of live peers, committee choice and the HTTP face that clients ask for sessions."""
