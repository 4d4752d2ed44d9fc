"""What a forwarder's line does to packets, with times that the test makes up: no device, no privilege, no clock."""

from __future__ import annotations

import numpy as np
import pytest
from tacit.coordinator.lines import netem
from tacit.coordinator.lines.lay import FASTEST, FORWARDER, NETEM, check
from tacit.coordinator.lines.shape import MTU, QUEUE_PACKETS, held_bytes, queue_bytes
from tacit.errors import UsageError
from tacit.network import Profile

carrier = pytest.importorskip("tacit.coordinator.lines.carrier")  # numba
MS = 1_000_000


class Line:
    """One line, driven by hand. Times in nanoseconds."""

    def __init__(self, text: str, seed: int = 1) -> None:
        from tacit.coordinator.lines.forwarder import fill

        profile = Profile.parse(text)
        self.rows = np.zeros((1, carrier.COLUMNS), np.int64)
        fill(self.rows[0], profile)
        self.losses = np.array([profile.loss])
        self.seeds = np.array([seed], np.uint64)

    def offer(self, now: int, size: int = MTU) -> int:
        return carrier.offer(self.rows, self.losses, self.seeds, 0, size, now)

    def __getitem__(self, column: int) -> int:
        return int(self.rows[0, column])


def test_a_lone_packet_takes_half_a_round_trip_and_its_bits():
    line = Line("wan")
    assert line.offer(5 * MS) == 5 * MS + 1514 * 80 + 20 * MS  # 80 ns for a byte at 100 Mbit/s
    assert line.offer(900 * MS, 92) == 900 * MS + 106 * 80 + 20 * MS


def test_packets_that_come_at_once_leave_at_the_bandwidth_and_not_a_bit_quicker():
    line = Line("rtt=40ms,bandwidth=99mbit")  # no whole number of nanoseconds for a byte
    count = 300
    due = [line.offer(0) for _ in range(count)]
    assert due == sorted(due)
    assert due[-1] == pytest.approx(20 * MS + count * 1514 * 8e9 / 99e6, rel=1e-5)
    assert line[carrier.DROPPED] == 0


def test_the_queue_holds_a_round_trip_and_drops_what_is_more():
    profile = Profile.parse("rtt=40ms,bandwidth=200mbit")
    line = Line(profile.text)
    taken = sum(line.offer(0) >= 0 for _ in range(2000))
    assert taken == pytest.approx(queue_bytes(profile) / 1514, abs=2) == pytest.approx(660, abs=2)
    assert line[carrier.DROPPED] == 2000 - taken
    assert line.offer(10 * MS) > 0  # there is room again
    short = Profile.parse("rtt=1ms,bandwidth=1mbit")
    assert queue_bytes(short) == pytest.approx(QUEUE_PACKETS * 1514, rel=0.01)


def test_jitter_is_uniform_around_the_mean_and_keeps_the_order():
    line = Line("rtt=40ms,jitter=5ms")
    gap = 50 * MS  # far apart, so that none has to wait for the one before
    late = np.array([line.offer(number * gap) - number * gap for number in range(20_000)]) / MS
    assert late.min() == pytest.approx(15, abs=0.02)
    assert late.max() == pytest.approx(25, abs=0.02)
    assert late.mean() == pytest.approx(20, abs=0.06)  # three standard errors
    assert late.std() == pytest.approx(10 / 12**0.5, rel=0.02)
    quarters, _ = np.histogram(late, bins=4, range=(15, 25))
    assert quarters == pytest.approx([5000] * 4, abs=200)
    due = [line.offer(10**15 + number * 1000) for number in range(1000)]
    assert due == sorted(due)


def test_loss_is_independent_of_packet_to_packet_at_the_stated_rate():
    line = Line("rtt=40ms,bandwidth=100mbit,loss=2%")
    gone = np.array([line.offer(number * MS) < 0 for number in range(100_000)])
    assert gone.mean() == pytest.approx(0.02, abs=0.0015)
    assert (gone[1:] & gone[:-1]).mean() == pytest.approx(0.0004, abs=0.0002)
    assert line[carrier.LOST] == gone.sum()


def test_a_lost_packet_has_used_the_line():
    full, lossy = Line("rtt=40ms,bandwidth=100mbit"), Line("rtt=40ms,bandwidth=100mbit,loss=50%")
    for _ in range(100):
        full.offer(0)
        lossy.offer(0)
    assert lossy[carrier.LOST] > 20
    assert lossy[carrier.DEPARTED] == full[carrier.DEPARTED]


def test_without_a_bandwidth_only_the_delay_counts():
    line = Line("rtt=40ms")
    assert [line.offer(7) for _ in range(5000)] == [20 * MS + 7] * 5000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wan", "netem delay 20000us rate 100000000bit limit 496"),
        ("rtt=40ms", "netem delay 20000us limit 65536"),
        ("rtt=40ms,jitter=2ms", "netem delay 20000us 2000us rate 1000000000000bit limit "),
        ("wan,jitter=2ms,loss=0.1%", "netem delay 20000us 2000us loss 0.100000% rate 100000000bit limit "),
    ],
)
def test_what_netem_is_told(text, words):
    assert " ".join(netem.arguments(Profile.parse(text))).startswith(words)


def test_what_cannot_be_carried_as_it_says_is_refused():
    for text in ("lan", f"rtt=4ms,bandwidth={FASTEST / 1e6 + 1}mbit"):
        with pytest.raises(UsageError, match=r"faster than a TUN forwarder can carry in time \(1000 Mbit/s\)"):
            check(Profile.parse(text), FORWARDER)
        check(Profile.parse(text), NETEM)
    for text in ("metro", "wan", "sigma-wan", "global", "rtt=4ms"):
        check(Profile.parse(text), FORWARDER)
    long = Profile.parse("rtt=20s,bandwidth=100mbit")
    assert held_bytes(long) > 300e6
    with pytest.raises(UsageError, match="shorter round trip or less bandwidth"):
        check(long, FORWARDER)
