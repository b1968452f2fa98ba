"""AlpacaEval's annotations: which of two outputs a judge prefers, the reference's or a model's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from composer.errors import ConfigError
from composer.suggest import unknown_name
from eval.datasets.collector import Collector
from eval.datasets.imported import Imported, Options
from eval.datasets.source import Line, Source

DRAW = 1.5


class _Annotation(Line):
    instruction: str
    dataset: str | None = None
    output_1: str
    generator_1: str
    output_2: str
    generator_2: str
    annotator: str | None = None
    preference: float | None


def read_alpaca_eval(source: Source, options: Options) -> Imported:
    """The annotations of one judge, in any number of files of a folder.

    A score is preference - 1: how surely the judge prefers the model's output to the reference's.
    On this scale, the leaderboard's, the reference itself has 0.5 whoever it is compared with. It
    becomes a model of the table if its output to each instruction is the same everywhere.

    Source: tatsu-lab/alpaca_eval, src/alpaca_eval/metrics/helpers.py (a preference of 0 is the
    old way to write a draw). What an annotation cost is the judge's price, so no cost is kept.

    Raises:
        ConfigError: A file is malformed, there are several judges or references, or a preference
            is outside 1..2.
    """
    collector = Collector(source, options)
    judges: set[str] = set()
    reference: str | None = None
    outputs: dict[str, str] = {}
    is_same_everywhere = True
    for at, line in _annotations(source, options):
        judges.add(line.annotator or "")
        if options.annotator is not None and line.annotator != options.annotator:
            continue
        if len(judges) > 1 and options.annotator is None:
            raise ConfigError(f"{at}: several annotators, {sorted(judges)}; choose by --annotator")
        reference = reference or line.generator_1
        if line.generator_1 != reference:
            raise ConfigError(
                f"{at}: 'generator_1': {line.generator_1!r}, and {reference!r} before; import the "
                "comparisons with one reference at a time"
            )
        query_id = collector.add_query(at, prompt=line.instruction, category=line.dataset)
        if outputs.setdefault(query_id, line.output_1) != line.output_1:
            is_same_everywhere = False
        if line.generator_2 == reference:
            continue
        score = _score(f"{at}: 'preference'", line.preference)
        collector.add(at, query_id, line.generator_2, score, text=line.output_2)
    if options.annotator is not None and options.annotator not in judges:
        raise ConfigError(f"--annotator: {unknown_name('annotator', options.annotator, judges)}")
    if reference is not None and is_same_everywhere:
        for query_id, output in outputs.items():
            collector.add(str(source.root), query_id, reference, DRAW - 1, text=output)
    elif reference is not None:
        collector.remark(f"the outputs of the reference {reference!r} differ: it is left out")
    return collector.finish()


def _annotations(source: Source, options: Options) -> Iterator[tuple[str, _Annotation]]:
    """The annotations of all files, or of those in folders of the judge's name if there are any."""
    files = source.find("annotations.json", "*.json")
    of_judge: list[Path] = [file for file in files if file.parent.name == options.annotator]
    for file in of_judge or files:
        yield from source.objects(file, _Annotation)


def _score(at: str, preference: float | None) -> float | None:
    if preference is None or preference != preference:
        return None
    if preference == 0:
        preference = DRAW
    if not 1 <= preference <= 2:
        raise ConfigError(f"{at}: {preference:g} is outside 1..2; mend the record")
    return preference - 1
