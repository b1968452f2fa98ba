import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.datasets.splits import hashed_split, split_in


@pytest.mark.parametrize(
    ("stem", "rest", "split"),
    [
        ("gsm8k-train", "gsm8k", "train"),
        ("arc_challenge_test", "arc_challenge", "test"),
        ("default_routing_test_data", "default_routing_data", "test"),
        ("train", None, "train"),
        ("mbpp", "mbpp", None),
        ("testing_trains", "testing_trains", None),
    ],
)
def test_a_files_name_holds_its_split_as_a_word(
    stem: str, rest: str | None, split: str | None
) -> None:
    assert split_in(stem) == (rest, split)


@settings(deadline=None)
@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_only_adds_to_the_test_split(
    query_id: str, one: float, other: float
) -> None:
    smaller, larger = sorted((one, other))

    assert (hashed_split(query_id, smaller), hashed_split(query_id, larger)) != ("test", "train")


def test_the_test_split_has_its_share() -> None:
    splits = [hashed_split(f"query {n}", 0.3) for n in range(2000)]

    assert splits.count("test") / len(splits) == pytest.approx(0.3, abs=0.03)
    assert {hashed_split(f"query {n}", 0) for n in range(50)} == {"train"}
    assert {hashed_split(f"query {n}", 1) for n in range(50)} == {"test"}
