"""What a batch is told to keep to on the command line, and what came of it in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from composer.errors import ConfigError

if TYPE_CHECKING:
    from composer.allocate import Budget
    from composer.bulk.joint import JointChoice

BudgetUsd = Annotated[
    float | None,
    typer.Option(
        "--budget-usd", metavar="USD", help="What all answers may be expected to cost together."
    ),
]
BudgetTokens = Annotated[
    float | None,
    typer.Option(
        "--budget-tokens",
        metavar="TOKENS",
        help="How many tokens all prompts and answers may be expected to take together.",
    ),
]
MinShare = Annotated[
    float,
    typer.Option(
        "--min-share",
        metavar="SHARE",
        help="From 0 to 1: leave out experts that would get less of all choices.",
    ),
]


def read_budget(usd: float | None, tokens: float | None) -> Budget | None:
    """The budget that options name.

    Raises:
        ConfigError: They name two, or an amount is no number from 0.
    """
    from composer.allocate import Budget

    if usd is not None and tokens is not None:
        raise ConfigError("a batch has one budget; give either --budget-usd or --budget-tokens")
    if usd is not None:
        return Budget("usd", usd)
    return Budget("tokens", tokens) if tokens is not None else None


def kept_to(joint: JointChoice) -> list[str]:
    """What the limits of a batch changed, in lines."""
    from composer.trim import with_counts

    lines: list[str] = []
    if (spending := joint.spending) is not None:
        lines.append(
            f"budget: {spending.spent:.6g} expected {spending.budget.at(spending.multiplier)}; "
            f"at most {spending.bound - joint.quality:.3g} of predicted quality in the mean below "
            "the best within it"
        )
    if joint.rare:
        names = with_counts([*joint.rare], joint.rare, joint.n_choices)
        lines.append(f"left out at a least share of {joint.min_share:g}: {names}")
    elif joint.min_share:
        lines.append(f"a least share of {joint.min_share:g} leaves nobody out")
    lines.append(
        f"predicted quality: {joint.quality:.3g} in the mean, {joint.given_up:.3g} given up"
    )
    return lines
