"""Which expert takes which category when the experts have a budget: a mixed-integer programme.

maximise    sum_c share_c sum_e quality_ce y_ce
subject to  sum_e y_ce = 1,  y_ce <= x_e,
            sum_e params_e x_e <= resident budget,
            sum_c share_c sum_e params_e y_ce <= active budget
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]
    Int64Array = NDArray[np.int64]

SLACK = 1e-6
"""Relative: a budget is met when it is exceeded by no more than rounding."""


@dataclass(frozen=True, slots=True)
class CategoryMapping:
    """One expert for each category."""

    experts: tuple[int, ...]
    """Each category's expert, by its column."""
    quality: float
    """What is maximised: the mean quality over all queries."""
    resident_params_b: float
    """Billions of parameters of all experts mapped to."""
    active_params_b: float
    """Billions of parameters that answer a query, in the mean."""

    @property
    def residents(self) -> tuple[int, ...]:
        """The columns of the experts mapped to, ascending."""
        return tuple(sorted(set(self.experts)))


def restore_mapping(values: Mapping[str, Any]) -> CategoryMapping:
    """The mapping of which `dataclasses.asdict` gave these, or what JSON makes of them."""
    return CategoryMapping(
        tuple(values["experts"]),
        values["quality"],
        values["resident_params_b"],
        values["active_params_b"],
    )


def solve_mapping(
    quality: Float64Array,
    share: Float64Array,
    params_b: Float64Array,
    *,
    resident_params_b: float | None = None,
    active_params_b: float | None = None,
) -> CategoryMapping:
    """The mapping of categories to experts that is best within the budgets. Pure; deterministic.

    A category without a share costs nothing and counts for nothing: it goes to the best of the
    experts that others are mapped to. The order of the experts matters only between two that are
    alike in all they are given with.

    Source: Composition of Experts (arXiv 2412.01868) states the problem; the programme is rebuilt
    from its description, with both budgets that the results are reported in, in one programme.

    Args:
        quality: Of m experts in s categories, [s, m].
        share: Of the queries that are in each category, [s]; sums to 1.
        params_b: Each expert's billions of parameters, [m].
        resident_params_b: Most that the experts mapped to may have together; None: any.
        active_params_b: Most that may answer a query, in the mean over the shares; None: any.

    Raises:
        ConfigError: No mapping meets a budget; the smallest that one meets is named.
    """
    smallest = float(params_b.min())
    budgets = {"resident_params_b": resident_params_b, "active_params_b": active_params_b}
    for setting, budget in budgets.items():
        # The smallest expert, alone for all categories, has the least of either sum.
        if budget is not None and smallest > budget * (1 + SLACK):
            raise ConfigError(
                f"router 'category': no expert fits {setting!r} {budget:g} (billions of "
                f"parameters); give {smallest:g} or more"
            )
    # In an order of their own: which of several best mappings is found depends on it.
    order = np.lexsort((*quality, params_b))
    counts = share > 0
    chosen = np.zeros(len(share), np.int64)
    chosen[counts] = order[
        _solve(
            quality[counts][:, order],
            share[counts],
            params_b[order],
            resident_params_b,
            active_params_b,
        )
    ]
    residents = np.unique(chosen[counts])
    chosen[~counts] = residents[quality[~counts][:, residents].argmax(axis=1)]
    return CategoryMapping(
        tuple(chosen.tolist()),
        float(share @ quality[np.arange(len(share)), chosen]),
        float(params_b[residents].sum()),
        float(share @ params_b[chosen]),
    )


def _solve(
    quality: Float64Array,
    share: Float64Array,
    params_b: Float64Array,
    resident_params_b: float | None,
    active_params_b: float | None,
) -> Int64Array:
    """Each category's expert [s]; the variables are x [m], then y [s, m] by rows."""
    import scipy.optimize as optimize  # pyright: ignore[reportMissingTypeStubs]
    import scipy.sparse as sparse  # pyright: ignore[reportMissingTypeStubs]

    scipy: Any = optimize
    matrix: Any = sparse
    s, m = quality.shape
    each = matrix.identity(s * m)
    constraints = [
        scipy.LinearConstraint(
            matrix.hstack([matrix.csr_matrix((s, m)), matrix.kron(np.eye(s), np.ones((1, m)))]),
            1,
            1,
        ),
        scipy.LinearConstraint(
            matrix.hstack([-matrix.kron(np.ones((s, 1)), np.eye(m)), each]), -np.inf, 0
        ),
    ]
    if resident_params_b is not None:
        sums = np.concatenate([params_b, np.zeros(s * m)])
        constraints.append(scipy.LinearConstraint(sums, 0, resident_params_b * (1 + SLACK)))
    if active_params_b is not None:
        means = np.concatenate([np.zeros(m), np.outer(share, params_b).ravel()])
        constraints.append(scipy.LinearConstraint(means, 0, active_params_b * (1 + SLACK)))
    # Without the active budget y is whole once x is: each category takes its best resident.
    is_whole = np.concatenate([np.ones(m), np.full(s * m, active_params_b is not None)])
    found = scipy.milp(
        -np.concatenate([np.zeros(m), (share[:, None] * quality).ravel()]),
        integrality=is_whole.astype(np.int64),
        bounds=scipy.Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": 0},
    )
    assert found.success, found.message
    x, y = np.split(found.x, [m])
    if active_params_b is not None:
        return y.reshape(s, m).argmax(axis=1)
    return np.where(x > 0.5, quality, -np.inf).argmax(axis=1)
