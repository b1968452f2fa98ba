"""A group and its controls, asked and scored: who is heard, whose answers, at what cost in nats."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch

from composer.answers import extract_answer, same_answer
from composer.latent.answer_loss import Control, evaluate
from composer.latent.engine import LatentEngine
from composer.latent.group import Group, Heard
from composer.latent.members import Thinker
from composer.latent.reading import Reading
from composer.latent.study import Study
from composer.types import DEFAULT_SAMPLING, Completion, Request, Sampling
from eval.latent.starter_rows import Question

T = TypeVar("T")

MAX_TOKENS = 32
TOGETHER = 20


@dataclass(frozen=True, eq=False)
class Heckled(Group):
    """A group in which peers think of another question, or of nothing: a control."""

    control: Literal["shuffled", "zero"] = "shuffled"

    def hear(self, expert: int, readings: Sequence[Reading]) -> Heard:
        """What the peers are heard to say, instead of what they have to say."""
        heard = super().hear(expert, readings)
        if self.control == "zero":
            silent = [torch.zeros_like(states) for states in heard.states]
            return Heard(heard.expert, heard.readings, silent)
        return Heard(heard.expert, _turned(heard.readings), _turned(heard.states))


def answers(group: Group, primary: str, questions: Sequence[Question]) -> list[str]:
    """Greedy answers, a batch at a time; with `shuffled` each hears the peers of its neighbour."""
    engine = LatentEngine(group, [primary], max_texts=TOGETHER)
    found: dict[str, str] = {}
    sampling = Sampling(max_tokens=MAX_TOKENS).over(DEFAULT_SAMPLING)
    for begin in range(0, len(questions), TOGETHER):
        some = questions[begin : begin + TOGETHER]
        for number, question in enumerate(some, start=begin):
            request = Request(str(number), "group", question.row.messages, sampling)
            failure = engine.add(request, stream=False)
            assert failure is None, failure
        while len(found) < begin + len(some):
            found |= {e.request_id: e.text for e in engine.step() if isinstance(e, Completion)}
    return [found[str(number)] for number in range(len(questions))]


def alone(thinker: Thinker, questions: Sequence[Question]) -> list[str]:
    """Greedy answers of an expert by itself."""
    found: list[str] = []
    for question in questions:
        tokens = torch.tensor([thinker.tokenizer.encode(question.row.messages)])
        said = thinker.network.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
            eos_token_id=sorted(thinker.ends),
            pad_token_id=0,
        )
        found.append(thinker.tokenizer.decode(said[0, tokens.shape[1] :].tolist()))
    return found


def is_right(question: Question, text: str) -> bool:
    """Whether an answer holds what is right."""
    assert question.answer_type is not None
    found = extract_answer(text, question.answer_type)
    return found is not None and same_answer(found, question.row.answer, question.answer_type)


def nats(study: Study, control: Control | None = None) -> list[float]:
    """Of each row the mean loss of its answer's tokens."""
    return [loss.nats / loss.n_tokens for loss in evaluate(study, control=control)]


def _turned(values: Sequence[T]) -> list[T]:
    return [*values[1:], *values[:1]]
