"""Tokens with places: the same words have the same places in every expert's prompt."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.latent.members import Thinker
from composer.latent.reading import ALWAYS, read_answer, read_prompt
from composer.types import Message
from tests.composer.latent.groups import thinkers

MADE: dict[str, tuple[Thinker, ...]] = {}


@pytest.fixture(scope="module", autouse=True)
def pair(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two templates and two vocabularies."""
    MADE["pair"] = thinkers(tmp_path_factory.mktemp("read"), ["llama", "gemma"])


texts = st.text(st.sampled_from("abno wryes.?\n\N{GRINNING FACE}\u00e4"), min_size=1, max_size=40)


@given(texts.filter(str.strip), st.text("ab o", max_size=20))
@settings(deadline=None, max_examples=60)
def test_the_question_ends_at_0_and_nothing_of_the_prompt_is_behind_it(
    question: str, before: str
) -> None:
    for thinker in MADE["pair"]:
        messages = (Message("user", before or "-"), Message("user", question))
        reading = read_prompt(thinker.tokenizer, messages)

        assert list(reading.tokens) == thinker.tokenizer.encode(messages)
        assert list(reading.places) == sorted(reading.places)
        assert reading.places[-1] == 0
        assert min(reading.places) < -len(question.strip())
        assert set(reading.since) == {ALWAYS}


@given(texts, st.integers(1, 200))
@settings(deadline=None, max_examples=60)
def test_what_is_cut_keeps_its_first_token_and_its_end(question: str, limit: int) -> None:
    reading = read_prompt(MADE["pair"][0].tokenizer, (Message("user", question),))

    cut = reading.within(limit)

    assert len(cut) == min(limit, len(reading))
    assert cut.is_cut == (limit < len(reading))
    assert cut.tokens[0] == reading.tokens[0]
    if limit > 1:
        assert cut.places[1:] == reading.places[-(len(cut) - 1) :]


def test_the_same_words_have_the_same_places_for_all() -> None:
    question, answer = "what is the capital of norway", "oslo"
    ends: list[set[int]] = []
    for thinker in MADE["pair"]:
        prompt = read_prompt(thinker.tokenizer, (Message("user", question),))
        whole = read_answer(thinker.tokenizer, prompt, answer)
        ends.append(set(whole.places))
        assert whole.places[-1] == len(answer)
        assert whole.since[-1] == len(answer)
    ends_of_words = {-len(question) + 4, -len(" of norway"), 0, len(answer)}
    assert ends_of_words <= ends[0] & ends[1]


def test_a_question_that_the_template_changes_ends_with_the_prompt() -> None:
    class Shouting:
        def encode_places(self, messages: object) -> tuple[str, list[int], list[int]]:
            return "HELLO!", [1, 2], [3, 6]

    reading = read_prompt(Shouting(), (Message("user", "hello"),))  # pyright: ignore[reportArgumentType]

    assert reading.places == (-3, 0)
