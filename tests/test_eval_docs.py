"""The pages about evaluation show commands that exist and programs that run."""

import gzip
import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from eval.__main__ import app

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/bulk.md",
    "docs/replay.md",
    "docs/importing-outcomes.md",
    "docs/lm-harness.md",
    "docs/latent.md",
    "docs/live.md",
    "docs/results.md",
    "docs/tasks.md",
)
MODELS = [{"name": "poet"}, {"name": "clerk"}]
PROMPTS = ("a poem about rain", "a poem about snow", "a sum of two numbers", "the sum of three")


def blocks(name: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    text = (ROOT / name).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """The pages' commands of `python -m eval`: the page and the line, whole and bare."""
    lines = [
        (page, shlex.join(shlex.split(line, comments=True)))
        for page in PAGES
        for block in blocks(page, "sh")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [(page, line) for page, line in lines if line.startswith("python -m eval ")]


def write_lines(file: Path, lines: list[dict[str, object]]) -> None:
    with gzip.open(file, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(line) + "\n" for line in lines)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Poems and sums, in `data/mine` of a current folder of its own."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "mine"
    folder.mkdir(parents=True)
    (folder / "models.json").write_text(json.dumps(MODELS), encoding="utf-8")
    queries: list[dict[str, object]] = [
        {"id": f"{split}-{i}", "prompt": f"{prompt}, {split}", "split": split}
        for split in ("train", "test")
        for i, prompt in enumerate(PROMPTS)
    ]
    outcomes: list[dict[str, object]] = [
        {"query_id": query["id"], "model": model, "score": int(("poem" in str(query)) == is_poet)}
        for query in queries
        for model, is_poet in (("poet", True), ("clerk", False))
    ]
    write_lines(folder / "queries.jsonl.gz", queries)
    write_lines(folder / "outcomes.jsonl.gz", outcomes)
    return folder


def test_the_pages_show_commands() -> None:
    assert len(commands()) >= 15


@pytest.mark.parametrize(("page", "command"), commands())
def test_every_command_has_the_options_that_a_page_shows(page: str, command: str) -> None:
    name, *arguments = shlex.split(command)[3:]
    group = typer.main.get_command(app)
    context = typer.Context(group)
    chosen = group.get_command(context, name)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]

    assert chosen is not None, name
    with chosen.make_context(name, arguments) as parsed:  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        assert parsed.params  # pyright: ignore[reportUnknownMemberType]


def test_the_program_of_the_page_on_replay_fits_a_router_and_says_why(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = blocks("docs/replay.md", "python")

    exec(compile(program, "docs/replay.md", "exec"), {"__name__": "__main__"})

    assert "poet" in capsys.readouterr().out


def test_the_command_that_the_page_begins_with_runs(data: Path) -> None:
    linted = CliRunner().invoke(app, ["lint", str(data)])
    replayed = CliRunner().invoke(
        app, ["replay", str(data), "--methods", "best-single,category-expert,oracle"]
    )

    assert linted.exit_code == 0, linted.output
    assert "oracle" in replayed.output


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")

    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    named = re.findall(r"(?<![\w/])(?:composer|routers|eval|tests|docs)/[\w./-]+\.py", text)

    assert [path for path in named if not (ROOT / path).exists()] == []
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
