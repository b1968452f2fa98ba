"""The loss of answers' tokens, given what a primary attends to; or what it attends to instead."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from composer.latent.group import Group, Heard
from composer.latent.members import padded, positions
from composer.latent.reading import Reading
from composer.latent.study import Study, Who

Control = Literal["shuffled", "zero", "alone"]
"""Peers' states of another row, states of 0, or no interaction at all."""


@dataclass(frozen=True, slots=True)
class RowLoss:
    """What a row's answer costs."""

    nats: float
    """Over all its tokens, the end of text included."""
    n_tokens: int


def answer_nats(
    study: Study,
    who: Who,
    rows: Sequence[int],
    *,
    control: Control | None = None,
    listened: Sequence[int] | None = None,
    weights: Tensor | None = None,
) -> list[Tensor]:
    """Of each row the loss of each of its answer's tokens, [n] float32 in nats.

    Args:
        study: The rows, read.
        who: Experts that take part, the one that writes first.
        rows: Their numbers.
        control: What is attended to instead; None: peers' states of the row itself.
        listened: With `shuffled`, of which row each one's peers' states are.
        weights: What experts' values are multiplied by, [rows, M]; None: by nothing.
    """
    primary, *peers = who
    lessons = [study.lesson(row, primary) for row in rows]
    readings = [lesson.reading for lesson in lessons]
    keep = max(len(lesson.targets) for lesson in lessons)
    if control == "alone":
        logits = _alone(study.group, primary, readings, keep)
    else:
        heard = [study.heard(peer, primary, listened or rows) for peer in peers]
        if control == "zero":
            heard = [_silenced(one) for one in heard]
        if weights is not None:
            heard = [replace(one, weights=weights[:, one.expert]) for one in heard]
        device = study.group.thinkers[primary].device
        memories = study.group.memories(heard, device)
        logits = study.group.logits(primary, readings, memories, keep)
    lengths = [len(lesson.targets) for lesson in lessons]
    said = torch.cat([row[-n:] for row, n in zip(logits, lengths, strict=True)]).float()
    targets = torch.tensor([token for lesson in lessons for token in lesson.targets])
    nats = functional.cross_entropy(said, targets.to(said.device), reduction="none")
    ends = list(accumulate(lengths))
    return [nats[end - n : end] for end, n in zip(ends, lengths, strict=True)]


@torch.no_grad()
def evaluate(
    study: Study,
    *,
    control: Control | None = None,
    batch: int = 8,
    seed: int = 0,
    who: Sequence[Who] | None = None,
) -> list[RowLoss]:
    """What each row's answer costs the group, the first primary writing where nobody says.

    Args:
        study: The rows, none of which should have been learned from.
        control: What is attended to instead. `shuffled` gives each row the peers' states of
            another row of the study, of which there have to be two or more.
        batch: Rows at one time.
        seed: Of who hears whom, and of the peers where fewer than all are active.
        who: Experts that take part in each row, as a router chose; None: see `Study.who`.
    """
    others = _others(len(study.rows), seed)
    found: dict[int, RowLoss] = {}
    apart: dict[Who, list[int]] = {}
    for row in range(len(study.rows)):
        apart.setdefault(who[row] if who else study.who(row, 0, seed), []).append(row)
    for part, rows in apart.items():
        rows.sort(key=lambda row, primary=part[0]: len(study.lesson(row, primary).reading))
        for begin in range(0, len(rows), batch):
            some = rows[begin : begin + batch]
            listened = [others[row] for row in some] if control == "shuffled" else None
            nats = answer_nats(study, part, some, control=control, listened=listened)
            for row, of_row in zip(some, nats, strict=True):
                found[row] = RowLoss(float(of_row.sum()), len(of_row))
    return [found[row] for row in range(len(study.rows))]


def mean_nats(losses: Sequence[RowLoss]) -> float:
    """Nats of an answer's token, over the tokens of all rows."""
    return sum(loss.nats for loss in losses) / sum(loss.n_tokens for loss in losses)


def _others(n_rows: int, seed: int) -> list[int]:
    """Another row for each row, by a cycle through all."""
    order = list(range(n_rows))
    Random(f"{seed}/shuffled").shuffle(order)
    after = dict(zip(order, order[1:] + order[:1], strict=True))
    return [after[row] for row in range(n_rows)]


def _silenced(heard: Heard) -> Heard:
    states = [torch.zeros_like(of_text) for of_text in heard.states]
    return Heard(heard.expert, heard.readings, states)


def _alone(group: Group, primary: int, readings: Sequence[Reading], keep: int) -> Tensor:
    thinker = group.thinkers[primary]
    tokens, mask = padded([reading.tokens for reading in readings], thinker.device)
    return thinker.network(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=positions(mask),
        use_cache=False,
        logits_to_keep=keep,
    ).logits
