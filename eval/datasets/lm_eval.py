"""Samples that lm-evaluation-harness logs: a folder for each model, a file for each task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ConfigDict, TypeAdapter

from composer.errors import ConfigError
from eval.datasets.collector import Collector, as_text
from eval.datasets.imported import Details, Imported, Options
from eval.datasets.source import Line, Source

SAMPLES = re.compile(r"samples_(?P<task>.+?)(?:_(?P<stamp>\d{4}-\d\d-\d\dT[\d.:-]+))?\.jsonl")
METRICS = (
    "acc",
    "exact_match",
    "pass@1",
    "pass_at_1",
    "prompt_level_strict_acc",
    "acc_norm",
)
"""What is taken for the score unless the caller says otherwise, in this order."""
UNFILTERED = "none"
INVALID = "[invalid]"
"""What the harness's filters say where a text holds no answer."""


class _Sample(Line):
    model_config = ConfigDict(extra="allow")

    doc_id: str
    doc: dict[str, Any] | None = None
    target: Any = None
    arguments: Any = None
    resps: Any = None
    filtered_resps: Any = None
    filter: str = UNFILTERED
    doc_hash: str | None = None


class _Results(Line):
    model_name: str | None = None


RESULTS = TypeAdapter(_Results)


def read_lm_eval(source: Source, options: Options) -> Imported:
    """The newest `samples_<task>_<time>.jsonl` of each task in each folder.

    A folder is a model: its name is in `results_*.json`, else it is the folder's, in which the
    harness writes `__` for `/`.

    Source: EleutherAI/lm-evaluation-harness, lm_eval/loggers/evaluation_tracker.py.

    Raises:
        ConfigError: A file is malformed, a task was scored by several filters and none is chosen,
            or a sample has none of the metrics.
    """
    collector = Collector(source, options)
    models: dict[Path, str] = {}
    for file, task in _newest(source.find("samples_*.jsonl")):
        folder = file.parent
        if folder not in models:
            models[folder] = _model_name(source, folder)
        for at, sample in _of_one_filter(source, file, options):
            prompt, is_generated = _prompt(at, sample, options)
            query_id = collector.add_query(
                at,
                prompt=prompt,
                category=task,
                own_id=sample.doc_id,
                reference=sample.target,
                identity=sample.doc_hash,
            )
            metric, score = _score(at, sample, options)
            answer = _first_text(sample.filtered_resps)
            details = Details(
                answer=None if answer in ("", INVALID) else answer,
                has_answer=is_generated and sample.filter != UNFILTERED and answer is not None,
            )
            text = _first_text(sample.resps) if is_generated else None
            collector.add(f"{at}: {metric!r}", query_id, models[folder], score, details, text=text)
    return collector.finish()


def _newest(files: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """The newest file of each folder and task, and the task."""
    newest: dict[tuple[Path, str], tuple[str, Path]] = {}
    for file in files:
        named = SAMPLES.fullmatch(file.name)
        task, stamp = (file.stem, "") if named is None else (named["task"], named["stamp"] or "")
        key = (file.parent, task)
        newest[key] = max(newest.get(key, ("", file)), (stamp, file))
    for (_, task), (_, file) in newest.items():
        yield file, task


def _model_name(source: Source, folder: Path) -> str:
    for file in sorted(folder.glob("results_*.json"), reverse=True):
        if name := source.document(file, RESULTS).model_name:
            return name
    return folder.resolve().name.replace("__", "/")


def _of_one_filter(source: Source, file: Path, options: Options) -> Iterator[tuple[str, _Sample]]:
    """The samples of a file; of those that several filters scored, the ones of the filter named."""
    samples = list(source.objects(file, _Sample))
    filters = list(dict.fromkeys(sample.filter for _, sample in samples))
    if len(filters) > 1 and options.filter not in filters:
        raise ConfigError(f"{file}: scored by the filters {filters}; choose one with --filter")
    for at, sample in samples:
        if len(filters) == 1 or sample.filter == options.filter:
            yield at, sample


def _prompt(at: str, sample: _Sample, options: Options) -> tuple[str, bool]:
    """What is kept as the prompt, and whether the model wrote a text (else it chose an option)."""
    sent, settings = _first_argument(sample.arguments)
    document = sample.doc or {}
    if options.question is not None:
        question = document.get(options.question)
        if not isinstance(question, str):
            raise ConfigError(
                f"{at}: 'doc': no text {options.question!r} among {sorted(document)}; choose "
                "another field with --question"
            )
        return question, isinstance(settings, Mapping)
    if not isinstance(sent, str):
        raise ConfigError(
            f"{at}: 'arguments': no prompt; name the document's field with --question, one of "
            f"{sorted(document)}"
        )
    return sent, isinstance(settings, Mapping)


def _first_argument(arguments: Any) -> tuple[Any, Any]:
    """The prompt of the first request and what came with it: settings, or the option scored."""
    if isinstance(arguments, Mapping):
        first = cast("Mapping[str, Any]", arguments).get("gen_args_0")
        if isinstance(first, Mapping):
            named = cast("Mapping[str, Any]", first)
            return named.get("arg_0"), named.get("arg_1")
    elif isinstance(arguments, list) and arguments and isinstance(arguments[0], list):
        sent, settings, *_ = (*cast("list[Any]", arguments[0]), None, None)
        return sent, settings
    return None, None


def _first_text(responses: Any) -> str | None:
    """The first text of a list, or of a list of lists."""
    while isinstance(responses, list) and responses:
        responses = cast("list[Any]", responses)[0]
    return responses if isinstance(responses, str) else None


def _score(at: str, sample: _Sample, options: Options) -> tuple[str, float | None]:
    logged = sample.model_extra or {}
    wanted = options.metrics or METRICS
    metric = next((name for name in wanted if name in logged), None)
    if metric is None:
        numbers = sorted(name for name, value in logged.items() if isinstance(value, int | float))
        raise ConfigError(f"{at}: none of the metrics {list(wanted)}; choose from {numbers}")
    value = logged[metric]
    if value is not None and not isinstance(value, int | float):
        raise ConfigError(f"{at}: {metric!r}: no number, but {as_text(value)!r:.60}")
    return metric, None if value is None else float(value)
