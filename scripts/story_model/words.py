"""The words of the story grammar: who, where, with what. Order matters a little: earlier entries are likelier."""

from __future__ import annotations

from dataclasses import dataclass


def article(words: str) -> str:
    """`words` with "a" or "an" before it, by spelling ("an owl", "a unicorn")."""
    return ("an " if words[0] in "aeio" or words.startswith("umb") else "a ") + words


def _split(line: str) -> tuple[str, ...]:
    return tuple(line.split())


@dataclass(frozen=True)
class Character:
    name: str
    kind: str
    female: bool

    def __str__(self) -> str:
        return self.name

    @property
    def he(self) -> str:
        return "she" if self.female else "he"

    @property
    def him(self) -> str:
        return "her" if self.female else "him"

    @property
    def his(self) -> str:
        return "her" if self.female else "his"

    @property
    def himself(self) -> str:
        return "herself" if self.female else "himself"


@dataclass(frozen=True)
class Thing:
    noun: str
    look: str

    def __str__(self) -> str:
        return f"{self.look} {self.noun}"

    @property
    def a(self) -> str:
        return article(str(self))


@dataclass(frozen=True)
class Place:
    name: str
    spots: tuple[str, ...]  # where a small thing may hide
    play: str  # what one does there

    def __str__(self) -> str:
        return self.name


GIRLS = _split("Mia Nora Ruby Zoe Ivy Lena Rosa Maya Tess Ella June Hana Lucy Anna Clara Sofia Nina Amara Vera")
BOYS = _split("Ben Leo Tom Sam Finn Omar Max Jack Eli Noah Hugo Kai Theo Otto Luca Adam Remy Milo Ravi")
SHE_NAMES = _split("Hazel Dot Clover Pepper Tilly Poppy Willow Olive Honey Luna")
HE_NAMES = _split("Pip Moss Rusty Button Bram Biscuit Oscar Barley Ash Bruno")

DAYS = ("sunny morning", "windy day", "warm afternoon", "cloudy day", "bright morning", "quiet evening", "spring day")
NIGHTS = ("night", "dark night", "windy night", "cold night", "summer night")
WINTER = ("winter morning", "cold morning", "winter day", "cold day")

ANIMALS = _split(
    "fox rabbit bear mouse cat dog duck owl frog turtle hedgehog squirrel pony penguin mole bird elephant lion"
)
WONDERS = _split("dragon robot fairy wizard giant unicorn elf princess prince knight ghost")
SHE_ONLY = frozenset({"fairy", "princess"})
HE_ONLY = frozenset({"wizard", "prince"})

TRAITS = _split(
    "little kind brave curious small shy young cheerful clever happy quiet gentle tiny playful lonely silly"
)
ELDERS = (
    ("mom", True),
    ("grandma", True),
    ("dad", False),
    ("grandpa", False),
    ("aunt", True),
    ("uncle", False),
    ("mother", True),
    ("father", False),
    ("big sister", True),
    ("big brother", False),
)

HOMES = (
    "in a small house near the {p}",
    "in a village by the sea",
    "at the edge of a forest",
    "on a farm with many animals",
    "in a yellow house on a hill",
    "in a quiet town",
    "beside a blue lake",
    "in a tall tree house",
    "at the end of a long road",
    "in a warm valley",
)
BURROWS = (
    "under an old oak tree",
    "in a cozy home near the {p}",
    "in a hole under a hill",
    "deep in the forest",
    "by a slow river",
    "in the corner of a garden",
    "behind an old barn",
    "on a small island",
    "in the tall grass",
)
HOBBIES = (
    "play outside",
    "paint",
    "sing",
    "climb trees",
    "look at the stars",
    "read books",
    "collect stones",
    "dance in the rain",
    "tell stories",
    "bake cookies",
    "build things",
    "run very fast",
    "pick flowers",
    "watch the clouds",
    "help others",
)

