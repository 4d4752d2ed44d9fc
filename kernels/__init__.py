"""Arrays in, arrays out: ring products, randomness, trees, packing. No sockets, no meaning."""
