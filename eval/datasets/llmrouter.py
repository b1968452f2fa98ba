"""LLMRouter's routing data: JSON lines, one for each query and model."""

from __future__ import annotations

import re
from typing import Any

from pydantic import TypeAdapter

from composer.outcomes import RecordedExpert
from eval.datasets.collector import Collector
from eval.datasets.imported import Details, Imported, Options
from eval.datasets.source import Line, Source
from eval.datasets.splits import split_in

CANDIDATES = "default_llm.json"
FAILED = ("ERROR", "API Error")
"""How the text begins that stands in for a response where the call itself failed."""


class _Row(Line):
    query: str
    model_name: str
    performance: float | None
    task_name: str | None = None
    ground_truth: Any = None
    response: str | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    response_time: float | None = None


class _Candidate(Line):
    size: str | None = None
    input_price: float | None = None
    output_price: float | None = None


CANDIDATES_OF_A_FILE = TypeAdapter(dict[str, _Candidate])


def read_llmrouter(source: Source, options: Options) -> Imported:
    """The routing data of a folder, and the prices of `default_llm.json` if it is there as well.

    Source: ulab-uiuc/LLMRouter, llmrouter/data/README.md for the fields;
    llmrouter/data/api_calling_evaluation.py for failed calls, which it scores as wrong answers.
    Here they are missing.

    Raises:
        ConfigError: A file is malformed.
    """
    collector = Collector(source, options)
    files = source.find("*routing*.jsonl", "*.jsonl")
    for file in source.besides(CANDIDATES):
        for name, candidate in source.document(file, CANDIDATES_OF_A_FILE).items():
            collector.describe(
                RecordedExpert(
                    name, _billions(candidate.size), candidate.input_price, candidate.output_price
                )
            )
    for file in files:
        _, split = split_in(file.stem)
        for at, row in source.objects(file, _Row):
            query_id = collector.add_query(
                at,
                prompt=row.query,
                category=row.task_name,
                split=split,
                reference=row.ground_truth,
            )
            if row.response is not None and row.response.startswith(FAILED):
                collector.count("calls that failed, missing and not wrong")
                continue
            collector.add(
                f"{at}: 'performance'",
                query_id,
                row.model_name,
                row.performance,
                Details(
                    latency_s=row.response_time,
                    prompt_tokens=row.input_tokens,
                    completion_tokens=row.output_tokens,
                ),
                text=row.response,
            )
    return collector.finish()


def _billions(size: str | None) -> float | None:
    """`7B` and `0.5b` as a number; None: it says something else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*[bB]", size or "")
    return None if found is None else float(found[1])
