"""Checkpoints and the model definitions, written over `protocols.base`."""
