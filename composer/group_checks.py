"""What is wrong with an expert that is a group of others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from composer.config_file import Location
from composer.entries import Expert
from composer.suggest import suggest

MIN_MEMBERS = 2


def check_members(
    expert: Expert, names: Collection[str], valid: Mapping[str, Expert]
) -> Iterator[tuple[Location, str]]:
    """Where inside the entry, and what is wrong there, remedy last.

    Args:
        expert: The one to check.
        names: All experts of the file.
        valid: Those of them whose own keys and values are right.
    """
    if expert.engine != "latent":
        if expert.members:
            message = f"'members' does not go with engine {expert.engine!r}; set engine: latent"
            yield ("members",), message
        return
    if expert.chat_template is not None:
        message = "'chat_template' is for the members to say; remove it here"
        yield ("chat_template",), message
    if expert.members and len(set(expert.members)) < MIN_MEMBERS:
        yield ("members",), "'members' are fewer than two experts; name another one"
    for i, name in enumerate(expert.members):
        place: Location = ("members", i)
        if name in expert.members[:i]:
            yield place, f"{name!r} is named twice; name each member once"
        elif name not in names:
            yield place, f"'members.{i}' names no expert: {name!r}; {suggest(name, names)}"
        elif name in valid and valid[name].engine != "vllm":
            message = f"{name!r} runs on {valid[name].engine!r}; only members on 'vllm' have"
            yield place, f"{message} weights here to be read; name another"
