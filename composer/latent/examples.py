"""A row in an expert's tokens: as the one that writes is taught it, and as a peer reads it."""

from __future__ import annotations

from dataclasses import dataclass

from composer.errors import ConfigError
from composer.latent.members import Thinker
from composer.latent.reading import ALWAYS, Reading, in_steps, read_answer, read_prompt
from composer.latent.rows import Row
from composer.latent.settings import LatentSettings
from composer.types import Message


@dataclass(frozen=True, slots=True)
class Lesson:
    """A row as the expert that writes is taught it."""

    reading: Reading
    """The prompt and all of the answer that something comes after."""
    targets: tuple[int, ...]
    """What is to be said after the prompt and after each token of the answer: the answer's tokens,
    and the end of text."""

    @property
    def n_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.reading) - len(self.targets) + 1


def make_lesson(thinker: Thinker, row: Row) -> Lesson:
    """A row for its primary.

    Raises:
        ConfigError: It is longer than the primary's context, or the template refuses it.
    """
    prompt = _prompt(thinker, row)
    whole = read_answer(thinker.tokenizer, prompt, row.answer)
    end = end_token(thinker, row)
    if end is not None:
        whole = whole.then([end], whole.places[-1:], [ALWAYS])
    if len(whole) > thinker.context:
        raise ConfigError(
            f"{row.where}: prompt and answer have {len(whole)} tokens for expert "
            f"{thinker.name!r}, whose context is {thinker.context}; shorten the row or leave it out"
        )
    return Lesson(_first(whole, len(whole) - 1), whole.tokens[len(prompt) :])


def end_token(thinker: Thinker, row: Row) -> int | None:
    """The token that ends this expert's answers: the one that its template puts behind them.

    Of a model with several ends that is the one which it was taught to answer with; where the
    template writes none, the lowest. None: the model has no end.
    """
    answer = row.answer.strip()
    messages = (*row.messages, Message("assistant", answer))
    try:
        text = thinker.tokenizer.render(messages, add_generation_prompt=False)
    except ConfigError:
        text = ""
    behind = text[text.rfind(answer) + len(answer) :] if answer in text else ""
    tokens = thinker.tokenizer.encode_text(behind)
    usual = min(thinker.ends, default=None)
    return next((token for token in tokens if token in thinker.ends), usual)


def read_as_peer(thinker: Thinker, row: Row, settings: LatentSettings) -> Reading:
    """A row as a peer reads it: the prompt, and the answer too where it is read anew.

    A prompt that is longer than the context is cut from the left; an answer that then has no room
    is not read to its end.

    Raises:
        ConfigError: The peer's template refuses the row.
    """
    prompt = _prompt(thinker, row)
    if settings.refresh == "prompt":
        return prompt.within(thinker.context - settings.think_tokens)
    whole = read_answer(thinker.tokenizer, prompt.within(thinker.context), row.answer)
    return _first(whole, thinker.context)


def as_seen(reading: Reading, lesson: Lesson, settings: LatentSettings) -> Reading:
    """A peer's reading, seen by the primary as far as it would have been while that writes."""
    return in_steps(reading, lesson.reading, lesson.n_prompt, settings)


def _prompt(thinker: Thinker, row: Row) -> Reading:
    try:
        return read_prompt(thinker.tokenizer, row.messages)
    except ConfigError as exc:
        raise ConfigError(f"{row.where}: {exc}") from exc


def _first(reading: Reading, n_tokens: int) -> Reading:
    if len(reading) <= n_tokens:
        return reading
    return Reading(
        reading.tokens[:n_tokens],
        reading.places[:n_tokens],
        reading.since[:n_tokens],
        reading.is_cut,
    )
