"""The page: drawn from templates, complete without its script, which only exchanges the parts that changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined

from .view import View

KEPT = 1.0  # seconds that a drawing serves everybody who asks
REFRESH = 2  # seconds between two looks of the page's script
SLOW_REFRESH = 10  # seconds, of a browser without script
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class StatusPage:
    """Several threads may ask."""

    def __init__(self, look: Callable[[], View], clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        self._drawn: dict[str, tuple[float, str]] = {}
        self._templates = Environment(
            loader=FunctionLoader(asset),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def whole(self) -> str:
        """The HTML document."""
        return self._draw("page.html")

    def parts(self) -> str:
        """What changes of it."""
        return self._draw("parts.html")

    def _draw(self, name: str) -> str:
        with self._lock:
            at, drawn = self._drawn.get(name, (float("-inf"), ""))
            if self._clock() - at >= KEPT:
                drawn = self._templates.get_template(name).render(
                    view=self._look(), refresh=REFRESH, slow_refresh=SLOW_REFRESH
                )
                self._drawn[name] = (self._clock(), drawn)
            return drawn


def asset(name: str) -> str:
    """A file of the page: templates, style, script."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
