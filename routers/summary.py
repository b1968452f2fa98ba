"""How well a fitted router chose on rows that it had not learned from, beside simple choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.learning import Training


def summarise(training: Training, hidden: Float32Array, known: Float32Array) -> dict[str, Any]:
    """What was learned from, and held-out figures: JSON values; None: cannot be told.

    Args:
        training: All rows.
        hidden: Predicted quality [n, m] of held-out rows, their categories hidden.
        known: The same, told the categories.

    Returns:
        `queries`, `experts`, `categories`; and accuracies, means over rows and over categories
        (`macro`), of the first choice `held_out`, `held_out_known`, of the `best_single` expert
        by its overall mean, and of the `oracle`. The best single one is chosen on the same rows.
    """
    best = int(np.nanargmax(training.prior))
    single = np.full(hidden.shape, np.nan, np.float32)
    single[:, best] = 1
    choices = {
        "held_out": hidden,
        "held_out_known": known,
        "best_single": single,
        "oracle": training.score,
    }
    return {
        "queries": len(training.batch),
        "experts": list(training.names),
        "categories": [name for name in training.categories if name],
        "best_expert": training.names[best],
        **{name: _accuracy(training, quality) for name, quality in choices.items()},
    }


def _accuracy(training: Training, quality: Float32Array) -> dict[str, Any]:
    """Of the expert of highest quality, where it and its score are known."""
    can = ~np.isnan(quality).all(axis=1)
    first = np.where(np.isnan(quality), -np.inf, quality).argmax(axis=1)
    score = np.where(can, training.score[np.arange(len(first)), first], np.nan)
    known = ~np.isnan(score)
    codes = training.category_codes
    means = [float(score[known & (codes == code)].mean()) for code in np.unique(codes[known])]
    return {
        "n": int(known.sum()),
        "accuracy": _mean(score[known]),
        "macro_accuracy": _mean(np.array(means)),
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None
