"""`python -m eval harness`: lm-evaluation-harness on a composition."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from composer.errors import ConfigError
from composer.orchestrator import Composer
from eval.console import stdout_console
from eval.progress import open_bars

if TYPE_CHECKING:
    from eval.lm_harness.run import HarnessRun


def harness_command(
    tasks: Annotated[
        list[str],
        typer.Option(help="A task, group or tag of the harness, or a task's .yaml; repeatable."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the harness' files go.")],
    composition: Annotated[
        str, typer.Option("--composition", "-c", help="A composition, or one expert.")
    ] = "auto",
    experts: Annotated[Path, typer.Option(help="Which experts.yaml.")] = Path("experts.yaml"),
    include_path: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Look for tasks in this folder alone.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Questions of each task. Left out: all.")
    ] = None,
    output: Annotated[Literal["table", "json"], typer.Option(help="How to print it.")] = "table",
) -> None:
    """Run lm-evaluation-harness on a composition: its tasks, filters and metrics, our experts.

    All that a run generates is planned together, so that each expert is loaded as rarely as can be.
    What was ended goes on when the same command is given again. Tasks with options need one expert
    in place of a composition.

    DIR/COMPOSITION then has results_TIME.json and samples_TASK_TIME.jsonl, which
    `python -m eval import lm-eval` reads.

    python -m eval harness --tasks sums.yaml --composition auto --out runs/harness
    """
    if find_spec("lm_eval") is None:
        raise ConfigError(
            "lm-eval is not installed, whose tasks these are; "
            "pip install 'multi-llm-composer[eval]'"
        )
    from eval.lm_harness.run import run_harness  # noqa: PLC0415 - brings lm_eval

    with open_bars() as bars:
        run = run_harness(
            Composer.from_yaml(experts),
            composition,
            tasks,
            out,
            include_path=include_path,
            limit=limit,
            bars=bars,
        )
    for line in _notes(run):
        typer.echo(line, err=True)
    rows = _rows(run.results)
    if output == "json":
        figures = {"folder": str(run.folder), "failed_requests": len(run.failures), "rows": rows}
        sys.stdout.write(json.dumps(figures, indent=1) + "\n")
        return
    table = Table("task", "filter", "metric", "value", "stderr", "n", title=escape(composition))
    for row in rows:
        value, error = (_number(row[key]) for key in ("value", "stderr"))
        table.add_row(row["task"], row["filter"], row["metric"], value, error, str(row["n"]))
    stdout_console().print(table)
    typer.echo(run.folder)


def _notes(run: HarnessRun) -> list[str]:
    """What a reader of the figures has to know."""
    notes = [
        f"{n} requests ask for {setting!r}, which is not taken over"
        for setting, n in sorted(run.ignored.items())
    ]
    if run.failures:
        notes.append(
            f"{len(run.failures)} requests failed, whose answers count as empty; "
            f"the first: {run.failures[0]}"
        )
    return notes


def _rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The harness' figures, one a task, filter and metric."""
    rows: list[dict[str, Any]] = []
    for task, figures in results["results"].items():
        for key, value in figures.items():
            metric, comma, name = key.partition(",")
            if comma and not metric.endswith("_stderr"):
                error = figures.get(f"{metric}_stderr,{name}")
                rows.append(
                    {
                        "task": task,
                        "filter": name,
                        "metric": metric,
                        "value": float(value),
                        "stderr": error if error is None or error == "N/A" else float(error),
                        "n": figures["sample_len"],
                    }
                )
    return rows


def _number(value: float | str | None) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value or "")
