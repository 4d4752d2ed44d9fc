"""Plots that turn on the world: a hurt animal, a seed, the weather, a cake, a path in the forest."""

from __future__ import annotations

from . import words
from .teller import Teller


def hurt_animal(t: Teller) -> None:
    animal, part, move = t.pick([hurt for hurt in words.HURT if hurt[0] != t.hero.kind], 5)
    t.slots.update(x=animal, part=part, move=move, spot=t.pick(t.place.spots, 4))
    t.begin("went to the {p} and saw a little {x}", "found a little {x} at the {p}")
    t.say(
        "the little {x} had hurt its {part} and could not {move}.",
        "{spot} sat a little {x} with a hurt {part}.",
        "the {x} looked sad, because its {part} was hurt.",
    )
    t.turn()
    t.say('"Poor little {x}," said {h}.', '"Do not be afraid," said {h}. "I will help you."')
    t.say("{h.he} took the {x} home in a basket.", "{h} carried the {x} home in {h.his} hat.")
    t.say(
        "{h.his} {e} put something soft around the {part}.",
        "{h.his} {e} showed {h.him} how to clean the {part}.",
    )
    t.say("every day, {h} gave it food and water.", "{f} brought some food, and {h} sang to it.")
    t.turn()
    t.say("after a week, the {x} could {move} again.", "day by day, the {x} got better, and then it could {move}.")
    t.say(
        "{h} was a little sad to say goodbye, but the {x} was happy to be free.",
        "{h} opened the door, and the {x} went back to the {p}.",
        "it was time to say goodbye, and {h} waved for a long time.",
    )
    t.say(
        "the next day, the {x} came back to visit.",
        "now {h} sees the {x} at the {p} every day.",
        "{h} felt warm inside.",
    )


def the_seed(t: Teller) -> None:
    t.go_outdoors()
    t.slots["seed"] = t.pick(words.SEEDS, 4)
    t.begin("had a {seed} seed", "found a little seed at the {p}", "got a {seed} seed from {h.his} {e}")
    t.say(
        "{h.he} put it in the garden and gave it water every day.",
        '"Grow, little seed," said {h}.',
        "{h.he} put it in a warm place.",
    )
    t.turn()
    t.say("{h} waited and waited, but nothing came up.", "one day went by, and then two. Nothing happened.")
    t.say('"It does not like me," said {h}.', "{h} was sad.", '"Why does it not grow?" asked {h}.')
    t.say(
        '{h.his} {e} said, "Good things need time."',
        '"Wait a little longer," said {f}.',
        '"It is still asleep," said {h.his} {e}. "Be patient."',
    )
    t.say("so {h} waited through the sun and the rain.", "{h} kept giving it water, and told it stories.")
    t.turn()
    t.say("then one morning, there was a small green leaf!", "and one day, a little green leaf came out!")
    t.say("it grew and grew, until it was a big {seed}.", "soon it was as tall as {h}.", "it grew taller every day.")
    t.say(
        "{h} danced around it.", '"You were right!" {h} told {h.his} {e}.', "{f} came to see it, and they both smiled."
    )
    t.say("{h} learned to be patient.", "in the fall, {h} had many new seeds to share with {h.his} friends.")


def rainy_picnic(t: Teller) -> None:
    t.go_outdoors()
    first, second = t.two(words.TREATS)
    t.slots.update(food=first, other=second)
    t.begin(
        "wanted to have a picnic at the {p} with {f}",
        "went to the {p} with {f} for a picnic",
        "wanted to have a picnic with {f}",
    )
    t.say(
        "they had {food} and {other}.",
        "{h} brought {food}, and {f} brought {other}.",
        "they had a blanket, {food} and {other}.",
    )
    t.turn()
    t.say("but then dark clouds came, and it began to rain.", "drip, drop! Big drops of rain fell on the {food}.")
    t.say('"Our picnic is ruined," said {f}.', "everything got wet, and they were sad.", '"Oh no!" said {h}.')
    t.say("they ran under a big tree.", "{h.his} {e} called them into the house.", "they hid in a dry cave.")
    t.say('"We can have our picnic here," said {h}.', '{h} had an idea. "Let us eat here and tell stories!"')
    t.turn()
    t.say("so they sat close together and ate the {food}.", "they ate {other} and listened to the rain.")
    t.say("they sang songs and jumped in the puddles.", "they laughed at their wet hair.")
    t.say("when the rain stopped, there was a rainbow in the sky.", "then the sun came out, and they saw a rainbow.")
    t.say('"This was the best picnic ever," said {f}.', "it was a wonderful day after all.")


