"""A batch that is told what it may cost, or whom not to load for a handful of queries."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from composer.allocate import Budget
from composer.bulk import BatchProgress, BatchReport
from composer.bulk.dry_run import DryRun, dry_run
from composer.bulk.limits import Limits
from composer.errors import ConfigError
from composer.sync import SyncComposer
from tests.composer.bulk.conftest import EXPERTS, ONE, PANEL, VOTE, Bulk, registry

PRICES = {"ann": 1.0, "ben": 2.0, "cas": 4.0, "dan": 8.0}
"""US dollars for an answer of 100 tokens."""
N = 40


def priced(composition: Mapping[str, Any] = ONE) -> str:
    """Experts whose answers cost what `PRICES` says, whatever the question."""
    text = json.loads(registry({"main": composition}))
    for name, usd in PRICES.items():
        price = {"output_usd_per_mtok": usd * 10_000}
        text["experts"][name] |= {"price": price, "sampling": {"max_tokens": 100}}
    return json.dumps(text)


def experts(bulk: Bulk) -> list[str]:
    return [result["expert"] for result in sorted(bulk.results(), key=lambda r: r["id"])]


def usd(report: BatchReport | DryRun) -> float:
    assert report.joint is not None
    assert report.joint.spending is not None
    return report.joint.spending.spent


async def plan(bulk: Bulk, text: str, path: Path, limits: Limits) -> DryRun:
    async with bulk.composer(text) as composer:
        return await dry_run(
            path,
            composer.compositions["main"],
            composer.registry,
            composer.pool,
            models=bulk.folder,
            limits=limits,
        )


async def test_no_more_is_expected_to_be_spent_than_the_budget(bulk: Bulk) -> None:
    report = await bulk.run(priced(), bulk.questions(N), budget=Budget("usd", 75.0))

    assert sum(PRICES[name] for name in experts(bulk)) == pytest.approx(usd(report))
    assert 70 < usd(report) <= 75


async def test_what_is_given_up_for_it_is_told(bulk: Bulk) -> None:
    report = await bulk.run(priced(), bulk.questions(N), budget=Budget("usd", 75.0))

    assert report.joint is not None
    assert report.joint.given_up > 0
    assert report.joint.spending is not None
    assert report.joint.quality <= report.joint.spending.bound <= report.joint.quality + 1 / N


async def test_a_budget_of_tokens_counts_prompts_and_answers(bulk: Bulk) -> None:
    text = json.loads(priced())
    text["experts"]["ann"]["sampling"] = {"max_tokens": 10}
    budget = Budget("tokens", N * 60.0)

    report = await bulk.run(json.dumps(text), bulk.questions(N), budget=budget)

    counts = Counter(experts(bulk))
    tokens = {name: 10 if name == "ann" else 100 for name in EXPERTS}
    assert usd(report) == sum(n * (tokens[name] + 6) for name, n in counts.items())
    assert 0 < counts["ann"] < N


async def test_a_budget_of_parameters_is_a_mean(bulk: Bulk) -> None:
    text = json.loads(priced())
    for name, params in PRICES.items():
        text["experts"][name]["params_b"] = params
    budget = Budget("active_params_b", 2.0)

    report = await bulk.run(json.dumps(text), bulk.questions(N), budget=budget)

    assert usd(report) == pytest.approx(sum(PRICES[name] for name in experts(bulk)) / N)
    assert usd(report) <= 2


async def test_a_budget_of_parameters_takes_experts_that_have_some(bulk: Bulk) -> None:
    budget = Budget("active_params_b", 2.0)

    with pytest.raises(ConfigError, match="expert 'ann' has no 'params_b', by which the budget"):
        await bulk.run(priced(), bulk.questions(1), budget=budget)


async def test_a_run_that_was_stopped_goes_on_with_the_same_experts(bulk: Bulk) -> None:
    text, path, budget = priced(), bulk.questions(N), Budget("usd", 75.0)
    whole = await plan(bulk, text, path, Limits(budget))
    going = asyncio.Event()

    def watch(progress: BatchProgress) -> None:
        if progress.phase == "answer" and progress.n_done > 0:
            going.set()

    task = asyncio.create_task(bulk.run(text, path, budget=budget, on_progress=watch))
    await going.wait()
    task.cancel()
    await asyncio.wait([task])
    n_before = len(bulk.results())
    report = await bulk.run(text, path, budget=budget)

    assert 0 < n_before < report.n_answered == N
    assert Counter(experts(bulk)) == Counter(whole.chosen)
    assert report.joint == whole.joint


async def test_a_run_goes_on_from_what_is_kept_of_its_choice(bulk: Bulk) -> None:
    path = bulk.questions(N)
    options: dict[str, Any] = {"budget": Budget("usd", 75.0), "min_share": 0.15}
    first = await bulk.run(priced(), path, **options)
    before, run = experts(bulk), bulk.folder / "run"
    for name in ("journal.jsonl", "results.jsonl"):
        (run / name).unlink()

    again = await bulk.run(priced(), path, **options)

    assert (experts(bulk), again.joint) == (before, first.joint)


async def test_another_budget_is_refused_where_a_run_goes_on(bulk: Bulk) -> None:
    path = bulk.questions(N)
    await bulk.run(priced(), path, budget=Budget("usd", 75.0))

    with pytest.raises(
        ConfigError, match=r"the budget is another .* \(75\.0 usd then, none now\); restore it"
    ):
        await bulk.run(priced(), path)


async def test_another_share_is_refused_where_a_run_goes_on(bulk: Bulk) -> None:
    path = bulk.questions(3)
    await bulk.run(priced(), path)

    with pytest.raises(ConfigError, match=r"the least share is another .* \(0\.0 then, 0\.1 now\)"):
        await bulk.run(priced(), path, min_share=0.1)


async def test_a_budget_that_cannot_be_kept_may_be_raised_in_the_same_folder(bulk: Bulk) -> None:
    path = bulk.questions(N)

    with pytest.raises(ConfigError, match=r"no assignment keeps within 39 USD .* at least 40$"):
        await bulk.run(priced(), path, budget=Budget("usd", 39.0))
    report = await bulk.run(priced(), path, budget=Budget("usd", 40.0))

    assert Counter(experts(bulk)) == {"ann": N}
    assert usd(report) == pytest.approx(40)


@pytest.mark.parametrize(
    ("composition", "why"),
    [
        (VOTE, r"composition 'main' chooses 3; set choose.k to 1, or leave out the budget$"),
        (
            {**PANEL, "choose": {"k": 1}},
            r"the aggregator 'synthesis' of composition 'main' may make more; use",
        ),
        (
            {**ONE, "choose": {"load_weight": 0.1}},
            r"the load_weight of composition 'main' cannot both decide; set choose.load_weight",
        ),
    ],
)
async def test_a_composition_that_cannot_keep_to_a_budget_is_refused(
    bulk: Bulk, composition: dict[str, Any], why: str
) -> None:
    path, budget = bulk.questions(1), Budget("usd", 1000.0)

    with pytest.raises(ConfigError, match=why):
        await bulk.run(priced(composition), path, budget=budget)
    with pytest.raises(ConfigError, match=why):
        await plan(bulk, priced(composition), path, Limits(budget))
    assert not (bulk.folder / "run").exists()


async def test_dollars_of_experts_without_a_price_say_nothing(bulk: Bulk) -> None:
    with pytest.raises(ConfigError, match="no expert has a price, so a budget of 1 USD in all"):
        await bulk.run(registry({"main": ONE}), bulk.questions(1), budget=Budget("usd", 1.0))


async def test_an_expert_for_a_handful_of_queries_is_not_loaded(bulk: Bulk) -> None:
    path = bulk.questions(N)
    free = await plan(bulk, priced(), path, Limits())
    *_, (expert, n) = free.chosen.items()
    least = (n + 0.5) / N

    report = await bulk.run(priced(), path, min_share=least)

    assert report.joint is not None
    assert report.joint.rare == {name: k for name, k in free.chosen.items() if k <= n}
    assert expert in report.joint.rare
    assert {*experts(bulk)} == {*report.joint.frequent}
    assert report.loads == len(EXPERTS) - len(report.joint.rare)
    assert report.joint.given_up > 0


async def test_who_is_left_out_still_answers_where_others_fail(bulk: Bulk) -> None:
    path = bulk.questions(N)
    free = await plan(bulk, priced(), path, Limits())
    *frequent, (expert, n) = free.chosen.items()
    text = json.loads(priced())
    for name, _ in frequent:
        text["experts"][name]["engine_args"]["failures"] = {"why 1?": "refused"}

    await bulk.run(json.dumps(text), path, min_share=(n + 0.5) / N)

    assert expert not in [r["expert"] for r in bulk.results() if r["id"] != "q1"]
    assert expert in [r["expert"] for r in bulk.results() if r["id"] == "q1"]


async def test_a_share_of_0_changes_nothing(bulk: Bulk) -> None:
    path = bulk.questions(N)
    free = await plan(bulk, priced(), path, Limits())

    report = await bulk.run(priced(), path, min_share=0.0)

    assert report.joint is None
    assert Counter(experts(bulk)) == Counter(free.chosen)


async def test_a_panel_has_distinct_experts_and_no_rare_one(bulk: Bulk) -> None:
    text, path = priced(VOTE), bulk.questions(N)
    free = await plan(bulk, text, path, Limits())
    least = (min(free.chosen.values()) + 0.5) / (3 * N)

    planned = await plan(bulk, text, path, Limits(min_share=least))

    assert planned.joint is not None
    assert {*planned.chosen} == {*planned.joint.frequent} < {*EXPERTS}
    assert max(planned.chosen.values()) <= N


async def test_a_plan_chooses_as_the_batch_does(bulk: Bulk) -> None:
    text, path = priced(), bulk.questions(N)
    limits = Limits(Budget("usd", 75.0), 0.1)

    planned = await plan(bulk, text, path, limits)
    report = await bulk.run(text, path, budget=limits.budget, min_share=limits.min_share)

    assert planned.joint == report.joint
    assert Counter(planned.chosen) == Counter(experts(bulk))
    assert planned.usd == pytest.approx(usd(report))


def test_it_is_told_without_an_event_loop_alike(bulk: Bulk) -> None:
    with SyncComposer(bulk.composer(priced())) as composer:
        report = composer.batch(
            bulk.questions(N), "main", bulk.folder / "run", budget=Budget("usd", 75), min_share=0.1
        )

    assert usd(report) <= 75
    assert report.joint is not None
    assert report.joint.min_share == 0.1
