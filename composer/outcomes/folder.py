"""The folder form of an outcome table: gzipped JSON lines that any program can write.

    queries.jsonl.gz           id, prompt, split, [category], [reference], [answer_type];
                               [annotation]: an object, what experts said of it for routers that
                               asked; and the flags [in_train], [contaminated]: rows that are
                               reported apart
    models.json                a list: name, [params_b], [price_in, price_out] in USD per 1M
                               tokens, [partial]: it was not asked everything, [description]: what
                               it is good at
    outcomes.jsonl.gz          query_id, model, score in [0, 1], [cost] in USD, [answer] (null: the
                               text held none), [tokens_in, tokens_out], [latency_s]
    outcomes_partial.jsonl.gz  the same, of models marked `partial` (optional)
    responses.jsonl.gz         query_id, model, response: the full texts (optional)

Keys in brackets may be missing or null; other keys are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from composer.errors import ConfigError
from composer.outcomes.cells import Amount, CellReader
from composer.outcomes.lines import (
    MODELS,
    OUTCOMES,
    PARTIAL,
    QUERIES,
    RESPONSES,
    Text,
    describe,
    raise_problem,
    read_lines,
)
from composer.outcomes.table import OutcomeTable, RecordedExpert, RecordedQuery
from composer.types import Annotation, AnswerType

FLAGS = ("in_train", "contaminated")

Name = Annotated[Text, Field(min_length=1)]


class _Model(TypedDict):
    name: Name
    params_b: NotRequired[Amount | None]
    price_in: NotRequired[Amount | None]
    price_out: NotRequired[Amount | None]
    partial: NotRequired[bool | None]
    description: NotRequired[Text | None]


class _Query(TypedDict):
    id: Name
    prompt: Text
    split: Name
    category: NotRequired[Text | None]
    reference: NotRequired[Any]
    annotation: NotRequired[dict[str, Any] | None]
    answer_type: NotRequired[AnswerType | None]
    in_train: NotRequired[bool | None]
    contaminated: NotRequired[bool | None]


def read_folder(
    folder: Path,
    *,
    partial: bool = False,
    texts: bool = False,
    on_problem: Callable[[str], None] = raise_problem,
) -> OutcomeTable:
    """The table that a folder holds; its name is the folder's.

    Args:
        folder: See the module.
        partial: Have the models marked `partial` as well, as the last columns.
        texts: Have the full texts as well, if there are any: they are most of the memory.
        on_problem: Called with each line that is wrong, which is then passed over, and with each
            model that has no outcome, whose column is then unknown; the default raises.

    Raises:
        ConfigError: A file is missing or broken, or a line is wrong:
            `path:line: 'field': message; remedy`.
    """
    if not folder.is_dir():
        raise ConfigError(f"no folder {str(folder)!r}; name one with {QUERIES}")
    experts = _read_experts(folder / MODELS)
    wanted = [expert.name for expert in experts if partial or not expert.is_partial]
    if not wanted:
        raise ConfigError(f"{folder / MODELS}: every model is partial; ask for those as well")
    queries = _read_queries(folder / QUERIES, on_problem)
    if not queries:
        raise ConfigError(f"{folder / QUERIES}: no query; a table needs at least one")
    # Lines of partial models are known for what they are also where nobody asked for them.
    cells = CellReader([q.id for q in queries], [e.name for e in experts], on_problem)
    n_whole = sum(not expert.is_partial for expert in experts)
    cells.read_outcomes(folder / OUTCOMES, range(n_whole))
    if partial and (folder / PARTIAL).exists():
        cells.read_outcomes(folder / PARTIAL, range(n_whole, len(experts)))
    has_texts = texts and (folder / RESPONSES).exists()
    table = OutcomeTable(
        folder.resolve().name,
        queries,
        experts,
        cells.score(),
        answers=cells.answers(),
        texts=cells.read_texts(folder / RESPONSES) if has_texts else None,
        **cells.amounts(),
    )
    table = table.with_experts(wanted)
    for name in np.array(wanted)[np.isnan(table.score).all(axis=0)]:
        on_problem(f"{folder / MODELS}: model {str(name)!r} has no outcome; take it out")
    return table


def _read_experts(file: Path) -> tuple[RecordedExpert, ...]:
    """The models, those that were asked everything first."""
    try:
        models = TypeAdapter(list[_Model]).validate_json(file.read_bytes())
    except FileNotFoundError as exc:
        raise ConfigError(f"no file {str(file)!r}; recorded data needs it") from exc
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be read ({exc}); is it a file?") from exc
    except ValidationError as exc:
        raise ConfigError(f"{file}: {describe(exc)}; mend the file") from exc
    names = [model["name"] for model in models]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{file}: model {name!r} stands there twice; leave one")
    if not names:
        raise ConfigError(f"{file}: no model; a table needs at least one")
    experts = [
        RecordedExpert(
            model["name"],
            model.get("params_b"),
            model.get("price_in"),
            model.get("price_out"),
            bool(model.get("partial")),
            model.get("description") or "",
        )
        for model in models
    ]
    return tuple(sorted(experts, key=lambda expert: expert.is_partial))


def _read_queries(file: Path, on_problem: Callable[[str], None]) -> tuple[RecordedQuery, ...]:
    queries: dict[str, RecordedQuery] = {}
    for number, line in read_lines(file, _Query, on_problem=on_problem):
        if line["id"] in queries:
            on_problem(f"{file}:{number}: 'id': {line['id']!r} stands there twice; leave one")
            continue
        reference = line.get("reference")
        if reference is not None and not isinstance(reference, str):
            reference = json.dumps(reference, ensure_ascii=False)
        annotation = line.get("annotation")
        queries[line["id"]] = RecordedQuery(
            line["id"],
            line["prompt"],
            line["split"],
            line.get("category"),
            reference,
            frozenset(flag for flag in FLAGS if line.get(flag)),
            None if annotation is None else Annotation(annotation),
            line.get("answer_type"),
        )
    return tuple(queries.values())
