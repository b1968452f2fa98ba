from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.pool.footprint import Need
from composer.pool.nodes import PoolNode
from composer.pool.offers import Offer, best_offer, offer
from composer.pool.residency import Holding, Placement, Refusal, Wait
from composer.pool.tiers import OnGpu, Room

CPU = PoolNode("cpu", memory_bytes=10, slots=1, threads=1)
GPU = replace(CPU, name="gpu", gpu_bytes=6)
FRESH = Placement("fresh", None)


def made(
    name: str, *, how: Placement = FRESH, room: Room | None = None, left_bytes: int = 5
) -> Offer:
    return Offer(replace(CPU, name=name), how, room or Room(), left_bytes)


def on(node: PoolNode, need: Need, *held: OnGpu, sizes: dict[int, int]) -> object:
    holdings = [Holding(number, f"engine-{number}", size) for number, size in sizes.items()]
    return offer(node, need, holdings, held, now_s=0.0, min_loaded_s=0.0)


def test_a_machine_without_a_gpu_offers_what_its_memory_leaves() -> None:
    offered = on(CPU, Need(4, 1, is_measured=True), sizes={1: 3})
    assert offered == Offer(CPU, FRESH, Room(), 7)


def test_a_machine_with_a_gpu_offers_what_that_leaves() -> None:
    need = Need(4, 1, is_measured=True, gpu_bytes=2)
    offered = on(GPU, need, OnGpu(1, 3, 1), sizes={1: 3})
    assert offered == Offer(GPU, FRESH, Room(), 3)


def test_engines_that_sleep_leave_the_gpu_whole() -> None:
    need = Need(4, 1, is_measured=True, gpu_bytes=6)
    offered = on(GPU, need, OnGpu(1, 6, 3, level=1), sizes={1: 3})
    assert offered == Offer(GPU, FRESH, Room(), 6)


def test_an_engine_goes_to_sleep_in_the_memory_that_the_new_one_leaves() -> None:
    need = Need(4, 1, is_measured=True, gpu_bytes=6)
    kept = on(GPU, need, OnGpu(1, 6, 3), sizes={1: 3})
    let_go = on(GPU, need, OnGpu(1, 6, 3), sizes={1: 4})
    assert isinstance(kept, Offer)
    assert isinstance(let_go, Offer)
    assert kept.room == Room(sleep=((1, 1),))
    assert let_go.room == Room(sleep=((1, 2),))


def test_a_process_that_is_ended_or_emptied_takes_its_engine_off_the_gpu() -> None:
    need = Need(9, 1, is_measured=True, gpu_bytes=6)
    offered = on(GPU, need, OnGpu(1, 3, 3), OnGpu(2, 3, 3), sizes={1: 3, 2: 3})
    assert offered == Offer(GPU, Placement("reused", 1, (2,)), Room(), 0)


def test_what_an_ended_process_held_is_memory_for_weights_of_one_that_sleeps() -> None:
    need = Need(5, 1, is_measured=True, gpu_bytes=6)
    offered = on(GPU, need, OnGpu(1, 2, 4), OnGpu(2, 4, 4), sizes={1: 6, 2: 1})
    assert offered == Offer(GPU, Placement("reused", 1), Room(sleep=((2, 1),)), 0)


def test_a_machine_whose_gpu_is_too_small_refuses_and_says_of_how_much() -> None:
    need = Need(1, 1, is_measured=True, gpu_bytes=7)
    assert on(GPU, need, sizes={}) == Refusal(7, 6)


def test_a_machine_whose_memory_is_too_small_for_the_process_refuses() -> None:
    need = Need(11, 1, is_measured=True, gpu_bytes=1)
    assert on(GPU, need, sizes={}) == Refusal(11, 10)


def test_a_machine_whose_gpu_is_busy_says_to_wait() -> None:
    need = Need(1, 1, is_measured=True, gpu_bytes=4)
    assert on(GPU, need, OnGpu(1, 6, 1, is_busy=True), sizes={1: 1}) == Wait(None)


def test_the_machine_where_nobody_has_to_leave_takes_an_engine() -> None:
    leaves = [
        made("emptied", how=Placement("reused", 1), left_bytes=9),
        made("killed", how=Placement("warm", 1, (2,)), left_bytes=9),
        made("ended", room=Room(end=(1,)), left_bytes=9),
        made("asleep", room=Room(sleep=((1, 1),)), left_bytes=9),
    ]
    stays = made("stays", left_bytes=0)
    for one in leaves:
        assert best_offer([one, stays]) == best_offer([stays, one]) == stays


def test_to_have_one_sleep_is_better_than_to_have_one_leave() -> None:
    sleeps, leaves = made("b", room=Room(sleep=((1, 1),))), made("a", room=Room(end=(1,)))
    assert best_offer([leaves, sleeps]) == sleeps


def test_a_process_that_waits_is_better_than_a_new_one_and_more_memory_than_less() -> None:
    warm = made("c", how=Placement("warm", 1), left_bytes=1)
    much, little = made("b", left_bytes=5), made("a", left_bytes=4)
    assert best_offer([little, much, warm]) == warm
    assert best_offer([little, much]) == much


def test_of_equal_machines_the_first_by_name_takes_it() -> None:
    assert best_offer([made("b"), made("a")]) == made("a")


def test_a_machine_that_takes_it_now_is_better_than_one_that_may_later() -> None:
    taken = made("a", how=Placement("reused", 1))
    assert best_offer([Wait(1.0), Refusal(2, 1), taken]) == taken


def test_of_machines_that_may_take_it_later_the_first_time_is_said() -> None:
    assert best_offer([Wait(None), Wait(3.0), Wait(2.0), Refusal(2, 1)]) == Wait(2.0)
    assert best_offer([Wait(None), Wait(None)]) == Wait(None)


def test_where_all_refuse_the_least_refusal_is_said() -> None:
    assert best_offer([Refusal(9, 3), Refusal(9, 5), Refusal(9, 4)]) == Refusal(9, 5)


def test_no_offers_are_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="empty"):
        best_offer([])


@given(
    st.permutations(
        [made("a"), made("b"), made("c", left_bytes=9), Wait(1.0), Wait(None), Refusal(9, 3)]
    ),
    st.integers(1, 6),
)
def test_the_order_of_the_offers_does_not_matter(
    offers: list[Offer | Wait | Refusal], n: int
) -> None:
    some = offers[:n]
    assert best_offer(some) == best_offer(some[::-1])
