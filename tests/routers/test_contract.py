"""What every router in the table promises."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import pytest

from composer.errors import ConfigError
from composer.experts import Expert
from composer.protocols import Router
from composer.types import Evidence, Message, Query, Scores
from routers import ROUTERS, make_router
from routers.encoder import HashingEncoder

EXPERTS = {
    "maths": Expert(
        name="maths",
        engine="scripted",
        description="Arithmetic and algebra.",
        examples=("What is 17 times 23?", "Solve x + 4 = 9."),
    ),
    "law": Expert(name="law", engine="scripted", description="Contracts, torts and statutes."),
    "blank": Expert(name="blank", engine="scripted"),
}
SETTINGS: Mapping[str, Mapping[str, Any]] = {"fixed": {"expert": "law"}}
"""What a router cannot do without."""
SCORES_BY_ARRIVAL = {"round_robin"}
"""A query's score is its place in the order of arrival, so one alone is always the first."""

QUERIES = [
    Query(f"q{number}", (Message("user", text),))
    for number, text in enumerate(
        ("What is 12 times 12?", "Is an oral contract binding?", "Solve 2x = 8.", "", "naïve 数学")
    )
]

every_router = pytest.mark.parametrize("name", sorted(ROUTERS))


def make(name: str) -> Router:
    return make_router(name, EXPERTS, SETTINGS.get(name, {}), encoder=HashingEncoder())


def score(router: Router, queries: list[Query]) -> Scores:
    return router.score(queries, [None] * len(queries))


@every_router
def test_quality_is_within_zero_and_one_or_unknown(name: str):
    quality = score(make(name), QUERIES).quality

    assert quality.shape == (len(QUERIES), len(EXPERTS))
    assert quality.dtype == np.float32
    assert np.all(np.isnan(quality) | ((quality >= 0) & (quality <= 1)))
    assert not np.isnan(quality).all(axis=1).any()


@every_router
def test_columns_are_the_experts_in_their_order(name: str):
    assert score(make(name), QUERIES).experts == tuple(EXPERTS)


@every_router
def test_a_router_goes_by_its_name_in_the_table(name: str):
    assert make(name).name == name


@every_router
def test_two_routers_of_the_same_settings_score_alike(name: str):
    first, second = score(make(name), QUERIES), score(make(name), QUERIES)

    np.testing.assert_array_equal(first.quality, second.quality)


@pytest.mark.parametrize("name", sorted(ROUTERS.keys() - SCORES_BY_ARRIVAL))
def test_a_query_scores_alike_alone_and_in_a_batch(name: str):
    router = make(name)
    batch = score(router, QUERIES).quality
    alone = np.concatenate([score(router, [query]).quality for query in QUERIES])

    np.testing.assert_allclose(batch, alone, atol=1e-6)


@every_router
def test_every_cell_has_evidence_of_its_own(name: str):
    scores = score(make(name), QUERIES)

    for row in range(len(QUERIES)):
        for column in range(len(EXPERTS)):
            evidence = scores.why(row, column)
            assert isinstance(evidence, Evidence)
            assert evidence.reason
            assert "\n" not in evidence.reason


@every_router
def test_evidence_outlives_later_scoring(name: str):
    router = make(name)
    scores = score(router, QUERIES)
    before = scores.why(1, 0)
    score(router, QUERIES[::-1])

    assert scores.why(1, 0) == before


@every_router
def test_annotating_is_a_flow_or_not_needed(name: str):
    flow = make(name).annotate(QUERIES[0])

    assert flow is None or isinstance(flow, Generator)
    assert (flow is not None) == ("annotations" in make(name).needs)


@every_router
def test_an_unknown_setting_is_refused(name: str):
    settings = {**SETTINGS.get(name, {}), "colour": "red"}

    with pytest.raises(ConfigError, match=f"router '{name}' has no setting 'colour'; "):
        make_router(name, EXPERTS, settings, encoder=HashingEncoder())


@every_router
def test_a_router_without_experts_is_refused(name: str):
    with pytest.raises(ConfigError, match="no experts"):
        make_router(name, {}, SETTINGS.get(name, {}), encoder=HashingEncoder())


def test_a_misspelt_setting_is_answered_with_the_nearest_one():
    with pytest.raises(ConfigError) as error:
        make_router("retrieval", EXPERTS, {"pool_": "max"}, encoder=HashingEncoder())

    assert str(error.value) == (
        "router 'retrieval' has no setting 'pool_'; "
        "did you mean 'pool'? choose from ['pilots', 'pool']"
    )


def test_a_missing_setting_is_named():
    with pytest.raises(ConfigError, match="router 'fixed' needs the setting 'expert'"):
        make_router("fixed", EXPERTS, {}, encoder=HashingEncoder())


def test_a_misspelt_router_is_answered_with_the_nearest_one():
    with pytest.raises(ConfigError) as error:
        make_router("retreival", EXPERTS, {}, encoder=HashingEncoder())

    assert str(error.value) == (
        f"no router 'retreival'; did you mean 'retrieval'? choose from {sorted(ROUTERS)}"
    )


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"numpy", "torch", "faiss", "sentence_transformers"}
    code = f"import sys, routers; sys.exit(str({heavy} & sys.modules.keys() or ''))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert not done.stderr.strip()
