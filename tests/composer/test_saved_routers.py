"""Compositions whose router was fitted and saved before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from typer.testing import CliRunner

import routers
from composer.assembly import composition_problems, composition_warnings
from composer.cli import app
from composer.experts import load_experts
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery
from composer.types import Evidence, Scores
from composer.widened import WidenedRouter
from routers.artefact import save_artefact
from routers.baselines import PriorRouter

if TYPE_CHECKING:
    from composer.protocols import Encoder, RouterNeed
    from tests.composer.conftest import MakeComposer

EXPERTS = """
experts:
  ann: {engine: scripted, engine_args: {text: "I am ann."}}
  bob: {engine: scripted, engine_args: {text: "I am bob."}}
compositions:
  auto: {router: {from: saved}}
"""
CY = "  cy: {engine: scripted, engine_args: {text: 'I am cy.'}}\ncompositions:"


class NeedyRouter:
    """Has been fitted on ann and bob, and asks experts about each query."""

    name = "needy"
    experts = ("ann", "bob")

    def __init__(self, needs: frozenset[RouterNeed], annotator: str | None) -> None:
        self.needs = needs
        self.settings = {"annotator": annotator}

    def annotate(self, query: Any) -> None:
        return None

    def score(self, queries: Any, annotations: Any) -> Scores:
        quality = np.full((len(queries), 2), 0.5, np.float32)
        return Scores(self.experts, quality, lambda row, column: Evidence("needs more"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of two experts, beside a router that saw bob do better than ann."""
    experts = (RecordedExpert("ann"), RecordedExpert("bob"))
    score = np.array([[0, 1]], np.float32)
    table = OutcomeTable("asked", (RecordedQuery("q", "?", "train"),), experts, score)
    PriorRouter().fit(table).save(tmp_path / "saved")
    return write(tmp_path / "experts.yaml", EXPERTS)


