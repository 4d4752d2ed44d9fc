"""The status page and the metrics over HTTP: complete without script, nothing inline, nothing foreign, hostile names as text."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families
from status_mesh import OFFLINE, ONLINE, OVER, ROUNDS, RUNNING, Served, served
from tacit.coordinator.pace import WINDOW, Pace, Rates
from tacit.coordinator.statuspage.metrics import Allowed
from tacit.coordinator.statuspage.page import KEPT, StatusPage
from tacit.coordinator.statuspage.view import MOST_IN_MATRIX, MOST_PEERS, MOST_SESSIONS, view
from tacit.coordinator.statuspage.words import age, significant, size
from tacit.errors import ConfigError
from tacit.wire import OUTCOMES, Totals
from test_coordinator import wait_until


@pytest.fixture(scope="module")
def busy() -> Iterator[Served]:
    with served() as found:
        wait_until(lambda: found.http.get("/v1/status").json()["peers"][0]["rates"]["rounds"] > 0)
        yield found


class Page(HTMLParser):
    """Elements as they begin, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += f" {data.strip()}"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


# The page -------------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_inline_and_nothing_from_elsewhere(busy: Served) -> None:
    page = Page(busy.http.get("/").text)
    assert not page.all("style")
    assert [one.get("src") for one in page.all("script")] == ["status.js"]
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href", "action", "data", "srcset"):
            value = attributes.get(name) or ""
            assert ":" not in value.removeprefix("data:,"), (tag, value)
            assert not value.startswith("/"), (tag, value)  # so that it works below a path of a proxy as well
    for path in ("/status.css", "/status.js"):
        text = busy.http.get(path).text
        assert "http" not in text
        assert "url(" not in text
        assert "import" not in text


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/status/parts", "text/html"),
        ("/status.css", "text/css"),
        ("/status.js", "text/javascript"),
    ],
)
def test_headers_let_nothing_else_in(busy: Served, path: str, kind: str) -> None:
    found = busy.http.get(path)
    assert found.status_code == 200
    assert found.headers["content-type"].startswith(kind)
    policy = dict(part.strip().split(" ", 1) for part in found.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in found.headers["content-security-policy"]
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["referrer-policy"] == "no-referrer"
    assert found.headers["cache-control"] == "no-store"


def test_what_is_on_the_page_without_script(busy: Served) -> None:
    source = busy.http.get("/").text
    page = Page(source)
    assert "All 5 peers answer. Model served: stories." in page.words
    assert [one for one in page.all("meta") if one.get("http-equiv") == "refresh"] == [
        {"http-equiv": "refresh", "content": "10"}
    ]
    assert source.index("<noscript>") < source.index('http-equiv="refresh"') < source.index("</noscript>")
    assert len(page.all("table")) == len(page.all("caption")) == 4
    assert len(page.all("h1")) == 1
    assert len(page.all("h2")) == 4
    assert [one["aria-live"] for _, one in page.elements if "aria-live" in one] == ["polite"]
    assert {one.get("scope") for one in page.all("th")} == {"row", "col"}
    assert page.words.index(RUNNING) < page.words.index(OVER)
    for words in ("peer-4", "3.0", "15", "llama", "1.00 / 0.10 EUR"):
        assert words in page.words


def test_rates_are_those_that_peers_report(busy: Served) -> None:
    peers = busy.http.get("/v1/status").json()["peers"]
    assert [peer["rates"]["rounds"] for peer in peers[:2]] == pytest.approx([ROUNDS] * 2, rel=0.1)
    assert [peer["rates"]["online_bytes"] for peer in peers[:2]] == pytest.approx([ONLINE] * 2, rel=0.1)
    assert peers[2]["rates"]["offline_bytes"] == pytest.approx(OFFLINE, rel=0.1)
    assert peers[3]["rates"] == {"rounds": 0, "online_bytes": 0, "offline_bytes": 0}
    sessions = busy.http.get("/v1/status").json()["sessions"]
    assert sessions["running"] == 1
    assert {one["session"]: one["running"] for one in sessions["recent"]} == {RUNNING: True, OVER: False}
    assert "totals" not in busy.http.get("/v1/status").text


def test_hostile_words_stay_words() -> None:
    script, image = "<script>alert(1)</script>", "<img src=x onerror=alert(2)>"
    with served(
        summary={"architecture": script, "layers": '"><b>4', "context": 9}, reason=f"{image}\x00\u202e"
    ) as found:
        found.mesh.down.add(found.mesh.roster.members[4].peer_id)
        wait_until(lambda: len(found.registry.live()) == 4)
        for path in ("/", "/status/parts"):
            source = found.http.get(path).text
            page = Page(source)
            assert script in page.words
            assert image in page.words
            assert "\x00" not in source
            assert "\u202e" not in source
            assert not page.all("img")
            assert not page.all("b")
            assert len(page.all("script")) == (path == "/")
        assert "4 of 5\N{NO-BREAK SPACE}peers answer; silent: peer-4." in page.words
        families = list(text_string_to_metric_families(found.http.get("/metrics").text))
        assert families


def test_a_drawing_serves_everybody_for_a_moment(busy: Served) -> None:
    looks, now = [], [0.0]
    status = busy.http.get("/v1/status").json()

    def look() -> Any:
        looks.append(now[0])
        return view(status, busy.http.get("/v1/models").json())

    page = StatusPage(look, lambda: now[0])
    first = page.parts()
    now[0] = KEPT - 0.1
    assert page.parts() == first
    assert looks == [0.0]
    now[0] = KEPT
    page.parts()
    assert looks == [0.0, KEPT]


def test_a_large_cluster_does_not_make_a_large_page(busy: Served) -> None:
    status = busy.http.get("/v1/status").json()
    peer, session = status["peers"][0], {**status["sessions"]["recent"][0], "running": True}
    status["peers"] = [{**peer, "peer_id": f"{number:043}"} for number in range(MOST_PEERS + 7)]
    status["sessions"] = {**status["sessions"], "recent": [session] * 50, "running": 90}
    found = view(status, busy.http.get("/v1/models").json())
    assert (len(found.peers), found.more_peers) == (MOST_PEERS, 7)
    assert (len(found.matrix), found.left_out) == (MOST_IN_MATRIX, MOST_PEERS + 7 - MOST_IN_MATRIX)
    assert (len(found.sessions), found.more_running) == (MOST_SESSIONS, 90 - MOST_SESSIONS)
    assert len(StatusPage(lambda: found).whole()) < 100_000


def test_an_empty_cluster_has_a_page(busy: Served) -> None:
    status = busy.http.get("/v1/status").json()
    nobody = {**status, "peers": [], "sessions": {"recent": [], "running": 0, "opened": 0, "refused": 0}}
    words = Page(StatusPage(lambda: view(nobody, [])).whole()).words
    assert "No peer has joined yet." in words
    silent = [{**status["peers"][0], "live": False, "reason": "gone"}]
    assert "No model has the three peers" in view({**nobody, "peers": silent}, []).state


def test_numbers_as_they_are_said() -> None:
    assert [significant(value) for value in (0, 0.0123, 9.96, 94.4, 1234)] == ["0", "0.012", "10", "94", "1,200"]
    assert [size(value).replace("\N{NO-BREAK SPACE}", " ") for value in (0, 12, 4321, 5e12)] == [
        "0 B",
        "12 B",
        "4.3 kB",
        "5.0 TB",
    ]
    assert [age(value).replace("\N{NO-BREAK SPACE}", " ") for value in (3, 180, 7300, 2e6)] == [
        "3 s",
        "3 min",
        "2 h",
        "23 days",
    ]


# Rates ----------------------------------------------------------------------------------------------------------------


def test_the_pace_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    assert pace.heard(0.0, Totals(rounds=1000)) == Rates()
    assert pace.heard(2.0, Totals(rounds=1100, online_bytes=10, offline_bytes=40)) == Rates(50, 5, 20)
    for second in range(3, 60):
        found = pace.heard(float(second), Totals(rounds=1100, online_bytes=10, offline_bytes=40))
        assert (found.rounds > 0) == (second < 2 + WINDOW)
    assert len(pace._samples) < 20


def test_a_peer_that_starts_anew_has_no_negative_pace() -> None:
    pace = Pace()
    pace.heard(0.0, Totals(rounds=1000))
    assert pace.heard(1.0, Totals(rounds=0)) == Rates()
    assert pace.heard(2.0, Totals(rounds=30)).rounds == 30
    assert pace.heard(2.0, Totals(rounds=40)) == Rates()  # no time has passed


# Metrics --------------------------------------------------------------------------------------------------------------


def samples(text: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def test_metrics_are_what_prometheus_reads(busy: Served) -> None:
    answer = busy.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = samples(answer.text)
    assert all(name.startswith("tacit_") for name in found)
    value = {name: {tuple(sorted(one.labels.items())): one.value for one in many} for name, many in found.items()}
    assert value["tacit_peers"] == {(("state", "live"),): 5, (("state", "silent"),): 0}
    assert value["tacit_sessions_running"] == {(): 1}
    assert value["tacit_sessions_seated_total"] == {(): 2}
    assert value["tacit_sessions_refused_total"] == {(): 0}
    assert value["tacit_requests_limited_total"] == {(): 0}
    assert value["tacit_model_peers"] == {(("model", "stories"),): 5}
    assert [one.value for one in found["tacit_peer_up"]] == [1] * 5
    rounds = {one.labels["peer"]: one.value for one in found["tacit_peer_rounds_total"]}
    assert rounds["peer-0"] > 0
    assert rounds["peer-3"] == 0
    sent = {(one.labels["peer"], one.labels["plane"]): one.value for one in found["tacit_peer_sent_bytes_total"]}
    assert sent["peer-0", "online"] > 0 == sent["peer-0", "offline"]
    assert sent["peer-2", "offline"] > 0 == sent["peer-2", "online"]
    ended = [one for one in found["tacit_peer_sessions_ended_total"] if one.labels["peer"] == "peer-1"]
    assert {one.labels["outcome"]: one.value for one in ended} == {**dict.fromkeys(OUTCOMES, 0), "done": 7, "client": 2}
    trips = {(one.labels["peer"], one.labels["to"]): one.value for one in found["tacit_round_trip_seconds"]}
    assert len(trips) == 20
    assert trips["peer-4", "peer-0"] == 0.015


def test_metrics_speak_openmetrics_to_those_who_ask_for_it(busy: Served) -> None:
    answer = busy.http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert {"tacit_peers", "tacit_peer_rounds", "tacit_coordinator"} <= {
        one.name for one in parse_open_metrics(answer.text)
    }


def test_metrics_count_up_and_hold_no_session(busy: Served) -> None:
    def rounds() -> float:
        return sum(one.value for one in samples(busy.http.get("/metrics").text)["tacit_peer_rounds_total"])

    before = rounds()
    wait_until(lambda: rounds() > before)
    text = busy.http.get("/metrics").text
    assert RUNNING not in text
    assert OVER not in text


def test_a_silent_peer_is_told_of() -> None:
    with served() as found:
        found.mesh.down.add(found.mesh.roster.members[0].peer_id)
        wait_until(lambda: len(found.registry.live()) == 4)
        values = samples(found.http.get("/metrics").text)
        assert [one.value for one in values["tacit_peer_up"]] == [0, 1, 1, 1, 1]
        assert len(values["tacit_peer_rounds_total"]) == 4

        def failures() -> dict[str, float]:
            many = samples(found.http.get("/metrics").text)["tacit_peer_failures_total"]
            return {one.labels["peer"]: one.value for one in many}

        wait_until(lambda: failures()["peer-0"] == 1)
        assert failures()["peer-1"] == 0


def test_metrics_are_for_this_machine_unless_told_otherwise() -> None:
    here = Allowed()
    assert all(one in here for one in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"))
    assert not any(one in here for one in ("192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1", "", "localhost"))
    there = Allowed(["192.0.2.0/24", "2001:db8::7"])
    assert all(one in there for one in ("127.0.0.1", "192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7"))
    assert not any(one in there for one in ("192.0.3.1", "2001:db8::8"))


@pytest.mark.parametrize("text", ["nowhere", "192.0.2.7/24", "192.0.2.0/33", ""])
def test_a_network_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--metrics-from .*is no network"):
        Allowed([text])


def test_somebody_else_reads_no_metrics() -> None:
    nobody = Allowed()
    nobody._networks.clear()
    with served(metrics_for=nobody) as found:
        answer = found.http.get("/metrics")
        assert answer.status_code == 403
        assert "not among those of --metrics-from" in answer.json()["error"]["message"]
        assert found.http.get("/").status_code == 200
