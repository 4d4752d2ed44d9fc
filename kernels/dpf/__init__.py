"""Distributed point functions: keys, and their pruned evaluation fused with the tables of a gate."""
