"""Studies of latency: cases run on clusters of this machine, measured, predicted, and shown."""
