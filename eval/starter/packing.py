"""Several questions and answers as one sequence: what they begin with alike is computed once.

    prefix | rest of the first | rest of the second | ...

A rest attends to the prefix and to itself, and its positions go on from the prefix's, so the loss
is the one of the questions apart, without padding.

Source: packing with a block mask and positions by sequence, as in Krell et al. (arXiv 2107.02027);
the shared prefix is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64Array = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Example:
    """A question and its answer as tokens."""

    tokens: tuple[int, ...]
    n_prompt: int
    """Of them are the question's."""


@dataclass(frozen=True, eq=False, slots=True)
class Packed:
    """One sequence of t tokens, of which a are answers'."""

    tokens: Int64Array
    """[t]."""
    positions: Int64Array
    """[t]: each token's place in its own question and answer."""
    attends: BoolArray
    """[t, t]: whether the row's token attends to the column's."""
    before: Int64Array
    """[a]: where the token before each answer's token stands."""
    answers: Int64Array
    """[a]: the answers' tokens."""


def pack(examples: Sequence[Example]) -> Packed:
    """Lay out examples one after the other behind what all of them begin with.

    The prefix ends before the last token of any question, which is what an answer's first token is
    predicted from.

    Args:
        examples: At least one, each with a question and an answer of a token or more.
    """
    shortest = min(example.n_prompt for example in examples) - 1
    columns = zip(*(example.tokens[:shortest] for example in examples), strict=True)
    n_prefix = len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
    tokens = list(examples[0].tokens[:n_prefix])
    positions = list(range(n_prefix))
    segments = [-1] * n_prefix
    before: list[int] = []
    answers: list[int] = []
    for segment, example in enumerate(examples):
        start = len(tokens) - n_prefix
        n = len(example.tokens)
        before += range(start + example.n_prompt - 1, start + n - 1)
        answers += example.tokens[example.n_prompt :]
        tokens += example.tokens[n_prefix:]
        positions += range(n_prefix, n)
        segments += [segment] * (n - n_prefix)
    of = np.array(segments)
    is_seen = (of[:, None] == of[None, :]) | (of[None, :] == -1)
    return Packed(
        np.array(tokens, np.int64),
        np.array(positions, np.int64),
        is_seen & np.tri(len(tokens), dtype=np.bool_),
        np.array(before, np.int64),
        np.array(answers, np.int64),
    )
