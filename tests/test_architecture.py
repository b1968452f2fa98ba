import ast
import subprocess
import sys
from pathlib import Path

import pytest

import composer
from composer.experts import check_experts, load_experts

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in ("composer", "routers", "eval")
    for path in (ROOT / package).rglob("*.py")
)
HEAVY = {
    "faiss",
    "httpx",
    "numpy",
    "ray",
    "routers",
    "sentence_transformers",
    "torch",
    "transformers",
    "vllm",
}
MAX_LINES = 300
LONGER = {"composer/types.py"}
"""One concern each, and longer all the same; none that has become short may stay here."""


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after the statement."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return set(run.stdout.split())


@pytest.mark.parametrize("statement", ["import composer", "from composer import Composer"])
def test_importing_the_package_loads_nothing_heavy(statement: str) -> None:
    loaded = loaded_by(statement)
    assert "composer" in loaded
    assert not loaded & HEAVY


def test_importing_the_package_alone_loads_none_of_its_modules() -> None:
    assert "asyncio" not in loaded_by("import composer")


def test_every_public_name_resolves_to_what_its_module_defines() -> None:
    for name in composer.__all__:
        public = getattr(composer, name)
        assert public.__name__ == name
        assert getattr(sys.modules[public.__module__], name) is public
    assert set(composer.__all__) < set(dir(composer))


def test_the_version_is_a_string() -> None:
    assert composer.__version__.count(".") >= 2


def test_a_name_that_there_is_not_is_said_to_be_missing() -> None:
    with pytest.raises(AttributeError, match="module 'composer' has no attribute 'Compozer'"):
        _ = composer.Compozer  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]


@pytest.mark.parametrize("path", MODULES)
def test_every_module_says_what_it_is_for_and_is_short(path: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    assert ast.get_docstring(ast.parse(text)), "no module docstring"
    assert (len(text.splitlines()) > MAX_LINES) == (path in LONGER)


def test_the_shipped_configuration_loads_and_nothing_is_wrong_with_it() -> None:
    assert check_experts(ROOT / "experts.yaml") == []
    assert {"auto", "panel"} <= set(load_experts(ROOT / "experts.yaml").compositions)
