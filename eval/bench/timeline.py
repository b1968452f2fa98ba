"""What every variant of a batch did when: their stages under one another, on one axis of time.

python -m eval bench variants --output json > FIGURES.json
python -m eval.bench.timeline FIGURES.json docs/bulk-variants.svg
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from composer.bulk.bars import KINDS, Bar, draw_bars
from composer.bulk.progress import StageRecord
from composer.errors import ComposerError, ConfigError

Stages = Mapping[str, Sequence[StageRecord]]


def read_variants(path: Path) -> Stages:
    """The stages of each variant, from what the benchmark printed as JSON.

    Raises:
        ConfigError: It cannot be read, or is something else.
    """
    try:
        said = json.loads(path.read_text("utf-8"))
        stages = TypeAdapter(dict[str, list[StageRecord]]).validate_python(
            said["settings"]["stages"]
        )
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror}); name another file") from exc
    except (ValueError, KeyError, TypeError, ValidationError) as exc:
        raise ConfigError(f"{path}: holds no stages of variants; {_REMEDY}") from exc
    if not any(stages.values()):
        raise ConfigError(f"{path}: no variant has a stage; {_REMEDY}")
    return stages


def lay_out(variants: Stages) -> tuple[list[Bar], list[str]]:
    """Bars, and the names of their lanes; a variant has as many as it did things at one time.

    Between two variants a lane is empty.
    """
    bars: list[Bar] = []
    lanes: list[str] = []
    for name, stages in variants.items():
        if lanes:
            lanes.append("")
        first = len(lanes)
        free_s = [0.0]
        for stage in sorted(stages, key=lambda stage: (stage.start_s, stage.end_s)):
            free = [lane for lane, since_s in enumerate(free_s) if since_s <= stage.start_s]
            lane = free[0] if free else len(free_s)
            free_s[lane:] = [stage.end_s, *free_s[lane + 1 :]]
            ready_s = min(stage.end_s, stage.start_s + stage.load_s)
            label = ", ".join(stage.experts)
            bars.append(Bar(first + lane, label, stage.start_s, ready_s, stage.end_s))
        lanes += [name, *[""] * (len(free_s) - 1)]
    return bars, lanes


def main(arguments: Sequence[str]) -> None:
    """Draw the stages of FIGURES.json.

    Raises:
        ConfigError: The arguments are others, the file holds no stages, or the picture cannot be
            written.
    """
    if len(arguments) != 2 or Path(arguments[1]).suffix not in KINDS:
        raise ConfigError(
            "name what the benchmark printed and a picture: python -m eval.bench.timeline "
            f"FIGURES.json PICTURE, which ends in {' or '.join(KINDS)}"
        )
    bars, lanes = lay_out(read_variants(Path(arguments[0])))
    draw_bars(Path(arguments[1]), bars, "one batch under settings of the pool", lanes)


_REMEDY = "name what `python -m eval bench variants --output json` printed"

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ComposerError as exc:
        sys.stderr.write(f"error: {exc}\n")
        sys.exit(1)