@pytest.fixture
def needy(path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Saves a router beside the file that needs what experts say."""

    def save(*needs: RouterNeed, annotator: str | None = None) -> Path:
        router = NeedyRouter(frozenset(needs), annotator)

        def load(folder: Path, encoder: Encoder) -> NeedyRouter:
            return router

        monkeypatch.setitem(cast("dict[str, Any]", routers.LOADERS), "needy", load)
        save_artefact(path.parent / "saved", "needy", {}, {})
        return path

    return save


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def problem(path: Path) -> str:
    (said,) = composition_problems(load_experts(path))
    assert "\n" not in said
    return said.removeprefix(f"{path}: composition 'auto': ")


async def test_a_saved_router_beside_the_file_chooses_from_wherever_one_runs(
    path: Path, composer_of: MakeComposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")

    async with composer_of(EXPERTS) as composer:
        answer = await composer.ask("Who are you?")

    assert answer.text == "I am bob."


def test_a_folder_may_be_named_from_the_root(path: Path) -> None:
    write(path, EXPERTS.replace("from: saved", f"from: '{path.parent / 'saved'}'"))

    assert composition_problems(load_experts(path)) == []


def test_a_saved_router_may_come_with_a_package(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = path.parent / "packages" / "kept_routers"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (path.parent / "saved").rename(package / "mine")
    monkeypatch.syspath_prepend(package.parent)  # pyright: ignore[reportUnknownMemberType]
    write(path, EXPERTS.replace("saved", "'package:kept_routers/mine'"))

    assert composition_problems(load_experts(path)) == []

    write(path, EXPERTS.replace("saved", "'package:kept_routers/other'"))
    assert "package 'kept_routers' holds no 'other'" in problem(path)


def test_a_router_fitted_on_other_experts_is_refused_and_they_are_named(path: Path) -> None:
    write(path, EXPERTS.replace("ann:", "eve:"))

    assert problem(path) == (
        "router from 'saved': was fitted on ['ann'], which are none of the experts "
        "['eve', 'bob']; fit it on outcomes of these, or add those"
    )


def test_settings_beside_a_saved_router_are_refused(path: Path) -> None:
    write(path, EXPERTS.replace("from: saved", "from: saved, k: 3"))

    assert problem(path) == "router from 'saved': its settings were saved with it; remove 'k'"


def test_a_saved_router_that_is_not_there_is_refused(path: Path) -> None:
    write(path, EXPERTS.replace("from: saved", "from: elsewhere"))

    assert problem(path).startswith(f"no saved router in '{path.parent / 'elsewhere'}' (")


async def test_an_expert_that_it_never_met_is_asked_after_all_others(
    path: Path, composer_of: MakeComposer
) -> None:
    text = EXPERTS.replace("compositions:", CY)

    async with composer_of(text) as composer:
        selection = await composer.route("Who are you?")

    assert selection.ranking == ("bob", "ann", "cy")
    assert np.isnan(selection.quality[2])


async def test_an_expert_that_it_never_met_answers_where_the_others_fail(
    path: Path, composer_of: MakeComposer
) -> None:
    failing = EXPERTS.replace("text: ", "failures: {Who: refused}, text: ")

    async with composer_of(failing.replace("compositions:", CY)) as composer:
        answer = await composer.ask("Who are you?")

    assert answer.text == "I am cy."


async def test_an_expert_that_it_never_met_may_be_the_fallback(
    path: Path, composer_of: MakeComposer
) -> None:
    text = EXPERTS.replace("compositions:", CY).replace("from: saved}", "from: empty}, RULE")
    rule = "choose: {threshold: 0.9, fallback: cy}"
    queries = (RecordedQuery("q", "?", "train"),)
    experts = (RecordedExpert("ann"), RecordedExpert("bob"))
    table = OutcomeTable("asked", queries, experts, np.array([[0.1, 0.2]], np.float32))
    PriorRouter().fit(table).save(path.parent / "empty")

    async with composer_of(text.replace("RULE", rule)) as composer:
        answer = await composer.ask("Who are you?")

    assert answer.text == "I am cy."


def test_an_expert_that_it_never_met_is_warned_of_and_is_no_problem(path: Path) -> None:
    write(path, EXPERTS.replace("compositions:", CY))

    result = CliRunner().invoke(app, ["experts", "check", "--experts", str(path)])

    assert (result.exit_code, result.stdout) == (0, "ok\n")
    assert result.stderr == (
        f"warning: {path}: composition 'auto': the router from 'saved' was not fitted on ['cy'], "
        "which are asked only where others fail; fit it on their outcomes as well\n"
    )


def test_nothing_is_warned_of_where_it_knows_all_experts(path: Path) -> None:
    assert composition_warnings(load_experts(path)) == []


def test_likelihoods_are_refused_where_an_engine_cannot_give_them(
    path: Path, needy: Callable[..., Path]
) -> None:
    needy("likelihoods")
    remote = "{engine: openai, base_url: 'http://h/v1', model: m}"
    write(path, EXPERTS.replace('{engine: scripted, engine_args: {text: "I am bob."}}', remote))

    assert problem(path) == (
        "router from 'saved' needs continuation, which 'bob' (openai) cannot give"
    )


def test_likelihoods_are_not_asked_of_an_expert_that_it_never_met(
    path: Path, needy: Callable[..., Path]
) -> None:
    needy("likelihoods")
    remote = "  far: {engine: openai, base_url: 'http://h/v1', model: m}\ncompositions:"
    write(path, EXPERTS.replace("compositions:", remote))

    assert composition_problems(load_experts(path)) == []


def test_an_annotator_that_is_no_expert_is_refused(needy: Callable[..., Path]) -> None:
    said = problem(needy("annotations", annotator="bobby"))

    assert said.startswith("router from 'saved': no expert 'bobby'; did you mean 'bob'?")


@pytest.mark.parametrize("need", ["annotations", "likelihoods"])
def test_a_router_that_asks_experts_is_not_asked_alone(
    needy: Callable[..., Path], need: RouterNeed
) -> None:
    folder = needy(need).parent / "saved"

    result = CliRunner().invoke(app, ["route", "--router", str(folder), "Hi"])

    assert result.exit_code == 1
    assert result.stderr == (
        f"error: router 'needy' needs {need}, for which it asks experts; name it in experts.yaml "
        "(router: {from: DIR}) and route by that composition\n"
    )


def test_the_evidence_of_an_expert_that_it_never_met_says_so(path: Path) -> None:
    router = WidenedRouter(NeedyRouter(frozenset(), None), ["cy"])

    scores = router.score([cast("Any", None)], [None])

    assert [scores.why(0, column).reason for column in (1, 2)] == [
        "needs more",
        "'cy' is not among those it was fitted on",
    ]
    assert (router.name, router.needs, scores.experts) == (
        "needy",
        frozenset(),
        ("ann", "bob", "cy"),
    )


def test_a_selection_as_json_has_null_for_what_is_unknown(path: Path) -> None:
    write(path, EXPERTS.replace("compositions:", CY))

    result = CliRunner().invoke(app, ["route", "--experts", str(path), "-o", "json", "Hi"])

    scores: Mapping[str, float | None] = json.loads(result.stdout)["scores"]
    assert scores == {"ann": 0.0, "bob": 1.0, "cy": None}
