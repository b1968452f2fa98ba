"""Which queries an expert wins, and the pilots that are their mean embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.learning import Training

    Int64Array = NDArray[np.int64]
    Float64Array = NDArray[np.float64]


def make_pilots(
    training: Training, codes: Int64Array, *, normalise: bool, min_wins: float
) -> dict[str, Any]:
    """The parts of `routers.pilots_model.PilotsModel` that are of its pilots or experts.

    Args:
        training: Where experts win.
        codes: Each query's part [n].
        normalise: Scale pilots to unit norm.
        min_wins: What makes a pilot, in queries; an expert's most wins in a part always do.
    """
    won = winners(training.score)
    is_decided, is_known = won.any(axis=1), ~np.isnan(training.score)
    n_parts = int(codes.max()) + 1
    rows_of = [np.flatnonzero(is_decided & (codes == part)) for part in range(n_parts)]
    wins = np.stack([won[rows].sum(axis=0) for rows in rows_of])
    could = np.stack([is_known[rows].sum(axis=0) for rows in rows_of])
    # The largest is kept however small it is: an expert without pilots is one that never wins.
    is_pilot = (wins > 0) & ((wins >= min_wins) | (wins == wins.max(axis=0)))
    parts, owners = np.nonzero(is_pilot)
    sums = [
        won[rows][:, cells].T.astype(np.float32) @ training.batch.embeddings[rows]
        for rows, cells in zip(rows_of, is_pilot, strict=True)
    ]
    means = np.concatenate(sums) / wins[is_pilot][:, None].astype(np.float32)
    shares = wins[is_pilot] / could[is_pilot]
    return {
        "vectors": unit(means) if normalise else means,
        "owners": owners.astype(np.int64),
        "parts": parts.astype(np.int64),
        "wins": wins[is_pilot],
        "shares": shares,
        "is_known": is_known.any(axis=0),
        "least_share": float(shares.min(initial=1.0)),
    }


def winners(score: Float32Array) -> Float64Array:
    """How much of each query [n, m] each expert wins: 1 if it is the best, a part if several are.

    Nobody wins a query on which all who are known score the same: it does not tell them apart.
    """
    known = ~np.isnan(score)
    best = np.max(score, axis=1, keepdims=True, where=known, initial=-np.inf)
    worst = np.min(score, axis=1, keepdims=True, where=known, initial=np.inf)
    won = (score == best) & (best > worst)
    return won / np.maximum(won.sum(axis=1, keepdims=True), 1)


def unit(vectors: Float32Array) -> Float32Array:
    """The vectors [n, d] at unit norm; one of norm 0 stays."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
