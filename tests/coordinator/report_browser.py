"""A real browser for pages: chromium, which says what went wrong and what was fetched."""

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


CONTRAST = """() => {
    const numbers = colour => {
        const found = colour.match(/[\\d.]+/g).map(Number)
        return {rgb: found.slice(0, 3), alpha: found.length > 3 ? found[3] : 1}
    }
    const light = rgb => rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0)
    const behind = element => {
        for (let one = element; one; one = one.parentElement) {
            const colour = numbers(getComputedStyle(one).backgroundColor)
            if (colour.alpha > 0.99) return colour.rgb
        }
        return [255, 255, 255]
    }
    const found = []
    for (const element of document.querySelectorAll('body *')) {
        const words = [...element.childNodes].filter(node => node.nodeType == 3 && node.data.trim()).map(node => node.data)
        const style = getComputedStyle(element)
        if (!words.length || style.display == 'none' || !element.getClientRects().length) continue
        if (['title', 'desc', 'style'].includes(element.tagName)) continue
        const svg = element.namespaceURI.endsWith('svg')
        const colour = svg ? style.fill : style.color
        const ground = behind(element)
        // The paper behind a label is drawn as a wide line of the page's own colour.
        if (svg && style.stroke != 'none' && String(numbers(style.stroke).rgb) == String(ground)) continue
        const [high, low] = [light(numbers(colour).rgb), light(ground)].sort((a, b) => b - a)
        found.push({ratio: (high + 0.05) / (low + 0.05), words: words.join(' '), colour, ground: String(ground)})
    }
    return found
}"""


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
