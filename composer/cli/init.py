"""`composer init`: an experts.yaml to begin with."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated

import typer

from composer.errors import ConfigError

NAME = "experts.yaml"


def init(
    path: Annotated[Path, typer.Argument(help="The file to write, or its folder.")] = Path(NAME),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write an experts.yaml with two small models and five specialists, to be edited.

    composer init

    composer init config/experts.yaml --force
    """
    path = path / NAME if path.is_dir() else path
    write_new(path, packaged_experts(), force=force)
    typer.echo(f"wrote {path}; edit it, then run `composer experts check --experts {path}`")


def packaged_experts() -> bytes:
    """The experts.yaml that comes with the package, or lies beside it in a checkout."""
    packaged = files("composer") / NAME
    if packaged.is_file():
        return packaged.read_bytes()
    return (Path(__file__).parents[2] / NAME).read_bytes()


def write_new(path: Path, content: bytes, *, force: bool) -> None:
    """Write a file whole or not at all.

    Raises:
        ConfigError: It exists and `force` is not given, or it cannot be written.
    """
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(content)
        written = Path(file.name)
        try:
            written.chmod(0o644)
            if force:
                written.replace(path)
            else:
                os.link(written, path)
        finally:
            written.unlink(missing_ok=True)
    except FileExistsError:
        raise ConfigError(f"{path} exists; name another file, or --force replaces it") from None
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc.strerror}; name another path") from exc
