"""The oracle: the same models in the clear, in float64."""

from .plain import ACTIVATIONS, Observer, Plain, PlainCache, rotate

__all__ = ["ACTIVATIONS", "Observer", "Plain", "PlainCache", "rotate"]
