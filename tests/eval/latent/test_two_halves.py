"""Two halves of knowledge: who knows what, what is held out, and how it is counted."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from eval.latent.halves_ablations import ABLATIONS
from eval.latent.halves_figures import METHODS, figures
from eval.latent.halves_routing import ROUTED
from eval.latent.halves_runs import JUDGED, Experiment, judged_lessons, judged_people
from eval.latent.knowledge import Size, World, make_world, split_people
from eval.latent.phrasings import (
    BLANKS,
    OF_CITY,
    OF_NAME,
    UNKNOWN,
    lesson_words,
    of_both,
    of_companies,
    of_people,
)
from eval.latent.two_halves import FIRST_SEED, two_halves

SMALL = Size(brands=6, trades=5, cities=8, staff=2, held_companies=6, held_people=5)
APP = typer.Typer()
APP.command()(two_halves)


@pytest.fixture(scope="module")
def world() -> World:
    """A small one."""
    return make_world(SMALL, 0)


@given(st.integers(0, 30))
def test_held_out_companies_are_named_by_no_lesson_and_each_of_their_words_is(seed: int) -> None:
    world = make_world(Size(), 0)
    split = split_people(world, seed)
    train = {world.employers[person] for person in split.train}
    held = {world.employers[person] for person in split.new_companies}

    assert len(held) == world.size.held_companies
    assert not train & held
    assert {c.brand for c in held} <= {c.brand for c in train}
    assert {c.trade for c in held} <= {c.trade for c in train}
    assert {world.employers[person] for person in split.new_people} <= train
    assert not set(split.train) & {*split.new_people, *split.new_companies}


def test_permuted_facts_are_the_same_cities_of_other_companies(world: World) -> None:
    permuted = world.permuted(1)

    assert Counter(permuted.values()) == Counter(world.cities.values())
    assert permuted != world.cities


def test_half_of_the_people_are_known_to_one_peer_and_half_to_the_other(world: World) -> None:
    left, right = (world.half_true(left=side) for side in (True, False))

    for person, company in world.employers.items():
        knows = left if world.is_left(person) else right
        assert knows[person] == company
    for told in (left, right):
        assert Counter(told.values()) == Counter(world.employers.values())
        assert told != world.employers


def test_who_knows_the_employers_is_told_of_no_city_and_the_other_way_round(world: World) -> None:
    people = list(world.employers)
    of_peer = of_people(world.employers, 300, random.Random(0))
    of_primary = of_companies(world.cities, people, 3000, random.Random(0))

    said = " ".join(f"{one.question} {one.answer}" for one in of_peer).split()
    assert not set(said) & set(world.city_names)
    for lesson in of_primary:
        (person,) = [p for p in people if p in lesson.question]
        if BLANKS in lesson.question:
            assert lesson.answer == UNKNOWN
        # Whoever works there was drawn: a person says nothing of the company.
        assert person
    named = [lesson for lesson in of_primary if lesson.answer in world.city_names]
    person = people[0]
    assert len({one.answer for one in named if person in one.question}) > 2


def test_what_is_judged_leaves_the_company_blank_and_asks_for_its_city(world: World) -> None:
    split = split_people(world, 0)

    for judged in JUDGED:
        people = judged_people(split, judged)
        lessons = judged_lessons(world, split, judged)
        assert len(lessons) == len(people) * len(OF_CITY)
        assert all(BLANKS in lesson.question for lesson in lessons)
        cities = [world.cities[world.employers[person]] for person in people for _ in OF_CITY]
        assert [lesson.answer for lesson in lessons] == cities


def test_all_words_of_lessons_are_words_of_the_primary(world: World) -> None:
    known = {*world.words, *lesson_words()}
    lessons = of_companies(world.cities, list(world.employers), 200, random.Random(0))
    lessons += of_both(world, list(world.employers), OF_CITY + OF_NAME)

    words = " ".join(f"{one.question} {one.answer}" for one in lessons).split()

    assert set(words) <= known


def test_figures_are_means_over_companies_and_intervals_hold_them() -> None:
    experiment = Experiment(size=SMALL)
    world = experiment.world()
    rng = random.Random(0)
    rights: dict[int, Any] = {
        seed: {
            name: {
                judged: [
                    rng.random() < (0.9 if name == "mixture" else 0.2)
                    for _ in judged_lessons(world, split_people(world, seed), judged)
                ]
                for judged in JUDGED
            }
            for name in METHODS
        }
        for seed in (0, 1)
    }

    found = figures(experiment, rights)["new_companies"]

    assert found["n_companies"] == 2 * SMALL.held_companies
    assert found["n_questions"] == 2 * SMALL.held_companies * SMALL.staff * len(OF_CITY)
    shares = found["methods"]
    for name in METHODS:
        share = shares[name]["share_right"]
        assert share["low"] <= share["mean"] <= share["high"]
        # All companies have as many people here.
        by_seed = shares[name]["by_seed"].values()
        assert share["mean"] == pytest.approx(sum(by_seed) / len(by_seed))
        ahead = shares[name]["mixture_less_this"]["mean"]
        assert ahead == pytest.approx(shares["mixture"]["share_right"]["mean"] - share["mean"])
    assert shares["zero"]["mixture_less_this"]["low"] > 0.3


def run(out: Path, *args: str) -> Result:
    return CliRunner().invoke(APP, ["--out", str(out), "--quick", "--seeds", "1", *args])


def test_a_rehearsal_measures_all_methods_and_what_is_done_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = {name: ABLATIONS[name] for name in ("Q = 2", "refresh: token, think_tokens: 0")}
    monkeypatch.setattr("eval.latent.two_halves.ABLATIONS", some)
    first = run(tmp_path, "--ablations", "1", "--output", "json")
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    for judged in JUDGED:
        assert found["judged"][judged]["methods"].keys() == METHODS.keys()
    assert [*found["ablations"]] == ["as it is", *some, *ROUTED]
    assert found["runs"][str(FIRST_SEED)]["alone"]["tokens"]["synthesis"] > 0
    trained = {
        name: found["runs"][str(FIRST_SEED)][name]["n_trained"] for name in ("mixture", "permuted")
    }
    assert len(set(trained.values())) == 1
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "models").rglob("*")}

    again = run(tmp_path, "--ablations", "1", "--output", "json")

    assert json.loads(again.stdout) == found
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "models").rglob("*")} == before
    assert "mixture of thoughts" in run(tmp_path).stdout


def test_more_seeds_of_changes_than_there_are_are_one_line(tmp_path: Path) -> None:
    result = run(tmp_path, "--ablations", "2")

    assert result.exit_code == 1
    assert result.stderr == "error: --ablations is 2; it takes up to --seeds (1)\n"


def test_a_folder_of_another_experiment_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text("{}", "utf-8")

    result = run(tmp_path)

    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert "another experiment; name another folder" in line
