"""`python -m eval tasks`: what tasks there are, what is in one, and its cases as a file."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from composer.errors import ConfigError
from composer.profile import Case
from eval.console import stdout_console
from eval.tasks.registry import TASKS, load_task
from eval.tasks.subset import limit
from eval.tasks.task import Task, typed_score


def tasks_command(
    name: Annotated[
        str, typer.Argument(help="A task; left out: lists what there is.", show_default=False)
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Write its cases there, as composer profile reads them.")
    ] = None,
    split: Annotated[str, typer.Option(help="Only this split, such as test.")] = "",
    n: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="At most so many cases of a split, of all categories."),
    ] = None,
    drop_leaks: Annotated[
        bool,
        typer.Option("--drop-leaks", help="Leave out train questions that are in test as well."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    output: Annotated[
        Literal["table", "json"], typer.Option(help="A table for people, JSON for programs.")
    ] = "table",
) -> None:
    """List tasks, show what is in one, or write its cases.

    python -m eval tasks

    python -m eval tasks starter

    python -m eval tasks gsm8k:data/gsm8k --split test --limit 100 --out gsm8k.jsonl
    """
    if not name:
        _list(output)
        return
    # Nothing is scored here, so nothing that experts wrote is run.
    task = load_task(name, allow_code_execution=True, drop_leaks=drop_leaks)
    if split:
        task = _of_split(task, split)
    if n is not None:
        task = limit(task, n)
    if out is not None:
        _export(task, out, force=force)
        typer.echo(f"wrote {len(task.cases):,} cases to {out}", err=output == "json")
    if output == "json":
        _write_json(_summary(task))
    elif out is None:
        _show(task)


def _list(output: str) -> None:
    if output == "json":
        _write_json([{"name": entry.usage, "about": entry.about} for entry in TASKS.values()])
        return
    table = Table("task", "what it is", box=SIMPLE)
    for entry in TASKS.values():
        table.add_row(escape(entry.usage), escape(entry.about))
    stdout_console().print(table)


def _of_split(task: Task, split: str) -> Task:
    there = dict.fromkeys(case.split for case in task.cases)
    if split not in there:
        raise ConfigError(f"{task.name!r} has no split {split!r}; choose from {list(there)}")
    return replace(task, cases=task.split(split))


def _counted(cases: Sequence[Case]) -> Counter[tuple[str, str | None, str]]:
    return Counter((case.split, case.category, case.answer_type) for case in cases)


def _summary(task: Task) -> dict[str, Any]:
    return {
        "task": task.name,
        "cases": [
            {"split": split, "category": category, "answer_type": answer_type, "n": n}
            for (split, category, answer_type), n in _counted(task.cases).items()
        ],
        "example": asdict(task.cases[0]),
    }


def _show(task: Task) -> None:
    console = stdout_console()
    table = Table("split", "category", "answer type", "cases", box=SIMPLE, title=escape(task.name))
    for (split, category, answer_type), n in _counted(task.cases).items():
        table.add_row(escape(split), escape(category or ""), answer_type, f"{n:,}")
    console.print(table)
    example = task.cases[0]
    shown = f"{example.id}:\n\n{example.prompt}\n\nright is: {example.reference}"
    console.print(shown, markup=False, soft_wrap=True)


def _export(task: Task, out: Path, *, force: bool) -> None:
    """Write the cases, all or nothing.

    Raises:
        ConfigError: Something is there, the cases do not say how they are scored, or the disk
            refuses.
    """
    if task.scorer is not typed_score:
        raise ConfigError(
            f"{task.name!r} is scored by running its tests, which a file of cases does not hold; "
            "name the task itself where it is scored"
        )
    if out.exists() and not force:
        raise ConfigError(f"{str(out)!r} exists; name another --out, or replace it with --force")
    lines = [json.dumps(asdict(case), ensure_ascii=False) + "\n" for case in task.cases]
    part = out.with_name(f".{out.name}.part")
    try:
        part.write_text("".join(lines), encoding="utf-8")
        os.replace(part, out)
    except OSError as exc:
        raise ConfigError(f"{str(out)!r} cannot be written ({exc.strerror}); mend that") from exc


def _write_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
