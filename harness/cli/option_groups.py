# SPDX-License-Identifier: GPL-2.0-only
"""Options that commands share, declared once as the fields of a dataclass.

typer reads the parameters of a function. A command may have a parameter of which the type is a
dataclass: each field of it becomes an option, and the command gets the dataclass.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin
from typing import get_type_hints as hints_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Returned = TypeVar("Returned")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Option:
    """A parameter as typer is to see it. ``group``: the command's parameter it is a field of."""

    seen: inspect.Parameter
    group: str | None
    is_tuple: bool


def with_option_groups(command: Callable[..., Returned]) -> Callable[..., Returned]:
    """Return the command with the parameters that typer is to see.

    A parameter or field of the type ``tuple[X, ...]`` is a list to typer, and a tuple here. Its
    default, if it has one, is the empty tuple.
    """
    hints = hints_of(command, include_extras=True)
    groups: dict[str, Any] = {
        name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)
    }
    options = list(_options(command, hints, groups))
    # Those with a default follow, as Python wants it: the order of options means nothing.
    options.sort(key=lambda option: option.seen.default is not inspect.Parameter.empty)

    @functools.wraps(command)
    def wrapper(**given: Any) -> Returned:
        values: dict[str, Any] = {}
        fields: dict[str, dict[str, Any]] = {name: {} for name in groups}
        for option in options:
            name = option.seen.name
            if name in given:
                value = tuple(given[name] or ()) if option.is_tuple else given[name]
                (values if option.group is None else fields[option.group])[name] = value
        return command(**values, **{name: groups[name](**fields[name]) for name in groups})

    seen = [option.seen for option in options]
    wrapper.__signature__ = inspect.Signature(seen)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in seen}
    return wrapper


def _options(
    command: Callable[..., Any], hints: dict[str, Any], groups: dict[str, Any]
) -> Iterator[_Option]:
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            yield _option(name, hints[name], parameter.default)
            continue
        kinds = hints_of(groups[name], include_extras=True)
        for field in dataclasses.fields(groups[name]):
            missing = field.default is dataclasses.MISSING
            default = inspect.Parameter.empty if missing else field.default
            yield _option(field.name, kinds[field.name], default, group=name)


def _option(name: str, kind: Any, default: Any, *, group: str | None = None) -> _Option:
    plain, *details = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    is_tuple = get_origin(plain) is tuple
    if is_tuple:
        item = get_args(plain)[0]
        kind = Annotated[(list[item] | None, *details)] if details else list[item] | None  # type: ignore[valid-type]
        default = None if default == () else default
    seen = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
    return _Option(seen=seen, group=group, is_tuple=is_tuple)
