"""LLMRouterBench's results: one JSON file for each data set and model, or flat JSON lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from composer.errors import ConfigError
from eval.datasets.collector import Collector, as_text
from eval.datasets.imported import Details, Imported, Options
from eval.datasets.source import Line, Source

STAMP = re.compile(r"(\d{8}_\d{6})\.json$")


class _Record(Line):
    index: int | None = None
    record_index: int | None = None
    """What flat lines call it."""
    origin_query: Any = None
    prompt: Any = None
    prediction: Any = None
    ground_truth: Any = None
    score: float | None
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    cost: float | None = None
    raw_output: Any = None


class _FlatRecord(_Record):
    dataset_id: str
    split: str = ""
    model_name: str


class _Result(Line):
    dataset_name: str | None = None
    split: str | None = None
    model_name: str | None = None
    demo: bool = False
    records: list[_Record]


RESULT = TypeAdapter(_Result)


def read_llmrouterbench(source: Source, options: Options) -> Imported:
    """`<dataset>/<split>/<model>/...<timestamp>.json`, or flat `BaselineRecord` lines.

    Of a folder with several results the newest that is no demonstration counts. The split is the
    benchmark's own, which says nothing about routers: it only becomes part of the ids.

    Source: ynulihao/LLMRouterBench, data_collector/storage.py and baselines/data_loader.py.
    Deviations: a score of null is missing here, 0 there; results without a time stamp in their
    name are the oldest, there the time of the file decides.

    Raises:
        ConfigError: A file is malformed.
    """
    collector = Collector(source, options)
    files = source.find("*.jsonl", "*.json")
    if files[0].suffix == ".jsonl":
        for file in files:
            for at, record in source.objects(file, _FlatRecord):
                _add(collector, at, record, record.dataset_id, record.split, record.model_name)
    else:
        for file, result in _newest(source, files):
            dataset, split, model = _names(file, result)
            for number, record in enumerate(result.records, start=1):
                _add(collector, f"{file}: record {number}", record, dataset, split, model)
    return collector.finish()


def _newest(source: Source, files: list[Path]) -> Iterator[tuple[Path, _Result]]:
    by_folder: dict[Path, list[Path]] = {}
    for file in files:
        by_folder.setdefault(file.parent, []).append(file)
    for group in by_folder.values():
        for file in sorted(group, key=_age, reverse=True):
            result = source.document(file, RESULT)
            if not result.demo:
                yield file, result
                break


def _age(file: Path) -> tuple[str, str]:
    stamp = STAMP.search(file.name)
    return ("" if stamp is None else stamp[1]), file.name


def _names(file: Path, result: _Result) -> tuple[str, str, str]:
    """Data set, split and model: what the file says, else its folders."""
    folders = ("", "", *file.resolve().parent.parts)[-3:]
    said = (result.dataset_name, result.split, result.model_name)
    dataset, split, model = (own or folder for own, folder in zip(said, folders, strict=True))
    return dataset, split, model


def _add(
    collector: Collector, at: str, record: _Record, dataset: str, split: str, model: str
) -> None:
    index = record.index if record.index is not None else record.record_index
    original, prompt = as_text(record.origin_query), as_text(record.prompt)
    asked = prompt or original
    if index is None or asked is None:
        field = "index" if index is None else "prompt"
        raise ConfigError(f"{at}: {field!r}: missing; mend the record")
    query_id = collector.add_query(
        at,
        prompt=asked,
        category=dataset,
        own_id=f"{split}:{index}" if split else str(index),
        reference=record.ground_truth,
        identity=original or asked,
    )
    details = Details(
        cost_usd=record.cost,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        answer=as_text(record.prediction),
        has_answer="prediction" in record.model_fields_set,
    )
    text = record.raw_output if isinstance(record.raw_output, str) else None
    collector.add(f"{at}: 'score'", query_id, model, record.score, details, text=text)
