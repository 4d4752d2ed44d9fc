"""Answers and transfers over lines of the kernel's own, with the real model."""

from __future__ import annotations

import pytest
import tacit
from tacit.client import state
from tacit.coordinator.lines import lay
from tacit.coordinator.lines.checks import measure_lines
from tacit.coordinator.lines.cluster import ForwardedCluster
from tacit.coordinator.lines.namespaces import own_namespaces
from tacit.errors import UsageError
from tacit.network import Network

pytestmark = pytest.mark.skipif(bool(reason := lay.why_not()), reason=str(reason))
PROMPT = "Once upon a time there was a little"


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    assert own_namespaces() == []


def network(*texts: str) -> Network:
    return Network.parse(texts)


def test_an_answer_travels_on_the_lines_and_outlives_a_change_of_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TACIT_STATE", str(tmp_path))
    with ForwardedCluster(lines=network("rtt=6ms,bandwidth=200mbit")) as cluster, cluster.inside():
        assert state.running() == []  # nobody outside could reach it
        with tacit.Client(cluster.roster_path) as client:
            answer = client.generate(PROMPT, max_new_tokens=4)
            next(iter(answer))
            before = cluster.counts()
            cluster.set_lines(network("rtt=1ms"))
            for _ in answer:
                pass
            assert answer.result.text == " girl named Mia."
            assert not answer.result.resumes
        for old, new in zip(before, cluster.counts(), strict=True):
            assert new.carried >= old.carried
        assert sum(one.carried for one in before) > 1000


def test_shaped_links_and_the_kernel_agree_but_for_what_tcp_does():
    [*found] = measure_lines(network("rtt=20ms,bandwidth=200mbit"), repeat=1)
    by = {one.what: one for one in found}
    assert list(by) == [
        "64 B one way",
        "64 B there and back",
        "64 KB there and back, cold",
        "64 KB there and back, warm",
        "1 MB there and back, cold",
        "1 MB there and back, warm",
        "16 MB one way, cold",
        "16 MB one way, warm",
    ]
    assert by["64 B one way"].expected_ms == pytest.approx(10.005, abs=0.01)
    assert by["16 MB one way, cold"].expected_ms == pytest.approx(10 + 16e6 * 8 * 1514 / 1448 / 200e3, rel=0.001)
    for what in ("64 B one way", "64 B there and back"):
        one = by[what]
        assert one.expected_ms <= one.shaped_ms < one.expected_ms + 1.5
        assert one.expected_ms <= one.kernel_ms < one.expected_ms + 1.5
    for one in found:
        assert one.kernel_ms >= one.expected_ms
        assert one.shaped_ms == pytest.approx(one.expected_ms, rel=0.25)
        assert one.how.startswith(f"{lay.how()}, cubic")
    # slow start: ten segments in the first round trip, twice as many in each one after it
    for size in ("64 KB", "1 MB"):
        cold, warm = by[f"{size} there and back, cold"], by[f"{size} there and back, warm"]
        assert cold.kernel_ms > cold.shaped_ms + 2 * 20
        assert cold.kernel_ms > warm.kernel_ms


def test_lines_to_somebody_who_is_not_there_are_refused():
    with pytest.raises(UsageError, match="no 'carol' in this cluster"):
        ForwardedCluster(lines=network("wan", "client:carol=lan"))
