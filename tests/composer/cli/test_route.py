import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from composer.cli import app
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery
from routers.baselines import PriorRouter

EXPERTS = """
experts:
  ada: {engine: scripted, engine_args: {load_failure: "nobody may ask it"}}
  bob:
    engine: scripted
    price: {input_usd_per_mtok: 0, output_usd_per_mtok: 1000}
    engine_args: {load_failure: "nobody may ask it"}
compositions:
  auto: {router: {name: fixed, expert: bob}}
  picky: {router: {name: random}, choose: {threshold: 1, abstain: true}}
"""
"""Two experts that fail if they are asked at all."""


@pytest.fixture
def experts(tmp_path: Path) -> Path:
    path = tmp_path / "experts.yaml"
    path.write_text(EXPERTS, encoding="utf-8")
    return path


def route(experts: Path, *args: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["route", "--experts", str(experts), *args], input=stdin)


def test_a_route_ranks_the_experts_and_asks_none(experts: Path) -> None:
    result = route(experts, "Hello")

    assert (result.exit_code, result.stderr) == (0, "")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["1", "bob", "1.000", "yes"] in rows
    assert ["2", "ada", "0.000"] in rows


def test_evidence_is_shown_when_asked_for(experts: Path) -> None:
    evidence = "the configuration names 'bob'"

    assert evidence not in route(experts, "Hello").stdout
    assert evidence in route(experts, "--explain", "Hello").stdout


def test_a_route_as_json_holds_every_score(experts: Path) -> None:
    value = json.loads(route(experts, "--output", "json", "Hello").stdout)

    assert value["scores"] == {"ada": 0.0, "bob": 1.0}
    assert value["ranking"] == ["bob", "ada"]


def test_margin_and_what_would_change_the_choice_are_shown_when_asked_for(experts: Path) -> None:
    margin = "margin over ada: 1.000"
    change = "what if: 'ada' is first with a cost_weight above 3.906 instead of 0"

    plain, explained = route(experts, "Hello"), route(experts, "--explain", "Hello")

    assert not {margin, change} & set(plain.stdout.splitlines())
    assert {margin, change} <= set(explained.stdout.splitlines())


def test_a_route_as_json_holds_margin_and_what_would_change_the_choice(experts: Path) -> None:
    value = json.loads(route(experts, "--output", "json", "Hello").stdout)

    assert value["margin"] == 1.0
    (change,) = value["counterfactuals"]
    assert change == {
        "weight": "cost_weight",
        "part": None,
        "now": 0.0,
        "side": "above",
        "turn": pytest.approx(1 / 0.256),
        "expert": "ada",
        "text": "'ada' is first with a cost_weight above 3.906 instead of 0",
    }


def test_a_refused_question_is_shown_with_the_reason_and_every_score(experts: Path) -> None:
    result = route(experts, "-c", "picky", "--explain", "A recipe for bread")

    assert result.exit_code == 0
    assert "router random: abstained: the best predicted quality" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    first, second = (row for row in rows if row[:1] in (["1"], ["2"]))
    assert {first[1], second[1]} == {"ada", "bob"}
    assert 1 > float(first[2]) > float(second[2])
    assert len(first) == len(second) == 3


def test_a_refused_question_is_no_answer(experts: Path) -> None:
    args = ["ask", "--experts", str(experts), "-c", "picky", "A recipe for bread"]
    result = CliRunner().invoke(app, args)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: abstained: the best predicted quality")


