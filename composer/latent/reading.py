"""Texts as tokens with places in the text, by which experts of any tokenizers are aligned.

Every expert has the question in a template of its own. Places are counted in characters from the
end of the question's text, which all templates contain:

    tokens of the prompt up to there     place <= 0
    the template's tail behind it        place 0
    what is generated                    place 1, 2, ... characters

So the same words have the same places for all, whatever stands before and behind them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from composer.latent.settings import LatentSettings
from composer.tokenizer import ChatTokenizer
from composer.types import Message

ALWAYS = -(1 << 30)
"""`Reading.since` of what is seen from everywhere."""
NEVER = 1 << 30
"""`Reading.since` of padding."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Tokens in one expert's vocabulary."""

    tokens: tuple[int, ...]
    places: tuple[int, ...]
    """Where each one ends."""
    since: tuple[int, ...]
    """The place of the primary from which on it sees this token, where a peer reads it."""
    is_cut: bool = False
    """Whether it was longer than the context, and begins later than the text does."""

    def __len__(self) -> int:
        return len(self.tokens)

    def then(self, tokens: Sequence[int], places: Sequence[int], since: Sequence[int]) -> Reading:
        """With more behind it."""
        return Reading(
            (*self.tokens, *tokens), (*self.places, *places), (*self.since, *since), self.is_cut
        )

    def within(self, limit: int) -> Reading:
        """Its last `limit` tokens; the first stays, which may be the one that texts begin with."""
        if len(self) <= limit:
            return self
        keep = len(self) - limit + 1
        return Reading(
            self.tokens[:1] + self.tokens[keep:],
            self.places[:1] + self.places[keep:],
            self.since[:1] + self.since[keep:],
            is_cut=True,
        )


def read_prompt(tokenizer: ChatTokenizer, messages: Sequence[Message]) -> Reading:
    """The prompt as an engine is sent it.

    Raises:
        ConfigError: The expert's template refuses the messages.
    """
    text, tokens, ends = tokenizer.encode_places(messages)
    question = messages[-1].content.strip()
    found = text.rfind(question)
    # A template may change the text; then its end is that of the prompt.
    end = found + len(question) if question and found >= 0 else len(text)
    places = [min(e - end, 0) for e in ends]
    return Reading(tuple(tokens), tuple(places), (ALWAYS,) * len(tokens))


def read_answer(tokenizer: ChatTokenizer, prompt: Reading, answer: str) -> Reading:
    """The prompt with a text behind it that is seen as far as it has been written."""
    tokens, ends = tokenizer.encode_text_places(answer)
    return prompt.then(tokens, ends, ends)


def in_steps(
    reading: Reading, primary: Reading, n_prompt: int, settings: LatentSettings
) -> Reading:
    """A peer's reading of a whole text, seen as it would have been while that was written.

    Args:
        reading: A peer's, of the prompt and the answer.
        primary: The primary's own, of the same.
        n_prompt: Tokens of the primary's prompt.
        settings: `every_n`: the peer reads anew after each n tokens of the primary, and what it
            reads then is seen from there on. Otherwise the reading as it is.
    """
    if settings.refresh != "every_n":
        return reading
    turns = primary.places[n_prompt + settings.refresh_every - 1 :: settings.refresh_every]
    since = tuple(place if place == ALWAYS else _next_turn(turns, place) for place in reading.since)
    return Reading(reading.tokens, reading.places, since, reading.is_cut)


def _next_turn(turns: Sequence[int], place: int) -> int:
    """The first turn at which the text reached as far as a place."""
    number = bisect_right(turns, place - 1)
    return turns[number] if number < len(turns) else NEVER
