"""The cases and outcomes that come with the package."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from composer.experts import load_experts
from composer.outcomes import OutcomeTable, read_table
from composer.profile import Case, read_cases
from composer.starter import CASES, OUTCOMES
from eval.starter.items import make_items
from eval.starter.skills import SKILLS

ROOT = Path(__file__).parents[2]
OPERATIONS = {"+": np.add, "-": np.subtract, "x": np.multiply, "/": np.divide}
SUM = re.compile(r"What is (\d+) ([-+x/]) (\d+)\?")


@pytest.fixture
def cases() -> tuple[Case, ...]:
    return read_cases(CASES)


@pytest.fixture
def table() -> OutcomeTable:
    return read_table(OUTCOMES, texts=True)


def test_every_fourth_case_is_for_testing(cases: tuple[Case, ...]) -> None:
    assert [i % 4 == 3 for i in range(320)] == [case.split == "test" for case in cases]


def test_general_categories_are_of_one_size_and_so_are_those_of_skills(
    cases: tuple[Case, ...],
) -> None:
    sizes = Counter((case.category in SKILLS, case.category, case.split) for case in cases)

    general, skilled = (
        {(split, n) for (is_skill, _, split), n in sizes.items() if is_skill is wanted}
        for wanted in (False, True)
    )
    assert len(sizes) == 2 * (5 + len(SKILLS))
    assert general == {("train", 18), ("test", 6)}
    assert skilled == {("train", 30), ("test", 10)}


@pytest.mark.parametrize("skill", SKILLS)
def test_cases_of_a_skill_are_the_questions_that_its_program_makes(
    cases: tuple[Case, ...], skill: str
) -> None:
    made = make_items(SKILLS[skill], "profile", 40)

    shipped = [case for case in cases if case.category == skill]
    assert [(case.id, case.prompt, case.reference) for case in shipped] == [
        (item.id, item.prompt, item.reference) for item in made
    ]


def test_no_prompt_is_asked_twice(cases: tuple[Case, ...]) -> None:
    assert len({case.prompt for case in cases}) == len(cases)


@pytest.mark.parametrize(("answer_type", "n"), [("choice", 6), ("yes_no", 12)])
def test_no_answer_is_right_more_often_than_another(
    cases: tuple[Case, ...], answer_type: str, n: int
) -> None:
    counts = Counter(case.reference for case in cases if case.answer_type == answer_type)

    assert set(counts.values()) == {n}


def test_yes_and_no_are_right_as_often_in_both_splits(cases: tuple[Case, ...]) -> None:
    counts = Counter((case.reference, case.split) for case in cases if case.category == "yes-no")

    assert counts["yes", "train"] == counts["no", "train"] == 9
    assert counts["yes", "test"] == counts["no", "test"] == 3


def test_the_sums_are_right(cases: tuple[Case, ...]) -> None:
    sums = [(case, found) for case in cases if (found := SUM.match(case.prompt))]

    assert len(sums) >= 10
    for case, (left, operation, right) in ((case, found.groups()) for case, found in sums):
        assert OPERATIONS[operation](int(left), int(right)) == int(case.reference)


def test_each_choice_has_four_options(cases: tuple[Case, ...]) -> None:
    for case in cases:
        if case.answer_type == "choice":
            options = re.findall(r"^([A-D])\. (.+)$", case.prompt, re.MULTILINE)
            assert [letter for letter, _ in options] == ["A", "B", "C", "D"]
            assert len({option for _, option in options}) == 4


def test_the_outcomes_are_of_these_cases_and_of_the_starter_experts(
    cases: tuple[Case, ...], table: OutcomeTable
) -> None:
    assert [(q.id, q.prompt, q.reference, q.category, q.split) for q in table.queries] == [
        (case.id, case.prompt, case.reference, case.category, case.split) for case in cases
    ]
    assert table.names == tuple(load_experts(ROOT / "experts.yaml").routed)


def test_each_expert_is_right_where_the_best_of_the_others_is_wrong(table: OutcomeTable) -> None:
    assert not np.isnan(table.score).any()
    for name in table.names:
        alone = table.score[:, table.names.index(name)]
        others = table.with_experts([other for other in table.names if other != name])
        assert (alone > others.score.max(axis=1)).sum() >= 3, name


def test_each_specialist_knows_its_skill_and_the_base_model_less_than_half_of_it(
    table: OutcomeTable,
) -> None:
    for skill in SKILLS:
        means = dict(zip(table.names, table.in_categories([skill]).score.mean(axis=0), strict=True))
        assert means[skill] >= 0.8, skill
        assert means["smol"] < means[skill] / 2, skill


def test_the_outcomes_are_small() -> None:
    assert sum(file.stat().st_size for file in OUTCOMES.iterdir()) < 200_000


@pytest.mark.parametrize("skill", SKILLS)
def test_a_specialist_is_small_and_has_a_card_that_says_how_good_it_is(skill: str) -> None:
    folder = CASES.parent / skill
    card = (folder / "README.md").read_text(encoding="utf-8")

    assert (folder / "adapter_model.safetensors").stat().st_size <= 3e6
    assert SKILLS[skill].description in card
    assert re.search(rf"\| {skill} \| \d\.\d+ \[", card)


def test_all_specialists_together_take_less_than_twenty_megabytes() -> None:
    assert sum(path.stat().st_size for path in CASES.parent.rglob("adapter_*")) <= 20e6
