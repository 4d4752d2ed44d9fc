"""The default protocol: two compute peers and a dealer, one corrupt peer tolerated."""
