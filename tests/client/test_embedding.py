"""Embeddings at the client: packing, lengths, errors, and what becomes of the sums; a model in the clear stands in for peers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tacit.client import embedding
from tacit.client.answer import ModelFacts
from tacit.client.cli import app
from tacit.client.embedding import Embeddings, embed, packed
from tacit.client.feeds import Feed, batch_of
from tacit.client.plain import PlainModel, PlainRunner
from tacit.client.show_embed import read_texts
from tacit.client.tokens import IdTokenizer
from tacit.errors import PeerLost, UsageError
from tacit.sizes import STEP_TOKENS, Sizes
from tiny_encoder import BERT, CLS, SEP, textbook_vector, write_encoder
from typer.testing import CliRunner

TEXTS = ["The cat sat on the mat.", "", "dog ran home and then the cat sat on the big red road", "cat"]
SECRET = "blue"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> PlainModel:
    return PlainModel(str(folder))


class Watched(PlainRunner):
    """A runner that keeps what it was asked, and holds it against the sizes that were announced."""

    def __init__(self, model: PlainModel, sizes: Sizes, fail_at: int | None = None) -> None:
        super().__init__(model._spec, model._weights)
        self.sizes, self.lengths = sizes, sizes.lengths(model.facts.context, causal=False)
        self.asked: list[list[int]] = []
        self.ended: list[str] = []
        self._fail_at = fail_at

    def step(self, feeds: Sequence[Feed], ahead: int, forget: Sequence[int] = ()) -> Any:
        assert ahead == 0
        if self._fail_at == len(self.asked):
            raise PeerLost("peer-1", "gone")
        self.lengths.advance(batch_of(feeds))
        self.asked.append([len(feed.tokens) for feed in feeds])
        return super().step(feeds, ahead, forget)

    def finish(self) -> None:
        self.ended.append("finish")

    def abort(self) -> None:
        self.ended.append("abort")


def run(model: PlainModel, texts: Any, **settings: Any) -> tuple[Embeddings, Watched]:
    runners: list[Watched] = []

    def start(sizes: Sizes) -> Watched:
        runners.append(Watched(model, sizes))
        return runners[0]

    return embed(model.facts, model.tokenizer, texts, start, **settings), runners[0]


def test_vectors_are_the_textbooks_in_the_order_of_the_texts(model: PlainModel) -> None:
    found, _ = run(model, TEXTS)
    assert found.tokens == (9, 2, 15, 3)
    assert found.vectors.dtype == np.float32
    for vector, text in zip(found, TEXTS, strict=True):
        assert np.allclose(vector, textbook_vector(BERT, model.tokenizer.encode(text)), atol=1e-6)
    assert np.allclose(np.linalg.norm(found, axis=1), 1.0)
    assert len(found) == 4
    assert np.array_equal(found[2], found.vectors[2])
    assert np.asarray(found).shape == (4, 32)


def test_one_text_or_token_ids(model: PlainModel) -> None:
    alone, _ = run(model, TEXTS[0])
    ids, _ = run(model, model.tokenizer.encode(TEXTS[0]))
    several, _ = run(model, [model.tokenizer.encode(TEXTS[0]), TEXTS[0]])
    assert len(alone) == len(ids) == 1
    for other in (ids[0], several[0], several[1]):
        assert np.allclose(alone[0], other, atol=1e-6)


def test_without_normalising_it_is_the_mean(model: PlainModel) -> None:
    plain, _ = run(model, TEXTS, normalise=False)
    usual, _ = run(model, TEXTS)
    norms = np.linalg.norm(plain, axis=1, keepdims=True)
    assert np.abs(norms - 1).max() > 0.1
    assert np.allclose(plain.vectors / norms, usual.vectors, atol=1e-6)


def test_texts_go_through_together_and_in_as_few_steps_as_fit(
    model: PlainModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, runner = run(model, TEXTS)
    assert len(runner.asked) == 1
    assert runner.sizes == Sizes(4, 29, 9 * 9 + 2 * 2 + 15 * 15 + 3 * 3, 29)
    monkeypatch.setattr(embedding, "STEP_TOKENS", 18)
    heard: list[tuple[int, int]] = []
    found, runner = run(model, [*TEXTS, TEXTS[0]], progress=lambda done, total: heard.append((done, total)))
    assert runner.asked == [[15, 3], [9, 9], [2]]
    assert runner.ended == ["finish"]
    assert heard == [(2, 5), (4, 5), (5, 5)]
    assert found.costs.steps == 3
    assert np.allclose(found[0], found[4], atol=1e-6)
    assert np.allclose(found[1], textbook_vector(BERT, [CLS, SEP]), atol=1e-6)


def test_packing_never_exceeds_a_step() -> None:
    rng = np.random.default_rng(1)
    lengths = [int(n) for n in rng.integers(2, 257, 300)]
    steps = packed(lengths)
    assert sorted(place for step in steps for place in step) == list(range(300))
    for step in steps:
        rows, pairs = sum(lengths[p] for p in step), sum(lengths[p] ** 2 for p in step)
        assert len(step) == 1 or (rows <= STEP_TOKENS and pairs <= embedding.STEP_PAIRS)
        assert len(step) <= 64
    assert packed([256]) == [[0]]  # longer than a step of several may be: it goes alone
    assert [len(step) for step in packed([2] * 130)] == [64, 64, 2]


def test_a_longer_text_is_refused_or_cut_never_silently(model: PlainModel) -> None:
    long = SECRET + " cat" * 30
    with pytest.raises(UsageError, match="text 2 has 33 tokens and tiny takes 24") as raised:
        run(model, ["cat", long])
    assert SECRET not in str(raised.value)
    found, _ = run(model, ["cat", long], truncate=True)
    assert found.tokens == (3, 24)
    assert found.truncated == (1,)
    ids = model.tokenizer.encode(long)
    assert np.allclose(found[1], textbook_vector(BERT, [*ids[:23], SEP]), atol=1e-6)
    assert len(model.tokenizer.encode(long)) == 33  # the tokenizer is as it was
    given, _ = run(model, [ids], truncate=True)
    assert given.tokens == (24,)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "no text"),
        (b"cat", "not bytes"),
        (7, "not int"),
        (["cat", 7], "text 2 should be text"),
        (["cat", None], "text 2 should be text"),
        (["cat", []], "text 2 is empty"),
        (["cat", [5, 64]], "item 2 of text 2"),
        ([5, -1], "item 2 of text 1"),
        (["cat", "a\udcff"], "not UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_before_anything_is_sent(model: PlainModel, texts: Any, said: str) -> None:
    def never(sizes: Sizes) -> Any:
        raise AssertionError("a session was opened")

    with pytest.raises(UsageError, match=said):
        embed(model.facts, model.tokenizer, texts, never)


def test_a_model_that_continues_texts_embeds_none_and_the_other_way_round(model: PlainModel) -> None:
    facts = ModelFacts("talker", "pair", "", 64, 24, 2, None, ())
    with pytest.raises(UsageError, match="talker answers texts and embeds none"):
        embed(facts, IdTokenizer(64), "5 6", lambda sizes: PlainRunner(None, None))
    with pytest.raises(UsageError, match="tiny embeds texts and continues none"):
        model.generate("cat", max_new_tokens=1)


@pytest.mark.parametrize("fail_at", [0, 1])
def test_a_session_that_breaks_is_let_go_of(model: PlainModel, monkeypatch: pytest.MonkeyPatch, fail_at: int) -> None:
    monkeypatch.setattr(embedding, "STEP_TOKENS", 14)
    runners: list[Watched] = []

    def start(sizes: Sizes) -> Watched:
        runners.append(Watched(model, sizes, fail_at))
        return runners[0]

    with pytest.raises(PeerLost):
        embed(model.facts, model.tokenizer, TEXTS, start)
    assert runners[0].ended == ["abort"]


# The command line -----------------------------------------------------------------------------------------------------


def tacit(*arguments: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-P", "-m", "tacit.client.cli", "embed", *arguments]
    return subprocess.run(command, capture_output=True, timeout=60, check=False, input=text, env=os.environ.copy())


def test_lines_of_words_standard_input_and_a_file(folder: Path, model: PlainModel, tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"dog ran home\r\n\r\ncat")
    done = tacit(
        "cat", "-", "--file", str(tmp_path / "lines"), "--protocol", "plain", "--model", str(folder), text=b"the mat\n"
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    want = model.embed(["cat", "the mat", "dog ran home", "", "cat"])
    assert np.allclose(found, want.vectors, atol=1e-6)


def test_one_json_object(folder: Path) -> None:
    done = tacit("cat", "cat " * 40, "--truncate", "--json", "--protocol", "plain", "--model", str(folder))
    found = json.loads(done.stdout)
    assert np.array(found["embeddings"]).shape == (2, 32)
    assert found["tokens"] == [3, 24]
    assert found["truncated"] == [1]
    assert found["costs"]["steps"] == 1
    assert b"text 2 was cut to its first 24 tokens" in done.stderr


def test_errors_are_one_line_without_the_text(folder: Path, tmp_path: Path) -> None:
    done = tacit(f"{SECRET} cat " * 20, "--protocol", "plain", "--model", str(folder))
    assert done.returncode == 1
    assert b"42 tokens" in done.stderr
    assert SECRET.encode() not in done.stderr
    with pytest.raises(UsageError, match="there is no text to embed"):
        read_texts([], None)
    with pytest.raises(UsageError, match="cannot be read"):
        read_texts(["cat"], tmp_path / "none")
    refused = CliRunner().invoke(app, ["embed", "cat", "--protocol", "crypten"])
    assert refused.exit_code == 2
