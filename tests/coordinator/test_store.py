"""What a coordinator remembers: across restarts, within bounds, and nothing that it would not show."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tacit.coordinator import store as module
from tacit.coordinator.store import History, Seating, Store
from tacit.errors import ConfigError
from tacit.wire import ModelOffer
from test_coordinator import IDENTITIES, peer_status

PEERS = ("peer-0 (aaaaaaaa)", "peer-1 (bbbbbbbb)", "peer-2 (cccccccc)")


def session(number: int) -> str:
    return f"{number:032x}"


def seating(number: int) -> Seating:
    return Seating(session(number)[-8:], "stories", PEERS, "3.20 EUR", float(number))


def test_everything_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "coordinator.sqlite"
    status = peer_status(IDENTITIES[0].peer_id, (ModelOffer("stories", "a" * 64, {}),), 3)
    first = Store(path, clock=lambda: 1000.0)
    assert first.claim(session(1))
    assert not first.claim(session(1))
    first.seated(seating(1))
    first.refused()
    first.failed(IDENTITIES[0].peer_id, "did not answer")
    first.failed(IDENTITIES[0].peer_id, "broke off")
    first.reported([IDENTITIES[0].peer_id, IDENTITIES[1].peer_id])
    first.saw(status)
    first.close()
    again = Store(path, clock=lambda: 1000.0)
    assert not again.claim(session(1))
    assert again.claim(session(2))
    assert (again.count("opened"), again.count("refused")) == (1, 1)
    assert again.recent(10) == [seating(1)]
    assert again.history() == {
        IDENTITIES[0].peer_id: History(2, 1000.0, "broke off", 1),
        IDENTITIES[1].peer_id: History(0, None, "", 1),
    }
    assert again.last_seen(IDENTITIES[0].peer_id) == (status, 1000.0)
    assert again.last_seen(IDENTITIES[1].peer_id) is None
    again.close()
    raw = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert session(1).encode() not in raw
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


def test_an_id_that_nobody_sat_down_for_is_free_again() -> None:
    store = Store()
    assert store.claim(session(1))
    store.release(session(1))
    assert store.claim(session(1))


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 20)
    monkeypatch.setattr(module, "CLAIMS", 300)
    monkeypatch.setattr(module, "_PRUNE_EVERY", 50)
    now = [0.0]
    store = Store(clock=lambda: now[0])
    for number in range(1000):
        now[0] += 1
        assert store.claim(session(number))
        store.seated(seating(number))
        store.failed("p" * 43, "gone")
    assert len(store._rows("SELECT 1 FROM claimed")) <= 351
    assert store.recent(500)[0] == seating(999)
    assert len(store.recent(500)) <= 70
    assert store.history()["p" * 43].failures <= 70
    assert store.count("opened") == 1000
    assert not store.claim(session(900))
    now[0] += 8 * 86400
    store._prune()
    assert store.claim(session(900))


def test_threads_that_claim_the_same_id() -> None:
    store = Store()
    taken: list[int] = []

    def claim() -> None:
        taken.extend(number for number in range(200) if store.claim(session(number)))

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(200))


def another_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.commit()
    connection.close()


def newer_version(path: Path) -> None:
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()


def damaged(path: Path) -> None:
    store = Store(path)
    for number in range(500):
        store.claim(session(number))
    store.close()
    with path.open("r+b") as file:
        for page in range(4096, path.stat().st_size, 4096):
            file.seek(page)
            file.write(b"\xff" * 64)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda path: path.write_text("once upon a time " * 400),
            "is damaged, or not a coordinator's state; move it away",
        ),
        (another_program, "belongs to another program; name another file with --state"),
        (newer_version, "has form 7, this version of Tacit knows form 1"),
        (damaged, "is damaged, or not a coordinator's state; move it away"),
        (lambda path: path.mkdir(), "cannot be kept"),
    ],
    ids=["text", "another program's", "newer", "damaged", "folder"],
)
def test_a_file_that_cannot_be_used_is_named_with_the_way_out(tmp_path: Path, make, words: str) -> None:
    path = tmp_path / "coordinator.sqlite"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(ConfigError, match=words) as caught:
        Store(path)
    assert str(path) in str(caught.value)
    if path.is_file() and make is not damaged:
        assert path.read_bytes() == before


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        Store(tmp_path / "none" / "coordinator.sqlite")


def test_one_coordinator_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "coordinator.sqlite"
    store = Store(path)
    store.claim(session(1))
    with pytest.raises(ConfigError, match="another coordinator uses it"):
        Store(path)
    store.close()
    Store(path).close()


def test_nothing_committed_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "coordinator.sqlite"
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom tacit.coordinator.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "for number in range(50): store.claim(f'{number:032x}')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code, str(path)], check=False, timeout=60)
    store = Store(path)
    assert not any(store.claim(session(number)) for number in range(50))
    store.close()


def test_a_closed_store_says_so() -> None:
    store = Store()
    store.close()
    with pytest.raises(ConfigError):
        store.count("opened")
