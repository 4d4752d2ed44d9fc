"""The oracle: the same models in the clear, in float64."""