def test_the_prompt_may_come_from_stdin(experts: Path) -> None:
    assert route(experts, stdin=b"Hello").exit_code == 0


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A router that saw ann do well in maths, and bob elsewhere."""
    categories = ["maths", "law", "law"]
    queries = [RecordedQuery(f"q{i}", "?", "train", c) for i, c in enumerate(categories)]
    experts = (RecordedExpert("ann"), RecordedExpert("bob"))
    score = np.array([[1, 0], [0, 1], [0, 0.5]], np.float32)
    router = PriorRouter().fit(OutcomeTable("asked", tuple(queries), experts, score))
    router.save(tmp_path / "saved")
    return tmp_path / "saved"


def ask(folder: Path, *args: str) -> Result:
    return CliRunner().invoke(app, ["route", "--router", str(folder), *args])


def complaint(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_saved_router_is_asked_without_an_experts_yaml(
    saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    value = json.loads(ask(saved, "--output", "json", "Who wins?").stdout)

    assert value["router"] == "prior"
    assert value["scores"] == {"ann": 0.5, "bob": 0.375}
    assert [choice["expert"] for choice in value["choices"]] == ["ann"]


def test_a_category_that_is_known_counts(saved: Path) -> None:
    value = json.loads(ask(saved, "--category", "law", "--output", "json", "Who wins?").stdout)

    assert value["ranking"] == ["bob", "ann"]


def test_a_category_that_is_known_counts_in_a_composition(saved: Path) -> None:
    path = saved.parent / "experts.yaml"
    entries = EXPERTS.replace("ada:", "ann:").replace("{name: fixed, expert: bob}", "{from: saved}")
    path.write_text(entries, encoding="utf-8")

    result = route(path, "--category", "law", "--output", "json", "Who wins?")

    assert json.loads(result.stdout)["ranking"] == ["bob", "ann"]


def test_as_many_experts_are_chosen_as_asked_for(saved: Path, experts: Path) -> None:
    args = ("--k", "2", "--output", "json", "Hi")

    for result in (ask(saved, *args), route(experts, *args)):
        assert len(json.loads(result.stdout)["choices"]) == 2


def test_evidence_of_a_saved_router_is_shown_when_asked_for(saved: Path) -> None:
    evidence = "'ann' scored 0.500 over all categories"

    assert evidence not in ask(saved, "Hi").stdout
    assert evidence in ask(saved, "--explain", "Hi").stdout


def test_more_experts_than_the_router_knows_are_refused(saved: Path) -> None:
    assert "--k is 3 and the router knows 2 experts; lower it" in complaint(
        ask(saved, "--k", "3", "Hi")
    )


def test_a_saved_router_and_a_composition_are_refused(saved: Path) -> None:
    assert "--router asks a saved router alone; leave out --composition" in complaint(
        ask(saved, "-c", "panel", "Hi")
    )


def spoil_version(folder: Path) -> None:
    header = json.loads((folder / "router.json").read_text("utf-8"))
    (folder / "router.json").write_text(json.dumps(header | {"schema_version": 99}), "utf-8")


def spoil_kind(folder: Path) -> None:
    header = json.loads((folder / "router.json").read_text("utf-8"))
    (folder / "router.json").write_text(json.dumps(header | {"kind": "pryor"}), "utf-8")


def spoil_header(folder: Path) -> None:
    whole = (folder / "router.json").read_bytes()
    (folder / "router.json").write_bytes(whole[:-9])


def spoil_arrays(folder: Path) -> None:
    whole = (folder / "arrays.npz").read_bytes()
    (folder / "arrays.npz").write_bytes(whole[:-9])


def lose_arrays(folder: Path) -> None:
    (folder / "arrays.npz").unlink()


def lose_header(folder: Path) -> None:
    (folder / "router.json").unlink()


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "a newer one": (spoil_version, "has schema version 99, this program reads 1; update"),
    "an unknown one": (spoil_kind, "no saved router 'pryor'; did you mean 'prior'?"),
    "a header cut short": (spoil_header, "not a saved router; fit and save it again"),
    "arrays cut short": (spoil_arrays, "is not whole; fit and save it again"),
    "arrays missing": (lose_arrays, "cannot be read ("),
    "a header missing": (lose_header, "no saved router in '"),
}
"""What befalls a saved router, and what is said of it."""


@pytest.mark.parametrize("case", SPOILT)
def test_a_saved_router_that_cannot_be_read_is_one_line(saved: Path, case: str) -> None:
    spoil, said = SPOILT[case]
    spoil(saved)

    assert said in complaint(ask(saved, "Hi"))


@pytest.mark.parametrize("case", SPOILT)
@pytest.mark.parametrize("command", [["route", "Hi"], ["ask", "Hi"], ["experts", "check"]])
def test_a_composition_of_one_that_cannot_be_read_is_one_line(
    saved: Path, command: list[str], case: str
) -> None:
    spoil, said = SPOILT[case]
    spoil(saved)
    path = saved.parent / "experts.yaml"
    path.write_text(EXPERTS.replace("{name: fixed, expert: bob}", "{from: saved}"), "utf-8")

    result = CliRunner().invoke(app, [*command, "--experts", str(path)])

    line = complaint(result)
    assert "composition 'auto': " in line
    assert said in line
