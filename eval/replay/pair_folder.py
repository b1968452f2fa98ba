"""What is kept of a pair run: a JSON line for each question of each draw.

decisions/seed-N/METHOD.jsonl   query_id, preference for the strong expert, both scores; whole
                                or not there, so a draw that is there is not judged again
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np

from composer.outcomes import OutcomeTable
from eval.replay.run_folder import RunFolder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]


def load_preference(run: RunFolder, seed: int, method: str) -> Float64Array | None:
    """A method's preference on a draw's judged questions [n], if a run has found it out."""
    file, _ = run.files(f"seed-{seed}", method)
    if not file.exists():
        return None
    lines = file.read_text(encoding="utf-8").splitlines()
    return np.array([json.loads(line)["preference"] for line in lines], np.float64)


def save_preference(
    run: RunFolder, seed: int, method: str, judged: OutcomeTable, preference: Float64Array
) -> None:
    """Keep a method's preference.

    Args:
        run: Where.
        seed: Of the draw.
        method: Whose it is.
        judged: The draw's questions, n of them; the columns are the strong and the weak expert.
        preference: [n].
    """
    file, _ = run.files(f"seed-{seed}", method)
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = zip(judged.queries, preference.tolist(), judged.score.tolist(), strict=True)
    lines = [
        json.dumps({"query_id": q.id, "preference": value, "strong": strong, "weak": weak}) + "\n"
        for q, value, (strong, weak) in rows
    ]
    temporary = file.with_name(f".{file.name}")
    temporary.write_text("".join(lines), encoding="utf-8")
    os.replace(temporary, file)
