"""How long a request would wait for a slot, by what is ahead of it: an estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from composer.pool.queues import EngineQueue


def slot_wait_s(
    queue: EngineQueue,
    others: Iterable[tuple[EngineQueue, str | None]],
    slots: Mapping[str, int],
    load_s: Callable[[EngineQueue], float],
) -> float:
    """Seconds until one of the slots that an engine may use is free for it.

    An engine that generates takes new requests in at once. Else all that runs and waits before it
    is shared out among the slots: an engine's open requests by the interval between its outcomes,
    and the loads of those that are not up.

    Args:
        queue: Of the engine.
        others: Further local engines' queues, and the machine that each generates on, if it does.
        slots: Of the machines that the engine may use.
        load_s: Seconds until an engine could start.
    """
    if queue.running:
        return 0.0
    ahead_s, busy = 0.0, dict.fromkeys(slots, 0)
    for other, node in others:
        if node in busy:
            busy[node] += 1
        if node in busy or other.waiting:
            ahead_s += other.pace_s * other.n_open + load_s(other)
    if any(busy[node] < n for node, n in slots.items()):
        return 0.0
    return ahead_s / max(1, sum(slots.values()))