PLACES = (
    Place(
        "park", ("under the bench", "behind the big tree", "near the fountain", "in the bushes"), "play on the swings"
    ),
    Place("beach", ("in the sand", "behind a rock", "under the boat", "near the water"), "build a sand castle"),
    Place("forest", ("under the leaves", "behind a log", "near the stream", "in a hollow tree"), "look for mushrooms"),
    Place("garden", ("under the roses", "behind the shed", "near the pond", "in the grass"), "water the flowers"),
    Place("market", ("under a table", "behind the apples", "near the gate", "in a basket"), "buy some fruit"),
    Place("farm", ("under the cart", "behind the barn", "near the hens", "in the hay"), "feed the sheep"),
    Place("lake", ("under the bridge", "behind a rock", "near the boats", "in the reeds"), "throw stones in the water"),
    Place("meadow", ("under a bush", "behind the fence", "near the stream", "in the tall grass"), "chase butterflies"),
    Place("library", ("under a chair", "behind the shelf", "near the window", "in a box"), "read about ships"),
    Place("school", ("under the desk", "behind the door", "near the window", "in the closet"), "draw and count"),
    Place(
        "hill", ("under a stone", "behind the old wall", "near the path", "in the tall grass"), "roll down the slope"
    ),
    Place("river", ("under the bridge", "behind a rock", "near the path", "in the reeds"), "look for frogs"),
    Place("playground", ("under the slide", "behind the swings", "near the gate", "in the sand"), "go down the slide"),
    Place(
        "castle", ("under the stairs", "behind the throne", "near the well", "in an old chest"), "explore the towers"
    ),
    Place("zoo", ("under the bench", "behind the sign", "near the gate", "in the bushes"), "see the monkeys"),
)

INDOORS = frozenset({"library", "school"})

COLORS = _split("red blue green yellow purple orange white golden pink silver")
LOOKS = (*COLORS[:6], "shiny", "old", "new", "tiny", "big", "wooden", "soft", "pretty")

KEEPSAKES = _split(
    "ball hat doll scarf book key drum shell whistle toy_car teddy_bear button ring lantern boat coin spoon bell"
)
FLYERS = ("kite", "ball", "balloon", "hat", "paper plane", "scarf")  # may end high up
TOYS = ("ball", "drum", "kite", "toy car", "train", "doll", "puzzle", "robot", "swing", "book", "boat", "scooter")
FRAGILE = ("vase", "cup", "plate", "lamp", "bowl", "window", "pot", "clock", "mirror")
TREATS = ("cake", "soup", "apple pie", "bread", "cookies", "pancakes", "jam")
MISSING = ("sugar", "honey", "eggs", "milk", "butter", "flour", "apples", "salt")
TREASURES = (
    "a music box",
    "old coins",
    "a book of songs",
    "a tiny crown",
    "colored stones",
    "a silver bell",
    "letters",
)
SEEDS = ("sunflower", "pumpkin", "bean", "tomato", "apple tree", "rose", "strawberry")
SKILLS = (
    ("ride a bike", "fell off"),
    ("swim", "swallowed water"),
    ("jump rope", "tripped"),
    ("skate", "fell down"),
    ("whistle", "made no sound"),
    ("tie a knot", "made a mess"),
    ("play the flute", "made a funny squeak"),
    ("catch a ball", "dropped it"),
    ("write a letter", "broke the pencil"),
    ("fly a kite", "fell in the grass"),
    ("climb a tree", "slid back down"),
    ("draw a horse", "drew a potato"),
)
FEARS = (
    ("the dark", "the room was full of shadows", "The shadows were only coats and chairs"),
    ("thunder", "a storm came over the hills", "The thunder was only the clouds bumping"),
    ("deep water", "the water was cold and deep", "The water was soft and held {h.him} up"),
    ("the tall slide", "the slide was as tall as a house", "It was fast, and it was fun"),
    ("big dogs", "a big dog ran to the gate", "The dog only wanted to lick {h.his} hand"),
    ("the old bridge", "the old bridge moved in the wind", "The bridge was strong"),
    ("the cave", "the cave was dark and cold", "Inside, the walls shone like stars"),
    ("high places", "the ladder was very tall", "From the top, the whole world looked small and bright"),
)
NOISES = (
    ("a tap, tap, tap", "a branch at the window"),
    ("a soft crying", "a kitten in a box"),
    ("a loud snore", "{h.his} {e}, asleep in a chair"),
    ("a long howl", "the wind in the chimney"),
    ("a scratch, scratch", "a mouse with a nut"),
    ("a splash", "a frog in the bucket"),
    ("a ringing bell", "a goat that had run away"),
    ("a hum", "a nest of sleepy bees"),
)
HURT = (
    ("bird", "wing", "fly"),
    ("kitten", "paw", "run"),
    ("rabbit", "leg", "hop"),
    ("puppy", "paw", "run"),
    ("duck", "foot", "swim"),
    ("butterfly", "wing", "fly"),
    ("lamb", "leg", "run"),
    ("hedgehog", "paw", "walk"),
)
GIFTS = (
    "a card",
    "a drawing",
    "a paper star",
    "a flower crown",
    "a little song",
    "a clay bird",
    "a necklace of shells",
)
