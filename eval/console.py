"""Where tables are printed."""

from __future__ import annotations

import sys

from rich.console import Console

PIPED_WIDTH = 160
"""Columns where stdout is a file or another program."""


def stdout_console() -> Console:
    """Stdout, as wide as the terminal; numbers and names in it are not coloured."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)
