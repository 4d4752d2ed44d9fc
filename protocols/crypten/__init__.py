"""CrypTen's own gates over our links, to be measured beside `pair`; see docs/crypten.md for what it does not protect.

Nothing here is imported unless a session or a measurement asks for it: it needs CrypTen, which `library.load` looks for.
"""
