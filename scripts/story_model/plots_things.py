"""Plots that turn on a thing: lost, stuck, shared, broken, given, found, wished for."""

from __future__ import annotations

from . import words
from .teller import Teller


def lost_and_found(t: Teller) -> None:
    first, second = t.two(t.place.spots)
    t.slots.update(o=t.thing(words.KEEPSAKES), spot=first, wrong=second)
    t.begin("went to the {p} with {h.his} {o}", "took {h.his} {o} to the {p}", "was at the {p} with {h.his} {o}")
    t.say(
        "{h.he} wanted to {play}.",
        "it was {h.his} favorite {o.noun}, and {h.he} took it everywhere.",
        "{h.his} {e} had given it to {h.him}.",
        play=t.place.play,
    )
    t.turn()
    t.say(
        "but then the {o.noun} was gone!",
        "after a while, {h} saw that the {o.noun} was not there.",
        "when it was time to go home, {h} could not find the {o.noun}.",
    )
    t.say("{h.he} felt very sad.", "{h} was worried.", "{h} began to cry.", '"Oh no! Where is my {o.noun}?" said {h}.')
    t.say("{h.he} looked {wrong}, but it was not there.", "{h} looked {wrong}. It was not there.")
    t.turn()
    t.say(
        '{f} came by and said, "[Do not worry|Do not be sad], I will help you."',
        "then {f} came to help.",
        '{h} asked {f} for help. "Let us look together," said {f}.',
    )
    t.say(
        "they looked and looked, and {f} found the {o.noun} {spot}.",
        "{f} looked {spot}, and there was the {o}!",
        "they looked everywhere, and at last they saw it {spot}.",
    )
    t.say(
        '"Thank you, {f}!" said {h}.',
        "{h} was so happy that {h.he} hugged {f}.",
        "{h} hugged the {o.noun} and thanked {f}.",
    )
    t.say(
        "from that day on, {h} always took good care of the {o.noun}.",
        "{h} went home with a big smile.",
        "then they played together until the sun went down.",
    )


def stuck_up_high(t: Teller) -> None:
    t.go_outdoors()
    t.slots.update(o=t.thing(words.FLYERS, words.COLORS))
    t.begin("was playing with {o.a} at the {p}", "took {o.a} to the {p}", "had {o.a} and went to the {p}")
    t.maybe(0.6, "{h.his} friend {f} came too.", "the sun was shining and the birds were singing.")
    t.say(
        "then a strong wind came and blew the {o.noun} [into a tall tree|onto the roof].",
        "suddenly, the {o.noun} flew up and got stuck [in a tall tree|on a roof].",
        "but the wind took the {o.noun} and carried it [into a tall tree|onto the roof].",
    )
    t.turn()
    t.say("{h} jumped and jumped, but it was too high.", "{h} tried to reach it, but {h.he} was too small.")
    t.say('"What can we do?" asked {h}.', "{h} felt sad and sat down.", '"I will never get it back," said {h}.')
    t.say(
        '{f} had an idea. "We can use [a long stick|a ladder|a rope]!"',
        '"I know!" said {f}. "Let us ask your {e} for a ladder."',
        'then {f} said, "You can stand on my back."',
    )
    t.turn()
    t.say(
        "together they tried, and at last the {o.noun} came down.",
        "it took a long time, but they worked together and got the {o.noun} down.",
        "slowly, slowly, they reached the {o.noun} and pulled it free.",
    )
    t.say('"Hooray!" they shouted.', "{h} laughed and danced around.", '"We did it!" said {h}.')
    t.say(
        "{h} and {f} played with the {o.noun} all day.",
        "{h} learned that two friends can do more than one.",
        "after that, {h} and {f} were best friends.",
    )


