"""What is used of lm-evaluation-harness: its types are not complete enough for strict checking."""

from __future__ import annotations

from typing import Any, cast

import lm_eval.evaluator as _evaluator  # pyright: ignore[reportMissingTypeStubs]
import lm_eval.models.utils as _utils  # pyright: ignore[reportMissingTypeStubs]
from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingTypeStubs]
from lm_eval.api.model import LM  # pyright: ignore[reportMissingTypeStubs]
from lm_eval.loggers import EvaluationTracker  # pyright: ignore[reportMissingTypeStubs]
from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingTypeStubs]

__all__ = [
    "LM",
    "EvaluationTracker",
    "Instance",
    "TaskManager",
    "normalize_gen_kwargs",
    "simple_evaluate",
]

normalize_gen_kwargs: Any = cast("Any", _utils).normalize_gen_kwargs
simple_evaluate: Any = cast("Any", _evaluator).simple_evaluate
