"""A conditional logit over the options: how much a vote adds beside all the others.

    utility of option o = b_o + sum over voters e of o of (w_e + w_{e,c});  0: nobody voted for it
    P(o is right)       = exp(utility of o) / sum over all options

A vote that only repeats what others say gets little weight, and one that tends to be wrong where
others are right a negative one: accuracies alone cannot tell.

Source: McFadden, "Conditional logit analysis of qualitative choice behavior" (1974), the options'
attributes being who voted for them and b_o its alternative-specific constants. Deviations: an
option that nobody voted for has no constant; ridge on the weights, stronger on what a category
adds (w_{e,c}), so that a rare category keeps to the common weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.aggregators.vote.ballots import Ballots, Weights

if TYPE_CHECKING:
    from composer.aggregators.vote.ballots import Floats

MAX_ITERATIONS = 300
"""Some fifty are enough where the ridge is not tiny."""


@dataclass(frozen=True, slots=True)
class Ridge:
    """Half the precision of each parameter's prior, in queries."""

    common: float
    category: float | None = None
    """None: a category adds nothing."""
    constants: float | None = None
    """None: there are none."""


def fit_logit(ballots: Ballots, ridge: Ridge) -> Weights:
    """The weights that make the right options likeliest, less the ridge."""
    import scipy.optimize as optimize  # pyright: ignore[reportMissingTypeStubs]

    scipy: Any = optimize
    objective = make_objective(ballots, ridge)
    start = np.zeros(_n_parameters(ballots))
    found: Any = scipy.minimize(
        objective, start, jac=True, method="L-BFGS-B", options={"maxiter": MAX_ITERATIONS}
    )
    return _weights(ballots, found.x)


def make_objective(ballots: Ballots, ridge: Ridge) -> Callable[[Floats], tuple[float, Floats]]:
    """The penalised negative log-likelihood of all usable ballots, and its gradient.

    Its parameters are, one after the other, the common weights [m], what each category adds to
    them [s - 1, m], and the options' constants [v]; those that the ridge leaves out do nothing.
    """
    usable = ballots.take(ballots.is_usable)
    s, m = len(usable.categories), len(usable.experts)
    strengths = np.repeat(
        [ridge.common, ridge.category or 0.0, ridge.constants or 0.0],
        [m, (s - 1) * m, len(usable.options)],
    )
    is_used = strengths > 0

    def objective(parameters: Floats) -> tuple[float, Floats]:
        used = np.where(is_used, parameters, 0)
        scores = usable.scores(_weights(usable, used))
        probability, log_total = usable.posterior(scores)
        residual = probability - usable.right
        cells = np.bincount(usable.vote_cell, residual[usable.vote_answer], s * m).reshape(s, m)
        constants = np.bincount(usable.option, residual, len(usable.options))
        gradient = np.concatenate([cells.sum(axis=0), cells[1:].ravel(), constants])
        loss = log_total.sum() - usable.right @ scores + strengths @ used**2
        return float(loss), np.where(is_used, gradient + 2 * strengths * used, 0)

    return objective


def _n_parameters(ballots: Ballots) -> int:
    return len(ballots.categories) * len(ballots.experts) + len(ballots.options)


def _weights(ballots: Ballots, parameters: Floats) -> Weights:
    s, m = len(ballots.categories), len(ballots.experts)
    experts = parameters[: s * m].reshape(s, m)
    return Weights(
        np.concatenate([experts[:1], experts[:1] + experts[1:]]), parameters[s * m :].copy()
    )
