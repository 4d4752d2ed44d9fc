"""The teller of one story: a small template language over one random source.

A template is English with `[this|that]` for a choice and `{h}`, `{h.his}`, `{o.a}`... for what the story is about:
h the hero, f the friend, e the elder, p the place, o the object. Choices lean towards what is written first, so that
a model trained on the stories has a clear favourite to be greedy about.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import TypeVar

from . import words
from .words import Character, Place, Thing

T = TypeVar("T")

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
# After a quoted question or shout the sentence may go on ("Look!" said Mia), after '."' it never does.
_SENTENCE_START = re.compile(r'(^"?|[.!?] "?|\." "?)([a-z])')


class Teller:
    """Tells one story. `slots` is what templates may name; `paragraphs` is what has been told so far."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.paragraphs: list[list[str]] = [[]]
        self.slots: dict[str, object] = {}
        self.asked = ""
        hero = self._character(None)
        friend = self._character(hero)
        elder, female = self.pick(words.ELDERS, 4)
        self.slots.update(h=hero, f=friend, e=Character(elder, "elder", female), p=self.pick(words.PLACES, 6))
        self.slots["t"] = self.pick(words.TRAITS, 3)

    @property
    def hero(self) -> Character:
        hero = self.slots["h"]
        assert isinstance(hero, Character)
        return hero

    @property
    def place(self) -> Place:
        place = self.slots["p"]
        assert isinstance(place, Place)
        return place

    @property
    def child(self) -> bool:
        return self.hero.kind in {"girl", "boy"}

    def pick(self, options: Sequence[T], flatness: float = 2.0) -> T:
        """One of `options`; entry i has weight 1 / (i + flatness)."""
        return self.rng.choices(options, [1.0 / (i + flatness) for i in range(len(options))])[0]

    def two(self, options: Sequence[T]) -> tuple[T, T]:
        """Two different entries of `options`, uniformly."""
        first, second = self.rng.sample(options, 2)
        return first, second

    def go_outdoors(self) -> None:
        self.slots["p"] = self.pick([p for p in words.PLACES if p.name not in words.INDOORS], 6)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def thing(self, nouns: Sequence[str], looks: Sequence[str] = words.LOOKS) -> Thing:
        return Thing(self.pick(nouns, 6).replace("_", " "), self.pick(looks, 5))

    def fill(self, template: str) -> str:
        """`template` with choices made, slots filled and sentence starts in capitals."""
        while match := _CHOICE.search(template):
            chosen = self.pick(match[1].split("|"), 2.5)
            template = template[: match.start()] + chosen + template[match.end() :]
        while "{" in template:  # a slot's value may itself name slots
            template = template.format(**self.slots)
        return _SENTENCE_START.sub(lambda m: m[1] + m[2].upper(), template)

    def say(self, *options: str, **slots: object) -> None:
        """Tell one of `options`; `slots` stay known for the rest of the story."""
        self.slots.update(slots)
        self.paragraphs[-1].append(self.fill(self.pick(options)))

    def maybe(self, probability: float, *options: str) -> None:
        if self.chance(probability):
            self.say(*options)

    def turn(self) -> None:
        """Begin a new paragraph."""
        self.paragraphs.append([])

    def begin(self, *scenes: str, when: Sequence[str] = words.DAYS) -> None:
        """The beginning: who the hero is (or not), then one of `scenes`, a predicate such as "went to the {p}"."""
        self.slots.update(when=self.pick(when), a_t=words.article(str(self.slots["t"])))
        scene = self.pick(scenes)
        if self.chance(0.06):
            self._asked_for()
        elif self.chance(0.6):
            self._introduce()
        else:
            self._straight_in(scene, when)
            return
        self.say("one " + ("[day|{when}|day]" if when is words.DAYS else "{when}") + ", {h} " + scene + ".")

    def text(self) -> str:
        told = "\n\n".join(" ".join(sentences) for sentences in self.paragraphs if sentences)
        return self.asked + told

    def _character(self, other: Character | None) -> Character:
        """A hero when `other` is None, else a friend of `other`: same world, another name."""
        if other is None:
            world = self.rng.choices(("child", "animal", "wonder"), (0.58, 0.3, 0.12))[0]
        else:
            world = "child" if other.kind in {"girl", "boy"} else "animal"
        female = self.chance(0.5) if other is None else self.chance(0.2 if other.female else 0.8)
        if world == "child":
            names, kind = (words.GIRLS, "girl") if female else (words.BOYS, "boy")
        else:
            kind = self.pick(words.ANIMALS if world == "animal" else words.WONDERS, 8)
            female = (female or kind in words.SHE_ONLY) and kind not in words.HE_ONLY
            names = words.SHE_NAMES if female else words.HE_NAMES
        name = self.pick([n for n in names if other is None or n != other.name], 9)
        return Character(name, kind, female)

    def _home(self) -> str:
        return self.pick(words.HOMES if self.child else words.BURROWS, 4)

    def _introduce(self) -> None:
        name = "{h.kind} named {h}"
        self.say(
            f"once upon a time, there was {{a_t}} {name}.",
            f"once upon a time, {{a_t}} {name} lived {self._home()}.",
            "{h} was {a_t} {h.kind}[| who loved to {hobby}| who lived " + self._home() + "].",
            f"there was once {{a_t}} {name}[| who loved to {{hobby}}].",
            f"long ago, {{a_t}} {name} lived {self._home()}.",
            f"[in a faraway land|in a little town|far away], there lived {{a_t}} {name}.",
            ("{h} lived " if self.child else "{h} the {h.kind} lived ") + self._home() + ".",
            hobby=self.pick(words.HOBBIES, 5),
        )
        self.maybe(
            0.5,
            "{h.he} [loved|liked] to {hobby}.",
            "every day, {h.he} liked to {hobby} with {h.his} {e}.",
            "{h.his} best friend was " + ("{f}." if self.child else "{f} the {f.kind}."),
            "everyone [called {h.him}|knew that {h.he} was] {t} and [good|funny|wise].",
        )

    def _straight_in(self, scene: str, when: Sequence[str]) -> None:
        name = "{h.kind} named {h}"
        recently = "[today|yesterday|last week|on Sunday|after lunch]" if when is words.DAYS else "last night"
        if when is words.WINTER:
            recently = "[today|yesterday|in the winter]"
        self.say(
            "{h} " + scene + ".",
            f"one day, {{a_t}} {name} {scene}.",
            f"one {{when}}, {{h}} {scene}.",
            f"{{a_t}} {name} {scene}.",
            f"once upon a time, {{a_t}} {name} {scene}.",
            f"it was a {{when}}. {{h}} {scene}.",
            f"{recently}, {{h}} {scene}.",
            f"the {{t}} {{h.kind}} {{h}} {scene}.",
        )

    def _asked_for(self) -> None:
        """The beginning of a story that somebody asked for by its hero."""
        trait, hero = str(self.slots["t"]), self.hero
        about = self.pick(
            (words.article(hero.kind), words.article(f"{trait} {hero.kind}"), f"{hero.name} the {hero.kind}", hero.name)
        )
        asking = self.pick(("Tell me a story about", "Write a story about", "Please tell me a story about"))
        self.asked = f"{asking} {about}.\n\n"
        self.say("once upon a time, there was {a_t} {h.kind} named {h}.")
