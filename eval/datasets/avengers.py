"""The data of Avengers and Avengers-Pro: a query with one score, and one cost, for each model."""

from __future__ import annotations

from eval.datasets.collector import Collector
from eval.datasets.imported import Details, Imported, Options
from eval.datasets.source import Line, Source
from eval.datasets.splits import split_in


class _Usage(Line):
    cost: float | None = None
    prompt_tokens: float | None = None
    completion_tokens: float | None = None

    @property
    def is_filled_in(self) -> bool:
        """Whether it stands for a model that was never asked: no call takes 0 tokens."""
        return self.prompt_tokens == self.completion_tokens == 0


class _Query(Line):
    query: str
    dataset: str | None = None
    records: dict[str, float | None]
    usages: dict[str, _Usage | None] | None = None


def read_avengers(source: Source, options: Options) -> Imported:
    """JSON lines, or a JSON list, of queries; `train` or `test` in a file's name is the split.

    Source: ZhangYiqun018/Avengers, core/generate_rank_router.py, and ZhangYiqun018/AvengersPro,
    README.md. ynulihao/LLMRouterBench, baselines/adaptors/avengerspro_adaptor.py, writes this
    form and fills in a score of 0 at 0 tokens for each model that was not asked; such cells are
    missing here.

    Raises:
        ConfigError: A file is malformed.
    """
    collector = Collector(source, options)
    for file in source.find("*.jsonl", "*.json"):
        _, split = split_in(file.stem)
        for at, line in source.objects(file, _Query):
            query_id = collector.add_query(
                at, prompt=line.query, category=line.dataset, split=split
            )
            for model, score in line.records.items():
                usage = (line.usages or {}).get(model) or _Usage()
                if usage.is_filled_in and score == 0:
                    collector.count("cells filled in for models that were not asked, missing")
                    continue
                details = Details(
                    cost_usd=usage.cost,
                    prompt_tokens=usage.prompt_tokens,
                    completion_tokens=usage.completion_tokens,
                )
                collector.add(f"{at}: 'records'", query_id, model, score, details)
    return collector.finish()
