"""Runs, rows, categories, experts and bad queries as tables."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence

from eval.live.output import GAIN, GAIN_TITLE, GAP, GAP_TITLE, gain_cells, gap_cells
from eval.replay.output import COLUMNS as ROW_COLUMNS
from eval.replay.output import cells, number, with_interval
from eval.report.load import JudgedPart, PairRun, ReplayRun, Run
from eval.report.looks import PEEKING, ladder_place
from eval.report.means import ExpertMean, Mean
from eval.report.page import Cell, Table, make_table
from eval.report.worst import WorstQuery

METHODS_ACROSS = 6
"""More do not fit on a printed page: the table goes on in another one."""
EXCERPT_CHARACTERS = 240
HASH_CHARACTERS = 12
PAIR_COLUMNS = (
    *("method", "run", "category", "labels", "draws", "n"),
    *("APGR [95 %]", "CPT(50 %)", "CPT(80 %)"),
)


def facts_table(runs: Sequence[Run]) -> Table:
    """What was run on what, a column a run."""
    facts = [dict(_facts(run)) for run in runs]
    names = dict.fromkeys(name for of_run in facts for name in of_run)
    rows = [(name, *(of_run.get(name, "-") for of_run in facts)) for name in names]
    columns = ("run", *(run.name for run in runs))
    return make_table("What was run", columns, rows, n_words=len(columns))


def rows_table(split: str, parts: Sequence[tuple[str, JudgedPart]]) -> Table:
    """The rows of one split, of all runs that have it, by method.

    Args:
        split: Its name.
        parts: The runs' names and their parts.
    """
    methods = dict.fromkeys(row.method for _, part in parts for row in part.rows)
    rows = [
        (method, name, *cells(part.row_of[method])[1:])
        for method in sorted(methods, key=ladder_place)
        for name, part in parts
        if method in part.row_of
    ]
    return make_table(split, ("method", "run", *ROW_COLUMNS[1:]), rows, n_words=3)


def settings_table(part: JudgedPart) -> Table:
    """What each method used: what was chosen on train, and what was given."""
    rows = [
        (row.method, excerpt(", ".join(f"{key} {value}" for key, value in row.settings.items())))
        for row in part.rows
        if row.settings
    ]
    return make_table("settings", ("method", "settings"), rows, n_words=2)


def pair_table(runs: Sequence[PairRun]) -> Table:
    """The rows of all pairs of a strong and a weak expert."""
    rows = [
        (
            line.method,
            run.name,
            line.category,
            f"{line.labels:,}",
            f"{line.n_seeds}",
            f"{line.n:,}",
            with_interval(line.apgr, line.apgr_ci95),
            number(line.cpt50, ".1%"),
            number(line.cpt80, ".1%"),
        )
        for run in runs
        for line in run.found.rows
    ]
    return make_table("Between a strong and a weak expert", PAIR_COLUMNS, rows, n_words=3)


def category_tables(
    title: str, part: JudgedPart, by_category: Mapping[str, Sequence[Mean]]
) -> tuple[Table, ...]:
    """Accuracy of every method in each category; the best that does not peek is marked.

    Args:
        title: Begins the captions.
        part: Whose categories.
        by_category: See `PartMeans`.
    """
    methods = list(by_category)
    tables: list[Table] = []
    for start in range(0, len(methods), METHODS_ACROSS):
        across = methods[start : start + METHODS_ACROSS]
        rows: list[tuple[Cell, ...]] = []
        for code, category in enumerate(part.table.categories):
            n = int((part.table.category_codes == code).sum())
            best = _best(by_category, code)
            found = (
                _category_cell(
                    by_category[method][code], n, math.nan if method in PEEKING else best
                )
                for method in across
            )
            rows.append((Cell(category or "(none)"), Cell(f"{n:,}"), *found))
        caption = title if start == 0 else f"{title} (continued)"
        tables.append(Table(caption, ("category", "n", *across), tuple(rows)))
    return tuple(tables)


def attribution_tables(run: ReplayRun) -> tuple[Table, Table]:
    """Where the gains of a live run come from, and what is left to the oracle."""
    return (
        make_table(f"{run.name}: {GAIN_TITLE}", GAIN, gain_cells(run.attributions)),
        make_table(f"{run.name}: {GAP_TITLE}", GAP, gap_cells(run.attributions)),
    )


def experts_table(title: str, experts: Sequence[ExpertMean]) -> Table:
    """What each expert would have got, asked everything; the best first."""
    rows = [
        (
            expert.name,
            f"{expert.score.n:,}",
            with_interval(expert.score.value, (expert.score.low, expert.score.high)),
        )
        for expert in sorted(experts, key=lambda expert: -expert.score.value)
    ]
    return make_table(title, ("expert", "n", "accuracy [95 %]"), rows)


def worst_table(title: str, queries: Sequence[WorstQuery]) -> Table:
    """Queries with what was chosen and what everybody scored."""
    rows = [
        (
            query.decision.query_id,
            query.category or "-",
            excerpt(query.prompt),
            f"{_chosen(query)}, scored {query.decision.score:.2f}",
            "; ".join(f"{score:.2f}: {', '.join(names)}" for score, names in query.scores),
        )
        for query in queries
    ]
    columns = ("query", "category", "prompt", "chosen", "what each expert scored")
    return make_table(title, columns, rows, n_words=len(columns))


def excerpt(text: str) -> str:
    """The beginning of a text, on one line and without characters that cannot be seen."""
    visible = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(visible.split())
    return text if len(text) <= EXCERPT_CHARACTERS else f"{text[: EXCERPT_CHARACTERS - 1]}…"


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    about = run.manifest
    yield "data set", about.dataset
    yield "experts", f"{len(about.experts)}: {', '.join(about.experts)}"
    told = "known" if about.options.get("known_category") else "hidden"
    match run:
        case ReplayRun():
            yield "queries", _sizes(run)
            yield "judged on", _judged_on(run)
            yield "category", f"{told}; category-expert and category-hindsight always know it"
            if "online" in about.options:
                how = "one question after the other" if about.options["online"] else "in bulk"
                yield "compositions", f"asked {how}"
        case PairRun(found=found):
            sizes = (
                f"{e.n:,} in each of {e.n_seeds} draws of {e.labels:,} labels" for e in found.rows
            )
            yield "queries", "; ".join(dict.fromkeys(sizes))
            yield (
                "judged on",
                f"strong {found.strong} (accuracy {number(found.strong_accuracy, '.4f')}) against "
                f"weak {found.weak} (accuracy {number(found.weak_accuracy, '.4f')})",
            )
            yield "category", f"{told}; category-expert always knows it"
    if "seed" in about.options:
        yield "seed", str(about.options["seed"])
    if "encoder" in about.options:
        yield "encoder", str(about.options["encoder"])
    yield "command", f"python -m eval {shlex.join(about.command)}"
    yield "config hash", about.config_hash[:HASH_CHARACTERS]
    yield "versions", ", ".join(f"{name} {version}" for name, version in about.versions.items())
    if isinstance(run, ReplayRun) and run.not_run:
        yield "not run", "; ".join(f"{each.method}: {each.reason}" for each in run.not_run)


def _sizes(run: ReplayRun) -> str:
    """How many queries each split has, and how many of them are reported apart."""
    sizes: list[str] = []
    for split in run.table.splits:
        ordinary = len(run.table.split(split).queries)
        flagged = len(run.table.split(split, flagged=True).queries)
        sizes.append(f"{split} {ordinary:,}" + (f" (and {flagged:,} flagged)" if flagged else ""))
    return ", ".join(sizes)


def _judged_on(run: ReplayRun) -> str:
    parts = ", ".join(f"{part.name} ({len(part.table.queries):,})" for part in run.parts)
    only = run.manifest.options.get("categories")
    return f"{parts}; only the categories {only}" if only else parts


def _best(by_category: Mapping[str, Sequence[Mean]], code: int) -> float:
    """The highest accuracy in a category; NaN where nothing is known."""
    values = [means[code].value for name, means in by_category.items() if name not in PEEKING]
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _category_cell(mean: Mean, n: int, best: float) -> Cell:
    if not mean.n:
        return Cell("-")
    text = f"{mean.value:.3f} [{number(mean.low, '.3f')}, {number(mean.high, '.3f')}]"
    return Cell(text if mean.n == n else f"{text} (n = {mean.n:,})", mean.value == best)


def _chosen(query: WorstQuery) -> str:
    decision = query.decision
    if decision.failed:
        return "no answer"
    if decision.expert is None:
        return f"of {', '.join(decision.asked)}" if decision.asked else "nobody in particular"
    if math.isnan(decision.predicted):
        return decision.expert
    return f"{decision.expert} (predicted {decision.predicted:.2f})"
