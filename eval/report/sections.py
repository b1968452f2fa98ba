"""Runs -> the sections of a page; what only some of them have is said where it is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from composer.errors import ConfigError
from composer.suggest import unknown_name
from eval.replay.rows import N_RESAMPLES
from eval.report.chart_cost import cost_chart, has_costs
from eval.report.chart_curves import curves_chart
from eval.report.chart_ladder import ladder_chart
from eval.report.chart_reliability import predictions_of, reliability_chart
from eval.report.drawing import drawing_style
from eval.report.load import JudgedPart, PairRun, ReplayRun, Run
from eval.report.looks import Look, is_reference, ladder_place, make_looks
from eval.report.means import PartMeans, part_means
from eval.report.page import Chart, Page, Section, Table
from eval.report.tables import (
    attribution_tables,
    category_tables,
    experts_table,
    facts_table,
    pair_table,
    rows_table,
    settings_table,
    worst_table,
)
from eval.report.worst import regrets, worst_queries

INTERVALS = (
    f"Brackets are 95 % intervals from a bootstrap of {N_RESAMPLES:,} resamples of the queries "
    "within their categories: how far a figure would move on other queries of the same kind. They "
    "say nothing of other experts, of other training queries, or of other kinds of queries."
)
PAIRED = (
    "The difference to the best single expert is paired: both are taken on the same resamples. So "
    "it can be clear where the intervals of the two overlap; and of 20 methods that are no better, "
    "one has an interval without 0 by chance."
)
HIDDEN = (
    "Where the category is hidden, routers and aggregators see the prompt only; category-expert is "
    "told the category all the same. category-hindsight and oracle choose by the scores that they "
    "are judged on: they are bounds, and nothing to choose from."
)
PAIRS = (
    "APGR is the mean share of the gap between the weak and the strong expert that is recovered, "
    "over all shares of strong calls: 0.5 at random. CPT(x) is the share of strong calls that "
    "recovers x of the gap. Their intervals cover the draws of the labels and the questions."
)
COSTS = (
    "Small dots are single experts, large marks are methods with their intervals, and the line is "
    "the Pareto front of both: whatever is below it is beaten at its cost. Hollow marks choose by "
    "the scores that they are judged on and are no part of it. A method costs what all the experts "
    "cost that it asks; the router itself is not counted."
)
ATTRIBUTION = (
    "All terms are paired and of the same queries. Routing: the first choice of the router alone, "
    "less the best single expert. Aggregation: the composition less its first choice alone. "
    "Potential: the best of the answers that it had to work with, less the first choice; of that, "
    "unused is what the composition falls short of, and below 0 it did better than all whom it "
    "asked. Missed: what an expert knew that was not asked. Samples are answers of experts' own, a "
    "query: rows of equal counts are those to compare."
)
RELIABILITY = (
    "Each mark is a bin of queries by the quality predicted of the chosen expert, with its "
    "Wilson interval; on the dashed line predictions are as good as their word. ECE is the mean "
    "distance from it, weighted by the counts below."
)
CATEGORIES = (
    "Bold is the best in its category, category-hindsight and oracle apart. It is no claim: look "
    "at n and at the intervals."
)
WORST = (
    "The queries on which most was lost to the best expert; of equal losses those come first of "
    "which the router was surest."
)


@dataclass(frozen=True)
class Shown:
    """One split of one replay, and all that is shown of it."""

    run: str
    part: JudgedPart
    means: PartMeans

    @property
    def title(self) -> str:
        """Begins its captions."""
        return f"{self.run}, {self.part.name}"


def make_page(
    runs: Sequence[Run],
    *,
    n_worst: int = 10,
    method: str = "",
    on_columns: Callable[[int], Callable[[], None]] = lambda n: lambda: None,
) -> Page:
    """The report of some runs.

    Args:
        runs: At least one.
        n_worst: Bad queries that are listed for each split.
        method: Whose; "": those of the first method that is no rung of the ladder.
        on_columns: Called once with the number of steps; what it returns is called after each.

    Raises:
        ConfigError: No run has the method.
    """
    replays = [run for run in runs if isinstance(run, ReplayRun)]
    pairs = [run for run in runs if isinstance(run, PairRun)]
    methods = [row.method for run in replays for part in run.parts for row in part.rows]
    if method and method not in methods:
        raise ConfigError(unknown_name("method in these runs", method, methods))
    looks = make_looks(
        sorted(
            [*methods, *(line.method for run in pairs for line in run.found.rows)], key=ladder_place
        )
    )
    advance = on_columns(
        sum(len(p.rows) + len(p.table.names) for run in replays for p in run.parts)
    )
    shown = [
        Shown(run.name, part, part_means(part, seed=_seed(run), on_column=advance))
        for run in replays
        for part in run.parts
    ]
    with drawing_style():
        sections = [Section("The runs", tables=(facts_table(runs),)), _how_to_read(replays, pairs)]
        if shown:
            sections += [_ladder(shown, looks), *_attribution(replays), _costs(shown, looks)]
        if pairs:
            sections.append(_curves(pairs, looks))
        if shown:
            sections += [_reliability(shown, looks), _categories(shown)]
        if shown and n_worst:
            sections.append(_worst(shown, n_worst, method))
    names = ", ".join(run.name for run in runs)
    return Page(f"Report: {names}", tuple(sections))


def _seed(run: ReplayRun) -> int:
    return int(run.manifest.options.get("seed", 0))


def _how_to_read(replays: Sequence[ReplayRun], pairs: Sequence[PairRun]) -> Section:
    texts = [INTERVALS, PAIRED, HIDDEN] if replays else []
    return Section("How to read it", (*texts, *([PAIRS] if pairs else [])))


def _ladder(shown: Sequence[Shown], looks: Mapping[str, Look]) -> Section:
    charts = [
        (each, ladder_chart(each.part, looks, name=f"ladder-{i}", title=each.title))
        for i, each in enumerate(shown)
    ]
    splits = dict.fromkeys(each.part.name for each in shown)
    tables = tuple(
        rows_table(split, [(s.run, s.part) for s in shown if s.part.name == split])
        for split in splits
    )
    return Section("The ladder", (), _side_by_side(charts), (*tables, *_settings(shown)))


def _settings(shown: Sequence[Shown]) -> list[Table]:
    """The settings of each run; splits that share them share a table."""
    splits: dict[tuple[str, Table], list[str]] = {}
    for each in shown:
        splits.setdefault((each.run, settings_table(each.part)), []).append(each.part.name)
    return [
        replace(table, caption=f"{run}, {', '.join(names)}: settings")
        for (run, table), names in splits.items()
    ]


def _attribution(replays: Sequence[ReplayRun]) -> list[Section]:
    """Of the live runs, if there are any."""
    live = [run for run in replays if run.attributions]
    tables = tuple(table for run in live for table in attribution_tables(run))
    return [Section("Where gains come from", (ATTRIBUTION,), tables=tables)] if live else []


def _costs(shown: Sequence[Shown], looks: Mapping[str, Look]) -> Section:
    title = "Cost against quality"
    charts = [
        (each, cost_chart(each.part, each.means, looks, name=f"cost-{i}", title=each.title))
        for i, each in enumerate(shown)
        if has_costs(each.part)
    ]
    without = [each for each in shown if not has_costs(each.part)]
    texts = [COSTS] if charts else []
    if without:
        names = ", ".join(dict.fromkeys(each.run for each in without))
        texts.append(
            f"No costs are recorded for {names}, so there is nothing to set quality against."
        )
    tables = tuple(
        experts_table(f"{each.title}: single experts", each.means.experts) for each in without
    )
    return Section(title, tuple(texts), _side_by_side(charts), tables)


def _curves(pairs: Sequence[PairRun], looks: Mapping[str, Look]) -> Section:
    charts: list[Chart] = []
    for run in pairs:
        for _, lines in groupby(run.found.rows, key=lambda line: (line.prefix, line.labels)):
            of_group = list(lines)
            prefix = f", {of_group[0].prefix}" if of_group[0].prefix else ""
            title = f"{run.name}{prefix}"
            charts.append(curves_chart(of_group, looks, name=f"curves-{len(charts)}", title=title))
    return Section("Strong and weak experts", charts=(tuple(charts),), tables=(pair_table(pairs),))


def _reliability(shown: Sequence[Shown], looks: Mapping[str, Look]) -> Section:
    charts: list[tuple[Shown, Chart]] = []
    for i, each in enumerate(shown):
        if found := predictions_of(each.part):
            name = f"reliability-{i}"
            charts.append((each, reliability_chart(found, looks, name=name, title=each.title)))
    text = RELIABILITY if charts else "No method of these runs predicts a quality."
    return Section("Reliability", (text,), _side_by_side(charts))


def _categories(shown: Sequence[Shown]) -> Section:
    tables = [
        table
        for each in shown
        if any(each.part.table.categories)
        for table in category_tables(each.title, each.part, each.means.by_category)
    ]
    texts = [CATEGORIES] if tables else []
    without = dict.fromkeys(each.run for each in shown if not any(each.part.table.categories))
    if without:
        texts.append(f"No categories are recorded for {', '.join(without)}.")
    return Section("By category", tuple(texts), tables=tuple(tables))


def _worst(shown: Sequence[Shown], n_worst: int, method: str) -> Section:
    tables: list[Table] = []
    for each in shown:
        names = [row.method for row in each.part.rows]
        others = [name for name in names if not is_reference(name)]
        whose = method or next(iter(others), "best-single")
        if whose in names:
            lost = int((regrets(each.part, whose) > 0).sum())
            title = f"{each.title}: {whose} did worse than the best expert on {lost:,} queries"
            queries = worst_queries(each.part, whose, n_worst)
            tables.append(worst_table(f"{title}; the worst {len(queries)}", queries))
    return Section("Where most was lost", (WORST,), tables=tuple(tables))


def _side_by_side(charts: Sequence[tuple[Shown, Chart]]) -> tuple[tuple[Chart, ...], ...]:
    """Charts of one split beside one another, or all of them if there is one run only."""
    if len({each.run for each, _ in charts}) < 2:
        return (tuple(chart for _, chart in charts),) if charts else ()
    splits = dict.fromkeys(each.part.name for each, _ in charts)
    return tuple(
        tuple(chart for each, chart in charts if each.part.name == split) for split in splits
    )
