from __future__ import annotations

from pathlib import Path

import pytest

from composer.errors import ConfigError
from eval.tasks.parts import Hub, Part, fetch_parts, find_parts, hub_file
from tests.eval.tasks.conftest import Publishing


@pytest.mark.parametrize(
    ("name", "part", "split"),
    [
        ("train.jsonl", "train", "train"),
        ("ARC-Challenge-Dev.jsonl", "dev", "train"),
        ("anatomy_val.csv", "val", "train"),
        ("validation-00000-of-00001.parquet", "validation", "train"),
        ("anatomy_test.csv", "test", "test"),
        ("HumanEval.jsonl.gz", "test", "test"),
        ("testing.jsonl", "test", "test"),
    ],
)
def test_the_name_of_a_file_says_which_part_it_is(
    publishing: Publishing, name: str, part: str, split: str
):
    file = publishing.text(name, "")

    (found,) = find_parts(file)

    assert (found, found.split) == (Part(file, part), split)


def test_a_folder_has_a_file_for_each_part_and_others_are_left_alone(publishing: Publishing):
    for name in ("train.jsonl", "test.jsonl", "train_socratic.jsonl", "test.parquet"):
        publishing.text(name, "")

    found = find_parts(publishing.folder)

    assert [(part.file.name, part.name) for part in found] == [
        ("train.jsonl", "train"),
        ("test.jsonl", "test"),
    ]


def test_a_part_may_be_several_files(publishing: Publishing):
    names = [f"test-0000{number}-of-00010.parquet" for number in range(10)]
    for name in reversed(names):
        publishing.text(name, "")

    found = find_parts(publishing.folder)

    assert [part.file.name for part in found] == names


def test_what_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no file or folder '.*gone'; name where"):
        find_parts(tmp_path / "gone")


def test_a_folder_without_such_files_is_refused_with_the_names_looked_for(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no file Test\.csv or test-\*\.csv; name their folder"):
        find_parts(tmp_path, ("{Part}.csv", "{part}-*.csv"))


def test_parts_of_the_hub_are_downloaded_by_name():
    asked: list[tuple[str, str]] = []

    def download(repo: str, file: str) -> Path:
        asked.append((repo, file))
        return Path("/cache", file)

    found = fetch_parts(Hub("some/repo", {"dev": "a/dev.parquet"}), download)

    assert found == (Part(Path("/cache/a/dev.parquet"), "dev"),)
    assert asked == [("some/repo", "a/dev.parquet")]


def test_what_the_hub_refuses_is_one_line_with_the_remedy():
    with pytest.raises(ConfigError) as caught:
        hub_file("no//name", "test.parquet")

    message = str(caught.value)
    assert message.startswith("'test.parquet' of 'no//name' is not on this machine and cannot be")
    assert message.endswith("name its path behind the task, as in gsm8k:PATH")
    assert "\n" not in message


def test_a_file_in_the_hub_s_cache_is_taken_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cached = tmp_path / "datasets--some--repo"
    file = cached / "snapshots" / ("0" * 40) / "test.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("here", "utf-8")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40, "utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    assert hub_file("some/repo", "test.jsonl").read_text("utf-8") == "here"
