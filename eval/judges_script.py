"""Recorded texts as proposals, and a scripted judge that knows how they were scored."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from composer.judge_prompts import BEST_SCORE
from composer.outcomes import OutcomeTable
from composer.types import Completion, Outcome, Request, Sample

Taste = Literal["score", "length"]
JUDGE = "(judge)"
SAMPLED = "(sampled)"
"""Stands for an expert of whom several samples are recorded; they are the proposers' texts."""


@dataclass(frozen=True, slots=True)
class ScriptedJudge:
    """Goes by what the record says of an answer, with a normal error; deterministic."""

    taste: Taste
    noise: float
    """Standard deviation of the error of each answer in each request."""
    seed: int
    usd: float
    """What each of its replies costs."""

    def reply(self, request: Request, worth: Sequence[float]) -> str:
        """The JSON that a request for a judgement wants; a request's id ends in what it is about.

        Args:
            request: Of `rank_by_score` or `rank_by_comparison`.
            worth: Of each proposal, in [0, 1].
        """
        rng = random.Random(f"{self.seed}/{request.id}")
        numbers = [int(number) - 1 for number in request.id.rpartition("/")[2].split("-")]
        felt = [worth[number] + rng.gauss(0, self.noise) for number in numbers]
        if len(felt) == 1:
            score = round(1 + (BEST_SCORE - 1) * felt[0])
            return json.dumps({"score": min(max(score, 1), BEST_SCORE)})
        first, second = felt
        return json.dumps({"better": "tie" if first == second else "A" if first > second else "B"})


def outcome(
    request: Request, judge: ScriptedJudge, table: OutcomeTable, row: int, worth: Sequence[float]
) -> Outcome:
    """What the record says to a proposer's request, and the script to any other."""
    if request.purpose != "propose":
        text = judge.reply(request, worth) if request.purpose == "judge" else "(not recorded)"
        samples, usd = [Sample(text, "stop", 0)], judge.usd
    else:
        columns = [table.names.index(request.expert)] if request.expert in table.names else None
        columns = range(len(table.names)) if columns is None else columns
        assert table.texts is not None
        samples = [Sample(str(table.texts[row, column]), "stop", 0) for column in columns]
        usd = sum(usd_of(table, row, column) for column in columns)
    return Completion(request.id, request.expert, tuple(samples), 0, cost_usd=usd)


def worth_of(taste: Taste, table: OutcomeTable, row: int) -> list[float]:
    """What the judge goes by, of each proposer's text, in [0, 1]."""
    if taste == "score":
        return [float(score) for score in table.score[row]]
    assert table.texts is not None
    lengths = [len(str(text)) for text in table.texts[row]]
    return [length / max(lengths) for length in lengths]


def usd_of(table: OutcomeTable, row: int, column: int) -> float:
    """What an answer cost as recorded; NaN: unknown."""
    return math.nan if table.cost_usd is None else float(table.cost_usd[row, column])
