"""Questions to a group, what its peers make of them, and how often its answers are right."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from composer.latent.group import Group, Heard
from composer.latent.members import Thinker
from composer.latent.reading import Reading, in_steps, read_answer, read_prompt
from composer.types import Message
from eval.latent.phrasings import Lesson

TOGETHER = 200
"""Questions at one time."""
PRIMARY = 0
"""Its number in the group; all others are its peers."""

Control = Literal["shuffled", "zero"]
"""Peers' states of another question, or states of 0."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions as the primary reads them, with its peers' states, all in memory."""

    lessons: tuple[Lesson, ...]
    readings: tuple[Reading, ...]
    """The primary's, the answer included but for its end."""
    targets: tuple[tuple[int, ...], ...]
    """Tokens of the answer and its end, in the primary's vocabulary."""
    heard: tuple[Heard, ...]
    """Of each peer, all questions."""

    def __len__(self) -> int:
        return len(self.lessons)

    def heard_of(self, rows: Sequence[int]) -> list[Heard]:
        """What peers make of these."""
        return [
            Heard(one.expert, [one.readings[i] for i in rows], [one.states[i] for i in rows])
            for one in self.heard
        ]


def ask(group: Group, lessons: Sequence[Lesson]) -> Asked:
    """Have all read questions; peers think ahead, or read answers, as the settings say."""
    primary, *peers = group.thinkers
    prompts = [read_question(primary, lesson.question) for lesson in lessons]
    readings = [
        read_answer(primary.tokenizer, prompt, f" {lesson.answer}")
        for prompt, lesson in zip(prompts, lessons, strict=True)
    ]
    end = min(primary.ends)
    targets = [
        (*reading.tokens[len(prompt) :], end)
        for prompt, reading in zip(prompts, readings, strict=True)
    ]
    heard: list[Heard] = []
    for number, peer in enumerate(peers, start=1):
        asked = [read_question(peer, lesson.question) for lesson in lessons]
        if group.settings.refresh != "prompt":
            whole = [
                read_answer(peer.tokenizer, prompt, f" {lesson.answer}")
                for prompt, lesson in zip(asked, lessons, strict=True)
            ]
            asked = [
                in_steps(one, reading, len(prompt), group.settings)
                for one, reading, prompt in zip(whole, readings, prompts, strict=True)
            ]
        heard.append(_hear(group, number, asked))
    return Asked(tuple(lessons), tuple(readings), tuple(targets), tuple(heard))


def of_peers(asked: Asked, peers: Sequence[int], rows: Sequence[int]) -> Asked:
    """Some of the questions, with the states of some peers."""
    heard = [one for one in asked.heard_of(rows) if one.expert in peers]
    return Asked(
        tuple(asked.lessons[i] for i in rows),
        tuple(asked.readings[i] for i in rows),
        tuple(asked.targets[i] for i in rows),
        tuple(heard),
    )


def _hear(group: Group, peer: int, asked: Sequence[Reading]) -> Heard:
    """All that a peer has to say, a few questions at a time."""
    readings: list[Reading] = []
    states: list[Tensor] = []
    hear = group.listen if group.settings.refresh == "prompt" else group.hear
    for begin in range(0, len(asked), TOGETHER):
        said = hear(peer, asked[begin : begin + TOGETHER])
        readings += said.readings
        states += [of_text.clone() for of_text in said.states]
    return Heard(peer, readings, states)


@torch.no_grad()
def right(group: Group, asked: Asked, control: Control | None = None) -> list[bool]:
    """Of each question whether its answer, written greedily to its end, is the right one.

    Every token has to be the likeliest behind those before it, which is the same.
    """
    order = list(range(len(asked)))
    others = list(order)
    if control == "shuffled":
        random.Random(0).shuffle(order)
        others = order[len(order) // 2 :] + order[: len(order) // 2]
    found = [False] * len(asked)
    for begin in range(0, len(order), TOGETHER):
        rows, listened = order[begin : begin + TOGETHER], others[begin : begin + TOGETHER]
        heard = asked.heard_of(listened)
        if control == "zero":
            heard = [
                Heard(one.expert, one.readings, [torch.zeros_like(s) for s in one.states])
                for one in heard
            ]
        scores, targets = scored(group, asked, rows, heard)
        good: list[bool] = ((scores.argmax(-1) == targets) | (targets < 0)).all(-1).tolist()
        for row, is_right in zip(rows, good, strict=True):
            found[row] = is_right
    return found


def scored(
    group: Group, asked: Asked, rows: Sequence[int], heard: Sequence[Heard]
) -> tuple[Tensor, Tensor]:
    """Scores [B, n, V] of the answers' tokens [B, n] int64; -1 is no token of an answer."""
    targets = [asked.targets[row] for row in rows]
    longest = max(map(len, targets))
    memories = group.memories(heard, group.thinkers[PRIMARY].device)
    scores = group.logits(PRIMARY, [asked.readings[row] for row in rows], memories, longest)
    flat = [(-1,) * (longest - len(of_row)) + of_row for of_row in targets]
    return scores, torch.tensor(flat)


def read_question(thinker: Thinker, question: str) -> Reading:
    """A question as an expert's template has it."""
    return read_prompt(thinker.tokenizer, [Message("user", question)])


def say(thinker: Thinker, questions: Sequence[str], n_tokens: int) -> tuple[list[str], int]:
    """What an expert answers by itself, greedily, and how many tokens it read and wrote."""
    texts: list[str] = []
    n_all = 0
    for begin in range(0, len(questions), TOGETHER):
        prompts = [read_question(thinker, q) for q in questions[begin : begin + TOGETHER]]
        for prompt, whole in zip(prompts, thinker.think(prompts, n_tokens), strict=True):
            texts.append(thinker.tokenizer.decode(whole.tokens[len(prompt) :]).strip())
            n_all += len(whole)
    return texts, n_all
