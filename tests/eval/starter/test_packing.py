"""Questions that are computed together are what they are apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eval.starter.packing import Example, pack

TOKENS = st.integers(0, 3)


@st.composite
def examples(draw: st.DrawFn) -> list[Example]:
    prefix = draw(st.lists(TOKENS, max_size=4))
    made: list[Example] = []
    for _ in range(draw(st.integers(1, 4))):
        question = [*prefix, *draw(st.lists(TOKENS, min_size=1, max_size=4))]
        answer = draw(st.lists(TOKENS, min_size=1, max_size=4))
        made.append(Example((*question, *answer), len(question)))
    return made


@given(examples())
def test_each_answer_is_predicted_from_its_own_question_alone(
    given_examples: list[Example],
) -> None:
    packed = pack(given_examples)

    seen = [packed.tokens[packed.attends[row]].tolist() for row in packed.before]
    expected = [
        list(example.tokens[:end])
        for example in given_examples
        for end in range(example.n_prompt, len(example.tokens))
    ]
    assert seen == expected


@given(examples())
def test_answers_come_in_the_order_of_the_examples(given_examples: list[Example]) -> None:
    packed = pack(given_examples)

    expected = [token for each in given_examples for token in each.tokens[each.n_prompt :]]
    assert packed.answers.tolist() == expected


@given(examples())
def test_positions_are_those_in_each_question_and_answer(given_examples: list[Example]) -> None:
    packed = pack(given_examples)

    for row in packed.before:
        positions = packed.positions[packed.attends[row]].tolist()
        assert positions == list(range(len(positions)))


def test_what_all_begin_with_stands_there_once() -> None:
    packed = pack([Example((7, 8, 1, 5), 3), Example((7, 8, 2, 2, 6), 4)])

    assert packed.tokens.tolist() == [7, 8, 1, 5, 2, 2, 6]
    assert packed.positions.tolist() == [0, 1, 2, 3, 2, 3, 4]


def test_a_question_that_is_all_prefix_keeps_its_last_token_for_itself() -> None:
    packed = pack([Example((7, 8, 5), 2), Example((7, 8, 5), 2)])

    assert packed.tokens.tolist() == [7, 8, 5, 8, 5]
    assert packed.before.tolist() == [1, 3]
