"""RouteLLM's replay data: CSV with a prompt and, for each model, whether it was right."""

from __future__ import annotations

import math

from composer.errors import ConfigError
from eval.datasets.collector import Collector
from eval.datasets.imported import Imported, Options
from eval.datasets.source import Line, Source
from eval.datasets.splits import split_in

INDEXES = ("", "Unnamed: 0")
"""Names that pandas gives to a column of row numbers."""
RESPONSE = "_response"
CONTAMINATED = "contaminated_prompts.jsonl"


class _Contaminated(Line):
    eval_prompt: str


def read_routellm(source: Source, options: Options) -> Imported:
    """Every CSV file of a folder; a file's name is the category of its rows.

    Prompts that a `contaminated_prompts.jsonl` beside them lists are flagged `contaminated`.

    Source: lm-sys/RouteLLM, routellm/evals/benchmarks.py, which leaves these prompts out.

    Raises:
        ConfigError: A file is malformed, or a cell is no score.
    """
    collector = Collector(source, options)
    files = source.find("*.csv")
    contaminated = {
        line.eval_prompt
        for file in source.besides(CONTAMINATED)
        for _, line in source.objects(file, _Contaminated)
    }
    for file in files:
        category, split = split_in(file.stem)
        for at, row in source.rows(file, required=("prompt",)):
            prompt = row["prompt"]
            query_id = collector.add_query(
                at,
                prompt=prompt,
                category=category,
                split=split,
                flags=frozenset({"contaminated"} if prompt in contaminated else ()),
            )
            for model in row:
                if model != "prompt" and model not in INDEXES and not model.endswith(RESPONSE):
                    score = score_in(f"{at}: {model!r}", row[model])
                    text = row.get(model + RESPONSE)
                    collector.add(at, query_id, model, score, text=text)
    return collector.finish()


def score_in(at: str, text: str) -> float | None:
    """The score that a field of a CSV file holds; None: it is empty, or NaN.

    Raises:
        ConfigError: It holds neither a truth value nor a number.
    """
    match text.strip().lower():
        case "true":
            return 1.0
        case "false":
            return 0.0
        case "" | "nan":
            return None
        case other:
            try:
                number = float(other)
            except ValueError:
                number = math.nan
            if math.isnan(number):
                raise ConfigError(
                    f"{at}: {text[:40]!r} is neither True, False nor a number; "
                    "take the column out if it is no model's"
                )
            return number
