from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from composer.errors import ConfigError
from composer.trim import trim_rare
from composer.types import Choice, Evidence, Selection

EXPERTS = ("a", "b", "c", "d")


def selection(ranking: str, k: int = 1, quality: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)):
    choices = tuple(Choice(name, 0.5, 0.5, lambda: Evidence("as told")) for name in ranking[:k])
    reason = "best by told"
    return Selection("q", "told", choices, tuple(ranking), EXPERTS, quality, reason, margin=0.2)


def chosen(selections: list[Selection]) -> list[str]:
    return ["".join(choice.expert for choice in s.choices) for s in selections]


BATCH = [selection("abcd")] * 5 + [selection("bacd")] * 4 + [selection("cdba")]


def test_a_rare_expert_gives_way_to_the_best_frequent_one_of_the_querys_ranking():
    trimmed = trim_rare(BATCH, 0.2)

    assert chosen(trimmed) == ["a"] * 5 + ["b"] * 5
    assert trimmed[-1].choices[0].quality == pytest.approx(0.3)
    assert trimmed[-1].choices[0].evidence.reason == "in place of rare 'c' (1 of 10 choices)"
    assert trimmed[-1].reason == "best by told; without rare 'c' (1 of 10 choices)"


def test_the_rare_expert_stays_in_the_ranking_behind_the_choices():
    assert trim_rare(BATCH, 0.2)[-1].ranking == ("b", "c", "d", "a")


def test_an_expert_with_exactly_the_share_is_frequent():
    assert trim_rare(BATCH, 0.1) == BATCH


def test_selections_without_a_rare_choice_stay_as_they_are():
    assert trim_rare(BATCH, 0.2)[:9] == BATCH[:9]


def test_the_margin_is_unknown_where_the_first_choice_changed():
    assert trim_rare(BATCH, 0.2)[-1].margin is None


def test_the_first_choice_keeps_its_margin_where_a_later_one_is_replaced():
    batch = [selection("abcd", k=2)] * 4 + [selection("adbc", k=2)]

    trimmed = trim_rare(batch, 0.2)

    assert chosen(trimmed) == ["ab"] * 5
    assert trimmed[-1].margin == 0.2


def test_a_query_has_a_choice_less_where_no_other_expert_is_frequent():
    batch = [selection("abcd", k=2)] * 4 + [selection("abcd", k=3)]

    trimmed = trim_rare(batch, 0.2)

    assert chosen(trimmed) == ["ab"] * 5
    assert trimmed[-1].shortfall == "2 of 3 experts: no other is frequent"


def test_a_shortfall_of_the_choice_itself_is_still_said():
    short = replace(selection("abcd", k=3), shortfall="3 of 4 experts: unavailable: e")

    (*_, trimmed) = trim_rare([*[selection("abcd", k=2)] * 4, short], 0.2)

    assert trimmed.shortfall == f"{short.shortfall}; 2 of 3 experts: no other is frequent"


def test_a_query_keeps_its_only_choice_where_no_frequent_expert_can_be_asked():
    batch = [*BATCH[:9], replace(BATCH[9], ranking=("c", "d"))]

    assert chosen(trim_rare(batch, 0.2))[-1] == "c"


def test_a_replacement_of_unknown_quality_has_none():
    batch = [*BATCH[:9], selection("cbda", quality=(0.1, float("nan"), 0.3, 0.2))]

    assert trim_rare(batch, 0.2)[-1].choices[0].quality is None


def test_refused_queries_stay_refused_and_do_not_count():
    refused = replace(selection("abcd"), choices=(), ranking=())

    assert trim_rare([refused, *BATCH], 0.2)[0] == refused
    assert trim_rare([refused]) == [refused]


def test_a_share_that_makes_every_expert_rare_is_refused_with_one_that_does_not():
    with pytest.raises(ConfigError, match=r"'a', has 5 of 10 choices; give a share of at most 0.5"):
        trim_rare(BATCH, 0.6)


def test_the_share_that_does_not_is_never_rounded_up():
    batch = [selection("ab"), selection("ab"), selection("ba")]

    with pytest.raises(ConfigError, match=r"give a share of at most 0\.666$"):
        trim_rare(batch, 0.9)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_its_range_is_refused(share: float):
    with pytest.raises(ConfigError, match="give a number from 0 to 1"):
        trim_rare(BATCH, share)


@given(
    st.lists(st.tuples(st.permutations(EXPERTS), st.integers(1, 4)), min_size=1, max_size=30),
    st.sampled_from([0.0, 0.05, 0.1, 0.2]),
)
def test_only_frequent_experts_are_left_and_each_once_a_query(
    queries: list[tuple[list[str], int]], share: float
):
    batch = [selection("".join(ranking), k) for ranking, k in queries]
    counts = Counter(choice.expert for s in batch for choice in s.choices)
    frequent = {e for e in EXPERTS if counts[e] >= share * counts.total() and counts[e]}
    assume(frequent)

    for before, after in zip(batch, trim_rare(batch, share), strict=True):
        names = [choice.expert for choice in after.choices]
        assert set(names) <= frequent
        assert len(set(names)) == len(names) > 0
        assert after.ranking[: len(names)] == tuple(names)
        assert sorted(after.ranking) == sorted(before.ranking)
