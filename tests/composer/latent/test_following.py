"""A peer that follows a text reads the same as one that reads it whole."""

from __future__ import annotations

import pytest
import torch

from composer.latent.following import Follower
from composer.latent.members import Thinker
from composer.latent.reading import Reading, read_answer, read_prompt
from composer.types import Message
from tests.composer.latent.groups import thinkers
from tests.latent_models import Family

LEVELS = 3
TEXTS = ["", "the", "the cap", "the capital", "the capital of", "the capital of norway is os"]


@pytest.mark.parametrize("family", ["llama", "gemma"])
@pytest.mark.parametrize("prompt", ["red", "blue green red " * 6])
def test_what_it_read_before_is_not_read_anew_and_changes_nothing(
    family: Family, prompt: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (thinker,) = thinkers(tmp_path_factory.mktemp("followed"), [family])
    reading = read_prompt(thinker.tokenizer, (Message("user", prompt),))
    follower = Follower(thinker, reading, LEVELS)

    for text in TEXTS:
        followed, states = follower.follow(text)
        whole = read_answer(thinker.tokenizer, reading, text)
        expected = thinker.states([whole], LEVELS)[0][:, len(reading) :]

        assert followed.tokens == whole.tokens[len(reading) :]
        assert followed.places == whole.places[len(reading) :]
        assert torch.allclose(states, expected, atol=1e-4)


def test_it_reads_no_further_than_its_context(tmp_path_factory: pytest.TempPathFactory) -> None:
    (thinker,) = thinkers(tmp_path_factory.mktemp("short"), ["llama"], context=64)
    follower = Follower(thinker, _prompt(thinker, "red " * 40), LEVELS)

    followed, states = follower.follow("one two")

    assert len(follower.prompt) == 64
    assert len(followed) == states.shape[1] == 0


def _prompt(thinker: Thinker, text: str) -> Reading:
    return read_prompt(thinker.tokenizer, (Message("user", text),))
