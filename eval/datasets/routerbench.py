"""RouterBench's wide tables, exported to CSV: a score, a response and a cost for each model."""

from __future__ import annotations

import ast
from typing import cast

from composer.errors import ConfigError
from eval.datasets.collector import Collector
from eval.datasets.imported import Details, Imported, Options
from eval.datasets.routellm import score_in
from eval.datasets.source import Source
from eval.datasets.splits import split_in

RESPONSE, COST = "|model_response", "|total_cost"


def read_routerbench(source: Source, options: Options) -> Imported:
    """Every CSV file of a folder; the models are the columns that have costs or responses.

    Source: withmartian/routerbench, convertors/common.py, `convert_to_wide_format`.

    Raises:
        ConfigError: A file is malformed, a pickle, or not the wide table.
    """
    collector = Collector(source, options)
    for file in source.find("*.csv"):
        _, split = split_in(file.stem)
        for at, row in source.rows(file, required=("sample_id", "prompt", "eval_name")):
            models = [m for m in row if m + RESPONSE in row or m + COST in row]
            if not models:
                raise ConfigError(
                    f"{file}:1: no column of a model with another '<model>{COST}'; "
                    "export the wide table, which has a row for each query"
                )
            query_id = collector.add_query(
                at,
                prompt=unwrapped(row["prompt"]),
                category=row["eval_name"],
                split=split,
                own_id=row["sample_id"],
            )
            for model in models:
                cost_usd = score_in(f"{at}: {model + COST!r}", row.get(model + COST, ""))
                score = score_in(f"{at}: {model!r}", row[model])
                text = row.get(model + RESPONSE)
                collector.add(
                    at,
                    query_id,
                    model,
                    score,
                    Details(cost_usd=cost_usd),
                    text=unwrapped(text) if text else None,
                )
    return collector.finish()


def unwrapped(text: str) -> str:
    """A text that was written as a Python list of texts, as itself; any other unchanged."""
    if not text.startswith(("['", '["')):
        return text
    try:
        parts: object = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    if not isinstance(parts, list):
        return text
    return "\n".join(str(part) for part in cast("list[object]", parts))
