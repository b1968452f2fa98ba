"""Has vLLM's engines on a CPU apply adapters by `LoraProducts`."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform

from composer.backends.lora_products import LoraProducts


class DenseLora(PunicaWrapperCPU):
    """VLLM's wrapper for a CPU, with the linear layers done by `LoraProducts`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # pyright: ignore[reportUnknownMemberType]
        self._products = LoraProducts()

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Called by vLLM when the batch or the slots have changed."""
        super().update_metadata(*args, **kwargs)  # pyright: ignore[reportUnknownMemberType]
        self._products.begin(self.token_lora_indices)

    def add_lora_linear(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **_: Any,
    ) -> None:
        """Called by vLLM for each linear layer; see `LoraProducts.add`."""
        self._products.add(y, x, lora_a_stacked, lora_b_stacked, scale, output_slices)


def use_dense_lora(*, wanted: bool) -> None:
    """Have engines that are loaded from now on in this process take `DenseLora`, or vLLM's own.

    Not wanted where vLLM compiles the model: what `LoraProducts` keeps cannot be traced.
    """
    own = cast("dict[str, object]", vars(current_platform))
    own.pop("get_punica_wrapper", None)
    if wanted:
        name = f"{DenseLora.__module__}.{DenseLora.__qualname__}"
        own["get_punica_wrapper"] = lambda: name
