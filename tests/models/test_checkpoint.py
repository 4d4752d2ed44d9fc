"""Folders on disk: what loads, and what is refused before anything large is allocated."""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file as save_torch
from tacit.errors import ModelError
from tacit.manifest import Manifest
from tacit.models.checkpoint import load_checkpoint
from tacit.models.locate import locate, shipped_models
from tiny_models import LLAMA, Folder
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

Q = "model.layers.1.self_attn.q_proj.weight"


def test_loads_float32_as_they_are(llama: Folder) -> None:
    checkpoint = load_checkpoint(llama.path)
    assert (checkpoint.bos, checkpoint.eos, checkpoint.tokenizer) == (1, (2, 3), None)
    assert set(checkpoint.tensors) == set(checkpoint.layout.shapes)
    assert np.array_equal(checkpoint.tensors[Q.removeprefix("model.")], llama.tensors[Q])
    data = (llama.path / "model.safetensors").read_bytes()
    assert checkpoint.weights_hash == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_loads_half_precision(llama: Folder, dtype: torch.dtype) -> None:
    halves = {name: torch.from_numpy(value).to(dtype) for name, value in llama.tensors.items()}
    save_torch(halves, llama.path / "model.safetensors")
    tensor = load_checkpoint(llama.path).tensors[Q.removeprefix("model.")]
    assert tensor.dtype == np.float32
    assert np.array_equal(tensor, halves[Q].float().numpy())


def test_names_with_and_without_prefix_and_masks_of_old_files(gpt2: Folder) -> None:
    bare = {name.removeprefix("transformer."): value for name, value in gpt2.tensors.items()}
    bare["h.0.attn.bias"] = np.ones((1, 1, 16, 16), np.float32)
    gpt2.save(bare)
    checkpoint = load_checkpoint(gpt2.path)
    assert "h.0.attn.bias" not in checkpoint.tensors
    assert np.array_equal(checkpoint.tensors["ln_f.bias"], bare["ln_f.bias"])


def test_shards_equal_the_single_file(llama: Folder) -> None:
    whole = load_checkpoint(llama.path)
    (llama.path / "model.safetensors").unlink()
    names = sorted(llama.tensors)
    parts = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5:]}
    for file, members in parts.items():
        llama.save({name: llama.tensors[name] for name in members}, file)
    index = {"weight_map": {name: file for file, members in parts.items() for name in members}}
    (llama.path / "model.safetensors.index.json").write_text(json.dumps(index))
    sharded = load_checkpoint(llama.path)
    assert all(np.array_equal(sharded.tensors[n], whole.tensors[n]) for n in whole.tensors)
    assert sharded.weights_hash != whole.weights_hash
    (llama.path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors is missing"):
        load_checkpoint(llama.path)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "x.bin", "..", 7, ""])
def test_shards_outside_the_folder_are_refused(llama: Folder, name: Any) -> None:
    (llama.path / "model.safetensors").rename(llama.path.parent / "model.safetensors")
    (llama.path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {Q: name}}))
    with pytest.raises(ModelError, match="is not the name of a safetensors file"):
        load_checkpoint(llama.path)


def _replaced(name: str, value: Any) -> Callable[[Folder], None]:
    return lambda folder: folder.save(folder.tensors | {name: value})


def _one_bad(value: float) -> Any:
    tensor = np.ones((24, 12), np.float32)
    tensor[23, 5] = value
    return tensor


def _cut(folder: Folder) -> None:
    path = folder.path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def _huge_header(folder: Folder) -> None:
    path = folder.path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 60) + path.read_bytes()[8:])


