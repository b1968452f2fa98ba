"""`python -m eval lint`: what is odd about recorded outcomes."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from composer.outcomes.lint import Finding, lint_folder
from eval.console import stdout_console


def lint(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Recorded outcomes: a saved table, or lines.")
    ],
    output: Annotated[
        Literal["table", "json"], typer.Option(help="A table for people, JSON for programs.")
    ] = "table",
    partial: Annotated[
        bool, typer.Option("--partial", help="Look at models marked partial as well.")
    ] = False,
) -> None:
    """Say what is odd about recorded outcomes.

    Broken lines, scores out of range, missing outcomes, empty prompts; test
    prompts that are in train; one prompt scored twice, and differently;
    experts that never vary or are copies; categories that train lacks.

    An error spoils what is computed, a warning may, a note is worth knowing.
    The exit status is 1 if there is an error.

    python -m eval lint data/mine

    python -m eval lint data/mine --partial --output json
    """
    findings = lint_folder(folder, partial=partial)
    if output == "json":
        found = [asdict(finding) for finding in findings]
        sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    else:
        _show(findings)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


def _show(findings: tuple[Finding, ...]) -> None:
    console = stdout_console()
    if not findings:
        console.print("nothing odd")
        return
    table = Table("severity", "kind", "finding", "queries", "such as", box=SIMPLE)
    for finding in findings:
        table.add_row(
            finding.severity,
            finding.kind,
            escape(finding.message),
            f"{finding.n_rows:,}" if finding.n_rows else "",
            escape(", ".join(finding.rows[:2])),
        )
    console.print(table)
