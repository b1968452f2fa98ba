"""How an adapter is trained: steps, batches and the rate of learning."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an adapter is trained."""

    steps: int = 100
    batch: int = 16
    """Questions a step."""
    learning_rate: float = 2e-3
    warmup_steps: int = 10
    rank: int = 4
    alpha: int = 8
    seed: int = 0
    keep_every: int = 20
    """Steps after which the run can be taken up again."""

    def rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine down to a tenth.

        Args:
            step: From 0.
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)
