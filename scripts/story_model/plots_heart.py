"""Plots that turn on a feeling: fear, loneliness, pride, a sleepless night."""

from __future__ import annotations

from . import words
from .teller import Teller


def being_brave(t: Teller) -> None:
    fear, moment, truth = t.pick(words.FEARS, 5)
    t.slots.update(fear=fear, moment=moment, truth=truth)
    t.begin("was afraid of {fear}", "went out with {f}, but {h.he} was afraid of {fear}", "was scared of {fear}")
    t.say("{f} was not afraid at all.", "{h.he} did not tell anyone.", "{h.his} friends did not know.")
    t.say("then {moment}.", "that day, {moment}.", "but now {moment}.")
    t.turn()
    t.say('"I can not do it," said {h}.', "{h} wanted to run away.", "{h} closed {h.his} eyes and shook.")
    t.say(
        '{f} took {h.his} hand. "I am here with you," said {f}.',
        '{h.his} {e} said, "Being brave means to try when you are afraid."',
        '"Take one small step," said {h.his} {e}.',
    )
    t.say("{h} took a deep breath.", "so {h} counted to three.", "{h} thought about it, and then {h.he} nodded.")
    t.turn()
    t.say("slowly, {h.he} tried.", "{h.he} took one step, and then one more.", "{h.he} opened {h.his} eyes and tried.")
    t.say("{truth}.")
    t.say('"I did it!" said {h}.', "{h} began to laugh.", '"It is not so bad," said {h}.')
    t.say(
        "after that, {h} was not afraid of {fear} anymore.",
        "{h} was very proud, and so was {h.his} {e}.",
        "from then on, {h} helped others who were afraid.",
    )


def new_friend(t: Teller) -> None:
    t.slots.update(o=t.thing(words.TOYS))
    t.begin(
        "was all alone at the {p}", "went to the {p}, but had no one to play with", "felt lonely and went to the {p}"
    )
    t.say("{h.he} was new in town.", "all the others had friends to play with.", "{h.he} wished for a friend.")
    t.turn()
    who = "a {f.kind}[| named {f}]" if t.child else "a {f.kind} named {f}"
    t.say(f"then {{h.he}} saw {who} who was alone too.", f"near the gate sat {who}.")
    t.say("{h} wanted to say hello, but {h.he} was shy.", "{h} was too shy to talk.")
    t.say('{h} took a deep breath and said, "Hello, I am {h}."', '"Do you want to play?" {h} asked at last.')
    t.say('"Yes! My name is {f}," said the {f.kind}.', '"I am {f}," said the {f.kind} with a smile.')
    t.turn()
    t.say("they played with {o.a} and laughed a lot.", "{f} had {o.a}, and they played with it all day.")
    t.say("{h} shared {h.his} lunch with {f}.", "they told each other funny stories.", "they ran and jumped and sang.")
    t.say('"Can we play again tomorrow?" asked {f}.', '"Let us be friends forever," said {f}.')
    t.say("{h} was not lonely anymore.", "{h} went home happy, because now {h.he} had a friend.")


def learning(t: Teller) -> None:
    skill, mishap = t.pick(words.SKILLS, 6)
    t.slots.update(skill=skill, mishap=mishap)
    t.begin("wanted to {skill}", "wanted to learn to {skill}", "went to the {p} to learn to {skill}")
    t.say("{f} could already do it.", "all {h.his} friends could do it.", "{h.his} {e} said it was not easy.")
    t.turn()
    t.say("{h} tried, but {h.he} {mishap}.", "the first time, {h.he} {mishap}.")
    t.say("{h.he} tried again, and {h.he} {mishap} again.", "the second time was no better.")
    t.say('"I will never learn it," said {h}.', "{h} was angry and wanted to stop.", "{h} felt like crying.")
    t.say(
        '"I {mishap} many times too," said {f}. "Just keep trying."',
        '{h.his} {e} said, "You only need to practice a little every day."',
    )
    t.turn()
    t.say("so {h} tried every day.", "{h} practiced in the morning and in the evening.")
    t.say("and one day, {h.he} could do it!", "then, all at once, it worked!", "and at last {h.he} did it!")
    t.say('"Look at me!" {h} shouted.', "{f} clapped and cheered.", "{h.his} {e} was so proud.")
    t.say("{h} learned never to give up.", "now {h} likes to {skill} every day.", "{h} smiled all the way home.")


