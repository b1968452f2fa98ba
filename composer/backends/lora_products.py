"""Many rows, many adapters: two products a layer, in place of two copied matrices a token.

What vLLM 0.32 runs on a CPU copies, for every token, its adapter's two matrices before it
multiplies by them. Here every token is multiplied by the first matrices of all adapters of the
batch side by side, what is not its own is set to zero, and the second matrices, one below the
other, do the rest: as many times the multiplications as there are adapters, and no copy.
`python -m eval bench adapters` compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer's matrices of all slots, slot after slot, so that those of a few are a view."""

    written: int
    """What torch had counted of writes to the slots."""
    width: int
    """Rows below that a slot takes: ranks, for each slice of the output."""
    first: Tensor
    """[slots x width, in]."""
    second: Tensor
    """[slots x width, out]; zero where a row is of another slice of the output."""


class LoraProducts:
    """Adds what each token's adapter (Hu et al. 2022, section 4.1) makes of a layer's input."""

    def __init__(self) -> None:
        self._whose = torch.empty(0, dtype=torch.long)
        self._slots: range = range(0)
        self._is_one = False
        self._masks: dict[tuple[int, torch.dtype], Tensor] = {}
        self._layers: dict[int, _Layer] = {}

    def begin(self, whose: Tensor) -> None:
        """Take up a batch.

        Args:
            whose: The slot of each token's adapter [tokens]; -1 where it has none.
        """
        self._whose = whose
        self._masks.clear()
        used = whose[whose >= 0]
        if len(used) == 0:
            self._slots = range(0)
            return
        self._slots = range(int(used.min()), int(used.max()) + 1)
        self._is_one = len(self._slots) == 1 and len(used) == len(whose)

    def add(
        self,
        y: Tensor,
        x: Tensor,
        a: tuple[Tensor, ...],
        b: tuple[Tensor, ...],
        scale: float,
        sizes: tuple[int, ...],
    ) -> None:
        """Add to `y` [tokens, sum of sizes], in place.

        Args:
            y: The layer's output so far.
            x: The layer's input [tokens, in].
            a: For each slice of the output, the first matrices of all slots [slots, 1, rank, in].
            b: The second ones [slots, 1, size or more, rank].
            scale: Times which it is added.
            sizes: Of each slice.
        """
        if not self._slots:
            return
        layer = self._layer(a, b, sizes)
        rows = slice(self._slots.start * layer.width, self._slots.stop * layer.width)
        hidden = x.view(-1, x.shape[-1]) @ layer.first[rows].T
        if not self._is_one:
            hidden *= self._mask(layer.width, x.dtype)
        y.view(-1, y.shape[-1]).addmm_(hidden, layer.second[rows], alpha=scale)

    def _layer(
        self, a: tuple[Tensor, ...], b: tuple[Tensor, ...], sizes: tuple[int, ...]
    ) -> _Layer:
        """The layer's matrices, made anew when an adapter was written into a slot."""
        written = sum(each._version for each in (*a, *b))  # torch's count of writes
        held = self._layers.get(a[0].data_ptr())
        if held is None or held.written != written:
            held = self._layers[a[0].data_ptr()] = _arrange(a, b, sizes, written)
        return held

    def _mask(self, width: int, dtype: torch.dtype) -> Tensor:
        """[tokens, slots of the batch x width]: one where the slot is the token's, else zero."""
        key = (width, dtype)
        if key not in self._masks:
            slots = torch.arange(self._slots.start, self._slots.stop)
            own = self._whose[:, None] == slots
            self._masks[key] = own.repeat_interleave(width, dim=1).to(dtype)
        return self._masks[key]


def _arrange(
    a: tuple[Tensor, ...], b: tuple[Tensor, ...], sizes: tuple[int, ...], written: int
) -> _Layer:
    """See `_Layer`; ranks that no adapter uses are left out, vLLM pads all to one of its own."""
    used = torch.stack([each.squeeze(1).any(dim=2).any(dim=0) for each in a]).any(dim=0)
    rank = int(used.nonzero().max()) + 1 if used.any() else 1
    first = torch.cat([each[:, 0, :rank] for each in a], dim=1)
    slots, width, _ = first.shape
    second = torch.zeros(slots, width, sum(sizes), dtype=b[0].dtype)
    start = 0
    for number, (each, size) in enumerate(zip(b, sizes, strict=True)):
        rows = slice(number * rank, (number + 1) * rank)
        second[:, rows, start : start + size] = each[:, 0, :size, :rank].transpose(1, 2)
        start += size
    return _Layer(written, width, first.flatten(0, 1).contiguous(), second.flatten(0, 1))
