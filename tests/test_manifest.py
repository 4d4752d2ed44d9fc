"""Manifests: one model, one sequence of bytes; everything else is refused."""

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

import pytest
from tacit.errors import ModelError
from tacit.manifest import LARGEST, Manifest

MODEL = Manifest(
    name="tiny",
    architecture="llama",
    layers=2,
    heads=4,
    kv_heads=2,
    head_size=6,
    width=12,
    hidden=20,
    vocab=17,
    context=16,
    eps=1e-5,
    activation="silu",
    rope_theta=100.0,
    config_hash="a" * 64,
    weights_hash="b" * 64,
    tokenizer_hash=None,
    bos=1,
    eos=(2, 3),
    ranges={"layers.0.norm1": {"mean_square": 0.5, "input": 3.25}, "é": {"x": 1}},
)


def spoiled(**changes: Any) -> bytes:
    return json.dumps(asdict(MODEL) | changes, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_round_trip_and_hash() -> None:
    data = MODEL.to_bytes()
    assert data == spoiled()
    assert Manifest.from_bytes(data) == MODEL
    assert MODEL.hash == hashlib.sha256(data).hexdigest()
    assert len({MODEL.hash, replace(MODEL, bos=2).hash, replace(MODEL, ranges={}).hash}) == 3


def test_order_of_ranges_does_not_matter() -> None:
    turned = {site: dict(list(q.items())[::-1]) for site, q in list(MODEL.ranges.items())[::-1]}
    assert replace(MODEL, ranges=turned).hash == MODEL.hash


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b" " * (LARGEST + 1),
        MODEL.to_bytes() + b" ",
        json.dumps(asdict(MODEL)).encode(),
        MODEL.to_bytes().replace(b'"bos":1', b'"bos":1,"bos":1'),
        MODEL.to_bytes().replace("é".encode(), b"\\u00e9"),
        spoiled(extra=1),
        spoiled(name=""),
        spoiled(name="x" * 201),
        spoiled(name=7),
        spoiled(layers=0),
        spoiled(layers=True),
        spoiled(layers="2"),
        spoiled(vocab=1 << 40),
        spoiled(format=2),
        spoiled(eps=float("nan")),
        spoiled(eps=-1e-5),
        spoiled(rope_theta=0),
        spoiled(config_hash="a" * 63),
        spoiled(weights_hash="B" * 64),
        spoiled(tokenizer_hash=""),
        spoiled(bos=17),
        spoiled(eos=2),
        spoiled(eos=[2, 17]),
        spoiled(ranges=[]),
        spoiled(ranges={"norm": 3.5}),
        spoiled(ranges={"norm": {"input": "3.5"}}),
        spoiled(ranges={"norm": {"input": float("inf")}}),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="manifest"):
        Manifest.from_bytes(data)


def test_the_client_can_import_it_alone() -> None:
    code = "import sys, tacit.manifest; print(sorted({'torch', 'numba', 'numpy', 'safetensors'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
