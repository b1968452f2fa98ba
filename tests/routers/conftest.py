"""A small recorded task that fitted routers can learn: three subjects, an expert good at each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery
from routers.encoder import HashingEncoder
from routers.learning import Training, make_training

WORDS = {
    "maths": ["sum", "triangle", "integral", "matrix", "fraction", "angle", "equation", "vector"],
    "law": ["contract", "court", "tenant", "statute", "appeal", "witness", "verdict", "lease"],
    "cooking": ["oven", "dough", "simmer", "garlic", "recipe", "pastry", "broth", "whisk"],
}
EXPERTS = ("ada", "bo", "cy")
MakeTable = Callable[..., OutcomeTable]
MakeTraining = Callable[..., Training]


@pytest.fixture
def make_table() -> MakeTable:
    """Makes a table: expert i is right in subject i with 0.9, elsewhere with 0.3."""

    def make(n: int = 90, *, seed: int = 0, unknown: float = 0.0) -> OutcomeTable:
        rng = np.random.default_rng(seed)
        subjects = list(WORDS)
        queries: list[RecordedQuery] = []
        chances = np.empty((n, len(EXPERTS)))
        for row in range(n):
            subject = subjects[row % len(subjects)]
            words = " ".join(rng.choice(WORDS[subject], 4))
            queries.append(RecordedQuery(f"q{row:04}", f"Explain {words}.", "train", subject))
            chances[row] = np.where(np.arange(len(EXPERTS)) == row % len(subjects), 0.9, 0.3)
        score = (rng.random(chances.shape) < chances).astype(np.float32)
        score[rng.random(score.shape) < unknown] = np.nan
        experts = tuple(
            RecordedExpert(name, params_b=float(size), description=f"An expert in {subject}.")
            for size, (name, subject) in enumerate(zip(EXPERTS, subjects, strict=True), start=1)
        )
        return OutcomeTable("three subjects", tuple(queries), experts, score)

    return make


@pytest.fixture
def make_lesson(make_table: MakeTable) -> MakeTraining:
    """Makes what a learner is given of such a table, embedded by words."""

    def make(n: int = 90, *, seed: int = 0, unknown: float = 0.0) -> Training:
        table = make_table(n, seed=seed, unknown=unknown)
        embedded = HashingEncoder().encode([query.prompt for query in table.queries])
        return make_training(table, embedded, embedded)

    return make
