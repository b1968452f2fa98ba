"""Contrasts that draw a query towards the experts that do well on it, and to queries of its kind.

    raw score = cos(projected query, expert's own vector)

The first contrast takes each of a query's three best experts and its three worst: the softmax of
their raw scores, divided by the temperature, should be the one's. The second does the same with
queries: one of the same category against three of others.

Source: RouterDC (arXiv 2409.19886; github.com/shuhao02/RouterDC at 0e63989): three positives, none
that scored 0; three negatives, none that scored over 0.5; three queries of other clusters; the
second contrast weighs as much as the first.

Deviations:
- The source fine-tunes its encoder (mDeBERTa-v3). Ours is frozen, and a linear projection of its
  embeddings is learned in its place.
- Kinds of queries are the recorded categories, not clusters of embeddings; where there is only one,
  there is no second contrast.
- Which of experts that scored the same are among the three is drawn anew each time, where the
  source takes the first: no order of the experts should matter.
- The temperature is 0.2 instead of 1, at which two cosines cannot differ by enough to tell
  one expert from another.
- The epochs are chosen by held-out loss, where the source takes the best checkpoint on the test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

TEMPERATURE = 0.2
N_POSITIVES = N_NEGATIVES = 3
_MOST_NEGATIVE = 0.5


def expert_contrast(
    raw: Float32Array, score: Float32Array, rng: np.random.Generator
) -> tuple[float, Float32Array]:
    """The loss, mean over the rows, and its gradient [n, m] by raw scores [n, m].

    Args:
        raw: Cosines.
        score: What was recorded [n, m]; NaN: unknown.
        rng: Draws among experts that scored the same.
    """
    n, m = score.shape
    is_known = ~np.isnan(score)
    lot = rng.random(score.shape)
    best = np.lexsort((lot, np.where(is_known, -score, np.inf)), axis=1)[:, :N_POSITIVES]
    worst = np.lexsort((lot, np.where(is_known, score, np.inf)), axis=1)[:, :N_NEGATIVES]
    rows = np.arange(n, dtype=np.int64).reshape(-1, 1)
    low = np.nan_to_num(score, nan=np.inf)[rows, worst]
    high = np.nan_to_num(score, nan=0.0)[rows, best]
    is_negative = low <= _MOST_NEGATIVE
    loss, slope = 0.0, np.zeros((n, m), np.float32)
    for at in range(best.shape[1]):
        positive = best[:, at : at + 1]
        # Experts that scored as much are no worse; so is the positive itself in a small pool.
        usable = is_negative & (low < high[:, at : at + 1])
        counts = (high[:, at] > 0) & usable.any(axis=1)
        cosines = np.concatenate([raw[rows, positive], raw[rows, worst]], axis=1)
        is_used = np.concatenate([counts[:, None], usable], axis=1)
        value, by_cosine = _contrast(cosines, is_used)
        loss += value
        slope[rows, positive] += by_cosine[:, :1]
        slope[rows, worst] += by_cosine[:, 1:]
    return loss, slope


def group_contrast(
    hidden: Float32Array, groups: NDArray[np.int64], rng: np.random.Generator
) -> tuple[float, Float32Array]:
    """The loss of queries among their kind, mean over the rows, and its gradient [n, w].

    Args:
        hidden: The queries' vectors [n, w], of norm 1.
        groups: Each row's kind [n].
        rng: Draws the queries that each is compared with.
    """
    n = len(hidden)
    lot = rng.random((n, n))
    is_same = groups[:, None] == groups[None, :]
    is_other_same = is_same & ~np.eye(n, dtype=np.bool_)
    counts = is_other_same.any(axis=1) & ((~is_same).sum(axis=1) >= N_NEGATIVES)
    if not counts.any():
        return 0.0, np.zeros_like(hidden)
    drawn = np.concatenate(
        [
            np.where(is_other_same, lot, np.inf).argmin(axis=1)[:, None],
            np.argsort(np.where(is_same, np.inf, lot), axis=1)[:, :N_NEGATIVES],
        ],
        axis=1,
    )
    others = hidden[drawn]
    cosines = (others @ hidden[:, :, None])[:, :, 0]
    loss, by_cosine = _contrast(cosines, np.repeat(counts[:, None], 1 + N_NEGATIVES, axis=1))
    slope = (by_cosine[:, None, :] @ others)[:, 0]
    np.add.at(slope, drawn, by_cosine[:, :, None] * hidden[:, None, :])
    return loss, slope


def _contrast(cosines: Float32Array, is_used: NDArray[np.bool_]) -> tuple[float, Float32Array]:
    """Minus the log softmax of the first of each row, mean over the rows, and its gradient.

    Args:
        cosines: [n, k].
        is_used: [n, k]; a row whose first is not used does not count.
    """
    counts = is_used[:, 0]
    logits = np.where(is_used | ~counts[:, None], cosines / np.float32(TEMPERATURE), -np.inf)
    logits = logits - logits.max(axis=1, keepdims=True)
    shares = np.exp(logits)
    total = shares.sum(axis=1, keepdims=True)
    slope = shares / total
    slope[:, 0] -= 1
    slope[~counts] = 0
    loss = (np.log(total[:, 0]) - logits[:, 0])[counts].sum() / len(cosines)
    return float(loss), (slope / (len(cosines) * TEMPERATURE)).astype(np.float32)
