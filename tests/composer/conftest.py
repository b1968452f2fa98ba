"""Composers of scripted experts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from composer.assembly import compose
from composer.experts import load_experts
from composer.orchestrator import Composer
from routers.encoder import HashingEncoder

MakeComposer = Callable[[str], Composer]


@pytest.fixture
def composer_of(tmp_path: Path) -> MakeComposer:
    """A composer of the text of an experts.yaml; routers embed without a model."""

    def make(text: str, **options: Any) -> Composer:
        path = tmp_path / "experts.yaml"
        path.write_text(text, encoding="utf-8")
        encoder = HashingEncoder(dimension=256)
        return compose(load_experts(path), cache=tmp_path, encoder=encoder, **options)

    return make
