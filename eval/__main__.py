"""`python -m eval`: replays of recorded outcomes, benchmarks, the demonstration."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated, Literal

import typer
from rich.table import Table

from composer.errors import ComposerError, ConfigError
from composer.suggest import unknown_name
from eval.answers import answers
from eval.bench import BENCHES
from eval.cascade_command import cascade_command
from eval.console import stdout_console
from eval.datasets.command import import_outcomes
from eval.demo import demonstrate
from eval.judges import judges_command
from eval.lint import lint
from eval.live.attribution_command import attribution_command
from eval.live.command import run_command
from eval.live.compare_command import compare_command
from eval.lm_harness.command import harness_command
from eval.matrix import matrix_command
from eval.replay.command import replay_command
from eval.replay.pair_command import pair_command
from eval.report.command import report_command
from eval.simulate.command import simulate_command
from eval.tasks.command import tasks_command

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", help=__doc__
)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(sorted(BENCHES))}.")],
    output: Annotated[Literal["table", "json"], typer.Option(help="How to print it.")] = "table",
) -> None:
    """Run one benchmark; progress on stderr, figures on stdout."""
    if name not in BENCHES:
        raise ConfigError(unknown_name("benchmark", name, BENCHES))
    result = BENCHES[name]().to_json()
    if output == "json":
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    table = Table("figure", "value", title=f"{name}: {result['machine']['cpu']}")
    for key, value in result["figures"].items():
        table.add_row(key, f"{value:.4g}")
    stdout_console().print(table)


app.command("answers")(answers)
app.command("attribution")(attribution_command)
app.command("compare")(compare_command)
app.command("harness")(harness_command)
app.command("import")(import_outcomes)
app.command("judges")(judges_command)
app.command("lint")(lint)
app.command("matrix")(matrix_command)
app.command("replay")(replay_command)
app.command("pair")(pair_command)
app.command("report")(report_command)
app.command("run")(run_command)
app.command("cascade")(cascade_command)
app.command("simulate")(simulate_command)
app.command("tasks")(tasks_command)


@app.command()
def demo(
    experts: Annotated[str, typer.Option(help="Which experts.yaml.")] = "experts.yaml",
) -> None:
    """Answer three questions with the starter pool's real models, and show why."""
    asyncio.run(demonstrate(experts))


def main() -> None:
    """Run a command; an expected error is one line."""
    try:
        app()
    except ComposerError as exc:
        sys.stderr.write(f"error: {exc}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
