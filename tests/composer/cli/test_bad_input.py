from pathlib import Path

import pytest
from typer.testing import CliRunner

from composer.cli import app

GOOD = """
experts:
  ada: {engine: scripted, engine_args: {text: "hello"}}
  bob: {engine: scripted, engine_args: {text: "hello"}}
compositions:
  auto: {router: {name: fixed, expert: ada}}
"""

FILES = {
    "unknown key": ("skils: [x], engine: scripted", "unknown key 'skils'; did you mean 'skills'?"),
    "no source": ("engine: vllm", "'source' is missing"),
    "a secret written out": (
        "engine: openai, base_url: 'http://h/v1', model: m, api_key: sk-1",
        "'api_key' holds the secret itself",
    ),
    "an unset secret": (
        "engine: openai, base_url: 'http://h/v1', model: m, api_key: os.environ/NOBODY_SETS_THIS",
        "'NOBODY_SETS_THIS' is not set",
    ),
}
"""The entry of an expert, and what is said of it."""

COMPOSITIONS = {
    "unknown expert": ("{router: {name: fixed, expert: adda}}", "did you mean 'ada'?"),
    "no such router": ("{router: {name: randm}}", "no router 'randm'; did you mean 'random'?"),
    "no such aggregator": (
        "{router: {name: random}, aggregator: {name: voting}}",
        "no aggregator 'voting'",
    ),
    "k larger than the pool": ("{router: {name: random}, choose: {k: 3}}", "there are 2 experts"),
}
"""A composition, and what is said of it."""

LORA = "experts: {smol: {source: org/smol}, units: {base: smol ADAPTER}}"

SOURCES = {
    "package:no_such_package": "package 'no_such_package' is not installed; pip install",
    "/no/such/folder": "no model at '/no/such/folder'",
}

ARGUMENTS = {
    "no such composition": (["-c", "atuo", "Hi"], "no composition 'atuo'; did you mean 'auto'?"),
    "k larger than the pool": (["--k", "9", "Hi"], "--k is 9 and there are 2 experts"),
    "k for one expert": (["-c", "ada", "--k", "2", "Hi"], "'ada' is an expert and answers alone"),
    "an empty prompt": (["  "], "the prompt is empty"),
    "a stream of JSON": (["--stream", "--output", "json", "Hi"], "--stream writes text"),
    "broken UTF-8": (["caf\udce9"], "the prompt is not UTF-8 at character 3"),
}
"""Arguments of `composer ask`, and what is said of them."""


def complaint(path: Path, *args: str, stdin: bytes | None = None) -> str:
    """The one line on stderr of a command that must fail."""
    result = CliRunner().invoke(app, args, input=stdin, env={"COMPOSER_EXPERTS": str(path)})
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "experts.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("command", [["ask", "Hi"], ["experts", "check"]])
def test_a_wrong_expert_is_one_line(path: Path, command: list[str], case: str) -> None:
    entry, said = FILES[case]
    path.write_text(
        GOOD.replace("compositions:", f"  new: {{{entry}}}\ncompositions:"), encoding="utf-8"
    )

    assert said in complaint(path, *command)


@pytest.mark.parametrize("case", COMPOSITIONS)
@pytest.mark.parametrize("command", [["ask", "Hi"], ["experts", "check"]])
def test_a_wrong_composition_is_one_line(path: Path, command: list[str], case: str) -> None:
    composition, said = COMPOSITIONS[case]
    path.write_text(f"{GOOD}  new: {composition}\n", encoding="utf-8")

    assert said in complaint(path, *command)


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_that_is_not_there_is_one_line(path: Path, source: str) -> None:
    path.write_text(f'experts: {{new: {{source: "{source}"}}}}', encoding="utf-8")

    assert SOURCES[source] in complaint(path, "experts", "check")


@pytest.mark.parametrize("command", [["ask", "Hi"], ["experts", "check"]])
def test_a_lora_expert_without_an_adapter_is_one_line(path: Path, command: list[str]) -> None:
    path.write_text(LORA.replace("ADAPTER", ""), encoding="utf-8")

    assert "'base' needs an 'adapter'" in complaint(path, *command)


def test_an_adapter_that_is_not_there_is_one_line(path: Path) -> None:
    path.write_text(LORA.replace("ADAPTER", ", adapter: /no/such/adapter"), encoding="utf-8")

    assert "missing adapter '/no/such/adapter'" in complaint(path, "experts", "check")


@pytest.mark.parametrize("case", ARGUMENTS)
def test_a_wrong_argument_is_one_line(path: Path, case: str) -> None:
    args, said = ARGUMENTS[case]

    assert said in complaint(path, "ask", *args)


@pytest.mark.parametrize("command", [["ask"], ["route"]])
def test_broken_utf_8_on_stdin_is_one_line_with_its_place(path: Path, command: list[str]) -> None:
    assert "stdin is not UTF-8 at byte 3 (0xe9)" in complaint(path, *command, stdin=b"caf\xe9")


@pytest.mark.parametrize("stdin", [b"", b"\n \n"])
def test_an_empty_stdin_is_one_line(path: Path, stdin: bytes) -> None:
    assert "the prompt is empty" in complaint(path, "ask", stdin=stdin)


def test_a_name_given_twice_is_one_line(path: Path) -> None:
    path.write_text(
        GOOD.replace("compositions:", "  ada: {engine: scripted}\ncompositions:"), encoding="utf-8"
    )

    assert "'ada' is given twice, first on line 3" in complaint(path, "ask", "Hi")


@pytest.mark.parametrize(
    "command", [["ask", "Hi"], ["route", "Hi"], ["chat"], ["experts", "list"], ["experts", "check"]]
)
def test_a_missing_file_is_one_line_that_names_init(tmp_path: Path, command: list[str]) -> None:
    said = complaint(tmp_path / "experts.yaml", *command)

    assert "no such file; `composer init` writes one" in said


def test_a_file_that_is_not_yaml_is_one_line(path: Path) -> None:
    path.write_text("experts: [", encoding="utf-8")

    assert "not YAML" in complaint(path, "experts", "check")
