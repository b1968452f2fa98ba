"""How interaction layers are trained: steps, batches and the rates of learning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Recipe:
    """How interaction layers are trained."""

    steps: int = 200
    batch: int = 8
    """Rows a step."""
    accumulate: int = 1
    """Parts that a batch is read in, one after another: more take less memory."""
    learning_rate: float = 1e-3
    gate_rate: float = 1e-2
    """Of the gates. They begin at 0, and until they have left it nothing else learns."""
    warmup_steps: int = 10
    weight_decay: float = 0.0
    """Of all but the gates."""
    clip: float = 1.0
    """Norm of a step's gradients, at most."""
    seed: int = 0
    """Of the first weights, and of the rows' order."""
    starts: int = 1
    """Seeds, this one and those behind it: the one of the lowest loss is trained to its end."""
    start_steps: int = 100
    """Of each of several starts, before the others are given up."""
    keep_every: int = 20
    """Steps after which the run can be taken up again."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the experts' weights and states; what is trained is in float32."""
    router: bool = False
    """Whether a router that chooses who takes part is trained as well; what follows is of it."""
    router_hidden: int = 128
    """Width of its hidden layer."""
    router_rate: float = 1e-3
    """Its highest rate of learning."""
    temperature: float = 1.0
    """Of the softmax whose gradient its choices have."""
    entropy: float = 0.01
    """Weight of a query's even shares."""
    balance: float = 0.01
    """Weight of experts' even loads."""
    consistency: float = 0.01
    """Weight of the same shares under other noise."""
    choice: float = 1.0
    """Weight of whoever loses less being the one that writes."""

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            ValueError: A count is less than 1, or an amount is negative.
        """
        counts = ("steps", "batch", "accumulate", "starts", "start_steps", "keep_every")
        for name in (*counts, "router_hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name!r} is {getattr(self, name)!r}; 1 or more is needed")
        for name in ("learning_rate", "gate_rate", "clip", "router_rate", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name!r} is {getattr(self, name)!r}; more than 0 is needed")
        for name in ("warmup_steps", "weight_decay", "entropy", "balance", "consistency", "choice"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name!r} is {getattr(self, name)!r}; 0 or more is needed")
        if self.starts > 1 and self.start_steps >= self.steps:
            raise ValueError(
                f"'start_steps' is {self.start_steps}; fewer than 'steps' ({self.steps}) are needed"
            )

    @property
    def all_steps(self) -> int:
        """Of all starts, those that are given up included."""
        return self.steps + (self.starts - 1) * self.start_steps

    def rates_at(self, step: int) -> tuple[float, float, float]:
        """Of the interaction's weights, of its gates, and of the router.

        Args:
            step: From 0.
        """
        return (
            rate_at(self.learning_rate, step, self.steps, self.warmup_steps),
            rate_at(self.gate_rate, step, self.steps, self.warmup_steps),
            rate_at(self.router_rate, step, self.steps, self.warmup_steps),
        )


def rate_at(peak: float, step: int, steps: int, warmup_steps: int) -> float:
    """Linear warm-up to the peak, then a cosine down to a tenth of it.

    Args:
        peak: The highest rate.
        step: From 0.
        steps: Of the whole run.
        warmup_steps: Of these the first ones.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)
