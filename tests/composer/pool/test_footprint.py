import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.backends import GIB
from composer.pool.footprint import BASE_BYTES_DEFAULT, Footprint, Footprints, Need
from composer.types import EngineSpec

HELD = EngineSpec("held", "scripted", "ray", ("held",), engine_args={"memory_gib": 2})
INLINE = replace(HELD, runner="inline")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where no file is yet, in a folder that does not exist yet."""
    return tmp_path / "cache" / "footprints.json"


seconds = st.floats(0, 1e4)
figures = st.builds(
    Footprint, st.integers(0, 1 << 40), seconds, st.none() | seconds, st.none() | seconds
)


@settings(deadline=None, max_examples=25)
@given(
    st.dictionaries(st.text(max_size=9), figures, max_size=3),
    st.dictionaries(st.text(max_size=9), st.integers(0, 1 << 40), max_size=2),
)
def test_what_was_measured_is_there_in_the_next_run(
    tmp_path_factory: pytest.TempPathFactory,
    engines: dict[str, Footprint],
    bases: dict[str, int],
) -> None:
    path = tmp_path_factory.mktemp("cache") / "footprints.json"
    first = Footprints(path)
    for key, footprint in engines.items():
        first.record(key, footprint)
    for engine, base_bytes in bases.items():
        first.record_base(engine, base_bytes)
    again = Footprints(path)
    assert {key: again.of(key) for key in engines} == engines
    assert {engine: again.base_bytes(engine) for engine in bases} == bases


def test_without_a_file_everything_is_estimated(path: Path) -> None:
    footprints = Footprints(path)
    assert footprints.of("held") is None
    assert footprints.need(HELD) == Need(
        BASE_BYTES_DEFAULT + 2 * GIB, BASE_BYTES_DEFAULT, is_measured=False
    )


def test_a_measured_base_replaces_the_default_in_an_estimate(path: Path) -> None:
    footprints = Footprints(path)
    footprints.record_base("scripted", GIB // 2)
    assert footprints.need(HELD) == Need(5 * GIB // 2, GIB // 2, is_measured=False)
    assert footprints.base_bytes("vllm") == BASE_BYTES_DEFAULT


def test_the_measured_peak_replaces_the_estimate(path: Path) -> None:
    footprints = Footprints(path)
    footprints.record("held", Footprint(3 * GIB, 1.5))
    assert footprints.need(HELD) == Need(3 * GIB, BASE_BYTES_DEFAULT, is_measured=True)
    assert footprints.need(replace(HELD, key="other")).is_measured is False


def test_an_inline_engine_has_no_process_of_its_own_to_count(path: Path) -> None:
    footprints = Footprints(path)
    footprints.record("held", Footprint(3 * GIB, 1.5))
    assert footprints.need(INLINE) == Need(2 * GIB, 0, is_measured=False)


def test_a_need_says_where_its_figure_comes_from() -> None:
    assert str(Need(3 * GIB // 2, 0, is_measured=True)) == "1.50 GiB (measured)"
    assert str(Need(GIB, 0, is_measured=False)) == "1.00 GiB (estimated)"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"engines": {}}',
        '{"engines": {"held": {"peak": 1}}, "base": {}}',
        '{"engines": [], "base": {}}',
        '{"engines": {}, "base": {"vllm": "much"}}',
    ],
)
def test_a_broken_file_costs_a_warning_and_is_written_anew(
    path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with caplog.at_level(logging.WARNING):
        footprints = Footprints(path)
    assert "needs are estimated anew" in caplog.text
    assert footprints.need(HELD).is_measured is False
    footprints.record("held", Footprint(GIB, 1.0))
    assert Footprints(path).of("held") == Footprint(GIB, 1.0)


def test_a_file_that_is_missing_is_no_cause_for_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Footprints(path)
    assert not caplog.records


def test_the_file_is_replaced_as_a_whole_and_nothing_else_is_left(path: Path) -> None:
    footprints = Footprints(path)
    footprints.record("held", Footprint(GIB, 1.0))
    before = path.with_name("before.json")
    os.link(path, before)
    footprints.record("other", Footprint(2 * GIB, 2.0))
    assert list(json.loads(before.read_text())["engines"]) == ["held"]
    assert sorted(json.loads(path.read_text())["engines"]) == ["held", "other"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["before.json", "footprints.json"]


def test_a_footprint_grows_with_what_is_measured_later_and_never_shrinks(tmp_path: Path) -> None:
    footprints = Footprints(tmp_path / "footprints.json")
    footprints.grow("unknown", 5)
    assert footprints.of("unknown") is None
    footprints.record("a", Footprint(100, 1.5))
    for seen in (50, 300, 200):
        footprints.grow("a", seen)
    assert Footprints(tmp_path / "footprints.json").of("a") == Footprint(300, 1.5)


def test_how_long_it_takes_to_wake_and_how_fast_it_writes_is_kept_beside_the_load(
    path: Path,
) -> None:
    footprints = Footprints(path)
    footprints.record("held", Footprint(GIB, 1.5))
    footprints.record_wake("held", 0.25)
    footprints.record_rate("held", 300.0)
    assert Footprints(path).of("held") == Footprint(GIB, 1.5, wake_s=0.25, tokens_per_s=300.0)


def test_a_further_load_or_growth_leaves_what_else_is_known_as_it_is(path: Path) -> None:
    footprints = Footprints(path)
    footprints.record("held", Footprint(GIB, 1.5, wake_s=0.25, tokens_per_s=300.0))
    footprints.record("held", Footprint(2 * GIB, 2.5))
    footprints.grow("held", 3 * GIB)
    assert footprints.of("held") == Footprint(3 * GIB, 2.5, wake_s=0.25, tokens_per_s=300.0)


def test_the_newest_seconds_and_rate_replace_older_ones(path: Path) -> None:
    footprints = Footprints(path)
    footprints.record("held", Footprint(GIB, 1.5, wake_s=0.25, tokens_per_s=300.0))
    footprints.record_wake("held", 0.5)
    footprints.record_rate("held", 200.0)
    assert footprints.of("held") == Footprint(GIB, 1.5, wake_s=0.5, tokens_per_s=200.0)


def test_of_an_engine_that_was_never_loaded_nothing_is_kept(path: Path) -> None:
    footprints = Footprints(path)
    footprints.record_wake("held", 0.5)
    footprints.record_rate("held", 200.0)
    assert footprints.of("held") is None
    assert not path.exists()


def test_a_file_from_before_there_were_rates_is_read(path: Path) -> None:
    path.parent.mkdir()
    saved = {"engines": {"held": {"peak_bytes": GIB, "load_s": 1.5}}, "base": {}}
    path.write_text(json.dumps(saved))
    assert Footprints(path).of("held") == Footprint(GIB, 1.5)


def test_figures_on_a_gpu_are_apart_from_those_without(path: Path) -> None:
    without = Footprints(path)
    without.record("held", Footprint(3 * GIB, 9.0))
    without.record_base("scripted", GIB // 2)
    on_gpu = Footprints(path, on_gpu=True)
    assert on_gpu.of("held") is None
    assert on_gpu.base_bytes("scripted") == BASE_BYTES_DEFAULT
    on_gpu.record("held", Footprint(2 * GIB, 1.0))
    on_gpu.record_base("scripted", GIB // 4)
    again = Footprints(path)
    assert (again.of("held"), again.base_bytes("scripted")) == (Footprint(3 * GIB, 9.0), GIB // 2)
    on_gpu_again = Footprints(path, on_gpu=True)
    assert on_gpu_again.of("held") == Footprint(2 * GIB, 1.0)
    assert on_gpu_again.base_bytes("scripted") == GIB // 4


def test_on_a_gpu_an_engine_takes_its_memory_there_and_its_process_the_rest(path: Path) -> None:
    footprints = Footprints(path, on_gpu=True)
    before = footprints.need(HELD)
    footprints.record("held", Footprint(3 * GIB // 2, 1.0))
    base = BASE_BYTES_DEFAULT
    assert before == Need(base, base, is_measured=False, gpu_bytes=2 * GIB)
    assert footprints.need(HELD) == Need(3 * GIB // 2, base, is_measured=True, gpu_bytes=2 * GIB)
    assert footprints.need(INLINE) == Need(0, 0, is_measured=False, gpu_bytes=2 * GIB)


def test_a_need_says_what_of_it_is_of_the_gpu() -> None:
    need = Need(GIB, 0, is_measured=True, gpu_bytes=5 * GIB // 2)
    assert str(need) == "1.00 GiB (measured) and 2.50 GiB of the GPU"
