"""What is odd about recorded outcomes, before anything is fitted on them or measured with them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from composer.errors import ConfigError
from composer.outcomes.checks import CHECKS, Finding, Severity
from composer.outcomes.folder import read_folder
from composer.outcomes.store import MANIFEST, read_table
from composer.outcomes.table import OutcomeTable

__all__ = ["Finding", "lint_folder", "lint_table"]

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""The worst first."""
MAX_PROBLEMS = 20
"""What cannot be read is told one by one up to here."""


def lint_folder(folder: Path, *, partial: bool = False) -> tuple[Finding, ...]:
    """What cannot be read of a folder, and then what `lint_table` finds in the rest.

    Args:
        folder: See `read_table`.
        partial: Look at the partial experts as well.

    Raises:
        ConfigError: There is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"no folder {str(folder)!r}; name one with recorded outcomes")
    problems: list[str] = []
    findings: tuple[Finding, ...] = ()
    try:
        if (folder / MANIFEST).exists():
            table = read_table(folder, partial=partial)
        else:
            table = read_folder(folder, partial=partial, on_problem=problems.append)
        findings = lint_table(table)
    except ConfigError as exc:
        problems.append(str(exc))
    if (n_more := len(problems) - MAX_PROBLEMS) > 0:
        problems[MAX_PROBLEMS:] = [f"{folder}: {n_more:,} more problems; mend these first"]
    return (*(Finding("unreadable", "error", problem) for problem in problems), *findings)


def lint_table(table: OutcomeTable) -> tuple[Finding, ...]:
    """What is odd about a table, the worst first."""
    findings = [finding for check in CHECKS for finding in check(table)]
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
