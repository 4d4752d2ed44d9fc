"""Sharing a prompt, putting the answer together, and the command line. Imports no peer code."""
