import json
from pathlib import Path

import pytest

from composer.bulk.lines import Batch
from composer.bulk.progress import StageRecord
from composer.experts import load_experts
from eval.bench.six_engines import (
    BY,
    MEMORY_GIB,
    NAMES,
    PANEL,
    QUERIES,
    write_experts,
    write_queries,
)
from eval.bench.variants import DEFAULTS, SPARE_GIB, VARIANTS, Ran, make_figures


def ran(wall_s: float, *load_s: float) -> Ran:
    stages = tuple(StageRecord("e", ("e",), 0.0, each, 9.0, 1, 10) for each in load_s)
    return Ran(wall_s, sum(each > 0 for each in load_s), 600, 0, stages)


def test_each_variant_stands_beside_the_defaults() -> None:
    figures = make_figures({DEFAULTS: [ran(20.0, 4.0, 6.0, 5.0)], "load_ahead": [ran(15.0, 8.0)]})

    assert figures == {
        "defaults_s": 20.0,
        "defaults_spread_s": 0.0,
        "defaults_loads": 3.0,
        "defaults_median_load_s": 5.0,
        "defaults_tokens_per_s": 30.0,
        "defaults_ratio": 1.0,
        "load_ahead_s": 15.0,
        "load_ahead_spread_s": 0.0,
        "load_ahead_loads": 1.0,
        "load_ahead_median_load_s": 8.0,
        "load_ahead_tokens_per_s": 40.0,
        "load_ahead_ratio": 0.75,
    }


def test_runs_of_a_variant_are_averaged_and_their_spread_is_told() -> None:
    figures = make_figures({DEFAULTS: [ran(20.0, 4.0), ran(30.0, 5.0, 6.0)]})

    assert (figures["defaults_s"], figures["defaults_spread_s"]) == (25.0, 10.0)
    assert (figures["defaults_loads"], figures["defaults_median_load_s"]) == (1.5, 5.0)
    assert figures["defaults_tokens_per_s"] == 24.0


def test_a_turn_that_needed_no_load_is_not_in_the_median() -> None:
    figures = make_figures({DEFAULTS: [ran(20.0, 0.0, 4.0, 0.0, 6.0)]})

    assert figures["defaults_median_load_s"] == 5.0


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_the_experts_of_each_variant_can_be_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "experts.yaml"

    write_experts(tmp_path, path, VARIANTS[name])

    registry = load_experts(path)
    assert tuple(registry.experts) == NAMES
    assert registry.compositions[PANEL].aggregator.settings == {"by": BY}
    assert registry.pool.memory_gib is not None
    assert registry.pool.memory_gib == MEMORY_GIB + SPARE_GIB * registry.pool.warm_spares


def test_the_first_variant_is_what_the_others_are_compared_with() -> None:
    assert next(iter(VARIANTS)) == DEFAULTS


def test_the_queries_are_a_batch_and_the_same_each_time(tmp_path: Path) -> None:
    path = tmp_path / QUERIES
    write_queries(tmp_path, 30)
    text = path.read_text("utf-8")
    write_queries(tmp_path, 30)

    with Batch(path) as batch:
        assert (len(batch), batch.rejects) == (30, ())
    assert path.read_text("utf-8") == text
    assert len({json.loads(line)["prompt"] for line in text.splitlines()}) == 30
