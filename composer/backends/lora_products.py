"""Many rows, many adapters: two products a layer, in place of two copied matrices a token.

What vLLM 0.32 runs on a CPU copies, for every token, its adapter's two matrices before it
multiplies by them. Here every token is multiplied by the first matrices of all adapters side by
side, what is not its own is set to zero, and the second matrices do the rest: as many times the
multiplications as there are adapters, and no copy. `python -m eval bench adapters` compares them.
"""

from __future__ import annotations

import torch
from torch import Tensor


class LoraProducts:
    """Adds what each token's adapter (Hu et al. 2022, section 4.1) makes of a layer's input."""

    def __init__(self) -> None:
        self._whose = torch.empty(0, dtype=torch.long)
        self._has_any = False
        self._masks: dict[tuple[int, int, int, torch.dtype], Tensor] = {}
        self._side_by_side: dict[int, tuple[int, Tensor, list[Tensor]]] = {}

    def begin(self, whose: Tensor) -> None:
        """Take up a batch.

        Args:
            whose: The slot of each token's adapter [tokens]; -1 where it has none.
        """
        self._whose = whose
        self._has_any = bool((whose >= 0).any())
        self._masks.clear()

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
        if not self._has_any:
            return
        first, seconds = self._matrices(a, b, sizes)
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        slots, _, rank, _ = a[0].shape
        hidden = (x @ first) * self._mask(slots, rank, len(a), x.dtype)
        start = 0
        for second, size, own in zip(seconds, sizes, hidden.chunk(len(a), dim=1), strict=True):
            y[:, start : start + size].addmm_(own, second, alpha=scale)
            start += size

    def _matrices(
        self, a: tuple[Tensor, ...], b: tuple[Tensor, ...], sizes: tuple[int, ...]
    ) -> tuple[Tensor, list[Tensor]]:
        """The slots' matrices side by side, made anew when an adapter was written into a slot."""
        written = sum(each._version for each in (*a, *b))  # torch's count of writes
        held = self._side_by_side.get(a[0].data_ptr())
        if held is None or held[0] != written:
            first = torch.cat([each.flatten(0, 2) for each in a]).T.contiguous()
            seconds = [
                each.squeeze(1)[:, :size].transpose(1, 2).flatten(0, 1).contiguous()
                for each, size in zip(b, sizes, strict=True)
            ]
            held = self._side_by_side[a[0].data_ptr()] = (written, first, seconds)
        return held[1], held[2]

    def _mask(self, slots: int, rank: int, slices: int, dtype: torch.dtype) -> Tensor:
        """[tokens, slices x slots x rank]: one where the slot is the token's, zero elsewhere."""
        key = (slots, rank, slices, dtype)
        if key not in self._masks:
            own = self._whose[:, None] == torch.arange(slots)
            self._masks[key] = own.repeat_interleave(rank, dim=1).repeat(1, slices).to(dtype)
        return self._masks[key]
