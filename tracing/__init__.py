"""What the parties of a session spend their time on, and what they send each other: recorded, read, shown on one clock."""
