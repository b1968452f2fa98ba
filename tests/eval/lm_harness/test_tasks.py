import json
import re
from pathlib import Path
from typing import Any

import pytest

from composer.errors import ConfigError
from composer.experts import Registry, load_experts
from eval.lm_harness.tasks import check_tasks, load_tasks
from tests.eval.lm_harness.conftest import experts_text


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    path = tmp_path / "experts.yaml"
    path.write_text(experts_text({"text": "42"}, {"text": "7"}), "utf-8")
    return load_experts(path)


@pytest.fixture
def endpoint(tmp_path: Path) -> Registry:
    """An expert that is elsewhere and scores no given text."""
    path = tmp_path / "experts.yaml"
    remote = {"engine": "openai", "base_url": "http://localhost:1/v1", "model": "m"}
    path.write_text(json.dumps({"experts": {"remote": remote}}), "utf-8")
    return load_experts(path)


def write_task(folder: Path, name: str, **settings: Any) -> Path:
    """A task of one question."""
    folder.mkdir(exist_ok=True)
    data = folder / f"{name}.jsonl"
    data.write_text('{"question": "What is 17 + 25?", "answer": "42"}\n', "utf-8")
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": str(data), "cache_dir": str(folder / "cache")},
        "test_split": "train",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "exact_match"}],
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(task | settings), "utf-8")
    return path


CHOICES = {"output_type": "multiple_choice", "doc_to_choice": ["41", "42"], "doc_to_target": 1}
ACCURACY = [{"metric": "acc"}]


def test_tasks_are_found_by_file_and_by_name_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    file = write_task(tmp_path, "sums")
    write_task(folder, "products")

    loaded = load_tasks([str(file), "products"], folder)

    assert [task.task_name for task in loaded.tasks] == ["sums", "products"]
    assert list(loaded.named) == list(loaded.tasks)


def test_a_group_is_named_as_one_and_has_tasks(tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    write_task(folder, "sums")
    write_task(folder, "products")
    group = {"group": "arithmetic", "task": ["sums", "products"]}
    (folder / "group.yaml").write_text(json.dumps(group), "utf-8")

    loaded = load_tasks(["arithmetic"], folder)

    assert [group.name for group in loaded.named] == ["arithmetic"]
    assert sorted(task.task_name for task in loaded.tasks) == ["products", "sums"]


def test_a_name_that_the_folder_lacks_is_met_with_those_it_has(tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    write_task(folder, "sums")

    with pytest.raises(ConfigError) as refusal:
        load_tasks(["sum"], folder)

    assert str(refusal.value) == (
        f"{folder}: no task 'sum'; did you mean 'sums'? choose from ['sums']"
    )


def test_a_folder_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no folder; name the one that the task files are in"):
        load_tasks(["sums"], tmp_path / "tasks")


def test_a_file_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sums\.yaml: there is no such file"):
        load_tasks([str(tmp_path / "sums.yaml")], None)


def test_a_task_whose_data_is_missing_is_told_of_in_one_line(tmp_path: Path) -> None:
    missing = {"data_files": str(tmp_path / "missing.jsonl"), "cache_dir": str(tmp_path)}
    file = write_task(tmp_path, "sums", dataset_kwargs=missing)

    with pytest.raises(ConfigError) as refusal:
        load_tasks([str(file)], None)

    assert re.fullmatch(
        r"task '.*sums\.yaml' cannot be loaded: .*missing\.jsonl.*; mend its file, or have its "
        r"data here",
        str(refusal.value),
    )


def test_any_composition_can_do_tasks_whose_answers_are_generated(
    tmp_path: Path, registry: Registry
) -> None:
    loaded = load_tasks([str(write_task(tmp_path, "sums"))], None)

    check_tasks(loaded.tasks, registry, "vote")


@pytest.mark.parametrize("composition", ["clerk", "alone"])
def test_one_expert_can_do_tasks_with_options(
    tmp_path: Path, registry: Registry, composition: str
) -> None:
    file = write_task(tmp_path, "options", **CHOICES, metric_list=ACCURACY)

    check_tasks(load_tasks([str(file)], None).tasks, registry, composition)


def test_several_experts_cannot_do_tasks_with_options(tmp_path: Path, registry: Registry) -> None:
    file = write_task(tmp_path, "options", **CHOICES, metric_list=ACCURACY)

    with pytest.raises(ConfigError) as refusal:
        check_tasks(load_tasks([str(file)], None).tasks, registry, "vote")

    assert str(refusal.value) == (
        "task 'options' has options: composition 'vote' is not one expert, and options are chosen "
        "by the likelihood that one expert gives them; take one of the experts "
        "['clerk', 'poet'], or tasks with 'output_type: generate_until'"
    )


def test_an_expert_that_scores_nothing_cannot_do_tasks_with_options(
    tmp_path: Path, endpoint: Registry
) -> None:
    file = write_task(tmp_path, "options", **CHOICES, metric_list=ACCURACY)

    with pytest.raises(ConfigError, match="is 'remote', which scores no given text"):
        check_tasks(load_tasks([str(file)], None).tasks, endpoint, "remote")


@pytest.mark.parametrize(
    "settings",
    [
        CHOICES | {"metric_list": [{"metric": "exact_match"}]},
        {"output_type": "loglikelihood", "metric_list": ACCURACY},
        {"output_type": "loglikelihood_rolling", "metric_list": [{"metric": "byte_perplexity"}]},
    ],
    ids=["exact_match", "loglikelihood", "loglikelihood_rolling"],
)
def test_tasks_that_need_more_than_likelihoods_of_options_are_refused(
    tmp_path: Path, registry: Registry, settings: dict[str, Any]
) -> None:
    file = write_task(tmp_path, "more", **settings)

    with pytest.raises(ConfigError, match="needs more than the likelihood of options; take tasks"):
        check_tasks(load_tasks([str(file)], None).tasks, registry, "clerk")


def test_tasks_that_run_code_are_refused(tmp_path: Path, registry: Registry) -> None:
    file = write_task(tmp_path, "code", unsafe_code=True)

    with pytest.raises(ConfigError, match="runs code or shows pictures; leave it out"):
        check_tasks(load_tasks([str(file)], None).tasks, registry, "clerk")
