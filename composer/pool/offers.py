"""Which machine takes an engine, and who makes room there: a pure policy.

On each machine the policies of processes and of GPU memory decide together; of several machines
the one where nobody has to leave is taken, then the one with the most memory left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from composer.pool.footprint import Need
from composer.pool.nodes import PoolNode
from composer.pool.residency import Holding, Placement, Refusal, Wait, place
from composer.pool.tiers import OnGpu, Room, make_room

NOTHING = Room()


@dataclass(frozen=True, slots=True)
class Offer:
    """How a machine would take an engine."""

    node: PoolNode
    placement: Placement
    room: Room
    """What is to be done on its GPU first."""
    left_bytes: int
    """Where engines compute, if everybody else stays."""


def offer(
    node: PoolNode,
    need: Need,
    holdings: Sequence[Holding],
    on_gpu: Sequence[OnGpu],
    *,
    now_s: float,
    min_loaded_s: float,
) -> Offer | Wait | Refusal:
    """How one machine would take an engine, or why it does not.

    Args:
        node: The machine.
        need: Of the engine.
        holdings: All runner processes there.
        on_gpu: The engines in them.
        now_s: The time, on the policies' clock.
        min_loaded_s: How long an engine stays loaded at least.
    """
    placed = place(
        need.total_bytes,
        holdings,
        budget_bytes=node.memory_bytes,
        now_s=now_s,
        min_loaded_s=min_loaded_s,
    )
    if not isinstance(placed, Placement):
        return placed
    if node.gpu_bytes is None:
        used = sum(holding.bytes for holding in holdings)
        return Offer(node, placed, NOTHING, node.memory_bytes - used)
    gone = {*placed.kill, placed.runner}
    kept_bytes = sum(h.bytes for h in holdings if h.runner not in gone)
    room = make_room(
        need.gpu_bytes,
        [engine for engine in on_gpu if engine.runner not in gone],
        gpu_bytes=node.gpu_bytes,
        host_free_bytes=max(0, node.memory_bytes - kept_bytes - need.total_bytes),
        now_s=now_s,
        min_loaded_s=min_loaded_s,
    )
    if not isinstance(room, Room):
        return room
    awake = sum(engine.gpu_bytes for engine in on_gpu if not engine.level)
    return Offer(node, placed, room, node.gpu_bytes - awake)


def best_offer(offers: Iterable[Offer | Wait | Refusal]) -> Offer | Wait | Refusal:
    """The machine that takes an engine; else when one may; else the least refusal.

    Raises:
        ValueError: There are no offers.
    """
    made = list(offers)
    takers = [one for one in made if isinstance(one, Offer)]
    if takers:
        return min(takers, key=_cost)
    waits = [one.until_s for one in made if isinstance(one, Wait)]
    if waits:
        known = [until_s for until_s in waits if until_s is not None]
        return Wait(min(known) if known else None)
    return max((one for one in made if isinstance(one, Refusal)), key=lambda one: one.budget_bytes)


def _cost(one: Offer) -> tuple[int, int, bool, int, str]:
    leave = len(one.placement.kill) + (one.placement.how == "reused") + len(one.room.end)
    sleep = len(one.room.sleep)
    return leave, sleep, one.placement.how == "fresh", -one.left_bytes, one.node.name
