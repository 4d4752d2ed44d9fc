"""The mesh across machines: libp2p for talking, an invite for who may. Nothing here imports libp2p before a host starts."""
