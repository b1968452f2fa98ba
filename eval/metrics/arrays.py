"""What the metrics take: float arrays in which NaN is unknown and left out, never 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]


def known_mean(values: FloatArray) -> float:
    """The mean of the known cells, of any shape; NaN where there is none."""
    known = values[~np.isnan(values)]
    return float(np.mean(known, dtype=np.float64)) if known.size else float("nan")


def ratio(above: Float64Array, below: Float64Array | Int64Array) -> Float64Array:
    """Cell by cell, broadcast; NaN where the lower one is 0."""
    shape = np.broadcast_shapes(above.shape, below.shape)
    return np.divide(above, below, out=np.full(shape, np.nan), where=below != 0)


def check_shapes(**arrays: NDArray[Any]) -> None:
    """Refuse arrays that do not have one shape.

    Raises:
        ValueError: They differ; the message names them.
    """
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"shapes differ: {shapes}")


def check_codes(codes: NDArray[Any], n: int) -> None:
    """Refuse categories or strata that are not a code 0, 1, ... for each of n rows.

    Raises:
        ValueError: They are not n integers, or some are negative.
    """
    is_integer = np.issubdtype(codes.dtype, np.integer)
    if codes.shape != (n,) or not is_integer or (codes < 0).any():
        raise ValueError(f"{n} rows need as many integer codes from 0 on, not {codes!r}")
