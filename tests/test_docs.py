"""What the documentation shows is run, on scripted experts; what it names exists."""

import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

from composer.assembly import composition_problems
from composer.cli import app
from composer.experts import load_experts
from composer.types import Answer
from eval.bench import BENCHES

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/adding-an-expert.md")
EXPERTS = """
experts:
  smol: {engine: scripted, params_b: 0.135, engine_args: {text: "Hello, the answer is 24 legs."}}
  gemma: {engine: scripted, params_b: 0.268, engine_args: {text: "The answer is Oslo."}}
  units: {engine: scripted, engine_args: {text: "The answer is 4000 m."}}
  dates: {engine: scripted, engine_args: {text: "The answer is 2031-05-12."}}
  sorting: {engine: scripted, engine_args: {text: "The answer is 1, 2, 3."}}
  reversing: {engine: scripted, engine_args: {text: "The answer is 3, 2, 1."}}
  roman: {engine: scripted, engine_args: {text: "The answer is XIV."}}
  thinkers: {engine: scripted, engine_args: {text: "The answer is Oslo, we think."}}
compositions:
  auto: {router: {name: fixed, expert: gemma}}
  panel: {router: {name: random}, choose: {k: 2}, aggregator: {name: synthesis, by: smol}}
  vote: {router: {name: fixed, expert: smol}, aggregator: {name: vote}}
  thoughts: {router: {name: fixed, expert: thinkers}}
"""
"""The starter pool's names, and no model behind them."""


def page(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(name: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page(name), re.DOTALL | re.MULTILINE)


def section(name: str, title: str) -> str:
    return page(name).split(f"\n## {title}\n")[1].split("\n## ")[0]


def commands() -> list[str]:
    """The command lines of README's console blocks, without their comments."""
    lines = [line for block in blocks("README.md", "console") for line in block.splitlines()]
    return [shlex.join(shlex.split(line.removeprefix("$ "), comments=True)) for line in lines]


def tree() -> list[str]:
    """The files and folders of ARCHITECTURE's tree."""
    (block,) = blocks("ARCHITECTURE.md", "tree")
    paths: list[str] = []
    folders: list[str] = []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip(" "))) // 2
        name = line.split()[0]
        folders[depth:] = [name] if name.endswith("/") else []
        paths.append("".join(folders) if name.endswith("/") else "".join(folders[:depth]) + name)
    return paths


PROGRAMS = [
    pytest.param(name, number, id=f"{name}-{number}")
    for name in PAGES
    for number in range(len(blocks(name, "python")))
]
CONFIGURATIONS = [
    pytest.param(name, number, id=f"{name}-{number}")
    for name in PAGES
    for number, block in enumerate(blocks(name, "yaml"))
    if re.search(r"^experts:", block, re.MULTILINE)
]


@pytest.fixture
def experts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The experts.yaml of a current folder of its own, with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("COMPOSER_EXPERTS", raising=False)
    path = tmp_path / "experts.yaml"
    path.write_text(EXPERTS, encoding="utf-8")
    (tmp_path / "questions.jsonl").write_text('{"id": "q1", "prompt": "Why?"}\n', "utf-8")
    return path


def test_the_scripted_experts_have_the_names_of_the_starter_pool(experts: Path) -> None:
    scripted, shipped = load_experts(experts), load_experts(ROOT / "experts.yaml")

    assert scripted.experts.keys() == shipped.experts.keys()
    assert scripted.compositions.keys() == shipped.compositions.keys()


@pytest.mark.usefixtures("experts")
@pytest.mark.parametrize(("name", "number"), PROGRAMS)
def test_every_program_runs_and_is_answered(
    name: str, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    program = blocks(name, "python")[number]

    exec(compile(program, name, "exec"), {"__name__": "__main__"})

    out = capsys.readouterr().out
    assert "the answer is" in out.lower()
    assert "error" not in out


def test_the_pages_show_programs_configurations_and_commands() -> None:
    assert (len(PROGRAMS), len(CONFIGURATIONS)) >= (3, 6)
    assert len(commands()) >= 10


@pytest.mark.parametrize(("name", "number"), CONFIGURATIONS)
def test_every_configuration_loads_and_its_compositions_can_work(
    name: str, number: int, tmp_path: Path
) -> None:
    path = tmp_path / "experts.yaml"
    path.write_text(blocks(name, "yaml")[number], encoding="utf-8")

    assert composition_problems(load_experts(path)) == []


@pytest.mark.parametrize("command", commands())
def test_every_command_does_as_readme_shows(command: str, experts: Path) -> None:
    words = shlex.split(command)
    arguments = words[3:] if words[:3] == ["python", "-m", "composer"] else words[1:]
    assert words[0] in ("composer", "python")
    if arguments[0] == "init":
        experts.unlink()

    result = CliRunner().invoke(app, arguments, input="Hello!\n")

    assert result.exit_code == 0, result.output
    assert result.output


def test_no_figure_of_readme_is_left_to_be_filled_in() -> None:
    assert "@@" not in page("README.md")


def test_readme_names_every_benchmark_and_make_targets_that_exist() -> None:
    readme = page("README.md")
    (targets,) = re.findall(r"^\.PHONY: (.*)$", page("Makefile"), re.MULTILINE)

    benches = re.findall(r"python -m eval bench (\w+) --output json", readme)
    made = re.findall(r"(?:^|`)make (\w+)", readme, re.MULTILINE)

    assert set(benches) == set(BENCHES)
    assert {"demo", "test"} <= set(made) <= set(targets.split())


def test_readme_describes_every_field_of_an_answer() -> None:
    rows = re.findall(r"^\| (`.*?) \|", section("README.md", "What an Answer holds"), re.MULTILINE)

    described = [name for row in rows for name in re.findall(r"`(\w+)`", row)]

    assert sorted(described) == sorted(field.name for field in fields(Answer))


def test_the_tree_names_files_that_exist_and_every_module() -> None:
    paths = tree()
    modules = [
        path.relative_to(ROOT).as_posix()
        for package in ("composer", "routers", "eval")
        for path in (ROOT / package).rglob("*.py")
    ]

    assert len(paths) == len(set(paths))
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert sorted(set(modules) - set(paths)) == []


def test_the_layers_are_those_that_are_checked() -> None:
    checked = tomllib.loads(page("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in checked if contract["type"] == "layers"]

    (block,) = blocks("ARCHITECTURE.md", "layers")

    assert block.splitlines() == layers


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_a_page_names_exists(name: str) -> None:
    text = page(name)

    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    named = re.findall(r"(?<![\w/])(?:composer|routers|eval|tests|docs)/[\w./-]+\.\w+", text)

    assert [path for path in named if not (ROOT / path).exists()] == []
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).exists()] == []


def test_the_changelog_has_this_version() -> None:
    version = tomllib.loads(page("pyproject.toml"))["project"]["version"]

    assert f"\n## [{version}] - " in page("CHANGELOG.md")
