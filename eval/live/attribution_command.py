"""`python -m eval attribution`: where the gains of a finished live run come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eval.live.folder import load_attributions
from eval.live.output import print_attributions
from eval.replay.output import Output


def attribution_command(
    run: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="A folder that `python -m eval run` made.")
    ],
    output: Annotated[Output, typer.Option(help="How to print it.")] = "table",
) -> None:
    """Say where each composition's gain over the best single expert comes from.

    gain = routing + aggregation: what the choice of one expert is worth, and what was made of
    several; potential: what picking the best of those asked would add to the first choice.

    python -m eval attribution runs/starter
    """
    print_attributions(load_attributions(run), output)
