"""Examples of experts as outcomes that routers learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from composer.errors import ConfigError
from composer.experts import Expert, PoolSettings, Registry
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery
from composer.profile import with_examples


@pytest.fixture
def table() -> OutcomeTable:
    return OutcomeTable(
        "t",
        (RecordedQuery("q", "What is 2 + 3?", "train", "maths"),),
        (RecordedExpert("ann"), RecordedExpert("bea")),
        np.array([[0.5, 1.0]], np.float32),
        cost_usd=np.array([[1.0, 2.0]], np.float32),
        texts=np.array([["five", "5"]], np.object_),
    )


def registry(**examples: list[str]) -> Registry:
    experts = {
        name: Expert(name=name, engine="scripted", examples=tuple(texts))
        for name, texts in examples.items()
    }
    return Registry(experts, {}, PoolSettings(), Path("experts.yaml"))


def test_an_expert_alone_is_right_on_each_of_its_examples(table: OutcomeTable) -> None:
    known = with_examples(table, registry(bea=["3 + 4?"], ann=["Hello!", "Bye!"]))

    assert [(q.prompt, q.split, q.category) for q in known.queries[1:]] == [
        ("Hello!", "train", "ann"),
        ("Bye!", "train", "ann"),
        ("3 + 4?", "train", "bea"),
    ]
    np.testing.assert_array_equal(known.score, [[0.5, 1], [1, 0], [1, 0], [0, 1]])
    np.testing.assert_array_equal(known.cells()["cost_usd"], [[1, 2], *[[np.nan, np.nan]] * 3])
    assert known.texts is None


def test_examples_of_experts_of_which_nothing_is_recorded_are_left_out(
    table: OutcomeTable,
) -> None:
    known = with_examples(table, registry(ann=["Hello!"], cy=["Who are you?"]))

    assert [query.prompt for query in known.queries] == ["What is 2 + 3?", "Hello!"]


def test_experts_without_examples_are_refused(table: OutcomeTable) -> None:
    with pytest.raises(ConfigError, match="has no example of any expert in 't'; write some"):
        with_examples(table, registry(ann=[], cy=["Who are you?"]))
