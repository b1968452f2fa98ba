"""Seeds on a CPU, of requests whose prompts are read in parts.

After each part vLLM 0.32 draws a token that nobody gets, and winds the request's generator back,
which those of a CPU cannot do: the engine ends. Here such a draw is from the common generator, and
what a seed comes to does not depend on how its prompt was read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Generator


def spare_seeds(runner: Any) -> None:
    """Have a model runner draw the tokens that it drops without the requests' generators.

    Args:
        runner: vLLM's, of a CPU; changed in place.
    """
    sample, keep = runner._sample, runner._bookkeeping_sync  # their only names
    spared: dict[int, Generator] = {}

    def sample_spared(*args: Any, **kwargs: Any) -> Any:
        batch = runner.input_batch
        dropped = np.nonzero(runner.discard_request_mask.np[: batch.num_reqs])[0]
        spared.update(
            {i: batch.generators.pop(i) for i in dropped.tolist() if i in batch.generators}
        )
        return sample(*args, **kwargs)

    def keep_spared(*args: Any, **kwargs: Any) -> Any:
        try:
            return keep(*args, **kwargs)
        finally:
            runner.input_batch.generators.update(spared)
            spared.clear()

    runner._sample, runner._bookkeeping_sync = sample_spared, keep_spared
