"""report.html in a real browser: all drawn, nothing fetched, readable in both themes, at 320 px and by keyboard alone."""

from __future__ import annotations

import os
import re

import made_results
import pytest
from report_browser import CONTRAST, browsing, check_drawn, opened, why_not
from tacit.coordinator.study.report import figures, write_report

pytestmark = pytest.mark.skipif(bool(reason := why_not()), reason=str(reason))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Names of the figures, and the page; a small study has them all as a large one does."""
    lengths = ((8, 16), (64, 16)) if os.environ.get("TACIT_ALL") else ((8, 4),)
    results = made_results.results(lengths=lengths, repetitions=3, side=8)
    return set(figures(results)), write_report(results, tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def browser():
    with browsing() as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (700, "dark"), (320, "light")])
def test_all_charts_are_drawn(browser, report, width, scheme):
    names, path = report
    with opened(browser, path, width, scheme) as page:
        check_drawn(page, names)


@pytest.mark.parametrize("width", [320, 414, 768])
def test_the_page_never_scrolls_sideways(browser, report, width):
    with opened(browser, report[1], width) as page:
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate("scrollTo(500, 0)")
        assert page.evaluate("scrollX") == 0


def test_text_on_a_telephone_is_large_enough(browser, report):
    """Drawn for that width, not shrunk to it."""
    with opened(browser, report[1], 320) as page:
        sizes = page.evaluate(
            """() => [...document.querySelectorAll('svg.chart text')].filter(text => text.getClientRects().length)
            .map(text => [text.getScreenCTM(), parseFloat(getComputedStyle(text).fontSize)])
            .map(([to, size]) => size * Math.hypot(to.a, to.b))"""
        )
        assert len(sizes) > 100
        assert min(sizes) >= 9.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out(browser, report, scheme):
    with opened(browser, report[1], scheme=scheme) as page:
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        found = page.evaluate(CONTRAST)
        assert len(found) > 500
        assert [one for one in found if one["ratio"] < 4.5] == []
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", dark)[:3])) < 60) == (scheme == "dark")


def test_marks_stand_out_in_both_themes(browser, report):
    """3 to 1 for what is not text: WCAG 2.2, 1.4.11."""
    for scheme in ("light", "dark"):
        with opened(browser, report[1], scheme=scheme) as page:
            values = page.evaluate(
                """() => Object.fromEntries(['paper', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'axis'].map(name =>
                [name, getComputedStyle(document.documentElement).getPropertyValue('--' + name)]))"""
            )
            for name, colour in values.items():
                assert name == "paper" or _contrast(colour, values["paper"]) >= 3, (scheme, name)


def _contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        values = [int(colour.strip()[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return sum(a * b for a, b in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_keyboard_reaches_everything(browser, report):
    with opened(browser, report[1]) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        skip = page.evaluate("document.activeElement.getBoundingClientRect().left")
        assert skip >= 0
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.evaluate("document.querySelector('figure summary').focus()")
        assert page.evaluate("document.querySelector('figure details').open") is False
        page.keyboard.press("Enter")
        assert page.evaluate("document.querySelector('figure details').open") is True
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "scroll"


def test_what_a_screen_reader_is_told(browser, report):
    with opened(browser, report[1]) as page:
        pictures = page.get_by_role("img")
        assert pictures.count() == len(report[0])
        first = page.locator("#tpot-rtt svg.chart").first.aria_snapshot()
        assert "Time per token against round-trip time" in first
        assert page.get_by_role("main").count() == 1
        assert page.get_by_role("navigation").count() == 1
        assert page.get_by_role("region", name="Times of every case").count() == 1


def test_print_has_the_wide_pictures_on_white(browser, report):
    with opened(browser, report[1], scheme="dark") as page:
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("getComputedStyle(document.querySelector('.narrow')).display") == "none"
        printed = page.pdf(format="A4")
        assert printed.startswith(b"%PDF-")
        assert len(printed) < 4_000_000  # drawn, not photographed
