"""A replay: every method on every part, kept as it goes, then the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable
from eval.replay.judged import Judged, join
from eval.replay.methods import Method, cannot_run
from eval.replay.parts import Part, Round
from eval.replay.rows import Row, make_rows
from eval.replay.run_folder import RunFolder

REFERENCES = ("best-single", "oracle")
"""Every figure is beside these, so they are always judged."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay found."""

    rows: tuple[Row, ...]
    not_run: tuple[tuple[str, str], ...]
    """Methods that could not run on this data, and why."""


def replay(
    table: OutcomeTable,
    parts: Sequence[Part],
    methods: Sequence[Method],
    *,
    known_category: bool = False,
    seed: int = 0,
    folder: RunFolder | None = None,
    on_method: Callable[[str, str, int], Callable[[], None]] = lambda part, method, n: lambda: None,
) -> Replay:
    """Judge the methods on the parts.

    Args:
        table: What the parts were made of.
        parts: What to judge on.
        methods: `best-single` and `oracle` are among them.
        known_category: Tell routers and aggregators the categories.
        seed: Of the resampling.
        folder: Where decisions are kept and found again; None: nowhere.
        on_method: Called with a part, a method and the number of rows before they are judged;
            what it returns is called after each row.

    Raises:
        ConfigError: A method cannot be fitted on this data, or none is left to run.
    """
    not_run = cannot_run(methods, table)
    methods = [method for method in methods if method.name not in not_run]
    names = [method.name for method in methods]
    if missing := [name for name in REFERENCES if name not in names]:
        raise ConfigError(f"methods lack {missing}; every figure is beside these, add them")
    told = {m.name: m.knows_category or known_category for m in methods}
    rows: list[Row] = []
    for part in parts:
        judged: list[Judged] = []
        for method in methods:
            done = None if folder is None else folder.load(part.name, method.name)
            if done is None:
                on_row = on_method(part.name, method.name, len(part.judged.queries))
                rounds = part.rounds
                if method.in_hindsight:
                    rounds = (Round(rounds[0].train, part.judged),)
                done = join(
                    [
                        method.judge(each, known_category=known_category, on_row=on_row)
                        for each in rounds
                    ]
                )
                if folder is not None:
                    folder.save(part.name, done)
            judged.append(done)
        rows += make_rows(part, judged, told, seed=seed)
    return Replay(tuple(rows), tuple(not_run.items()))
