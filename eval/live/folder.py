"""A live run's folder: what it is of, so that it goes on with the same and with nothing else.

manifest.json                   questions, experts, options, versions
experts/                        every expert's own answers: a table of outcomes, and its journal
compositions/NAME/              a composition's batch, or its answers one by one
scores.jsonl                    what tasks' own scorers said
decisions/test/METHOD.jsonl     one line a decision, as of a replay
records.jsonl                   a line each query and composition
rows.json, attribution.json     the figures; they come when all is done
timing.json                     what each step took
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from composer.errors import ConfigError
from composer.experts import Registry
from composer.fingerprint import digest, settings_digest
from composer.outcomes import OutcomeTable
from eval.live.attribution import Attribution, read_attribution
from eval.live.questions import Questions
from eval.replay.run_folder import RunFolder, describe_run, fingerprint, open_run

KIND = "live"
EXPERTS, COMPOSITIONS, ATTRIBUTION = "experts", "compositions", "attribution.json"
SHORT = 12


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is made, beside what is asked of whom."""

    only: tuple[str, ...] = ()
    """Experts that are asked alone; none: all."""
    limit: int | None = None
    """Questions of each task and split, at most; for the record."""
    known_category: bool = False
    """Tell compositions each question's category."""
    online: bool = False
    """Ask compositions one question after the other, as users do; else in bulk."""
    ask_again: bool = False
    """Have compositions ask anew, in bulk, what experts were asked alone."""
    self_moa: bool = True
    """Have the best single expert give as many samples as the compositions had."""
    seed: int = 0
    """Of the resampling behind the intervals."""


def open_live(
    path: Path,
    questions: Questions,
    registry: Registry,
    recorded: OutcomeTable | None,
    options: Options,
) -> RunFolder:
    """The folder of a run, new or begun before on the same questions with the same options.

    Other compositions than before may be asked there, and `self_moa` may change: what else there is
    stays as it was.

    Raises:
        ConfigError: It holds another run, whose difference is named, or something else; or it
            cannot be written.
    """
    about = _about(questions, registry, recorded, options)
    _check_same(path / "manifest.json", about)
    config = {
        "kind": KIND,
        "about": about,
        "options": {
            "known_category": options.known_category,
            "online": options.online,
            "ask_again": options.ask_again,
            "seed": options.seed,
        },
    }
    experts = options.only or tuple(registry.routed)
    return open_run(path, describe_run(config, questions.name, experts))


def _about(
    questions: Questions,
    registry: Registry,
    recorded: OutcomeTable | None,
    options: Options,
) -> dict[str, str]:
    """What must be the same when the run goes on, by names for messages."""
    train = () if recorded is not None else questions.train
    asked = [[q.task, asdict(q.case)] for q in (*train, *questions.test)]
    return {
        "--task": ", ".join(questions.tasks),
        "--limit": "none" if options.limit is None else str(options.limit),
        "--only": ", ".join(options.only) or "all experts",
        "--outcomes": "none" if recorded is None else fingerprint(recorded)[:SHORT],
        "--online": _yes_or_no(options.online),
        "--known-category": _yes_or_no(options.known_category),
        "--ask-again": _yes_or_no(options.ask_again),
        "--seed": str(options.seed),
        "what is asked": digest(asked)[:SHORT],
        **{
            f"expert {name!r}": settings_digest(registry, name)[:SHORT] for name in registry.experts
        },
    }


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def _check_same(file: Path, about: Mapping[str, str]) -> None:
    """Refuse a folder that holds a run of something else, and say what."""
    if not file.exists():
        return
    try:
        begun: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))["about"]
    except (ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{file}: not a live run's manifest; name another folder") from exc
    for what in dict.fromkeys([*about, *begun]):
        was, now = begun.get(what, "none"), about.get(what, "none")
        if was != now:
            raise ConfigError(
                f"{file.parent}: {what} is another than when the run began ({was} then, {now} "
                "now); restore it, or name another folder"
            )


def load_attributions(run: Path) -> list[Attribution]:
    """What a finished run found.

    Raises:
        ConfigError: It is not finished, is no live run, or its file is broken.
    """
    file = run / ATTRIBUTION
    if not file.is_file():
        raise ConfigError(
            f"{str(run)!r} holds no finished live run (no {ATTRIBUTION}); name a folder that "
            "`python -m eval run` finished"
        )
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
        return [read_attribution(row) for row in rows]
    except (ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{file}: is broken; run its command again") from exc
