"""Slots over time in one picture: stages as they are planned, or as they went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from composer.bulk.bars import KINDS, Bar, draw_bars
from composer.errors import ConfigError

if TYPE_CHECKING:
    from composer.bulk.progress import StageRecord
    from composer.experts import Registry
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


def bars_of_plan(plan: Plan, experts: Mapping[str, Sequence[str]]) -> list[Bar]:
    """The stages of a plan; `experts` says whom each engine serves."""
    return [
        Bar(
            stage.slot,
            ", ".join(experts[stage.engine]),
            stage.start_s,
            stage.ready_s if stage.is_load else stage.start_s,
            stage.end_s,
        )
        for stage in plan.stages
    ]


def bars_of_records(
    records: Sequence[StageRecord], slots: int, is_local: Callable[[StageRecord], bool]
) -> list[Bar]:
    """The stages of a batch as they went, on the slots that they can have had.

    A record does not say its slot: of those that are free the one that was used last takes it,
    which finds room for all wherever there is a way to. Nor does it say its run, and each run of a
    batch that went on begins at 0: what ends before the one before it, or finds no slot free,
    begins another run, which is put behind the last one.

    Args:
        records: In the order of their ends, run after run.
        slots: How many engines were asked at one time.
        is_local: Whether a stage took a slot; endpoints have a lane each, below.
    """
    bars: list[Bar] = []
    origin_s = latest_s = 0.0
    before_s = 0.0
    free_s = [0.0] * slots
    endpoints: dict[str, int] = {}
    for record in records:
        lane = _lane(free_s, origin_s + record.start_s)
        takes_slot = is_local(record)
        if record.end_s < before_s or (takes_slot and lane is None):
            origin_s = latest_s
            free_s = [origin_s] * slots
            lane = 0
        if not takes_slot:
            lane = slots + endpoints.setdefault(record.engine, len(endpoints))
        assert lane is not None, "a run that begins has its slots free"
        end_s = origin_s + record.end_s
        start_s = origin_s + record.start_s
        ready_s = min(end_s, start_s + record.load_s)
        bars.append(Bar(lane, ", ".join(record.experts), start_s, ready_s, end_s))
        if takes_slot:
            free_s[lane] = end_s
        before_s, latest_s = record.end_s, max(latest_s, end_s)
    return bars


def record_bars(records: Sequence[StageRecord], registry: Registry) -> list[Bar]:
    """The stages of a batch as they went, on the slots of an experts.yaml."""
    from composer.backends import backend_entry

    def is_local(record: StageRecord) -> bool:
        entries = [registry.experts[n] for n in record.experts if n in registry.experts]
        return all(backend_entry(entry.engine).is_local for entry in entries)

    return bars_of_records(records, registry.pool.busy_engines, is_local)


def _lane(free_s: Sequence[float], start_s: float) -> int | None:
    """The slot that is free by then and was used last; None: none is."""
    free = [lane for lane, since_s in enumerate(free_s) if since_s <= start_s]
    return max(free, key=lambda lane: (free_s[lane], -lane), default=None)


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
