"""What a vote has learned: the weight of each expert, as a value that JSON holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from composer.aggregators.saved import NAME, load_learned, save_learned
from composer.aggregators.vote.quorum import Staying
from composer.aggregators.vote.tally import UNIT, Weighing
from composer.errors import ConfigError
from composer.types import AnswerType

Kind = Literal["vote-weighted", "vote-learned"]
Number = Annotated[float, Field(allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, slots=True)
class CategoryWeights:
    """Weights for one state of knowledge: the category is hidden, or it is known."""

    weights: Mapping[str, Mapping[str, Number]]
    """Category -> expert -> log-odds that its vote adds; "" where the category is not known."""
    constants: Mapping[str, Number]
    """Option -> what it has before a vote for it is counted; 0 where it is not named."""
    staying: Staying
    """How likely a winner stays while votes are out."""
    threshold: Probability
    """The probability that is sure enough."""


@dataclass(frozen=True, slots=True)
class VoteWeights:
    """All that a weighted vote has learned."""

    kind: Kind
    answer_type: AnswerType
    n_options: int | None
    """How many answers there can be; None: those nobody voted for count as one."""
    hidden: CategoryWeights
    known: CategoryWeights | None
    """None: no row had a category."""
    settings: Mapping[str, Any]
    """What it was fitted with, given and chosen."""
    held_out: Mapping[str, Any]
    """How well it does on rows that it was not fitted on."""

    @property
    def experts(self) -> frozenset[str]:
        """The experts that have a weight."""
        return frozenset(self.hidden.weights[""])

    def variant(self, category: str | None) -> CategoryWeights:
        """The weights that apply; a category that it never met is as good as hidden."""
        known = self.known
        return self.hidden if known is None or category not in known.weights else known

    def weighing(self, category: str | None, answer_type: AnswerType) -> Weighing:
        """What each vote adds to its answer in this category.

        The number of options is that of the type of answer that it was fitted on.
        """
        variant = self.variant(category)
        weights = variant.weights["" if variant is self.hidden else category or ""]
        return Weighing(
            {expert: round(weight * UNIT) for expert, weight in weights.items()},
            constants={o: round(b * UNIT) for o, b in variant.constants.items()},
            n_options=self.n_options if answer_type == self.answer_type else None,
        )

    def save(self, folder: Path) -> None:
        """Write it; `load_weights` reads it."""
        save_learned(folder, self.kind, asdict(self))


def load_weights(folder: Path, kind: Kind) -> VoteWeights:
    """What `VoteWeights.save` wrote.

    Raises:
        ConfigError: It cannot be read, or holds something else than the weights of such a vote.
    """
    learned = load_learned(folder, kind)
    command = f"composer fit --aggregator {kind} --outcomes OUTCOMES --save {folder}"
    try:
        read = TypeAdapter(VoteWeights).validate_python(learned)
    except ValidationError as exc:
        error = exc.errors()[0]
        where = ".".join(map(str, error["loc"]))
        raise ConfigError(
            f"{folder / NAME}: {where!r}: {error['msg'][0].lower() + error['msg'][1:]}; "
            f"fit it again with `{command}`"
        ) from exc
    if "" not in read.hidden.weights:
        raise ConfigError(
            f"{folder / NAME}: has no weights for a hidden category; fit it again with `{command}`"
        )
    return read
