"""What the queries of a batch have to keep to together, and which compositions can."""

from __future__ import annotations

from dataclasses import dataclass

from composer.aggregators.best import BestAggregator
from composer.allocate import Budget
from composer.composed import Composed
from composer.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Limits:
    """What the queries of a batch have to keep to together.

    Raises:
        ConfigError: `min_share` is no number in [0, 1].
    """

    budget: Budget | None = None
    """What all answers may be expected to cost; None: whatever they do."""
    min_share: float = 0.0
    """Of all choices, in [0, 1]: an expert with less is left out."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_share <= 1:
            raise ConfigError(f"min_share is {self.min_share!r}; give a number from 0 to 1")

    @property
    def told(self) -> dict[str, str]:
        """What must be the same when a batch goes on, by names for messages."""
        budget = self.budget
        said = "none" if budget is None else f"{budget.amount!r} {budget.kind}"
        return {"the budget": said, "the least share": str(self.min_share)}


NO_LIMITS = Limits()


def check_limits(composed: Composed, limits: Limits) -> None:
    """Refuse a budget that a composition cannot keep to.

    Raises:
        ConfigError: It asks several experts, or one several times, or its loads have a weight.
    """
    if limits.budget is None:
        return
    name, rule, aggregator = composed.name, composed.rule, composed.aggregator
    if rule.k > 1:
        raise ConfigError(
            f"a budget is for one expert a query, and composition {name!r} chooses {rule.k}; set "
            "choose.k to 1, or leave out the budget"
        )
    if not isinstance(aggregator, BestAggregator):
        raise ConfigError(
            f"a budget is for one request a query, and the aggregator {aggregator.name!r} of "
            f"composition {name!r} may make more; use a composition with 'best', or leave out the "
            "budget"
        )
    if rule.load_weight:
        raise ConfigError(
            f"a budget and the load_weight of composition {name!r} cannot both decide; set "
            "choose.load_weight to 0, or leave out the budget"
        )
