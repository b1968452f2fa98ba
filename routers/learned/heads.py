"""The heads that a learned router may have: how each is trained, and what is chosen by what error.

| head | raw score | loss | chosen by held-out error |
|---|---|---|---|
| logistic | linear | cross-entropy | the two penalties |
| mlp | one inner layer | cross-entropy | the epochs |
| factorisation | an expert's vector times the projected query's | cross-entropy | the epochs |
| selection | log of a gate's share, up to a constant of the query | reward | epochs, balance |
| contrastive | cosine of an expert's vector and the projected query | contrasts | the epochs |

Sources: `mlp` is one network for all experts with an output each, as in LLMRouter
(github.com/ulab-uiuc/LLMRouter), which trains it to name one best expert; here each output is the
chance that its expert is right. `factorisation` is that of RouteLLM (arXiv 2406.18665, section 4.2)
and EmbedLLM (arXiv 2410.02223), fitted to recorded scores; RouteLLM fits it to preferences between
two models, of which a table of scores knows more. The others: see their modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.learned.contrastive import expert_contrast, group_contrast
from routers.learned.descent import Design, train_network
from routers.learned.logistic import Bound, Penalties, fit_logistic, make_bound, penalty_grid
from routers.learned.network import sigmoid
from routers.learned.selection import BALANCES, lost_reward, reward_slope

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.learned.network import Activation, Network

    Settings = Mapping[str, Any]

EPOCHS = (1, 2, 4, 8, 16)
"""What is chosen among."""


@dataclass(frozen=True, eq=False)
class Examples:
    """What a head learns from."""

    embeddings: Float32Array
    """[n, d]."""
    score: Float32Array
    """[n, m]; NaN: unknown."""
    groups: NDArray[np.int64]
    """Each row's category [n], by number."""
    whole: Examples | None = None
    """All rows, where these are some of them."""

    @cached_property
    def bound(self) -> Bound:
        """Of all rows' embeddings; see `routers.learned.logistic`."""
        return make_bound(self.embeddings) if self.whole is None else self.whole.bound

    def rows(self, wanted: NDArray[np.bool_]) -> Examples:
        """Some of the rows."""
        return Examples(
            self.embeddings[wanted], self.score[wanted], self.groups[wanted], self.whole or self
        )


@dataclass(frozen=True, slots=True)
class Head:
    """One way to learn raw scores."""

    defaults: Settings
    """The settings that it takes; None: chosen by held-out error."""
    activation: Activation
    candidates: Callable[[Settings], Sequence[Settings]]
    """What is chosen among, given the settings: all complete, in the order in which they train."""
    train: Callable[[Examples, Sequence[Settings]], Iterator[Network]]
    """A network for each of some candidates."""
    error: Callable[[Float32Array, Float32Array], float]
    """Of held-out raw scores [n, m] beside the recorded ones."""
    own_offsets: bool = False
    """Whether calibration gives each expert an offset: raw scores do not say who is good overall,
    as where most cells are ties that a contrast leaves out."""


def cross_entropy(raw: Float32Array, score: Float32Array) -> float:
    """Mean over the cells that are known in both; inf: there is none."""
    is_known = ~np.isnan(raw) & ~np.isnan(score)
    raw, score = raw[is_known], score[is_known]
    return float((np.logaddexp(0, raw) - score * raw).mean()) if len(raw) else np.inf


def cross_entropy_slope(
    raw: Float32Array, score: Float32Array, rng: np.random.Generator
) -> Float32Array:
    """The gradient [n, m] of the cross-entropy, summed over the experts, mean over the rows."""
    return np.where(np.isnan(score), 0, sigmoid(raw) - score).astype(np.float32) / np.float32(
        len(raw)
    )


def _penalties(settings: Settings) -> list[Settings]:
    return [asdict(each) for each in penalty_grid(**settings)]


def _train_logistic(examples: Examples, candidates: Sequence[Settings]) -> Iterator[Network]:
    penalties = [Penalties(**each) for each in candidates]
    return fit_logistic(examples.embeddings, examples.score, penalties, examples.bound)


def _lengths(settings: Settings) -> list[Settings]:
    """Each balance, if the head has one and it is not given, with each number of epochs."""
    given = settings.get("balance")
    balances = (given,) if "balance" not in settings or given is not None else BALANCES
    epochs = EPOCHS if settings["epochs"] is None else (settings["epochs"],)
    return [
        {**settings, "epochs": n, **({"balance": balance} if "balance" in settings else {})}
        for balance, n in product(balances, epochs)
    ]


def _descend(
    design: Design, examples: Examples, candidates: Sequence[Settings]
) -> Iterator[Network]:
    design = replace(design, width=candidates[0]["width"])
    epochs = [each["epochs"] for each in candidates]
    yield from train_network(design, examples.embeddings, examples.score, examples.groups, epochs)


def _train_selection(examples: Examples, candidates: Sequence[Settings]) -> Iterator[Network]:
    for balance in dict.fromkeys(each["balance"] for each in candidates):

        def slope(
            raw: Float32Array,
            score: Float32Array,
            rng: np.random.Generator,
            balance: float = balance,
        ) -> Float32Array:
            return reward_slope(raw, score, balance)

        alike = [each for each in candidates if each["balance"] == balance]
        yield from _descend(Design("relu", 0, slope), examples, alike)


def _contrast_slope(
    raw: Float32Array, score: Float32Array, rng: np.random.Generator
) -> Float32Array:
    return expert_contrast(raw, score, rng)[1]


def _group_slope(
    hidden: Float32Array, groups: NDArray[np.int64], rng: np.random.Generator
) -> Float32Array:
    return group_contrast(hidden, groups, rng)[1]


def _contrast_error(raw: Float32Array, score: Float32Array) -> float:
    known = np.where(np.isnan(raw), np.nan, score)
    return expert_contrast(np.nan_to_num(raw), known, np.random.default_rng(0))[0]


_MLP = Design("relu", 0, cross_entropy_slope)
_FACTORS = Design("linear", 0, cross_entropy_slope)
_CONTRASTS = Design("unit", 0, _contrast_slope, _group_slope)

HEADS: Mapping[str, Head] = {
    "logistic": Head(
        {"shared_l2": None, "own_l2": None}, "linear", _penalties, _train_logistic, cross_entropy
    ),
    "mlp": Head(
        {"width": 64, "epochs": None}, "relu", _lengths, partial(_descend, _MLP), cross_entropy
    ),
    "factorisation": Head(
        {"width": 16, "epochs": None},
        "linear",
        _lengths,
        partial(_descend, _FACTORS),
        cross_entropy,
    ),
    "selection": Head(
        {"width": 64, "epochs": None, "balance": None},
        "relu",
        _lengths,
        _train_selection,
        lost_reward,
    ),
    "contrastive": Head(
        {"width": 64, "epochs": None},
        "unit",
        _lengths,
        partial(_descend, _CONTRASTS),
        _contrast_error,
        own_offsets=True,
    ),
}
"""Each head by its name."""
