"""Texts that an encoder is calibrated on: what people embed, and what they rarely do.

An encoder has no text of its own that could show where its activations go, so these are given. They were written for this.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

TEXTS = (
    "The train leaves the station at half past seven.",
    "Who wrote the letter that was found in the attic?",
    "Two dogs run over a wet meadow behind the old mill.",
    "Prices rose by 3.2 % in March 2021, after 1.9 % the year before.",
    "She laughed.",
    "no",
    "How do I reset the password of my email account? It keeps saying that the link has expired!",
    "The committee, having met twice without a result, put off the vote on the new bridge until the autumn; nobody was "
    "surprised, since the cost had doubled, the soil was wet, and the ferry, though slow, still carried everyone across.",
    "def area(width, height): return width * height  # in square metres",
    "https://example.org/shop/cart?item=4711&count=2#pay",
    "Der Zug fährt um sieben Uhr ab, aber niemand wartet auf dem Bahnsteig.",
    "東京は雨です。 Москва спит.",
    "?!?! ... --- ((())) $$$ %% ## @@ ~~ ;;; ,,, ''' \"\"\"",
    "Patient reports mild chest pain since Tuesday, worse on exertion; ECG normal, troponin negative, follow up in a week.",
    "It is a truth that every gardener learns: what grows fast, dies fast, and what nobody planted outlives the rest.",
    "Stocks, bonds, gold, oil, wheat, copper, cotton, sugar, coffee, cocoa, timber, wool.",
)
REPEATED = 40
LONGEST = 512


def text_sequences(tokenizer: bytes | None, context: int, random: Sequence[Sequence[int]]) -> list[list[int]]:
    """The texts in the tokenizer's tokens, its marks of begin and end around each, and all of them in one, as long as may be;
    `random` tokens, and of each of those the first one alone and over and over. At most `context` tokens each; without a
    tokenizer the random ones alone.
    """
    begin: list[int] = []
    end: list[int] = []
    texts: list[list[int]] = []
    if tokenizer is not None:
        own = Tokenizer.from_buffer(tokenizer)
        own.no_truncation()
        own.no_padding()
        marks: list[int] = own.encode("").ids
        half = (len(marks) + 1) // 2
        begin, end = marks[:half], marks[half:]
        texts = [own.encode(text, add_special_tokens=False).ids for text in TEXTS]
        joined = [token for text in texts for token in text]
        texts.append((joined * (1 + LONGEST // len(joined)))[:LONGEST])
    room = max(1, context - len(begin) - len(end))
    for tokens in random:
        texts += [list(tokens), list(tokens[:1]), list(tokens[:1]) * REPEATED]
    return [[*begin, *text[:room], *end][:context] for text in texts if text]
