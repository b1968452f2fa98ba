"""What adapters add to a layer, beside one product after another."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from composer.backends.lora_products import LoraProducts

INPUT = 6


def stacked(
    seed: int, slots: int, rank: int, sizes: tuple[int, ...]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Matrices of every slot, the first and the second ones of each slice."""
    random = torch.Generator().manual_seed(seed)
    a = tuple(torch.randn(slots, 1, rank, INPUT, generator=random) for _ in sizes)
    b = tuple(torch.randn(slots, 1, size, rank, generator=random) for size in sizes)
    return a, b


def one_by_one(
    x: Tensor, whose: list[int], a: tuple[Tensor, ...], b: tuple[Tensor, ...], scale: float
) -> Tensor:
    """What each token's own adapter adds; nothing where it has none."""
    rows: list[Tensor] = []
    for row, slot in zip(x, whose, strict=True):
        pairs = zip(a, b, strict=True)
        whole = torch.cat(
            [scale * (second[slot, 0] @ (first[slot, 0] @ row)) for first, second in pairs]
        )
        rows.append(whole if slot >= 0 else torch.zeros_like(whole))
    return torch.stack(rows)


@given(
    seed=st.integers(0, 1000),
    slots=st.integers(1, 4),
    rank=st.integers(1, 5),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple),
    scale=st.sampled_from([0.5, 1.0, 2.0]),
    data=st.data(),
)
@settings(deadline=None)
def test_each_token_gets_what_its_own_adapter_makes_of_it(
    seed: int, slots: int, rank: int, sizes: tuple[int, ...], scale: float, data: st.DataObject
) -> None:
    whose = data.draw(st.lists(st.integers(-1, slots - 1), min_size=1, max_size=9))
    a, b = stacked(seed, slots, rank, sizes)
    x = torch.randn(len(whose), INPUT, generator=torch.Generator().manual_seed(seed + 1))
    before = torch.ones(len(whose), sum(sizes))
    y = before.clone()
    products = LoraProducts()
    products.begin(torch.tensor(whose))
    products.add(y, x, a, b, scale, sizes)
    assert torch.allclose(y - before, one_by_one(x, whose, a, b, scale), atol=1e-4)


def test_an_adapter_that_is_written_into_a_slot_later_is_seen() -> None:
    a, b = stacked(0, 2, 3, (4,))
    x, whose = torch.randn(2, INPUT), [0, 1]
    products = LoraProducts()
    products.begin(torch.tensor(whose))
    products.add(torch.zeros(2, 4), x, a, b, 1.0, (4,))
    with torch.inference_mode():
        a[0][1, 0, :2].copy_(torch.ones(2, INPUT))
        b[0][0] = 0
    y = torch.zeros(2, 4)
    products.add(y, x, a, b, 1.0, (4,))
    assert torch.allclose(y, one_by_one(x, whose, a, b, 1.0), atol=1e-5)
    assert not y[0].any()


def test_a_batch_without_adapters_is_left_as_it_is() -> None:
    a, b = stacked(0, 2, 3, (4,))
    y = torch.ones(3, 4)
    products = LoraProducts()
    products.begin(torch.tensor([-1, -1, -1]))
    products.add(y, torch.randn(3, INPUT), a, b, 1.0, (4,))
    assert torch.equal(y, torch.ones(3, 4))


def test_a_later_batch_is_another_one() -> None:
    a, b = stacked(0, 2, 3, (4,))
    products = LoraProducts()
    products.begin(torch.tensor([0, 0]))
    products.add(torch.zeros(2, 4), torch.randn(2, INPUT), a, b, 1.0, (4,))
    x, y = torch.randn(3, INPUT), torch.zeros(3, 4)
    products.begin(torch.tensor([1, -1, 0]))
    products.add(y, x, a, b, 1.0, (4,))
    assert torch.allclose(y, one_by_one(x, [1, -1, 0], a, b, 1.0), atol=1e-5)