def taking_turns(t: Teller) -> None:
    t.slots.update(o=t.thing(words.TOYS))
    t.begin(
        "found {o.a} at the {p} with {f}",
        "went to the {p} to play with {f}",
        "got {o.a} and showed it to {f}",
        "was playing with {o.a} when {f} came",
    )
    t.say("they both wanted to play with the {o}.", "both of them wanted the {o}.", "there was only one {o.noun}.")
    t.turn()
    t.say('"It is mine!" said {h}.', '"I want it first!" said {f}.', '"Give it to me!" shouted {h}.')
    t.say('"No, it is mine!" said {f}.', "they pulled and pulled.", "{f} was angry and began to cry.")
    t.say(
        "then the {o.noun} fell on the ground, and nobody was having fun.",
        "soon they were both sad and did not talk.",
        "{h} took the {o.noun} and went away, but playing alone was not fun.",
    )
    t.turn()
    t.say(
        'after a while, {h} said, "I am sorry. Let us take turns."',
        '{h.his} {e} said, "It is good to share. You can take turns."',
        '{h} thought about it. "You can go first," {h.he} said.',
    )
    t.say('"That is a good idea," said {f}.', "{f} smiled and said yes.", '"I am sorry too," said {f}.')
    t.say("first {f} played with the {o.noun}, and then {h} did.", "they played with the {o.noun} together.")
    t.say(
        "it was much more fun to share.",
        "{h} and {f} learned that sharing is better than fighting.",
        "they laughed and played until it was time to go home.",
    )


def honest(t: Teller) -> None:
    t.slots.update(o=t.thing(words.FRAGILE), toy=t.pick(("ball", "drum", "kite", "broom", "stick", "toy car"), 4))
    t.begin("was playing with a {toy} in the house", "ran through the house with a {toy}", "was at home with a {toy}")
    t.say("{h.his} {e} had said not to play inside.", "{h.he} had nothing else to do.", "{h.he} was alone.")
    t.turn()
    t.say(
        "crash! The {toy} hit the {o}, and it broke.",
        "the {toy} flew through the air and broke the {o}.",
        "{h} did not look, and the {o} fell and broke.",
    )
    t.say("{h} was scared.", '"Oh no!" said {h}.', "{h} felt very bad.")
    t.say("{h.he} hid the pieces under the bed.", "{h.he} put the pieces in a box.", "{h.he} wanted to hide.")
    t.say(
        'soon {h.his} {e} came and asked, "What happened to the {o.noun}?"',
        '"Where is my {o.noun}?" asked {h.his} {e}.',
    )
    t.turn()
    t.say(
        '{h} wanted to lie, but {h.he} told the truth. "I broke it. I am sorry."',
        '"I broke it," said {h} in a small voice. "I am so sorry."',
    )
    t.say(
        '{h.his} {e} was not angry. "Thank you for telling the truth," {e.he} said.',
        '{h.his} {e} gave {h.him} a hug. "It was brave to tell me," {e.he} said.',
    )
    t.say(
        "they fixed the {o.noun} together with glue.",
        "together they cleaned the floor.",
        "then {h} helped to make a new {o.noun}.",
    )
    t.say("{h} felt much better.", "{h} learned that it is always good to tell the truth.")


def treasure(t: Teller) -> None:
    first, second = t.two(t.place.spots)
    t.slots.update(o=t.thing(("key", "map"), ("old", "tiny", "shiny", "golden")), spot=first, deep=second)
    t.slots["prize"] = t.pick(words.TREASURES, 4)
    t.begin("found {o.a} {spot} at the {p}", "went to the {p} and found {o.a} {spot}")
    t.say("{h} showed it to {f}.", '"What is this for?" {h} asked {f}.', "{h.he} called {f} to come and look.")
    if "map" in str(t.slots["o"]):
        t.say("the map showed a path and a big red cross.", "on the map was a picture of the {p}.")
    else:
        t.say('"There must be a box for this key," said {f}.', "{h} tried the key in every door, but it did not fit.")
    t.turn()
    t.say("{h} and {f} looked all day.", "they walked and looked until they were tired.", "they looked everywhere.")
    t.say('"I want to stop," said {f}.', "it got late, and they found nothing.", "{f} was hungry and tired.")
    t.say('"Let us try one more time," said {h}.', 'but {h} said, "We must not give up."')
    t.turn()
    t.say("at last they saw a box {deep}.", "then {h} saw something {deep}. It was a box!")
    t.say("inside they found {prize}.", "they opened the box and found {prize}.", "in the box they found {prize}!")
    t.say("they were so surprised!", "{h} and {f} jumped with joy.", '"It is wonderful!" said {f}.')
    t.say(
        "they shared it with everyone.",
        "they took it home and showed it to {h.his} {e}.",
        "but the best part of the day was looking for it together.",
    )


