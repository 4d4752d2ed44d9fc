"""Ranges are calibrated once for a model, whoever asks first, and kept by the hash of its weights."""

import threading
from pathlib import Path

import pytest
from tacit.errors import ConfigError
from tacit.models import ranges as kept
from tacit.models.checkpoint import Checkpoint, load_checkpoint
from tacit.models.fold import fold


@pytest.fixture
def stories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Checkpoint:
    monkeypatch.setenv("TACIT_CACHE_DIR", str(tmp_path))
    return load_checkpoint("stories")


def test_two_that_start_together_calibrate_once(stories: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, folded = fold(stories)
    calls = []
    real = kept.calibrate

    def counted(*arguments: object) -> object:
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(kept, "calibrate", counted)
    found = []
    threads = [threading.Thread(target=lambda: found.append(kept.calibrated(stories, spec, folded))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert found[0] == found[1] == real(spec, folded, kept.sample_sequences(spec, folded, stories.bos))


def test_a_damaged_cache_is_made_again(stories: Checkpoint, tmp_path: Path) -> None:
    spec, folded = fold(stories)
    first = kept.calibrated(stories, spec, folded)
    (file,) = (tmp_path / "ranges").glob("*.json")
    file.write_text("{", encoding="utf-8")
    assert kept.calibrated(stories, spec, folded) == first


def test_a_cache_that_cannot_be_written_is_said_to_be(
    stories: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("TACIT_CACHE_DIR", str(tmp_path / "file"))
    spec, folded = fold(stories)
    with pytest.raises(ConfigError, match="TACIT_CACHE_DIR"):
        kept.calibrated(stories, spec, folded)
