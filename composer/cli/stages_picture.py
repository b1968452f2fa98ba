"""Slots over time in one picture: stages as they are planned, or as they went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from composer.bulk.bars import KINDS, Bar, draw_bars
from composer.errors import ConfigError

if TYPE_CHECKING:
    from composer.bulk.progress import StageRecord
    from composer.pool.plan import Plan


def check_picture(path: Path | None) -> None:
    """Refuse, before anything is run, a picture that could not be drawn. None: none is wanted.

    Raises:
        ConfigError: Its format is none of `KINDS`, its folder does not exist, or matplotlib is not
            installed.
    """
    if path is None:
        return
    if path.suffix not in KINDS or not path.parent.is_dir():
        raise ConfigError(
            f"cannot draw {str(path)!r}; name a file that ends in {' or '.join(KINDS)}, in a "
            "folder that exists"
        )
    if find_spec("matplotlib") is None:
        raise ConfigError(
            "matplotlib is not installed, which draws the picture; install "
            "multi-llm-composer[eval], or leave out --picture"
        )


def read_stages(path: Path) -> list[StageRecord]:
    """The stages of a batch as they went, from its `stages.jsonl`, in the order of their ends.

    Raises:
        ConfigError: The file cannot be read, or a line is no stage.
    """
    from pydantic import TypeAdapter

    from composer.bulk.progress import StageRecord

    stage = TypeAdapter(StageRecord)
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"{path}: cannot be read ({exc}); name the folder of a batch that ran"
        ) from exc
    records: list[StageRecord] = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(stage.validate_json(line))
        except ValueError as exc:
            raise ConfigError(
                f"{path}:{number}: is no stage; name the stages.jsonl of a batch"
            ) from exc
    return records


def bars_of_plan(
    plan: Plan, experts: Mapping[str, Sequence[str]], slots: Mapping[str, int]
) -> list[Bar]:
    """The stages of a plan; a machine's slots are below those of the machine before it.

    Args:
        plan: The plan.
        experts: Whom each engine serves.
        slots: Of each machine.
    """
    above = dict(zip(slots, accumulate(slots.values(), initial=0), strict=False))
    return [
        Bar(
            above[stage.node] + stage.slot,
            ", ".join(experts[stage.engine]),
            stage.start_s,
            stage.ready_s if stage.is_load else stage.start_s,
            stage.end_s,
        )
        for stage in plan.stages
    ]


def bars_of_records(records: Sequence[StageRecord]) -> tuple[list[Bar], int]:
    """The stages of a batch as they went, and on how many slots; endpoints are below, a lane each.

    Each run of a batch that went on begins at 0: it is put behind the run before it.
    """
    n_slots = 1 + max((r.slot for r in records if r.slot is not None), default=-1)
    ends_s: dict[int, float] = {}
    for record in records:
        ends_s[record.run] = max(ends_s.get(record.run, 0.0), record.end_s)
    runs = sorted(ends_s)
    origin_s = dict(zip(runs, accumulate((ends_s[r] for r in runs), initial=0.0), strict=False))
    endpoints: dict[str, int] = {}
    bars: list[Bar] = []
    for record in records:
        lane = record.slot
        if lane is None:
            lane = n_slots + endpoints.setdefault(record.engine, len(endpoints))
        start_s = origin_s[record.run] + record.start_s
        end_s = origin_s[record.run] + record.end_s
        ready_s = min(end_s, start_s + record.load_s)
        bars.append(Bar(lane, ", ".join(record.experts), start_s, ready_s, end_s))
    return bars, n_slots


def draw_stages(path: Path, bars: Sequence[Bar], title: str, slots: int) -> None:
    """Draw bars, a lane each slot and endpoint.

    Args:
        path: Where; its suffix, of `KINDS`, says in which format.
        bars: One at least; endpoints are below slots.
        title: Of the picture.
        slots: Lanes that are slots; what is below is an endpoint.

    Raises:
        ConfigError: The file cannot be written.
    """
    n_lanes = 1 + max(bar.lane for bar in bars)
    lanes = [f"slot {n + 1}" if n < slots else "endpoint" for n in range(n_lanes)]
    draw_bars(path, bars, title, lanes)
