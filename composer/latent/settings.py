"""What a mixture of thoughts is, before any weight: its levels, its widths, and what peers read."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from composer.errors import ConfigError

Count = Annotated[int, Field(strict=True, ge=1)]


class LatentSettings(BaseModel):
    """The shape of the interaction layers and what they attend to.

    The paper fixes none of these where we could read it; docs/latent.md says how they were chosen.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    levels: Count = 4
    """Q: interactions, at equal fractions of each expert's depth; the last is at its end."""
    insertion: Literal["after", "before"] = "after"
    """Where the primary hears a level: behind the stack of layers that ends there, or before it, so
    that the first level is before its first layer. Peers' states are those at a stack's end."""
    width: Count = 64
    """d: the space that all experts' states are projected to."""
    heads: Count = 4
    """Of the attention in that space."""
    gate: Literal["scalar", "channel", "none"] = "scalar"
    """What an interaction is multiplied by before it is added: tanh of a number that is learned
    from 0 on, one a level or one a channel; or nothing, and the last projection begins at 0."""
    attend_self: bool = False
    """Whether the primary attends to its own states as well."""
    refresh: Literal["prompt", "every_n", "token"] = "prompt"
    """What peers read: the prompt alone, or the text generated so far too, read anew after every
    `refresh_every` tokens or after each one."""
    refresh_every: Count = 8
    """Tokens of the primary between two readings (refresh every_n)."""
    think_tokens: Annotated[int, Field(strict=True, ge=0)] = 0
    """Tokens that each peer first says to the prompt by itself, greedily; its states at them are
    attended to as well."""
    active: Annotated[int, Field(strict=True, ge=2)] | None = None
    """K: how many experts take part, the primary included; None: all."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads or (self.width // self.heads) % 4:
            raise ValueError(
                f"'width' {self.width} has to be a multiple of 4 for each of the {self.heads} heads"
            )
        if self.think_tokens and self.refresh != "prompt":
            raise ValueError("'think_tokens' goes with refresh: prompt; set one of them")
        return self


def check_choice(settings: LatentSettings, n_experts: int, n_writers: int) -> None:
    """Refuse a router that has nothing to choose.

    Raises:
        ConfigError: All experts take part, and only one of them may write.
    """
    if settings.active in (None, n_experts) and n_writers == 1:
        raise ConfigError(
            "the router has nothing to choose: all experts take part and only one may write; "
            "give --active below their number, or --primary of several"
        )
