"""What scripts/private_search is made of: passages and the index. Its commands run in test_end_to_end_embedding.py."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.errors import ConfigError, UsageError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module", autouse=True)
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield
        for name in [name for name in sys.modules if name.split(".")[0] == "note_search"]:
            del sys.modules[name]


def module(name: str) -> Any:
    return importlib.import_module(f"note_search.{name}")


def words(text: str) -> int:
    """Tokens of a toy tokenizer: words, and marks of begin and end."""
    return 2 + len(text.split())


def cut(text: str, most: int = 40) -> list[str]:
    found = module("passages").passages_of(text, words, most)
    assert [one.line for one in found] == [1 + text.count("\n", 0, one.start) for one in found]
    return [text[one.start : one.end] for one in found]


def test_paragraphs_are_passages_and_headings_join_what_follows() -> None:
    first, second = " ".join(["one"] * 30), "two " * 20 + "\n" + "three " * 10
    assert cut(f"{first}\n\n \n{second}\n\n") == [first, second.strip()]
    assert cut(f"# Heading\n\n{first}\n") == [f"# Heading\n\n{first}"]
    assert cut("a\n\nb\n\nc") == ["a\n\nb\n\nc"]
    assert cut(" \n\n\t\n") == cut("") == []


def test_long_paragraphs_are_cut_between_words() -> None:
    long = " ".join(f"word{i}" for i in range(100))
    pieces = cut(long)
    assert " ".join(pieces) == long
    assert [words(piece) for piece in pieces] == [40, 40, 26]


@given(st.text(alphabet="ab \n\t", max_size=400), st.integers(3, 30))
@settings(max_examples=150, deadline=None)
def test_no_word_is_lost_and_none_is_in_two_passages(text: str, most: int) -> None:
    pieces = cut(text, most)
    assert " ".join(pieces).split() == text.split()
    assert all(words(piece) <= most and piece == piece.strip() and piece for piece in pieces)


def test_files_are_found_by_name_and_hidden_ones_and_links_are_not(tmp_path: Path) -> None:
    for name in ("b.md", "a.txt", "c.png", ".hidden.md", "sub/d.md", ".git/e.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "link.md").symlink_to(tmp_path / "b.md")
    (tmp_path / "away").symlink_to(tmp_path / "sub")
    found = [path.relative_to(tmp_path).as_posix() for path in module("passages").files_of(tmp_path, ["*.md", "*.txt"])]
    assert found == ["a.txt", "b.md", "sub/d.md"]


def vectors(*rows: list[float]) -> Any:
    return np.array(rows, np.float32)


def test_the_nearest_come_first_and_a_file_is_replaced_whole(tmp_path: Path) -> None:
    index, passage = module("index").Index, module("passages").Passage
    with index(tmp_path, create=True) as kept:
        kept.made_by("tiny", 2)
        kept.put("a.md", "00", [passage(0, 4, 1), passage(6, 9, 3)], vectors([1, 0], [0, 1]))
        kept.put("b.md", "11", [passage(0, 7, 1)], vectors([0.6, 0.8]))
        kept.put("empty.md", "22", [], np.empty((0, 0), np.float32))
    with index(tmp_path, create=False) as kept:
        assert kept.model == ("tiny", 2)
        assert kept.hashes() == {"a.md": "00", "b.md": "11", "empty.md": "22"}
        hits = kept.nearest(vectors([0, 1])[0], 2)
        assert [(hit.path, hit.passage.line) for hit in hits] == [("a.md", 3), ("b.md", 1)]
        assert [hit.cosine for hit in hits] == pytest.approx([1.0, 0.8])
        kept.put("a.md", "33", [passage(0, 4, 1)], vectors([1, 0]))
        kept.drop("b.md")
        assert kept.count() == 1
        assert kept.hashes() == {"a.md": "33", "empty.md": "22"}


def test_the_index_is_its_owners_alone_and_of_one_model(tmp_path: Path) -> None:
    made = module("index")
    with pytest.raises(UsageError, match="no index yet"):
        made.Index(tmp_path, create=False)
    with made.Index(tmp_path, create=True) as kept:
        assert kept.model is None
        assert kept.nearest(vectors([0, 1])[0], 3) == []
        kept.made_by("tiny", 2)
        kept.made_by("tiny", 2)
        with pytest.raises(UsageError, match="was made with tiny, not other"):
            kept.made_by("other", 2)
    file = tmp_path / made.NAME
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match=r"private-search\.sqlite"):
        made.Index(tmp_path, create=False)
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be opened"):
        made.Index(tmp_path, create=True)
