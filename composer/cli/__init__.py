"""The command line. What answers is imported inside the commands, so that help comes at once."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from composer.cli.ask import ask
from composer.cli.batch import batch
from composer.cli.chat import chat
from composer.cli.doctor import doctor
from composer.cli.experts import experts
from composer.cli.fit import fit
from composer.cli.init import init
from composer.cli.latent import latent
from composer.cli.output import complain
from composer.cli.plan import plan
from composer.cli.profile import profile
from composer.cli.route import route
from composer.errors import ComposerError

__all__ = ["app", "main"]


class Commands(TyperGroup):
    """All commands; an expected error in any of them is one line, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except ComposerError as exc:
            complain(exc)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Commands,
    name="composer",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="To begin: `composer init`, then `composer doctor`, then "
    '`composer ask "What is the capital of Norway?"`.',
)
app.command()(ask)
app.command()(batch)
app.command()(plan)
app.command()(chat)
app.command()(route)
app.command()(profile)
app.command()(fit)
app.add_typer(latent, name="latent")
app.add_typer(experts, name="experts")
app.command()(init)
app.command()(doctor)


def _say_version(asked: bool) -> None:
    if asked:
        try:
            typer.echo(metadata.version("multi-llm-composer"))
        except metadata.PackageNotFoundError:
            typer.echo("not installed: this is a checkout")
        raise typer.Exit


@app.callback()
def composer(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_say_version, is_eager=True, help="Say the version and end."
        ),
    ] = False,
) -> None:
    """Route questions to local expert models, and compose one answer of what they say."""


def main() -> None:
    """Run the command that the arguments name, and exit.

    0: done; 1: an expected error; 2: wrong usage; 130 and 143: ended by SIGINT or SIGTERM.
    """
    app()
