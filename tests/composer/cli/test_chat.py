from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from composer.cli import app

EXPERTS = """
experts:
  ada: {engine: scripted, engine_args: {text: "{prompt}, says {expert}", failures: {bad: refused}}}
  bob: {engine: scripted, engine_args: {text: "{prompt}, says {expert}", failures: {bad: refused}}}
compositions:
  auto: {router: {name: fixed, expert: ada}}
"""
"""Two experts that repeat what they hear, but for what is bad."""


@pytest.fixture
def experts(tmp_path: Path) -> Path:
    path = tmp_path / "experts.yaml"
    path.write_text(EXPERTS, encoding="utf-8")
    return path


def chat(experts: Path, *lines: str, args: tuple[str, ...] = ()) -> Result:
    stdin = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    return CliRunner().invoke(app, ["chat", "--experts", str(experts), *args], input=stdin)


def test_each_line_is_a_turn_until_stdin_ends(experts: Path) -> None:
    result = chat(experts, "one", "", "two")

    assert (result.exit_code, result.stdout) == (0, "one, says ada\ntwo, says ada\n")


def test_what_was_said_is_part_of_the_next_question(experts: Path) -> None:
    result = chat(experts, "one", "two", "/reset", "three", args=("--explain",))

    # A prompt token is a word: 1; 1 + 3 said + 1; and 1 again.
    rows = [line.split() for line in result.stderr.splitlines()]
    assert [row[1] for row in rows if row[:1] == ["ada"] and row[-2:-1] == ["inline"]] == [
        "1",
        "5",
        "1",
    ]


def test_another_composition_goes_on_with_the_conversation(experts: Path) -> None:
    assert chat(experts, "/composition bob", "one").stdout == "one, says bob\n"


def test_quit_ends_it(experts: Path) -> None:
    assert chat(experts, "one", "/quit", "two").stdout == "one, says ada\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bad", "no expert answered"),
        ("/composition nobody", "no composition 'nobody'"),
        ("/rest", "no command '/rest'; did you mean '/reset'?"),
        ("caf\udce9", "the line is not UTF-8 at byte 3"),
    ],
)
def test_an_error_in_a_turn_is_one_line_and_the_chat_goes_on(
    experts: Path, line: str, said: str
) -> None:
    result = chat(experts, line, "two")

    assert (result.exit_code, result.stdout) == (0, "two, says ada\n")
    (complaint,) = result.stderr.splitlines()
    assert said in complaint


def test_an_unknown_composition_ends_it_at_once(experts: Path) -> None:
    result = chat(experts, "one", args=("-c", "atuo"))

    assert (result.exit_code, result.stdout) == (1, "")
    assert "no composition 'atuo'; did you mean 'auto'?" in result.stderr
