# SPDX-License-Identifier: GPL-2.0-only
"""Options that commands share, declared once as the fields of a dataclass.

typer reads the parameters of a function. A command may have a parameter of which the type is a
dataclass: each field of it becomes an option, and the command gets the dataclass.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar, get_args, get_origin
from typing import get_type_hints as hints_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Params = ParamSpec("Params")
Returned = TypeVar("Returned")


def with_option_groups(command: Callable[Params, Returned]) -> Callable[..., Returned]:
    """Return the command with the parameters that typer is to see.

    A parameter or field of the type ``tuple[X, ...]`` is a list to typer. Its default is the empty
    tuple.
    """
    hints = hints_of(command, include_extras=True)
    seen: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, tuple[str, ...]]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            fields = _parameters(kind)
            groups[name] = (kind, tuple(field.name for field in fields))
            seen += fields
        else:
            seen.append(_for_typer(name, kind, parameter.default))

    @functools.wraps(command)
    def wrapper(*args: Params.args, **given: Params.kwargs) -> Returned:
        values: dict[str, Any] = {
            name: _as_tuple(value) if name in lists else value for name, value in given.items()
        }
        for group, (kind, names) in groups.items():
            values[group] = kind(**{name: values.pop(name) for name in names if name in values})
        return command(*args, **values)

    # Those with a default follow: the order of options means nothing.
    seen.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)
    lists = {parameter.name for parameter in seen if parameter.default is None}
    lists &= _tuples(hints, groups)
    wrapper.__signature__ = inspect.Signature(seen)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in seen}
    return wrapper


def _parameters(group: type) -> list[inspect.Parameter]:
    hints = hints_of(group, include_extras=True)
    return [
        _for_typer(field.name, hints[field.name], field.default)
        for field in dataclasses.fields(group)
    ]


def _for_typer(name: str, kind: Any, default: Any) -> inspect.Parameter:
    if default is dataclasses.MISSING:
        default = inspect.Parameter.empty
    if _is_tuple(kind):
        item = get_args(_plain(kind))[0]
        kind = Annotated[(list[item] | None, *get_args(kind)[1:])]  # type: ignore[valid-type]
        default = None if default == () else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _tuples(hints: Mapping[str, Any], groups: Mapping[str, tuple[type, Any]]) -> set[str]:
    found = {name for name, kind in hints.items() if _is_tuple(kind)}
    for group, _ in groups.values():
        found |= {
            name for name, kind in hints_of(group, include_extras=True).items() if _is_tuple(kind)
        }
    return found


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value or ())


def _plain(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _is_tuple(kind: Any) -> bool:
    plain = _plain(kind)
    return not isinstance(plain, UnionType) and get_origin(plain) is tuple
