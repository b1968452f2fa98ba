"""How an adapter is trained: steps, batches and the rate of learning."""

from __future__ import annotations

from dataclasses import dataclass

from composer.latent.recipe import rate_at


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
        return rate_at(self.learning_rate, step, self.steps, self.warmup_steps)
