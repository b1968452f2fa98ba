"""Columns <-> the bytes of a Parquet file: the one place that meets PyArrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


class NotParquetError(Exception):
    """The bytes are no Parquet file, or not a whole one."""


def pack(
    numbers: Mapping[str, Array] | None = None,
    texts: Mapping[str, Iterable[str | None]] | None = None,
    lists: Mapping[str, Iterable[Iterable[str]]] | None = None,
) -> bytes:
    """A Parquet file of named columns, all of one length; equal columns make equal bytes.

    Args:
        numbers: Arrays [n], which keep their dtype and their NaN.
        texts: None stays None.
        lists: Several texts in each row.
    """
    pa, pq = _pyarrow()
    text = pa.large_string()
    table = pa.table(
        {name: pa.array(values) for name, values in (numbers or {}).items()}
        | {name: pa.array(values, text) for name, values in (texts or {}).items()}
        | {name: pa.array(values, pa.list_(text)) for name, values in (lists or {}).items()}
    )
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue().to_pybytes()


def unpack(data: bytes) -> dict[str, Array]:
    """The columns of a Parquet file; those of texts and of lists as objects.

    Raises:
        NotParquetError: It is none.
    """
    pa, pq = _pyarrow()
    try:
        table = pq.read_table(pa.BufferReader(data))
    except pa.ArrowException as exc:
        raise NotParquetError(str(exc)) from exc
    # Copied, since arrays that share PyArrow's memory cannot be written to.
    return {name: np.array(table[name].to_numpy()) for name in table.column_names}


def _pyarrow() -> tuple[Any, Any]:
    # By name: it takes half a second, and has no types that a checker could read.
    return import_module("pyarrow"), import_module("pyarrow.parquet")
