"""Log-probabilities as the API shows them: tokens as text."""

from __future__ import annotations

from collections.abc import Sequence

from ..results import TokenLogprob as Found
from ..tokens import Tokenizer
from .replies import ChatLogprobs, TextLogprobs, TokenLogprob, TopLogprob

_UNFINISHED = "\ufffd"


class Spelling:
    """What single tokens of a model look like in the middle of a text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._decode = tokenizer.decode
        self._texts: dict[int, str] = {}

    def text(self, token_id: int) -> str:
        """A token with a part of a character is U+FFFD; some tokens, as that for the end of the text, have none."""
        if token_id not in self._texts:
            # Many decoders drop the blank that a text begins with: twice the token, less once, is the token further on.
            once, twice = self._decode([token_id]), self._decode([token_id, token_id])
            self._texts[token_id] = once if _UNFINISHED in twice else twice[len(once) :] or once
        return self._texts[token_id]

    def chat(self, found: Sequence[Found]) -> ChatLogprobs:
        return ChatLogprobs(
            content=[
                TokenLogprob(
                    **self._shown(one.token_id, one.logprob).model_dump(),
                    top_logprobs=[self._shown(token_id, logprob) for token_id, logprob in one.top],
                )
                for one in found
            ]
        )

    def completion(self, found: Sequence[Found], offset: int, top: bool) -> TextLogprobs:
        """`offset`: characters of the answer before these tokens."""
        texts, offsets = [self.text(one.token_id) for one in found], []
        for text in texts:
            offsets.append(offset)
            offset += len(text)
        return TextLogprobs(
            tokens=texts,
            token_logprobs=[one.logprob for one in found],
            top_logprobs=[self._best(one) for one in found] if top else None,
            text_offset=offsets,
        )

    def _best(self, found: Found) -> dict[str, float]:
        """By text: of several tokens that look alike the most likely one."""
        return {self.text(token_id): logprob for token_id, logprob in reversed(found.top)}

    def _shown(self, token_id: int, logprob: float) -> TopLogprob:
        text = self.text(token_id)
        return TopLogprob(token=text, logprob=logprob, bytes=None if _UNFINISHED in text else list(text.encode()))
