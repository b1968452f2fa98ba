"""A composition as lm-evaluation-harness sees it: a model that is handed requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from composer.bulk import BatchProgress
from composer.errors import AggregationError, ConfigError
from composer.orchestrator import Composer
from eval.lm_harness.generation import Wanted, read_texts, write_batch
from eval.lm_harness.library import LM, Instance, normalize_gen_kwargs
from eval.lm_harness.scoring import score_texts, scoring_expert
from eval.progress import Bars


class ComposerLM(LM):
    """Answers the requests of a harness run, all of a kind together, by a composition.

    What was asked and answered is kept in a folder: a run that was ended goes on there.

    Source: lm-evaluation-harness 0.4.13, lm_eval/api/model.py. Deviations: a context is a user
    message and not the beginning of a text; and whether a text is the greedy continuation is not
    known, so tasks whose metrics need it are refused before (`eval.lm_harness.tasks`).
    """

    def __init__(
        self,
        composer: Composer,
        composition: str,
        folder: Path,
        *,
        runner: asyncio.Runner,
        bars: Bars,
    ) -> None:
        """Store what is needed.

        Args:
            composer: It has the composition.
            composition: The composition's name, or an expert's.
            folder: Where folders of what is asked are made.
            runner: Its loop is the composer's for life.
            bars: Show how far it is.
        """
        super().__init__()
        self._composer = composer
        self._composition = composition
        self._folder = folder
        self._runner = runner
        self._bars = bars
        self.failures: list[str] = []
        """Why requests have no answer; their texts are empty."""
        self.ignored: dict[str, int] = {}
        """Settings of generation that are not taken over, and how many requests have each."""

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Have the composition answer, each expert loaded as rarely as can be.

        Raises:
            ConfigError: See `Composer.batch`.
            RoutingError: The requests cannot be scored at all.
            AggregationError: None was answered.
        """
        wanted = [_wanted(request) for request in requests]
        path = write_batch(wanted, self._folder)
        show = self._shown("answers", len(wanted))

        def on_progress(progress: BatchProgress) -> None:
            if progress.phase == "answer":
                show(progress.n_done)

        batch = self._composer.batch(
            path, self._composition, path.parent, strict=True, on_progress=on_progress
        )
        report = self._runner.run(batch)
        texts, failures = read_texts(report.results, wanted)
        if len(failures) == len(wanted):
            raise AggregationError(f"no request was answered; the first: {failures[0]}")
        self.failures += failures
        for setting, n in report.ignored.items():
            self.ignored[setting] = self.ignored.get(setting, 0) + n
        return texts

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Nats of each continuation, and False: whether it is the greedy one is not known.

        Raises:
            ConfigError: The composition is not one expert whose engine scores given text.
            ExpertError: Some have no score.
        """
        registry, pool = self._composer.registry, self._composer.pool
        expert = scoring_expert(registry, self._composition)
        wanted = [cast("tuple[str, str]", _arguments(request)) for request in requests]
        show = self._shown("options", len(wanted))
        scores = score_texts(wanted, expert, registry, pool, self._folder, show)
        return [(nats, False) for nats in self._runner.run(scores)]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """See `LM`.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            "the likelihood of whole texts, without a chat, cannot be asked for; take tasks with "
            "'output_type: generate_until' or 'multiple_choice'"
        )

    def get_model_info(self) -> dict[str, Any]:
        """What the results say of the model, besides its name."""
        return {
            "composition": self._composition,
            "failed_requests": len(self.failures),
            "ignored_settings": self.ignored,
        }

    def _shown(self, what: str, total: int) -> Callable[[int], None]:
        """Moves a new bar to the number that is done."""
        advance, shown = self._bars.on_rows(what, total), 0

        def show(done: int) -> None:
            nonlocal shown
            for _ in range(shown, done):
                advance()
            shown = done

        return show


def _wanted(request: Instance) -> Wanted:
    context, settings = _arguments(request)
    return context, normalize_gen_kwargs(settings)


def _arguments(request: Instance) -> Sequence[Any]:
    return cast("Any", request).args