def _text(folder: Folder) -> None:
    (folder.path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


def _overlap(folder: Folder) -> None:
    header = {
        n: {"dtype": "F32", "shape": list(v.shape), "data_offsets": [0, v.nbytes]} for n, v in folder.tensors.items()
    }
    raw = json.dumps(header).encode()
    size = max(v.nbytes for v in folder.tensors.values())
    (folder.path / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(size))


def _without(folder: Folder) -> None:
    folder.save({name: value for name, value in folder.tensors.items() if name != Q})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cut, "damaged"),
        (_huge_header, "damaged"),
        (_text, "damaged"),
        (_overlap, "damaged"),
        (_without, r"q_proj.weight is missing"),
        (_replaced(Q, np.zeros((24, 13), np.float32)), r"shape \(24, 13\), config.json calls for \(24, 12\)"),
        (_replaced(Q, np.zeros((24, 12), np.int64)), "type I64"),
        (_replaced(Q, _one_bad(np.nan)), "not finite"),
        (_replaced(Q, _one_bad(-np.inf)), "not finite"),
        (_replaced(Q.replace("weight", "bias"), np.zeros(24, np.float32)), "has no place in this architecture"),
        (_replaced("model.layers.0.self_attn.q_norm.weight", np.ones(6, np.float32)), "q_norm.weight has no place"),
        (_replaced("model.layers.2.mlp.up_proj.weight", np.ones((20, 12), np.float32)), "has no place"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(llama: Folder, spoil: Callable[[Folder], None], message: str) -> None:
    spoil(llama)
    with pytest.raises(ModelError, match=message) as caught:
        load_checkpoint(llama.path)
    assert "model.safetensors" in str(caught.value) or str(llama.path) in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_config(llama: Folder, data: bytes) -> None:
    (llama.path / "config.json").write_bytes(data)
    with pytest.raises(ModelError, match=r"config\.json"):
        load_checkpoint(llama.path)


def test_other_formats_are_not_read(llama: Folder) -> None:
    (llama.path / "model.safetensors").rename(llama.path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"has no model\.safetensors"):
        load_checkpoint(llama.path)


@pytest.mark.parametrize("change", [{"bos_token_id": 17}, {"eos_token_id": [2, -1]}, {"eos_token_id": "2"}])
def test_special_tokens_outside_the_vocabulary(llama: Folder, change: dict[str, Any]) -> None:
    llama.configure(**change)
    with pytest.raises(ModelError, match=next(iter(change))):
        load_checkpoint(llama.path)


def test_generation_config_goes_before_config(llama: Folder) -> None:
    (llama.path / "generation_config.json").write_text(json.dumps({"eos_token_id": 5}))
    assert load_checkpoint(llama.path).eos == (5,)


def _tokenizer(folder: Path, size: int) -> bytes:
    Tokenizer(WordLevel({f"w{i}": i for i in range(size)}, unk_token="w0")).save(str(folder / "tokenizer.json"))
    return (folder / "tokenizer.json").read_bytes()


def test_tokenizer_of_this_model(llama: Folder) -> None:
    data = _tokenizer(llama.path, 17)
    checkpoint = load_checkpoint(llama.path)
    assert checkpoint.tokenizer == data
    assert checkpoint.manifest().tokenizer_hash == hashlib.sha256(data).hexdigest()


def test_wrong_or_damaged_tokenizer(llama: Folder) -> None:
    _tokenizer(llama.path, 18)
    with pytest.raises(ModelError, match="wrong tokenizer, has token 17"):
        load_checkpoint(llama.path)
    _tokenizer(llama.path, 8)
    with pytest.raises(ModelError, match="wrong tokenizer, ends at token 7"):
        load_checkpoint(llama.path)
    _tokenizer(llama.path, 9)
    load_checkpoint(llama.path)
    (llama.path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="not a tokenizer"):
        load_checkpoint(llama.path)


def test_manifest_tells_one_model_from_another(llama: Folder) -> None:
    ranges = {"layers.0.norm1": {"input": 3.5}}
    manifest = load_checkpoint(llama.path).manifest(ranges)
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert manifest.ranges == ranges
    seen = {manifest.hash, load_checkpoint(llama.path).manifest().hash}
    llama.save(llama.tensors | {Q: llama.tensors[Q] + 1})
    seen.add(load_checkpoint(llama.path).manifest(ranges).hash)
    assert len(seen) == 3


def test_where_models_are_looked_for(llama: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate(str(llama.path)) == llama.path
    for name in shipped_models():
        assert (locate(name) / "config.json").is_file()
    for name in ("no-such-model", "nobody/has-this-model", "nobody/has--this", "../stories"):
        with pytest.raises(ModelError, match="no model"):
            locate(name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        locate(tmp_path / "empty")


def test_hub_models_come_from_the_local_cache_only(
    llama: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    snapshot = cache / "models--someone--tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_bytes((llama.path / name).read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    checkpoint = load_checkpoint("someone/tiny")
    assert checkpoint.name == "someone/tiny"
    assert checkpoint.layout.spec.width == LLAMA["hidden_size"]
