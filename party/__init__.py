"""A peer: identity, mesh, links, sessions and the two engines (compute, dealer)."""
