"""What `composer latent` shows: how far a run is, its losses as a picture, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

if TYPE_CHECKING:
    from composer.latent.artefact import Artefact
    from composer.latent.recipe import Recipe
    from composer.latent.training import Gates, Step


@contextmanager
def progress_shown(
    recipe: Recipe,
) -> Generator[tuple[Callable[[str, int, int], None], Callable[[int, float, Gates], None]]]:
    """A bar on stderr; where that is no terminal, a line now and then."""
    from rich import progress as bars

    from composer.cli.output import stderr

    console = stderr()
    is_seen = console.is_terminal
    with bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not is_seen,
    ) as shown:
        task = shown.add_task("starting", total=None)

        def on_read(name: str, done: int, total: int) -> None:
            shown.update(task, description=f"{name} reads", completed=done, total=total)
            if not is_seen and done == total:
                typer.echo(f"{name} has read {total} texts", err=True)

        def on_step(step: int, loss: float, gates: Gates) -> None:
            opened = max((max(values) for values in gates.values()), default=None)
            said = f"loss {loss:.3f}" + ("" if opened is None else f", gates to {opened:.3f}")
            shown.update(task, description=said, completed=step, total=recipe.all_steps)
            if not is_seen and (step % recipe.keep_every == 0 or step == recipe.all_steps):
                typer.echo(f"step {step} of {recipe.all_steps}: {said}", err=True)

        yield on_read, on_step


def draw(path: Path, steps: Sequence[Step]) -> None:
    """Draw losses and gates; without matplotlib, say so and go on."""
    try:
        from composer.latent.chart import draw_losses
    except ModuleNotFoundError:
        typer.echo(
            "warning: no picture of the losses: matplotlib is not installed; "
            "pip install 'multi-llm-composer[eval]'",
            err=True,
        )
        return
    draw_losses(path, steps)


def tell(artefact: Artefact, folder: Path, seconds: float) -> dict[str, Any]:
    """What came of a run, JSON values."""
    training = dict(artefact.training or {})
    run = cast("dict[str, Any]", training.pop("run"))
    return {
        "folder": str(folder),
        "experts": list(artefact.names),
        "primaries": list(artefact.primaries),
        "steps": run["steps"],
        **training,
        "settings": artefact.settings.model_dump(mode="json"),
        "seconds": seconds,
    }


def as_text(value: object) -> str:
    """A JSON value in a cell of a table."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return ", ".join(f"{key} {as_text(one)}" for key, one in pairs)
    if isinstance(value, list):
        return ", ".join(as_text(one) for one in cast("list[object]", value))
    return "none" if value is None else str(value)
