"""Recorded votes as flat arrays: one entry for each vote, and for each answer of a query."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from composer.answers import canonical_answer
from composer.errors import ConfigError
from composer.outcomes import NOT_EXTRACTED, NOT_RECORDED, OutcomeTable
from composer.types import AnswerType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Weights:
    """Log-odds that a vote adds, and that an option has of itself."""

    experts: Floats
    """[s, m], s as `Ballots.categories`."""
    options: Floats
    """[v], v as `Ballots.options`."""

    def times(self, factor: float) -> Weights:
        """All weights times a factor: the same winners, with another certainty."""
        return Weights(self.experts * factor, self.options * factor)


@dataclass(frozen=True, eq=False)
class Ballots:
    """n queries, m experts, the N answers that were given to them, and the V votes for these.

    An answer is right where a voter scored 1, wrong where the scores of voters are known and none
    is 1, and else unknown. A query counts where its right answer is among those given, or is surely
    none of them: then the right option is one that nobody voted for.
    """

    experts: tuple[str, ...]
    categories: tuple[str, ...]
    """The first is "": not known."""
    options: tuple[str, ...]
    """The distinct answers of all queries."""
    n_options: int | None
    """How many answers a query can have; None: all that nobody gave count as one."""
    category: Ints
    """[n], an index of `categories`."""
    query: Ints
    """[N], ascending."""
    option: Ints
    """[N], an index of `options`."""
    right: Floats
    """[N]: 1 divided by the right answers of the query, or 0."""
    is_known: Bools
    """[N]: whether the answer is known to be right or wrong."""
    is_usable: Bools
    """[n]: whether the query counts."""
    vote_answer: Ints
    """[V], an index of the N answers."""
    vote_expert: Ints
    """[V], an index of `experts`."""

    @property
    def can_teach(self) -> bool:
        """Whether any answer is known to be right."""
        return bool(self.right.any())

    @cached_property
    def vote_cell(self) -> Ints:
        """Which weight [V] each vote has: its query's category times m, and its expert."""
        category = self.category[self.query[self.vote_answer]]
        return category * len(self.experts) + self.vote_expert

    @cached_property
    def n_unvoted(self) -> Floats:
        """How many options of each query [n] nobody voted for."""
        if self.n_options is None:
            return np.ones(len(self.category))
        given = np.bincount(self.query, minlength=len(self.category))
        return np.maximum(0, self.n_options - given).astype(np.float64)

    def scores(self, weights: Weights) -> Floats:
        """What each answer's [N] constant and voters add up to."""
        added = weights.experts.ravel()[self.vote_cell]
        summed = np.bincount(self.vote_answer, added, len(self.query))
        return weights.options[self.option] + summed

    def posterior(self, scores: Floats) -> tuple[Floats, Floats]:
        """A softmax over a query's options: each answer's share [N], and the log of the sum [n]."""
        n = len(self.category)
        top = np.zeros(n)
        np.maximum.at(top, self.query, scores)
        odds = np.exp(scores - top[self.query])
        total = np.bincount(self.query, odds, n) + self.n_unvoted * np.exp(-top)
        # Without a vote and without an option left there is nothing to be sure of.
        log_total = top + np.log(np.maximum(total, 1e-300))
        return odds / total[self.query], log_total

    def log_loss(self, scores: Floats) -> float:
        """Mean negative log-likelihood of the right options, in nats, over usable queries."""
        _, log_total = self.posterior(scores)
        gained = np.bincount(self.query, self.right * scores, len(self.category))
        return float((log_total - gained)[self.is_usable].mean())

    def correct(self, scores: Floats) -> Bools:
        """Whether the best answer of each query [n] is right."""
        n = len(self.category)
        top = np.full(n, -np.inf)
        np.maximum.at(top, self.query, scores)
        # Among equals the first stands for all; a query without an answer is lost.
        best = np.flatnonzero(scores == top[self.query])
        queries, first = np.unique(self.query[best], return_index=True)
        correct = np.zeros(n, np.bool_)
        correct[queries] = self.right[best[first]] > 0
        return correct

    def take(self, wanted: Bools) -> Ballots:
        """The ballots of some queries: a mask [n]."""
        has_query = wanted[self.query]
        has_vote = has_query[self.vote_answer]
        return replace(
            self,
            category=self.category[wanted],
            query=(np.cumsum(wanted) - 1)[self.query[has_query]],
            option=self.option[has_query],
            right=self.right[has_query],
            is_known=self.is_known[has_query],
            is_usable=self.is_usable[wanted],
            vote_answer=(np.cumsum(has_query) - 1)[self.vote_answer[has_vote]],
            vote_expert=self.vote_expert[has_vote],
        )

    def without_categories(self) -> Ballots:
        """The same ballots where nobody says which category a query is of."""
        return replace(self, categories=("",), category=np.zeros_like(self.category))


