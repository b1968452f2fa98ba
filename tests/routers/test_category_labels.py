from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from composer.errors import ConfigError
from routers.category.labels import make_labels
from routers.category.reading import NOT_KNOWN
from routers.learning import Training


@pytest.fixture
def training(make_lesson: Callable[..., Training]) -> Training:
    """Ninety rows in three subjects."""
    return make_lesson(90)


def of_categories(training: Training, *categories: str | None) -> Training:
    rows = tuple(categories[row % len(categories)] for row in range(len(training.batch)))
    return replace(training, batch=replace(training.batch, categories=rows))


def test_recorded_categories_are_sorted_and_a_row_may_have_none(training: Training):
    labels = make_labels(of_categories(training, "law", None, "", "art"), None, 16)

    assert (labels.kind, labels.names) == ("recorded", ("art", "law"))
    assert labels.codes[:4].tolist() == [1, NOT_KNOWN, NOT_KNOWN, 0]


@pytest.mark.parametrize("categories", [(None,), ("law",), ("law", None)])
def test_clusters_take_the_place_of_fewer_than_two_categories(
    training: Training, categories: tuple[str | None, ...]
):
    labels = make_labels(of_categories(training, *categories), None, 3)

    assert (labels.kind, labels.names) == ("clusters", ("cluster 1", "cluster 2", "cluster 3"))


def test_clusters_find_subjects_and_are_numbered_from_the_largest(training: Training):
    most = training.rows(np.flatnonzero((training.category_codes != 0) | (np.arange(90) < 45)))

    labels = make_labels(most, "clusters", 3)

    sizes = np.bincount(labels.codes)
    together = np.mean(
        [
            np.bincount(labels.codes[most.category_codes == subject]).max()
            / (most.category_codes == subject).sum()
            for subject in range(3)
        ]
    )
    assert sizes.tolist() == sorted(sizes, reverse=True)
    assert together > 0.8


def test_recorded_categories_that_are_asked_for_must_be_two(training: Training):
    with pytest.raises(ConfigError, match=r"fewer than two categories .* set 'categories' to"):
        make_labels(of_categories(training, "law"), "recorded", 16)


def test_there_are_no_more_clusters_than_rows_fill_or_points_there_are(training: Training):
    same = replace(training.batch, embeddings=np.tile(training.batch.embeddings[:1], (90, 1)))

    assert len(make_labels(training, "clusters", 64).names) == 90 // 16
    assert len(make_labels(training.rows(np.arange(3)), "clusters", 64).names) == 1
    assert len(make_labels(replace(training, batch=same), "clusters", 4).names) == 1
