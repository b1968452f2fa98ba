"""The prior that an ensemble learns from recorded likelihoods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from composer.aggregators import make_aggregator
from composer.aggregators.ensemble.fit import BLOCK_BYTES, fit_ensemble
from composer.aggregators.ensemble.posterior import cached_prior, domain_posterior
from composer.aggregators.fitted import fit_aggregator
from composer.errors import ConfigError
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery
from composer.types import Annotation

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = "x" * BLOCK_BYTES


def query(name: str, text: str, **nats_per_byte: float) -> RecordedQuery:
    annotation = Annotation({"nats_per_byte": nats_per_byte})
    return RecordedQuery(name, text, "train", annotation=annotation)


def table(*queries: RecordedQuery) -> OutcomeTable:
    experts = (RecordedExpert("ann"), RecordedExpert("ben"))
    return OutcomeTable("t", queries, experts, np.full((len(queries), 2), 0.5, np.float32))


TWO_BLOCKS = (query("a", BLOCK, ann=0.5, ben=0.6), query("b", BLOCK, ann=0.7, ben=0.4))


def test_the_prior_is_the_moving_average_of_the_blocks_posteriors() -> None:
    fitted = fit_ensemble(table(*TWO_BLOCKS), tau=0.001)

    posteriors = [
        domain_posterior([0.5, 0.5], [-0.001 * rate * BLOCK_BYTES for rate in rates])
        for rates in ((0.5, 0.6), (0.7, 0.4))
    ]
    ann, ben = cached_prior(posteriors)
    assert fitted.summary["prior"] == pytest.approx({"ann": ann, "ben": ben})
    assert fitted.summary["blocks"] == 2


def test_short_queries_make_a_block_together() -> None:
    half = "y" * (BLOCK_BYTES // 2)
    queries = [query(name, half, ann=0.5, ben=0.6) for name in "abcde"]

    assert fit_ensemble(table(*queries)).summary["blocks"] == 3


def test_the_order_of_the_rows_does_not_matter() -> None:
    forwards, backwards = fit_ensemble(table(*TWO_BLOCKS)), fit_ensemble(table(*TWO_BLOCKS[::-1]))

    assert forwards.summary == backwards.summary


def test_queries_that_not_all_experts_scored_are_left_out() -> None:
    unscored = (query("c", BLOCK, ann=0.1), RecordedQuery("d", BLOCK, "train"))

    fitted = fit_ensemble(table(*TWO_BLOCKS, *unscored))

    assert fitted.summary == fit_ensemble(table(*TWO_BLOCKS)).summary


def test_an_expert_that_never_counted_is_still_possible() -> None:
    fitted = fit_ensemble(table(query("a", BLOCK, ann=0.1, ben=9.0)), tau=1.0)

    assert 0 < fitted.summary["prior"]["ben"] < 1e-5


def test_what_is_saved_is_what_the_setting_from_reads(tmp_path: Path) -> None:
    fitted = fit_aggregator("ensemble", table(*TWO_BLOCKS), {"tau": 0.005})

    fitted.save(tmp_path / "prior")
    again = make_aggregator("ensemble", {"from": "prior"}, folder=tmp_path)

    assert again.name == "ensemble"
    assert fitted.summary["tau"] == 0.005


def test_without_likelihoods_there_is_nothing_to_learn() -> None:
    with pytest.raises(ConfigError, match="profile with --annotate likelihood"):
        fit_ensemble(table(RecordedQuery("a", BLOCK, "train")))


@pytest.mark.parametrize("tau", [0.0, -1.0, 1.5])
def test_a_tau_out_of_range_is_refused(tau: float) -> None:
    with pytest.raises(ConfigError, match="set it above 0 and up to 1"):
        fit_ensemble(table(*TWO_BLOCKS), tau=tau)
