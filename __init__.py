"""Tacit: a network of peers that answers a prompt none of them can read."""

__version__ = "0.1.0"
