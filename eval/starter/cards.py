"""`python -m eval.starter.cards RUN_DIR...`: the model cards of the starter's adapters.

They say what each was trained on, and how it did where every expert was asked every test question.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import composer.starter
import eval.starter
from composer.errors import ComposerError, ConfigError
from composer.outcomes import OutcomeTable, load_table
from eval.report.chart_reliability import wilson_interval
from eval.starter.skills import SKILLS
from eval.starter.train import ABOUT, ALL

BASE = "smol"
FOLDERS = [Path(package.__file__ or "").parent for package in (composer.starter, eval.starter)]
"""Where adapters are: those of the pool, and the one that is outside of it."""
CARD = """\
---
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
library_name: peft
license: apache-2.0
---

# {name}

{description}

A LoRA adapter of SmolLM2-135M-Instruct, rank {rank} on all linear layers, in bfloat16. It knows
this and little else: a question of another kind gets an answer of this kind.

| | |
|---|---|
| asked, for instance | {example} |
| answers | {reference} |
| trained on | {questions:,} questions of `eval/starter`, seed {seed}: {steps} steps of {batch} |
| rate of learning | {learning_rate:g} after {warmup_steps} steps, falling to a tenth by a cosine |
| loss at the end | {loss:.4f} nats a token of the answer |
| made by | `python -m eval.starter.train {skill} --steps {steps} --batch {batch} --seed {seed}` |

![the loss of each step](losses.svg)

Test questions have phrasings and contents that no training question has:

| right [95 %] | this adapter | the base model | n |
|---|---|---|---|
{rows}

The intervals are Wilson's.
"""


def make_card(name: str, about: Mapping[str, Any], table: OutcomeTable) -> str:
    """The card of one adapter.

    Args:
        name: The expert's.
        about: What its training.json says.
        table: Every expert's outcomes on test questions, categories by skill.

    Raises:
        ConfigError: The table lacks the expert, its base or its skill.
    """
    test = table.split("test")
    skills = list(SKILLS) if about["skill"] == ALL else [about["skill"]]
    own = test.in_categories(skills).with_experts([name, BASE])
    first = next(query for query in own.queries if query.category == skills[0])
    rows = [_row(skill, own.in_categories([skill])) for skill in skills]
    what = "All skills of the starter in one."
    if len(skills) == 1:
        what = SKILLS[skills[0]].description
    return CARD.format(
        **about,
        name=name,
        description=what,
        example=f"{first.prompt}",
        reference=f"`{first.reference}`",
        questions=about["steps"] * about["batch"],
        rows="\n".join(rows),
    )


def _row(skill: str, table: OutcomeTable) -> str:
    n = len(table.queries)
    shown: list[str] = []
    for column in table.score.T:
        mean = float(column.mean())
        low, high = wilson_interval(mean, n)
        shown.append(f"{mean:.2f} [{low:.2f}, {high:.2f}]")
    return f"| {skill} | {shown[0]} | {shown[1]} | {n} |"


def cards(
    runs: Annotated[list[Path], typer.Argument(help="Folders of `python -m eval run`.")],
) -> None:
    """Write the README.md of every adapter that the runs' experts are."""
    try:
        for run in runs:
            _write(load_table(run / "experts"))
    except ComposerError as exc:
        sys.stderr.write(f"error: {exc}\n")
        raise typer.Exit(1) from None


def _write(table: OutcomeTable) -> None:
    folders: Sequence[Path] = [folder / name for folder in FOLDERS for name in table.names]
    trained = [folder for folder in folders if (folder / ABOUT).is_file()]
    if not trained:
        raise ConfigError(f"{table.name}: asked no adapter of the starter; name another run")
    for folder in trained:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        (folder / "README.md").write_text(make_card(folder.name, about, table), "utf-8")
        sys.stdout.write(f"{folder / 'README.md'}\n")


if __name__ == "__main__":
    typer.run(cards)
