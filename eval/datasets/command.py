"""`python -m eval import`: public outcomes -> a folder that routers are fitted on."""

from __future__ import annotations

import datetime
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable
from composer.suggest import unknown_name
from eval.console import stdout_console
from eval.datasets import IMPORTERS, Importer, Options, Source
from eval.datasets.imported import DEFAULTS
from eval.datasets.writer import check_destination, source_note, write_folder

FLAGS = {"test_share": "split", "metrics": "metric"}
"""Flags whose names are not those of the fields of `Options`."""


def import_outcomes(
    source_format: Annotated[
        str, typer.Argument(metavar="FORMAT", help=f"One of: {', '.join(sorted(IMPORTERS))}.")
    ],
    src: Annotated[Path, typer.Argument(metavar="SRC", help="A file or folder of that format.")],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="The folder to write.")],
    split: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share that goes to test where the source has no splits."),
    ] = DEFAULTS.test_share,
    scale: Annotated[
        float, typer.Option(min=1e-9, help="What scores are out of, such as 10 or 100.")
    ] = DEFAULTS.scale,
    keep_first: Annotated[
        bool, typer.Option("--keep-first", help="Of two different scores for a cell, the first.")
    ] = DEFAULTS.keep_first,
    texts: Annotated[bool, typer.Option(help="Keep the models' full texts.")] = DEFAULTS.texts,
    binarise: Annotated[
        list[str] | None,
        typer.Option(help="routerdc: a category whose scores above 0 count as 1; repeatable."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="lm-eval: the metric that is the score; the first there is counts."),
    ] = None,
    filter_name: Annotated[
        str | None, typer.Option("--filter", help="lm-eval: whose extraction counts.")
    ] = DEFAULTS.filter,
    question: Annotated[
        str | None, typer.Option(help="lm-eval: the document's field that is the prompt.")
    ] = DEFAULTS.question,
    annotator: Annotated[
        str | None, typer.Option(help="alpaca-eval: whose preferences count.")
    ] = DEFAULTS.annotator,
    force: Annotated[bool, typer.Option("--force", help="Replace a table that is there.")] = False,
    output: Annotated[Literal["table", "json"], typer.Option(help="How to print it.")] = "table",
) -> None:
    """Import outcomes that others publish; notes and progress on stderr, a summary on stdout."""
    if source_format not in IMPORTERS:
        raise ConfigError(unknown_name("format", source_format, IMPORTERS))
    importer = IMPORTERS[source_format]
    options = Options(
        test_share=split,
        scale=scale,
        keep_first=keep_first,
        texts=texts,
        binarise=tuple(binarise or ()),
        metrics=tuple(metric or ()),
        filter=filter_name,
        question=question,
        annotator=annotator,
    )
    changed = _changed(options)
    _check_options(source_format, importer, changed)
    check_destination(dest, force=force)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        imported = importer.read(Source(src, progress), options)
    about = source_note(
        imported,
        dest.resolve().name,
        source_format=source_format,
        root=src,
        flags=_flags(changed),
        today=datetime.datetime.now(datetime.UTC).date(),
    )
    table = write_folder(imported, dest, about)
    for note in imported.notes:
        typer.echo(note, err=True)
    _summarise(table, dest, output)


def _changed(options: Options) -> dict[str, Any]:
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return {name: value for name, value in values.items() if value != getattr(DEFAULTS, name)}


def _flag(name: str) -> str:
    return FLAGS.get(name, name).replace("_", "-")


def _flags(changed: dict[str, Any]) -> list[str]:
    """What to write on the command line for these options."""
    flags: list[str] = []
    for name, value in changed.items():
        if isinstance(value, bool):
            flags.append(f"--{_flag(name)}" if value else f"--no-{_flag(name)}")
        else:
            values = cast("tuple[object, ...]", value if isinstance(value, tuple) else (value,))
            flags += [f"--{_flag(name)} {one}" for one in values]
    return flags


def _check_options(source_format: str, importer: Importer, changed: dict[str, Any]) -> None:
    for name in changed:
        owners = [other for other, its in IMPORTERS.items() if name in its.options]
        if owners and name not in importer.options:
            raise ConfigError(
                f"--{_flag(name)} means nothing to {source_format!r}; it is for {owners[0]!r}"
            )


def _summarise(table: OutcomeTable, folder: Path, output: str) -> None:
    queries = {
        split: sum(query.split == split for query in table.queries) for split in table.splits
    }
    missing = int(np.isnan(table.score).sum())
    if output == "json":
        summary = {
            "folder": str(folder),
            "queries": queries,
            "models": list(table.names),
            "missing_cells": missing,
        }
        typer.echo(json.dumps(summary, ensure_ascii=False, indent=2))
        return
    shown = Table("", "count", box=SIMPLE)
    for split, count in queries.items():
        shown.add_row(f"queries in {split}", str(count))
    shown.add_row("models", str(len(table.names)))
    shown.add_row("missing cells", f"{missing} of {table.score.size}")
    typer.echo(folder)
    stdout_console().print(shown)
