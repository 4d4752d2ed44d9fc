"""Shapes and costs only: what a step will need, nothing executed."""
