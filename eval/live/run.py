"""A live run: experts alone, then each composition, then what they are worth; kept as it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.bulk.window import nothing_known
from composer.errors import ConfigError
from composer.orchestrator import Composer
from composer.suggest import unknown_name
from eval.live.attribution import Attribution
from eval.live.compositions import SELF_MOA, find_compositions, self_moa
from eval.live.entries import Asking, Entry, most_samples
from eval.live.experts import OnProgress, ask_experts, silent_experts
from eval.live.folder import ATTRIBUTION, COMPOSITIONS, EXPERTS, Options, open_live
from eval.live.judging import (
    attribute_all,
    best_single,
    judge_experts,
    judge_ladder,
    ladder_rows,
)
from eval.live.questions import gather, refuse_known
from eval.live.recorded import read_recorded
from eval.live.records import Record, write_records
from eval.live.scoring import Scoring
from eval.live.timing import Timing
from eval.replay.judged import Judged
from eval.replay.parts import Part, make_parts
from eval.replay.rows import Row
from eval.replay.run_folder import RunFolder, write_json
from eval.tasks.task import Task


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What a run found."""

    rows: tuple[Row, ...]
    attributions: tuple[Attribution, ...]
    as_json: Mapping[str, Any]
    """What rows.json holds."""
    unanswered: Mapping[str, Sequence[Record]]
    """Records of queries without an answer, by method, where there are any."""
    silent: Mapping[str, str]
    """Why they did not, by expert, of those that answered no question alone."""


async def run_live(
    composer: Composer,
    tasks: Sequence[Task],
    compositions: Sequence[str],
    path: Path,
    options: Options,
    *,
    outcomes: Path | None = None,
    on_progress: OnProgress = lambda what, done, total: None,
) -> LiveRun:
    """Ask experts and compositions the questions of tasks, and judge what they say.

    All that can be refused is refused before anybody is asked. Called again with the same arguments
    it goes on where it stood, and asks only what has no outcome, or failed when an expert was asked
    alone.

    Args:
        composer: Of the experts and compositions; its pool runs all, and is not closed.
        tasks: At least one.
        compositions: Names of compositions, or of experts, which then answer alone.
        path: The folder that keeps everything.
        options: See there.
        outcomes: The folder of a table whose train split the best single expert is chosen on; None:
            the tasks' train cases are asked.
        on_progress: Called as it goes on.

    Raises:
        ConfigError: A name, a task or the folder is wrong, or cannot be used together with the
            others; or a composition cannot work.
        RoutingError: A composition cannot score the questions at all.
    """
    questions = gather(tasks)
    experts = _experts(composer, options.only)
    recorded = None
    if outcomes is not None:
        asked = {question.case.category for question in questions.test}
        recorded = read_recorded(outcomes, experts, asked)
        known = ((query.id, query.prompt) for query in recorded.queries)
        refuse_known(questions.test, known, f"the train split of {str(outcomes)!r}")
    elif not questions.train:
        raise ConfigError(
            "no train case, on which the best single expert is chosen; add some, or name recorded "
            "ones with --outcomes"
        )
    composed = find_compositions(composer, compositions)
    folder = open_live(path, questions, composer.registry, recorded, options)
    timing = Timing(path, lambda: composer.pool.n_loads)
    with Scoring(path) as scoring:
        with timing.step("experts"):
            alone = await ask_experts(
                questions,
                composer,
                path / EXPERTS,
                experts=experts,
                recorded=recorded,
                scoring=scoring,
                on_progress=on_progress,
            )
        (part,) = make_parts(alone.table)
        below = judge_experts(part)
        asking = Asking(
            composer,
            questions.test,
            path / COMPOSITIONS,
            options,
            nothing_known if options.ask_again else alone.said,
            scoring,
            timing,
            on_progress,
        )
        entries = [await asking.ask(each.name, each) for each in composed]
        not_run: dict[str, str] = {}
        if options.self_moa and (samples := most_samples(entries)) > 1:
            expert = str(best_single(below).settings["expert"])
            try:
                composition = self_moa(composer.registry, expert, samples)
            except ConfigError as exc:
                not_run[SELF_MOA] = str(exc)
            else:
                entries.append(await asking.ask(SELF_MOA, composition, {"expert": expert}))
    with timing.step("figures"):
        return _keep(folder, part, below, entries, not_run, options, alone.failed)


def _keep(
    folder: RunFolder,
    part: Part,
    below: Sequence[Judged],
    entries: Sequence[Entry],
    not_run: Mapping[str, str],
    options: Options,
    failed: Mapping[str, str],
) -> LiveRun:
    """Write what all that was said comes to."""
    judged = judge_ladder(part, below, entries)
    for each in judged:
        folder.save(part.name, each)
    rows = ladder_rows(part, judged, options)
    attributions = attribute_all(part, below, entries, options)
    as_json = {
        "dataset": part.judged.name,
        "experts": list(part.judged.names),
        "rows": [row.to_json() for row in rows],
        "not_run": [{"method": method, "reason": why} for method, why in not_run.items()],
    }
    write_records(folder.path, [record for entry in entries for record in entry.records])
    write_json(folder.path / ATTRIBUTION, {"rows": [each.to_json() for each in attributions]})
    write_json(folder.path / "rows.json", as_json)
    return LiveRun(
        tuple(rows),
        tuple(attributions),
        as_json,
        {entry.method: entry.unanswered for entry in entries if entry.unanswered},
        {name: failed.get(name, "") for name in silent_experts(part.judged)},
    )


def _experts(composer: Composer, only: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(only or composer.registry.routed))
    for name in names:
        if name not in composer.registry.experts:
            raise ConfigError(unknown_name("expert", name, composer.registry.experts))
    return names
