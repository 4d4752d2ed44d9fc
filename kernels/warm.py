"""Compile every kernel once, into numba's cache, so that the processes of a cluster start without compiling."""

from __future__ import annotations

import secrets

import numpy as np

from . import bits_numba, ring
from .dpf.cover import Cover
from .dpf.keygen import tree_keys
from .dpf.trees import make_trees


def warm() -> None:
    """Call each kernel on tiny inputs with the argument types that the protocols use."""
    trees = make_trees(tree_keys(secrets.token_bytes(16)))
    one = np.zeros(1, np.uint64)
    roots = np.zeros((1, 2), np.uint64)
    zeros = np.zeros(2, np.int64)
    terms = np.array([0, 1])
    table = Cover(
        4,
        1,
        terms,
        zeros,
        zeros,
        terms,
        np.zeros(1, np.int64),
        terms,
        terms,
        np.zeros((1, 3), np.uint64),
        2,
    )
    cw, pcw = trees.generate(one, 1, roots, roots, np.zeros((1, 2), np.uint64), table.words(1))
    frozen = (
        np.frombuffer(cw.tobytes(), np.uint64).reshape(cw.shape),
        np.frombuffer(pcw.tobytes(), np.uint64).reshape(1, 2),
    )
    rows = np.zeros(1, np.int64)
    for keys in ((cw, pcw), frozen):  # keys from the wire are read-only, a type of their own to the compiler
        trees.cover(table, one, roots, *keys, 0)
        trees.histogram(np.zeros((1, 16), np.uint16), one, rows, roots, *keys, 0)
        trees.points(one, roots, *keys, 0, 4)
        trees.one_hot(roots, *keys, 0)
    bits_numba.unpack(bits_numba.pack(one, 7), 7, 1)
    for weight in (np.ones((4, 4), np.int8), np.full((4, 4), 300, np.int16)):
        matrix = ring.PublicMatrix(weight)
        for rows_ in (1, 40):
            ring.matmul(np.zeros((rows_, 4), np.uint64), matrix)
    cube = np.zeros((1, 2, 2), np.uint64)
    ring.bmm(cube, cube)
    ring.bmm_nt(cube, cube)
