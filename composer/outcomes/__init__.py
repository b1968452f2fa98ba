"""Recorded outcomes, queries x experts: what routers are fitted on and replay runs on."""

from composer.outcomes.folder import read_folder
from composer.outcomes.store import load_table, read_table, save_table
from composer.outcomes.table import (
    NOT_EXTRACTED,
    NOT_RECORDED,
    Answers,
    OutcomeTable,
    RecordedExpert,
    RecordedQuery,
)

__all__ = [
    "NOT_EXTRACTED",
    "NOT_RECORDED",
    "Answers",
    "OutcomeTable",
    "RecordedExpert",
    "RecordedQuery",
    "load_table",
    "read_folder",
    "read_table",
    "save_table",
]
