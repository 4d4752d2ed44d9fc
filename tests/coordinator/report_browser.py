"""A real browser for reports: chromium, which fetches nothing and says what went wrong."""

from __future__ import annotations

import importlib.util
import shutil
from contextlib import contextmanager

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def why_not() -> str:
    """Empty where there is a browser, and what draws a page."""
    for name in ("altair", "vl_convert", "playwright"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed"
    return "" if CHROMIUM else "no chromium here"


@contextmanager
def browsing():
    """A browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def opened(browser, path, width=1100, scheme="light"):
    """The page, and what went wrong in it: console messages, exceptions, requests for anything but the file."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: trouble.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    try:
        yield page
        assert not trouble
    finally:
        page.close()


DRAWN = """() => [...document.querySelectorAll('figure')].map(figure => {
    const pictures = [...figure.querySelectorAll('svg.chart')].filter(svg => svg.getBoundingClientRect().width > 0)
    const box = pictures[0]?.getBoundingClientRect()
    const marks = pictures.flatMap(svg => [...svg.querySelectorAll('.marks *')]).filter(mark => {
        const size = mark.getBoundingClientRect()
        return mark.tagName != 'title' && size.width + size.height > 0
    })
    return {
        name: figure.id, pictures: pictures.length, width: box?.width, height: box?.height, marks: marks.length,
        texts: pictures.flatMap(svg => [...svg.querySelectorAll('text')]).length,
        inside: box?.left >= 0 && box?.right <= innerWidth,
    }
})"""


def check_drawn(page, names: set[str]) -> None:
    """Each of these figures, and no other, is one picture with marks and words, within the page."""
    drawn = page.evaluate(DRAWN)
    assert {figure["name"] for figure in drawn} == names
    for figure in drawn:
        assert figure["pictures"] == 1, figure
        assert figure["width"] > 230, figure
        assert figure["height"] > 60, figure
        assert figure["marks"] >= 3, figure
        assert figure["texts"] >= 4, figure
        assert figure["inside"], figure
