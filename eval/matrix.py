"""`python -m eval matrix`: who is right how often in which category, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable
from eval.report.drawing import drawing_style, make_figure
from eval.report.load import JudgedPart, ReplayRun, load_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

KINDS = (".pdf", ".png", ".svg")
LINE_PT, LEFT_PT, TOP_PT, RIGHT_PT = 17, 130, 62, 8
DARK = 0.55
"""The accuracy above which a cell's number is white."""


def matrix_command(
    runs: Annotated[list[Path], typer.Argument(help="Folders of `eval run` or `eval replay`.")],
    out: Annotated[Path, typer.Option(help="The picture: .svg, .png or .pdf.")],
    split: Annotated[str, typer.Option(help="Of the judged parts.")] = "test",
    methods: Annotated[
        str, typer.Option(help="Rows under the experts; names that commas separate. Default: all.")
    ] = "",
) -> None:
    """Draw accuracies by category: a row for each expert, and one for each method of the runs.

    The last column is the mean of all questions. Runs have the same categories.
    """
    if out.suffix not in KINDS or not out.parent.is_dir():
        raise ConfigError(
            f"cannot draw {str(out)!r}; name a file that ends in one of {list(KINDS)}, in a folder "
            "that exists"
        )
    wanted = [name.strip() for name in methods.split(",") if name.strip()]
    rows: dict[str, Float64Array] = {}
    columns: tuple[str, ...] = ()
    for run in load_runs(runs):
        if not isinstance(run, ReplayRun):
            raise ConfigError(f"{run.name}: is between two experts; name a run of several")
        part = next((part for part in run.parts if part.name == split), None)
        if part is None:
            have = [part.name for part in run.parts]
            raise ConfigError(f"{run.name}: has no part {split!r}; it has {have}")
        if columns and columns != part.table.categories:
            raise ConfigError(
                f"{run.name}: has the categories {list(part.table.categories)}, and the runs "
                f"before it {list(columns)}; draw it apart"
            )
        columns = part.table.categories
        rows |= expert_rows(part.table) | method_rows(part, wanted)
    draw_matrix(out, rows, [*columns, "all"])


def expert_rows(table: OutcomeTable) -> dict[str, Float64Array]:
    """The accuracies of each expert: in each category, then over all questions."""
    return {
        name: _means(table.score[:, column].astype(np.float64), table)
        for column, name in enumerate(table.names)
    }


def method_rows(part: JudgedPart, wanted: Sequence[str]) -> dict[str, Float64Array]:
    """The same of methods, but for those that are one expert.

    Args:
        part: What was judged.
        wanted: Methods by name, in the order of the rows; none: all.

    Raises:
        ConfigError: There is no such method.
    """
    names = list(wanted) or [n for n in part.judged if not n.startswith("fixed[")]
    if missing := [name for name in names if name not in part.judged]:
        raise ConfigError(f"no method {missing[0]!r} was judged; there are {list(part.judged)}")
    return {name: _means(part.judged[name].score, part.table) for name in names}


def draw_matrix(path: Path, rows: Mapping[str, Float64Array], columns: Sequence[str]) -> None:
    """Draw numbers in [0, 1] as a matrix; what is unknown (NaN) stays white.

    Args:
        path: Where; its suffix says in which format.
        rows: By name, from the top; as many numbers as there are columns.
        columns: Their names.
    """
    cells = np.stack(list(rows.values()))
    height = TOP_PT + RIGHT_PT + LINE_PT * len(rows)
    with drawing_style():
        figure = make_figure(504, height)
        axes = figure.add_axes(
            (
                LEFT_PT / 504,
                RIGHT_PT / height,
                1 - (LEFT_PT + RIGHT_PT) / 504,
                1 - (TOP_PT + RIGHT_PT) / height,
            )
        )
        axes.imshow(cells, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(cells):
            if not np.isnan(value):
                colour = "white" if value > DARK else "#222222"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
        axes.set_xticks(range(len(columns)), list(columns), rotation=35, ha="left")
        axes.xaxis.tick_top()
        axes.set_yticks(range(len(rows)), list(rows))
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        figure.savefig(path)


def _means(score: Float64Array, table: OutcomeTable) -> Float64Array:
    codes = table.category_codes
    groups = [score[codes == code] for code in range(len(table.categories))]
    return np.array([_mean(each) for each in (*groups, score)])


def _mean(score: Float64Array) -> float:
    known = score[~np.isnan(score)]
    return float(known.mean()) if len(known) else float("nan")
