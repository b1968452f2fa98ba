"""`python -m eval report`: runs as one HTML file, and the same in Markdown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from composer.errors import ConfigError
from eval.progress import open_bars
from eval.report.load import load_runs
from eval.report.render import to_html, to_markdown


def report_command(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN_DIR...", help="Folders that --out of a run named.")
    ],
    out: Annotated[
        Path, typer.Option(help="The HTML file to write; its twin in Markdown ends in .md.")
    ] = Path("report.html"),
    worst: Annotated[
        int, typer.Option(min=0, help="Queries to list on which most was lost, a split.")
    ] = 10,
    method: Annotated[
        str,
        typer.Option(help="Whose queries those are. Default: the first method that is no rung."),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Report on runs of replay and pair: charts, tables, and where most was lost.

    Writes one HTML file that loads nothing and runs no script, and a Markdown twin that has tables
    instead of charts. Several runs stand beside one another.

    python -m eval report runs/mine

    python -m eval report runs/first runs/second --out both.html --method neighbours
    """
    if out.suffix != ".html":
        raise ConfigError(f"{str(out)!r} does not end in .html; name a file that does")
    twin = out.with_suffix(".md")
    for path in (out, twin):
        if path.exists() and not force:
            raise ConfigError(
                f"{str(path)!r} exists; name another --out, or replace it with --force"
            )
    if not out.parent.is_dir():
        raise ConfigError(f"there is no folder {str(out.parent)!r}; make it, or name another --out")
    if find_spec("matplotlib") is None:
        raise ConfigError(
            "matplotlib is not installed, which draws the charts; "
            "pip install 'multi-llm-composer[eval]'"
        )
    from eval.report.sections import make_page

    with open_bars() as bars:
        page = make_page(
            load_runs(runs),
            n_worst=worst,
            method=method,
            on_columns=lambda n: bars.on_rows("intervals", n),
        )
    _write({out: to_html(page), twin: to_markdown(page)})
    typer.echo(f"wrote {out} and {twin}")


def _write(texts: Mapping[Path, str]) -> None:
    """Write files, each whole or not at all."""
    for path, text in texts.items():
        part = path.with_name(f".{path.name}.part")
        try:
            part.write_text(text, encoding="utf-8")
            os.replace(part, path)
        except OSError as exc:
            raise ConfigError(
                f"{str(path)!r} cannot be written ({exc.strerror}); name another --out"
            ) from exc
        finally:
            part.unlink(missing_ok=True)
