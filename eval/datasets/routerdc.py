"""RouterDC's data: JSON lists of a question and one score for each model, by name."""

from __future__ import annotations

from composer.errors import ConfigError
from composer.suggest import unknown_name
from eval.datasets.collector import Collector
from eval.datasets.imported import Imported, Options
from eval.datasets.source import Line, Source
from eval.datasets.splits import split_in


class _Question(Line):
    question: str
    scores: dict[str, float | None]
    """The order of the names differs between records, so that positions mean nothing."""


def read_routerdc(source: Source, options: Options) -> Imported:
    """Every JSON file of a folder; a file's name is the category and the split of its records.

    Multiple-choice scores are the probability of the right option, 0 where another one is more
    likely. In the categories of `options.binarise` each score above 0 counts as 1.

    Source: shuhao02/RouterDC, train_router_mdeberta.py, `evaluation`, which counts data sets of
    its type `probability` so, and shares of right samples as they are.

    Raises:
        ConfigError: A file is malformed, or there is no category of a name.
    """
    collector = Collector(source, options)
    categories: set[str] = set()
    for file in source.find("*.json", "*.jsonl"):
        category, split = split_in(file.stem)
        categories.add(category or "")
        is_binary = category in options.binarise
        for at, line in source.objects(file, _Question):
            query_id = collector.add_query(at, prompt=line.question, category=category, split=split)
            for model, score in line.scores.items():
                if is_binary and score is not None and score > 0:
                    score = 1.0
                collector.add(f"{at}: 'scores'", query_id, model, score)
    for name in options.binarise:
        if name not in categories:
            raise ConfigError(f"--binarise: {unknown_name('category', name, categories)}")
    return collector.finish()
