"""Streaming text: whole characters, right spaces, nothing lost; stop strings; prompts refused early."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tacit.client.tokens import Detokenizer, IdTokenizer, StopScanner, TextTokenizer, load, prompt_ids
from tacit.errors import ModelError, UsageError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(os.environ.get("TACIT_TEST_MODELS", ROOT.parent / "shared" / "models"))
STORIES = MODELS / "stories260K" / "tokenizer.json"


def byte_level() -> TextTokenizer:
    """GPT-2 style: every byte a token, spaces inside the words' tokens, one merge across a character's bytes."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: place for place, letter in enumerate(letters)}
    merges = [("Ġ", "h"), ("Ã", "©")]
    for left, right in merges:
        vocab[left + right] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return TextTokenizer(tokenizer.to_str().encode(), len(vocab), None)


def byte_fallback() -> TextTokenizer:
    """Llama style: "▁" for a space, byte tokens for what the vocabulary lacks, the text's first space dropped."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "é", "▁a"]
    vocab = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("▁", "a")], unk_token="<unk>", byte_fallback=True))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return TextTokenizer(tokenizer.to_str().encode(), len(vocab), 1)


def stream(tokenizer, token_ids, prompt=()) -> list[str]:
    growing = Detokenizer(tokenizer, prompt)
    return [*(growing.add(token_id) for token_id in token_ids), growing.flush()]


@given(st.text(max_size=40))
def test_byte_level_pieces_are_whole_characters_and_add_up(text):
    tokenizer = byte_level()
    pieces = stream(tokenizer, tokenizer.encode(text))
    assert "".join(pieces) == text
    for piece in pieces:
        assert "\ufffd" not in piece or "\ufffd" in text


@given(st.text(alphabet="ab é€😀\n", max_size=30), st.integers(0, 12))
@example("  ", 1)
def test_the_split_between_prompt_and_answer_leaves_no_seam(text, cut):
    tokenizer = byte_fallback()
    token_ids = tokenizer.encode(text.replace(" ", "▁"))
    cut = min(cut, len(token_ids))
    prompt = tokenizer.decode(token_ids[:cut])
    if "\ufffd" in prompt:  # cut inside a character: no seamless text exists
        return
    assert prompt + "".join(stream(tokenizer, token_ids[cut:], token_ids[:cut])) == tokenizer.decode(token_ids)


def test_a_character_comes_whole_with_its_last_byte():
    tokenizer = byte_fallback()
    euro = [3 + byte for byte in "€".encode()]
    assert stream(tokenizer, [*euro, *euro]) == ["", "", "€", "", "", "€", ""]


def test_a_character_cut_off_at_the_end_shows_as_replacement():
    tokenizer = byte_fallback()
    a, half = 260, [3 + byte for byte in "€".encode()[:2]]
    assert "".join(stream(tokenizer, [a, *half])) == "a\ufffd\ufffd"
    euro = [3 + byte for byte in "€".encode()]
    assert "".join(stream(tokenizer, [*euro, *half])).startswith("€\ufffd")


def test_the_first_piece_keeps_the_space_after_the_prompt():
    tokenizer = byte_fallback()
    space_a = tokenizer.encode("▁a")[-1]
    assert stream(tokenizer, [space_a, space_a], [260])[:2] == [" a", " a"]
    assert stream(tokenizer, [space_a, space_a], [1])[:2] == ["a", " a"]  # nothing before it: no space to keep


def test_a_long_answer_decodes_a_short_window():
    lengths: list[int] = []

    class Counting:
        vocab = 10

        def encode(self, text):
            return [0]

        def decode(self, token_ids):
            lengths.append(len(token_ids))
            return "x" * len(token_ids)

    assert "".join(stream(Counting(), [1] * 500, [1] * 100)) == "x" * 500
    assert max(lengths) <= 8


@pytest.mark.skipif(not STORIES.exists(), reason=f"no checkpoint at {STORIES}")
def test_a_real_tokenizer_streams_the_text_it_decodes():
    tokenizer = TextTokenizer(STORIES.read_bytes(), 512, 1)
    text = "Once upon a time, there was a dog. She said: “Où est Zoë?” 😀 The end."
    token_ids = tokenizer.encode(text)
    assert token_ids[0] == 1
    assert "".join(stream(tokenizer, token_ids[1:], token_ids[:1])) == text
    prompt = tokenizer.encode("Once upon a time")
    assert "".join(stream(tokenizer, token_ids[len(prompt) :], prompt)) == text.removeprefix("Once upon a time")


def test_a_tokenizer_that_is_none_or_of_another_model_is_refused():
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        TextTokenizer(b"{not json", 10, None)
    definition = Tokenizer(models.BPE(vocab={"a": 0, "b": 17}, merges=[])).to_str().encode()
    with pytest.raises(ModelError, match="17"):
        TextTokenizer(definition, 17, None)
    TextTokenizer(definition, 18, None)


def test_without_a_tokenizer_text_is_numbers():
    tokenizer = load(None, 100, None)
    assert isinstance(tokenizer, IdTokenizer)
    assert tokenizer.encode("3, 5 99") == [3, 5, 99]
    assert "".join(stream(tokenizer, [7, 8, 9], [3])) == " 7 8 9"
    assert "".join(stream(tokenizer, [7, 18, 9])) == "7 18 9"
    with pytest.raises(UsageError, match="token ids") as caught:
        tokenizer.encode("Once upon")
    assert "Once" not in str(caught.value)


def test_prompts_are_checked_before_anything_is_sent():
    tokenizer = load(None, 100, None)
    assert prompt_ids(tokenizer, "1 2 3", 3) == [1, 2, 3]
    assert prompt_ids(tokenizer, (4, 5), 3) == [4, 5]
    with pytest.raises(UsageError, match=r"4 tokens .* context is 3"):
        prompt_ids(tokenizer, "1 2 3 4", 3)
    for bad in ([100], [-1], [1, True], [1.5], ["1"]):
        with pytest.raises(UsageError, match=f"item {len(bad)} "):
            prompt_ids(tokenizer, bad, 3)
    for bad in (None, 5, b"1"):
        with pytest.raises(UsageError, match=type(bad).__name__):
            prompt_ids(tokenizer, bad, 3)
    with pytest.raises(UsageError, match="empty"):
        prompt_ids(tokenizer, "", 3)
    assert prompt_ids(byte_fallback(), "", 3) == [1]


def test_bytes_that_are_no_text_are_refused_without_being_shown():
    with pytest.raises(UsageError, match="not UTF-8") as caught:
        byte_fallback().encode(b"canary \xff".decode(errors="surrogateescape"))
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__


def scan(stops, texts) -> tuple[str, bool]:
    scanner = StopScanner(stops)
    shown = ""
    for text in texts:
        shown += scanner.add(text)
        if scanner.stopped:
            return shown, True
    return shown + scanner.flush(), False


@given(
    st.text(alphabet="ab", max_size=20), st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3), st.data()
)
def test_stop_strings_end_the_text_wherever_the_pieces_break(text, stops, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    shown, stopped = scan(stops, pieces)
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert stopped == bool(ends)
    if not ends:
        assert shown == text
    else:  # a stop string that is complete earlier may start later than one that a larger piece would have shown
        assert text.startswith(shown)
        assert not any(stop in shown for stop in stops)
        assert any(text[len(shown) :].startswith(stop) for stop in stops)


def test_text_that_may_become_a_stop_string_is_held_back():
    scanner = StopScanner(["\n\n"])
    assert scanner.add("The end.\n") == "The end."
    assert scanner.add("So") == "\nSo"
    assert scanner.add("\n") == ""
    assert scanner.flush() == "\n"
    with pytest.raises(UsageError, match="empty"):
        StopScanner([""])
