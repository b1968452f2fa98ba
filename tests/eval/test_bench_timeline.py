import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from composer.bulk.bars import Bar
from composer.bulk.progress import StageRecord
from composer.errors import ConfigError
from eval.bench.timeline import lay_out, main, read_variants


def stage(expert: str, start_s: float, end_s: float, *, load_s: float = 0.0) -> StageRecord:
    return StageRecord(expert, (expert,), start_s, load_s, end_s, 1, 10)


def written(path: Path, stages: Any) -> Path:
    path.write_text(json.dumps({"bench": "variants", "settings": {"stages": stages}}), "utf-8")
    return path


def test_what_one_variant_does_at_one_time_has_lanes_of_its_own() -> None:
    bars, lanes = lay_out({"two": [stage("a", 0, 9), stage("b", 2, 5), stage("c", 5, 7)]})

    assert {bar.label: bar.lane for bar in bars} == {"a": 0, "b": 1, "c": 1}
    assert lanes == ["two", ""]


def test_variants_are_under_one_another_with_room_between() -> None:
    bars, lanes = lay_out({"one": [stage("a", 0, 9)], "other": [stage("b", 0, 5, load_s=2)]})

    assert bars == [Bar(0, "a", 0, 0, 9), Bar(2, "b", 0, 2, 5)]
    assert lanes == ["one", "", "other"]


def test_a_lane_is_used_again_by_what_begins_as_another_ends() -> None:
    _, lanes = lay_out({"one": [stage("b", 4, 8), stage("a", 0, 4)]})

    assert lanes == ["one"]


def test_a_picture_has_each_variant_and_each_expert_once(tmp_path: Path) -> None:
    stages = {
        "defaults": [asdict(stage("ann", 0, 9, load_s=3))],
        "load_ahead": [asdict(stage("bob", 0, 5, load_s=1)), asdict(stage("cid", 3, 7, load_s=2))],
    }
    figures, picture = written(tmp_path / "figures.json", stages), tmp_path / "picture.svg"

    main([str(figures), str(picture)])

    texts = re.findall(r"<!-- (.*?) -->", picture.read_text("utf-8"))
    for word in ("defaults", "load_ahead", "ann", "bob", "cid", "seconds"):
        assert texts.count(word) == 1


@pytest.mark.parametrize(
    "arguments", [[], ["figures.json"], ["figures.json", "picture.gif"], ["a", "b.svg", "c"]]
)
def test_other_arguments_are_refused_with_what_is_wanted(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"FIGURES\.json PICTURE, which ends in \.png or \.svg"):
        main(arguments)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.json: cannot be read \(No such file"):
        read_variants(tmp_path / "gone.json")


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        '{"settings": {}}',
        '{"settings": {"stages": [{"engine": "a"}]}}',
        '{"settings": {"stages": {"defaults": [{"engine": "a"}]}}}',
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "figures.json"
    path.write_text(text, "utf-8")

    with pytest.raises(ConfigError, match="holds no stages of variants; name what"):
        read_variants(path)


def test_variants_without_a_stage_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "figures.json", {"defaults": []})

    with pytest.raises(ConfigError, match="no variant has a stage; name what"):
        read_variants(path)


def test_a_picture_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    figures = written(tmp_path / "figures.json", {"defaults": [asdict(stage("a", 0, 1))]})

    with pytest.raises(ConfigError, match="cannot be written"):
        main([str(figures), str(tmp_path / "gone" / "picture.svg")])