def baking(t: Teller) -> None:
    t.slots.update(food=t.pick(words.TREATS), lack=t.pick(words.MISSING, 4))
    t.begin("wanted to make {food} for {f}", "wanted to make {food} with {h.his} {e}", "was making {food}")
    t.say("it was {f}'s birthday.", "{f} was sick, and {h} wanted to cheer {f.him} up.", "guests were coming that day.")
    t.turn()
    t.say("but there was no {lack} in the house.", '"We have no {lack}!" said {h.his} {e}.')
    t.say("{h} looked in every cupboard, but found nothing.", "without {lack}, they could not go on.")
    t.say(
        "so {h} went to ask the neighbors.",
        '"I will ask the old {n} next door," said {h}.',
        "{h} ran to the market, but it was closed. Then {h.he} met the old {n}.",
        n=t.pick(("baker", "farmer", "lady", "man", "teacher", "fisherman")),
    )
    t.say(
        '"You can have some of mine," said the old {n}.', "the old {n} was happy to help and gave {h.him} some {lack}."
    )
    t.turn()
    t.say("{h} ran home, and they mixed everything together.", "{h} thanked the {n} and went back to the kitchen.")
    t.say("soon the whole house smelled good.", "they worked together, and soon all was ready.")
    t.say("{f} took a bite and smiled.", '"It is so good!" said {f}.', "{f} was very happy.")
    t.say("they gave a big piece to the old {n} too.", "everyone ate together, and there was enough for all.")


def lost_in_the_woods(t: Teller) -> None:
    t.slots["guide"] = t.pick(
        ("an old owl", "a small mouse", "a wise turtle", "a kind deer", "a blue bird", "a squirrel")
    )
    t.slots["lure"] = t.pick(("a yellow butterfly", "a white rabbit", "a trail of berries", "a shiny beetle", "a song"))
    t.begin(
        "followed {lure} into the forest",
        "went into the forest and saw {lure}",
        "was picking berries in the forest with {h.his} {e}",
    )
    t.say("{h.he} walked on and on.", "{h.he} did not look at the path.", "it was so nice that {h.he} forgot the time.")
    t.turn()
    t.say("soon {h} was lost.", "when {h.he} looked around, all the trees looked the same.")
    t.say("it was getting dark.", "it became cold and quiet.", "the sun went down behind the hills.")
    t.say('"How do I get home?" cried {h}.', "{h} sat on a log and cried.", '"Hello? Is anyone there?" called {h}.')
    t.turn()
    t.say("then {h} met {guide}.", "{guide} heard {h.him} and came closer.")
    t.say(
        '"Follow the stream," it said. "It goes to your home."',
        '"I know the way," it said. "Come with me."',
        '"Look for the brightest star," it said. "It will lead you."',
    )
    t.say("{h} said thank you and walked fast.", "{h} was not so afraid anymore.", "step by step, they found the path.")
    t.say("at last {h} saw the light of {h.his} house.", "then {h} saw {h.his} {e} with a lantern.")
    t.say(
        "{h.his} {e} hugged {h.him} for a long time.",
        '"I will never go so far alone again," said {h}.',
        "{h.his} {e} was so happy to see {h.him}, and they drank hot milk.",
    )


def snow_day(t: Teller) -> None:
    t.go_outdoors()
    t.slots["hat"] = t.thing(("hat", "scarf", "bucket"), words.COLORS)
    t.begin(
        "looked out of the window and saw snow",
        "went to the {p} to play in the snow",
        "went out to play in the snow",
        when=words.WINTER,
    )
    t.say("everything was white.", "the snow was deep and soft.", "it was cold, but {h} had a warm coat.")
    t.say(
        "{h} and {f} made a big snowman.", "they gave the snowman {hat.a}.", "they made a snowman with a carrot nose."
    )
    t.turn()
    t.say("but the next day, the sun was warm.", "then the sun came out, and it got warm.")
    t.say("the snowman became smaller and smaller.", "drop by drop, the snowman began to melt.")
    t.say('"Please do not go," said {h}.', "{h} was sad and wanted to help.", '"He is going away!" said {f}.')
    t.say(
        '{h.his} {e} said, "He will come back with the next snow."',
        '"Winter always comes back," said {h.his} {e}.',
    )
    t.turn()
    t.say(
        "{h} put the {hat} in a safe place.", "{h} kept the {hat} and waited.", "{h} painted a picture of the snowman."
    )
    t.say("spring came, and then summer, and then fall.", "a long time went by.", "the days went by, one by one.")
    t.say("and when the first snow fell, {h} ran outside with {f}.", "then, one morning, it snowed again!")
    t.say('"Welcome back!" said {h} to the new snowman.', "the new snowman was even bigger, and {h} was very happy.")


PLOTS = (hurt_animal, the_seed, rainy_picnic, baking, lost_in_the_woods, snow_day)
