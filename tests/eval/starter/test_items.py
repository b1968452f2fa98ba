"""The questions of the starter's skills: no content or phrasing in two splits."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from random import Random

import pytest

from composer.answers import canonical_answer, extract_answer
from eval.starter.items import PLAIN_SHARE, make_items, split_of
from eval.starter.skill import SPLITS, Content, Skill, Split
from eval.starter.skills import SKILLS
from eval.starter.skills.roman import LARGEST, roman

N = 50
every_skill = pytest.mark.parametrize("skill", SKILLS.values(), ids=list(SKILLS))


@every_skill
def test_no_phrasing_is_in_two_splits(skill: Skill) -> None:
    for one, other in combinations(SPLITS, 2):
        assert not {*skill.phrasings[one]} & {*skill.phrasings[other]}


@every_skill
def test_at_least_four_phrasings_are_for_tests_alone(skill: Skill) -> None:
    assert len(skill.phrasings["test"]) >= 4
    assert len(skill.phrasings["train"]) > len(skill.phrasings["test"])


@every_skill
def test_no_content_is_in_two_splits(skill: Skill) -> None:
    rng = Random(1)
    contents = [skill.make(rng) for _ in range(300)]
    fields = {content.key: split_of(content) for content in contents}
    assert {*fields.values()} == {*SPLITS}
    for item in make_items(skill, "test", 100):
        assert item.prompt not in {i.prompt for i in make_items(skill, "train", 300)}


@every_skill
@pytest.mark.parametrize("split", SPLITS)
def test_of_twenty_questions_three_name_no_word_of_their_skill(skill: Skill, split: Split) -> None:
    items = make_items(skill, split, 40)
    assert sum(not item.names_skill for item in items) == 40 * PLAIN_SHARE
    for item in items:
        assert item.names_skill or not any(word in item.prompt.lower() for word in skill.words)


@every_skill
def test_the_same_seed_makes_the_same_questions_and_another_one_others(skill: Skill) -> None:
    assert make_items(skill, "test", N) == make_items(skill, "test", N)
    assert make_items(skill, "test", N) != make_items(skill, "test", N, seed=1)


@every_skill
def test_no_question_of_a_test_comes_twice(skill: Skill) -> None:
    items = make_items(skill, "test", 100)
    assert max(Counter(item.prompt for item in items).values()) == 1
    assert len({item.id for item in items}) == 100


@every_skill
def test_a_reference_is_an_answer_of_its_type(skill: Skill) -> None:
    for item in make_items(skill, "test", N):
        read = extract_answer(item.reference, item.answer_type)
        assert read == canonical_answer(item.reference, item.answer_type)
        assert read is not None


def test_a_skill_that_runs_out_of_contents_says_so() -> None:
    skill = SKILLS["roman"]
    with pytest.raises(ValueError, match=r"test has only .* different contents"):
        make_items(skill, "test", LARGEST)


@pytest.mark.parametrize(
    ("n", "numeral"),
    [(1, "I"), (4, "IV"), (49, "XLIX"), (90, "XC"), (399, "CCCXCIX"), (444, "CDXLIV")],
)
def test_numbers_are_written_in_roman_numerals(n: int, numeral: str) -> None:
    assert roman(n) == numeral


def test_answers_follow_from_what_the_questions_are_about() -> None:
    rng = Random(3)

    def content(name: str) -> Content:
        return SKILLS[name].make(rng)

    numbers = content("sorting")
    listed = [int(n) for n in numbers.fields["list"].split(", ")]
    assert [int(n) for n in numbers.answer.split(", ")] == sorted(listed)
    backwards = content("reversing")
    assert backwards.answer.split(", ") == backwards.fields["list"].split(", ")[::-1]
    units = content("units")
    assert units.answer.startswith(units.fields["n"])
    assert units.answer.endswith(f"0 {units.fields['to']}")
    date = content("dates")
    assert date.answer.split("-")[0] == date.fields["date"].split()[-1]
