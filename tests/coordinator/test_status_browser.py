"""The status page in a real browser: renews itself, keeps what its reader does, readable in both themes and at 320 px."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from report_browser import CHROMIUM, CONTRAST, browsing
from status_mesh import Served, served
from test_coordinator import wait_until

if importlib.util.find_spec("playwright") is None or CHROMIUM is None:
    pytest.skip("playwright is not installed, or no chromium is here", allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing() as found:
        yield found


@pytest.fixture(scope="module")
def busy() -> Iterator[Served]:
    with served() as found:
        wait_until(lambda: found.http.get("/v1/status").json()["peers"][0]["rates"]["rounds"] > 0)
        yield found


@contextmanager
def opened(browser: Any, served: Served, width: int = 1100, scheme: str = "light", **options: Any) -> Iterator[Any]:
    """The page; every message of its console, exception, and request elsewhere fails the test at the end."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda one: None if one.url.startswith((served.url, "data:,")) else trouble.append(one.url))
    page.goto(served.url)
    try:
        yield page
        assert not trouble
    finally:
        page.close()


def until(page: Any, condition: str) -> None:
    """Playwright's own waiting needs eval, which the page's policy forbids."""
    deadline = time.monotonic() + 10
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def figure(page: Any, name: str) -> str:
    return str(page.locator(f"xpath=//dl[@id='figures']/div[dt='{name}']//strong").inner_text())


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (320, "dark"), (768, "light"), (1440, "dark")])
def test_nothing_scrolls_sideways_and_nothing_is_cut_off(browser: Any, busy: Served, width: int, scheme: str) -> None:
    with opened(browser, busy, width, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate("scrollTo(500, 0)")
        assert page.evaluate("scrollX") == 0
        inside = (
            "[...document.querySelectorAll('.scroll, .figures div, p, h1, h2')].map(one => one.getBoundingClientRect())"
        )
        boxes = page.evaluate(f"{inside}.map(box => [box.left, box.right])")
        assert len(boxes) > 15
        assert all(left >= -2000 and right <= width for left, right in boxes)
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor").startswith("rgb(17,")
        assert dark == (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out(browser: Any, busy: Served, scheme: str) -> None:
    busy.mesh.down.add(busy.mesh.roster.members[4].peer_id)
    try:
        wait_until(lambda: len(busy.registry.live()) == 4)
        with opened(browser, busy, scheme=scheme) as page:
            page.wait_for_selector(".bad.mark")
            found = page.evaluate(CONTRAST)
            assert len(found) > 90
            assert [one for one in found if one["ratio"] < 4.5] == []
    finally:
        busy.mesh.down.clear()
        wait_until(lambda: len(busy.registry.live()) == 5)


def test_it_renews_itself_where_its_reader_left_off(browser: Any, busy: Served) -> None:
    with opened(browser, busy, 320) as page:
        page.evaluate("window.mine = document.getElementById('state')")
        page.evaluate("document.getElementById('peers-scroll').scrollTo({left: 150, behavior: 'instant'})")
        page.evaluate("document.getElementById('peers-scroll').focus({preventScroll: true})")
        page.evaluate("window.row = document.querySelector('#peers tbody tr')")
        assert figure(page, "Sessions") == "1"
        busy.mesh.busy = False
        try:
            until(page, "document.querySelector('#sessions').innerText.includes('running') === false")
            until(page, "document.getElementById('freshness').textContent.startsWith('As of')")
            assert figure(page, "Sessions") == "0"
            assert page.evaluate("document.querySelector('#peers tbody tr') !== window.row")  # it was exchanged
            assert page.evaluate("document.getElementById('peers-scroll').scrollLeft") == 150
            assert page.evaluate("document.activeElement.id") == "peers-scroll"
            assert page.evaluate("document.getElementById('state') === window.mine")  # a live region stays itself
        finally:
            busy.mesh.busy = True


def test_it_can_be_paused(browser: Any, busy: Served) -> None:
    with opened(browser, busy) as page:
        until(page, "document.getElementById('freshness').textContent.startsWith('As of')")
        page.get_by_role("button", name="Pause").click()
        requests: list[str] = []
        page.on("request", lambda one: requests.append(one.url))
        page.wait_for_timeout(2500)
        assert requests == []
        assert page.locator("#freshness").inner_text().startswith("Paused")
        page.get_by_role("button", name="Go on").click()
        until(page, "document.getElementById('freshness').textContent.startsWith('As of')")
        assert len(requests) == 1


def test_a_coordinator_that_is_gone_is_said_to_be(browser: Any) -> None:
    with served(peers=3) as found:
        page = browser.new_page()
        page.goto(found.url)
        until(page, "document.getElementById('freshness').textContent.startsWith('As of')")
        page.route("**/status/parts", lambda route: route.abort())
        until(page, "document.getElementById('freshness').textContent.includes('does not answer')")
        assert page.evaluate("document.body.classList.contains('old')")
        assert "All 3 peers answer" in page.locator("#state").inner_text()
        page.unroute("**/status/parts")
        until(page, "!document.body.classList.contains('old')")
        page.close()


def test_hostile_words_do_nothing(browser: Any) -> None:
    with (
        served(
            summary={"architecture": "<img src=x onerror=document.title='gone'>", "layers": 1, "context": 9}
        ) as found,
        opened(browser, found) as page,
    ):
        until(page, "document.getElementById('freshness').textContent.startsWith('As of')")
        assert page.title() == "test: status"
        assert page.locator("img").count() == 0
        assert "<img src=x" in page.locator("#models").inner_text()


def test_without_script_it_is_complete_and_loads_itself_again(browser: Any, busy: Served) -> None:
    with opened(browser, busy, java_script_enabled=False) as page:
        assert page.locator("meta[http-equiv=refresh]").get_attribute("content") == "10"
        assert page.locator("table").count() == 4
        assert not page.locator("#pause").is_visible()
        assert page.locator("header noscript p").is_visible()


def test_what_a_screen_reader_is_told(browser: Any, busy: Served) -> None:
    with opened(browser, busy) as page:
        assert page.get_by_role("main").count() == 1
        assert page.get_by_role("status").inner_text() == "All 5 peers answer. Model served: stories."
        assert [one.inner_text() for one in page.get_by_role("heading", level=2).all()] == [
            "Peers",
            "Committees and sessions",
            "Round trips",
            "Models",
        ]
        for name in ("Peers: state", "The latest sessions", "Milliseconds from", "Models that at least"):
            assert page.get_by_role("region", name=name).count() == 1
            assert page.get_by_role("table", name=name).count() == 1
        assert page.get_by_role("rowheader", name="peer-0").count() == 2  # peers and round trips


def test_the_keyboard_reaches_everything(browser: Any, busy: Served) -> None:
    with opened(browser, busy) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "peers-scroll"