CLOSED = frozenset[AnswerType]({"choice", "yes_no"})
"""Types whose options are the same for all queries."""


def make_ballots(table: OutcomeTable, answer_type: AnswerType, n_options: int | None) -> Ballots:
    """The votes that a table records.

    Args:
        table: Rows and columns in any order.
        answer_type: Answers that are equal in its canonical form are votes for the same option.
        n_options: How many there are; None: of a type in `CLOSED` as many as distinct ones were
            given, and of others unknown.

    Raises:
        ConfigError: It records no answers of the type, or which is right is known of none.
    """
    codes, values = _read_answers(table, answer_type)
    if not values:
        raise ConfigError(
            f"{table.name}: records no answers of type {answer_type!r}, which a vote learns from; "
            "write 'answer' in its lines of outcomes, or set another type"
        )
    row, column = np.nonzero(codes >= 0)
    score = table.score[row, column]
    keys, answer = np.unique(row * np.int64(len(values)) + codes[row, column], return_inverse=True)
    query, option = keys // len(values), keys % len(values)
    is_right = np.bincount(answer, score >= 1, len(keys)) > 0
    is_known = is_right | (np.bincount(answer, score < 1, len(keys)) > 0)
    n_right = np.bincount(query, is_right, len(codes))
    n_unknown = np.bincount(query, ~is_known, len(codes))
    # Whoever scored 1 without an answer on record may have given any.
    is_silent = (codes < 0) & (table.score >= 1)
    is_usable = (n_right > 0) | ((n_unknown == 0) & ~is_silent.any(axis=1))
    if not n_right.any():
        raise ConfigError(
            f"{table.name}: no recorded answer is known to be right; "
            "give the score 1 to those that are"
        )
    categories = ("", *(name for name in table.categories if name))
    number = np.array([categories.index(name) for name in table.categories], np.int64)
    given = np.unique(option)
    ballots = Ballots(
        experts=table.names,
        categories=categories,
        options=tuple(values[int(code)] for code in given),
        n_options=(n_options or len(given)) if answer_type in CLOSED else n_options,
        category=number[table.category_codes],
        query=query,
        option=np.searchsorted(given, option),
        right=is_right / np.maximum(1, n_right)[query],
        is_known=is_known,
        is_usable=is_usable,
        vote_answer=answer.reshape(-1),
        vote_expert=column,
    )
    # Where all options were given, the right one cannot be another.
    return replace(ballots, is_usable=is_usable & ((n_right > 0) | (ballots.n_unvoted > 0)))


def _read_answers(table: OutcomeTable, answer_type: AnswerType) -> tuple[Ints, tuple[str, ...]]:
    """The canonical answers, and which of them each cell [n, m] has; below 0: none."""
    if table.answers is None:
        return np.full(table.score.shape, NOT_RECORDED, np.int64), ()
    read = [canonical_answer(value, answer_type) for value in table.answers.values]
    values = sorted({answer for answer in read if answer is not None})
    number = {answer: code for code, answer in enumerate(values)}
    # The two codes below zero stand for themselves: they index from the end.
    known = [NOT_EXTRACTED if answer is None else number[answer] for answer in read]
    return np.array([*known, NOT_RECORDED, NOT_EXTRACTED])[table.answers.codes], tuple(values)
