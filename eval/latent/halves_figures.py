"""Figures of "two halves of knowledge": shares right with intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.latent.halves_runs import JUDGED, Experiment, judged_people
from eval.latent.knowledge import split_people
from eval.latent.phrasings import OF_CITY
from eval.metrics.bootstrap import interval, resample_means

Right = Mapping[str, Mapping[str, Sequence[bool]]]
"""By method and by what is judged on; the questions of a split, in its order."""

METHODS = {
    "mixture": "mixture of thoughts",
    "primary alone": "primary alone",
    "peer alone": "peer alone",
    "shuffled": "mixture, states of another question",
    "zero": "mixture, states of zero",
    "itself": "the same layers, attending to the primary itself",
    "permuted": "mixture, primary of permuted facts",
    "adapter": "adapter on the primary, as many parameters",
    "synthesis": "the peer's answer told to the primary",
}


def figures(experiment: Experiment, rights: Mapping[int, Right]) -> dict[str, Any]:
    """By what is judged on and by method: share right, its interval, and the mixture's lead.

    Intervals are of 10,000 bootstraps over companies, a company of each seed by itself: its people
    and its questions stay together.

    Args:
        experiment: What was run.
        rights: By seed.
    """
    found: dict[str, Any] = {}
    for judged in JUDGED:
        names = [name for name in METHODS if all(name in of_seed for of_seed in rights.values())]
        table, n_questions = _by_company(experiment, rights, judged, names)
        drawn = resample_means(table, None).micro()
        by_name: dict[str, Any] = {}
        for column, name in enumerate(names):
            by_name[name] = {
                "share_right": _figure(table[:, column], drawn[:, column]),
                "mixture_less_this": _figure(
                    table[:, 0] - table[:, column], drawn[:, 0] - drawn[:, column]
                ),
                "by_seed": {
                    str(seed): _share(of_seed[name][judged]) for seed, of_seed in rights.items()
                },
            }
        found[judged] = {
            "n_questions": n_questions,
            "n_companies": len(table),
            "seeds": sorted(rights),
            "methods": by_name,
        }
    return found


def of_ablations(
    experiment: Experiment, runs: Mapping[str, Mapping[int, Mapping[str, Any]]]
) -> dict[str, Any]:
    """By change: shares right with intervals, the control on new companies, and seconds a run.

    Args:
        experiment: What was changed.
        runs: What `ablate` or `routed_run` said, by the change's name and by seed.
    """
    found: dict[str, Any] = {}
    for name, by_seed in runs.items():
        shown: dict[str, Any] = {
            "seconds": fmean(run["seconds"] for run in by_seed.values()),
            "by_seed": {
                str(seed): _share(run["right"]["mixture"]["new_companies"])
                for seed, run in by_seed.items()
            },
        }
        if all("heard_right" in run for run in by_seed.values()):
            heard = (run["heard_right"]["new_companies"] for run in by_seed.values())
            shown["heard_right"] = fmean(heard)
        rights = {seed: run["right"] for seed, run in by_seed.items()}
        for key, method, judged in (
            ("new_companies", "mixture", "new_companies"),
            ("new_people", "mixture", "new_people"),
            ("shuffled", "shuffled", "new_companies"),
        ):
            if all(method in right for right in rights.values()):
                table, n_questions = _by_company(experiment, rights, judged, [method])
                drawn = resample_means(table, None).micro()[:, 0]
                shown[key] = {**_figure(table[:, 0], drawn), "n_questions": n_questions}
        found[name] = shown
    return found


def _share(right: Sequence[bool]) -> float:
    return sum(right) / len(right)


def _by_company(
    experiment: Experiment, rights: Mapping[int, Right], judged: str, names: Sequence[str]
) -> tuple[NDArray[np.float64], int]:
    """Shares right [companies of all seeds, methods], and the number of questions."""
    world = experiment.world()
    rows: list[list[float]] = []
    n_questions = 0
    for seed, of_seed in rights.items():
        people = judged_people(split_people(world, seed), judged)
        companies = [world.employers[person] for person in people for _ in OF_CITY]
        n_questions += len(companies)
        for company in dict.fromkeys(companies):
            mine = [i for i, other in enumerate(companies) if other == company]
            rows.append([float(np.mean([of_seed[n][judged][i] for i in mine])) for n in names])
    return np.array(rows), n_questions


def _figure(values: NDArray[np.float64], drawn: NDArray[np.float64]) -> dict[str, float]:
    low, high = interval(drawn)
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}