def strange_noise(t: Teller) -> None:
    noise, cause = t.pick(words.NOISES, 5)
    t.slots.update(noise=noise, cause=cause, where=t.pick(("outside", "downstairs", "upstairs")))
    t.begin("heard a strange noise in the night", "woke up suddenly", "could not sleep", when=words.NIGHTS)
    t.say("{h.he} heard {noise} {where}.", "there was {noise} {where}.", "it was {noise}, and it came from {where}.")
    t.say("the moon was behind the clouds, and the house was dark.", "everyone else was asleep.")
    t.turn()
    t.say('"Is it a monster?" thought {h}.', "{h} hid under the blanket.", '"Who is there?" {h} whispered.')
    t.say("the noise came again.", "then {h.he} heard it again, a little louder.")
    t.say("{h} woke up {f}, and they took a lantern.", "{h} took a small light and went to look.")
    t.say("step by step, {h.he} came closer.", "{h.his} heart went boom, boom, boom.")
    t.turn()
    t.say("and what was it? It was only {cause}!", "there was no monster. It was only {cause}.")
    t.say("{h} laughed out loud.", '"You gave me such a fright!" said {h}.', "{h} was so relieved.")
    t.say(
        "then {h.he} went back to bed and slept until morning.", "after that, the night was quiet, and {h} slept well."
    )


def the_race(t: Teller) -> None:
    t.go_outdoors()
    t.slots["prize"] = t.pick(("a golden cup", "a big cake", "a blue ribbon", "a basket of apples", "a silver medal"))
    t.begin("wanted to win the big race", "was in a race at the {p}", "went to the {p} for the big race")
    t.say("the winner would get {prize}.", "{f} was in the race too.", "everyone came to see it.")
    t.say("one, two, three, go! They all ran.", '"Go!" shouted {h.his} {e}, and they all ran.')
    t.turn()
    t.say("{h} was fast and came to the front.", "soon {h} was the first of all.", "{h} ran as fast as the wind.")
    t.say("but then {f} fell and hurt {f.his} knee.", "then {h} heard a cry. {f} had fallen down.")
    t.say("{h} could see the end of the race. What should {h.he} do?", "{h} looked at the end, and then at {f}.")
    t.turn()
    t.say("{h} stopped and went back to help.", "{h} turned around and helped {f} to stand up.")
    t.say('"You will not win," said {f}. "You are more important," said {h}.', '"Come on, we go together," said {h}.')
    t.say("hand in hand, they walked to the end.", "they came in last, but they came in together.")
    t.say(
        "everyone cheered for them, and they both got {prize}.",
        "they did not win {prize}, but everyone clapped for them.",
        '"You have a good heart," said {h.his} {e}.',
    )
    t.maybe(0.5, "{h} was happier than any winner.", "{f} never forgot it.")


def bedtime(t: Teller) -> None:
    t.slots.update(o=t.thing(("blanket", "teddy bear", "pillow", "lantern", "book", "doll")))
    t.begin("could not sleep", "was in bed, but could not sleep", "did not want to go to bed", when=words.NIGHTS)
    t.say("{h.he} turned to the left, and {h.he} turned to the right.", "{h.his} eyes were wide open.")
    t.turn()
    t.say("{h} counted sheep, but it did not help.", "{h.he} drank some water, but it did not help.")
    t.say("{h} held the {o} and looked at the moon.", "{h.he} missed the {o}.", "{h} heard the wind in the trees.")
    t.say('"What is wrong?" asked {h.his} {e}.', "{h.his} {e} came in and sat on the bed.")
    t.say('"I am not tired," said {h}.', '"The night is so long," said {h}.', '"I want to play," said {h}.')
    t.turn()
    t.say(
        "{h.his} {e} sang a soft song about the sea.",
        "{h.his} {e} told a story about a sleepy star.",
        "{h.his} {e} gave {h.him} the {o.noun} and a kiss.",
    )
    t.say('"Close your eyes and think of the best thing today," {e.he} said.', "the song went up and down like a boat.")
    t.say("{h} thought of the {p} and of {f}.", "{h} smiled and closed {h.his} eyes.", "{h.his} eyes became heavy.")
    t.say(
        "soon {h.he} was fast asleep.", "before the end of it, {h} was asleep.", "and then {h} slept. Good night, {h}."
    )


PLOTS = (being_brave, new_friend, learning, strange_noise, the_race, bedtime)
