"""A weighted vote is fitted on a table: strengths by cross-validation, then all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from composer.aggregators.vote.ballots import CLOSED, Ballots, make_ballots
from composer.aggregators.vote.cross_validation import Candidate, Chosen, choose
from composer.aggregators.vote.log_odds import Shrinkage, fit_log_odds
from composer.aggregators.vote.logit import Ridge, fit_logit
from composer.aggregators.vote.weighted import WeightedVoteAggregator
from composer.aggregators.vote.weights import CategoryWeights, VoteWeights
from composer.errors import ConfigError
from composer.types import AnswerType

if TYPE_CHECKING:
    from composer.aggregators.vote.ballots import Ints
    from composer.outcomes import OutcomeTable

N_FOLDS = 5
N_REPEATS = 3
"""Cross-validations whose accuracies are averaged: one alone picks by chance."""

POWERS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0)
CATEGORY_VOTES = (10.0, 50.0, 200.0)
COMMON_RIDGE = 3.0
"""A tenfold change of it changes next to nothing where rows are many."""
CONSTANTS = (None, COMMON_RIDGE)
CATEGORY_RIDGES = (3.0, 10.0, 30.0, 100.0)


def fit_vote(
    table: OutcomeTable,
    *,
    kind: Literal["learned", "weighted"] = "learned",
    answer_type: AnswerType = "choice",
    n_options: int | None = None,
    max_loss: float = 0.005,
) -> WeightedVoteAggregator:
    """Learn from all rows of a table what each expert's vote weighs.

    There are two sets of weights: for queries whose category is hidden, and, where the table has
    categories, for those where it is known. The order of rows and columns does not matter; unknown
    cells are unknown.

    Args:
        table: Its answers, scores and categories are read.
        kind: By a conditional logit, or by the log-odds of accuracies.
        answer_type: What the recorded answers are.
        n_options: How many answers a query can have. None: of types whose options are the same for
            all queries as many as distinct ones were given; of others, all that nobody gave count
            as one.
        max_loss: What a vote that its posterior ends may lose of the accuracy, in [0, 1].

    Raises:
        ConfigError: A setting cannot be, or the table cannot teach it.
    """
    name: Literal["vote-learned", "vote-weighted"]
    name = "vote-learned" if kind == "learned" else "vote-weighted"
    _check(name, answer_type, n_options, max_loss)
    # Sums of floats depend on their order: rows and columns always stand in the same one.
    by_id = sorted(range(len(table.queries)), key=lambda row: table.queries[row].id)
    table = table.rows(by_id).with_experts(sorted(table.names))
    ballots = make_ballots(table, answer_type, n_options)
    folds = [table.folds(N_FOLDS, salt=f"vote {repeat}") for repeat in range(N_REPEATS)]
    for fold in folds:
        if not all(ballots.take(fold != held_out).can_teach for held_out in range(N_FOLDS)):
            raise ConfigError(
                f"{table.name}: too few of its rows have a right answer to hold some out; "
                "record more of them"
            )
    fit = _fit_learned if kind == "learned" else _fit_weighted
    hidden, known = fit(ballots, folds, answer_type in CLOSED, max_loss)
    chosen = {"hidden": hidden} if known is None else {"hidden": hidden, "known": known}
    return WeightedVoteAggregator(
        VoteWeights(
            kind=name,
            answer_type=answer_type,
            n_options=ballots.n_options,
            hidden=_category_weights(ballots.without_categories(), hidden),
            known=None if known is None else _category_weights(ballots, known),
            settings={
                "answer_type": answer_type,
                "n_options": ballots.n_options,
                "max_loss": max_loss,
                **{variant: dict(c.candidate.settings) for variant, c in chosen.items()},
            },
            held_out={f"{variant}_held_out": _measured(c) for variant, c in chosen.items()},
        )
    )


def fit_weighted_vote(
    table: OutcomeTable,
    *,
    answer_type: AnswerType = "choice",
    n_options: int | None = None,
    max_loss: float = 0.005,
) -> WeightedVoteAggregator:
    """See `fit_vote`: by the log-odds of accuracies."""
    return fit_vote(
        table, kind="weighted", answer_type=answer_type, n_options=n_options, max_loss=max_loss
    )


def fit_learned_vote(
    table: OutcomeTable,
    *,
    answer_type: AnswerType = "choice",
    n_options: int | None = None,
    max_loss: float = 0.005,
) -> WeightedVoteAggregator:
    """See `fit_vote`: by a conditional logit."""
    return fit_vote(
        table, kind="learned", answer_type=answer_type, n_options=n_options, max_loss=max_loss
    )


def _check(name: str, answer_type: str, n_options: Any, max_loss: Any) -> None:
    """Refuse settings that cannot be; they may come from a command line."""
    if answer_type not in get_args(AnswerType):
        raise ConfigError(
            f"aggregator {name!r}: 'answer_type' is {answer_type!r}; "
            f"choose from {sorted(get_args(AnswerType))}"
        )
    is_whole = type(n_options) is int
    if n_options is not None and not (is_whole and n_options >= 2):
        raise ConfigError(
            f"aggregator {name!r}: 'n_options' is {n_options!r}; set 2 or more, or leave it out"
        )
    if type(max_loss) not in (int, float) or not 0 <= max_loss <= 1:
        raise ConfigError(
            f"aggregator {name!r}: 'max_loss' is {max_loss!r}; set a share from 0 to 1"
        )


def _fit_learned(
    ballots: Ballots, folds: Sequence[Ints], is_closed: bool, max_loss: float
) -> tuple[Chosen, Chosen | None]:
    """Whether options have constants is found without categories; what is most accurate holds."""
    constants = CONSTANTS if is_closed else CONSTANTS[:1]
    ridges = [Ridge(COMMON_RIDGE, constants=c) for c in constants]
    hidden = choose(
        ballots.without_categories(), _learned(ridges), folds, max_loss=max_loss, sparing=True
    )
    if len(ballots.categories) == 1:
        return hidden, None
    held = hidden.most_accurate.settings["constants"]
    ridges = [Ridge(COMMON_RIDGE, category, held) for category in CATEGORY_RIDGES]
    return hidden, choose(ballots, _learned(ridges), folds, max_loss=max_loss)


def _fit_weighted(
    ballots: Ballots, folds: Sequence[Ints], is_closed: bool, max_loss: float
) -> tuple[Chosen, Chosen | None]:
    candidates = [Shrinkage(power) for power in POWERS]
    hidden = choose(ballots.without_categories(), _weighted(candidates), folds, max_loss=max_loss)
    if len(ballots.categories) == 1:
        return hidden, None
    candidates = [Shrinkage(power, votes) for power in POWERS for votes in CATEGORY_VOTES]
    return hidden, choose(ballots, _weighted(candidates), folds, max_loss=max_loss)


def _learned(ridges: Sequence[Ridge]) -> list[Candidate]:
    return [Candidate(asdict(ridge), partial(fit_logit, ridge=ridge)) for ridge in ridges]


def _weighted(shrinkages: Sequence[Shrinkage]) -> list[Candidate]:
    return [Candidate(asdict(s), partial(fit_log_odds, shrinkage=s)) for s in shrinkages]


def _category_weights(ballots: Ballots, chosen: Chosen) -> CategoryWeights:
    weights = chosen.weights
    return CategoryWeights(
        weights={
            category: {e: round(float(w), 6) for e, w in zip(ballots.experts, row, strict=True)}
            for category, row in zip(ballots.categories, weights.experts, strict=True)
            if category or len(ballots.categories) == 1
        },
        constants={
            option: round(float(b), 6)
            for option, b in zip(ballots.options, weights.options, strict=True)
            if b
        },
        staying=chosen.stopping.staying,
        threshold=round(chosen.stopping.threshold, 6),
    )


def _measured(chosen: Chosen) -> dict[str, Any]:
    return {
        "accuracy": round(chosen.accuracy, 4),
        "log_loss": round(chosen.log_loss, 4),
        "calls_exact": round(chosen.exact_calls, 4),
        "threshold": round(chosen.stopping.threshold, 4),
        "accuracy_stopped": round(chosen.stopping.accuracy, 4),
        "calls_stopped": round(chosen.stopping.calls, 4),
    }
