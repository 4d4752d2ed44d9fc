"""Every plot, and one story from one random source."""

from __future__ import annotations

import random
from collections.abc import Iterator

from . import plots_heart, plots_things, plots_world
from .teller import Teller

PLOTS = (*plots_things.PLOTS, *plots_heart.PLOTS, *plots_world.PLOTS)
_LAST_WORDS = ("The end.", "And they all lived happily.", "It was a very good day.")


def story(rng: random.Random) -> str:
    """A story of a beginning, a problem, a way out and an ending: three paragraphs of plain text."""
    teller = Teller(rng)
    rng.choice(PLOTS)(teller)
    teller.maybe(0.25, *_LAST_WORDS)
    return teller.text()


def stories(seed: int) -> Iterator[str]:
    """Endless stories; the same seed tells the same ones."""
    rng = random.Random(seed)
    while True:
        yield story(rng)