def gift(t: Teller) -> None:
    t.slots.update(present=t.pick(words.GIFTS, 4), wish=t.thing(words.KEEPSAKES))
    t.begin(
        "wanted to give {h.his} {e} a gift",
        "went to the market to buy a gift for {h.his} {e}",
        "wanted to buy {wish.a} for {h.his} {e}",
    )
    t.say("tomorrow was {h.his} {e}'s birthday.", "it was {h.his} {e}'s birthday.")
    t.turn()
    t.say(
        "but {h} had no money.", "{h} had only one small coin, and it was not enough.", "but everything cost too much."
    )
    t.say("{h.he} walked home and felt sad.", "{h.he} sat down on the steps and cried.", "{h} did not know what to do.")
    t.say('"What is wrong?" asked {f}.', "{f} saw {h} and came over.")
    t.say('{f} said, "You can make something."', '"The best gifts are made by hand," said {f}.')
    t.turn()
    t.say(
        "so {h} worked all [day|evening|morning] and made {present}.",
        "{h} sat down and made {present}.",
        "{f} and {h} made {present} together.",
    )
    t.say("{h.his} {e} opened {e.his} eyes wide.", "when {h.his} {e} saw it, {e.he} smiled.")
    t.say('"This is the best gift of all," {e.he} said.', '"I love it, because you made it," {e.he} said.')
    t.say("{h} was very proud.", "they hugged for a long time.", "then they all ate cake and sang a song.")


def one_wish(t: Teller) -> None:
    t.slots.update(o=t.thing(("stone", "shell", "lamp", "ring", "feather", "coin"), ("magic",)))
    t.slots["spot"] = t.pick(t.place.spots, 4)
    t.slots["wish"], t.slots["trouble"] = t.pick(
        (
            ("to be very big", "{h.he} was so big that {h.he} could not go into {h.his} house"),
            ("for a hundred cakes", "there were so many cakes that nobody could move"),
            ("to fly", "the wind carried {h.him} far away over the hills"),
            ("to be very small", "the grass was as tall as trees, and nobody could hear {h.him}"),
            ("for rain to stop forever", "all the flowers became dry and sad"),
            ("for no more bedtime", "{h.he} was so tired that {h.he} could not play"),
            ("for snow", "there was so much snow that nobody could open the door"),
        ),
        5,
    )
    t.begin("found {o.a} {spot} at the {p}", "went to the {p} and found {o.a} {spot}")
    t.say('"You may make one wish," said the {o.noun}.', 'the {o.noun} said, "I can give you a wish."')
    t.say("{h} wished {wish}.", "without thinking, {h} wished {wish}.")
    t.turn()
    t.say("at first it was fun.", "and it came true!", "there was a bright light, and it came true.")
    t.say("but then {trouble}.", "but soon {trouble}.")
    t.say("{h} was scared.", '"This is not what I wanted," said {h}.', "{h} felt very sorry.")
    t.turn()
    t.say(
        "{f} found the {o.noun} and wished for everything to be as it was before.",
        '"Please, make everything as it was," {h} asked the {o.noun}.',
    )
    t.say("the {o.noun} shone once more, and all was well.", "in a moment, everything was good again.")
    t.say(
        "{h} put the {o.noun} back {spot}.",
        "{h} was happy with what {h.he} had.",
        '"I have all that I need," said {h}, and went home.',
    )


PLOTS = (lost_and_found, stuck_up_high, taking_turns, honest, treasure, gift, one_wish)
