# SPDX-License-Identifier: GPL-2.0-only
"""The error tree: whose fault each is, what it says, and that it survives the way to a worker."""

from __future__ import annotations

import errno
import inspect
import pickle
import re
from pathlib import Path

import pytest

from harness import errors
from harness.errors import (
    ExitCode,
    HarnessError,
    KernelVerdict,
    KlpError,
    ModuleRefused,
    UsageError,
    errno_text,
)

CLASSES: list[type[KlpError]] = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, KlpError) and value is not KlpError
]


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_each_error_has_one_culprit(error: type[KlpError]) -> None:
    """An error is the user's, the harness's or the kernel's, and its exit code says which."""
    families = {
        UsageError: ExitCode.USAGE,
        HarnessError: ExitCode.HARNESS,
        KernelVerdict: ExitCode.VERDICT,
    }
    culprits = [family for family in families if issubclass(error, family)]
    assert len(culprits) == 1
    assert error.exit_code == families[culprits[0]]


def test_the_drawn_tree_is_the_tree() -> None:
    """The module's docstring draws every class, below its parent."""
    assert errors.__doc__ is not None
    parents: list[tuple[int, str]] = []
    drawn = {}
    for line in errors.__doc__.splitlines():
        found = re.match(r"([ │├└─]*)(Klp\w+|[A-Z]\w+)(?:  |$)", line.removeprefix("    "))
        if found is None or found.group(2) not in vars(errors):
            continue
        depth = len(found.group(1))
        parents = [(column, name) for column, name in parents if column < depth]
        drawn[found.group(2)] = parents[-1][1] if parents else "Exception"
        parents.append((depth, found.group(2)))
    everything: list[type[KlpError]] = [KlpError, *CLASSES]
    real = {error.__name__: error.__mro__[1].__name__ for error in everything}
    assert drawn == real


def test_text_has_message_hint_details_and_logs() -> None:
    """A user sees what happened, what to do, the lines worth reading, and where the logs are."""
    error = UsageError(
        "it is wrong", hint="do this", details=("line 1", "line 2"), artefacts=Path("logs")
    )
    assert str(error) == "it is wrong\nhint: do this\n    line 1\n    line 2\nlogs: logs"


@pytest.mark.parametrize(
    "error",
    [
        UsageError("wrong", hint="hint", details=("d",), artefacts=Path("logs")),
        ModuleRefused("klp_test", errno.EBUSY, hint="hint", details=("d",)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_pickling(error: KlpError) -> None:
    """pytest-xdist and Dask send errors between processes."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_refused_module_names_the_errno() -> None:
    """A refusal has the kernel's own error name, and what was refused."""
    error = ModuleRefused("klp_test", errno.EINVAL)
    assert error.message == "the kernel refused to load klp_test: EINVAL (Invalid argument)"
    assert error.errno == errno.EINVAL
    assert ModuleRefused("klp_test", errno.EBUSY, action="unload").message.startswith(
        "the kernel refused to unload klp_test"
    )


def test_unknown_errno_has_a_text() -> None:
    """An errno that the C library does not know is still shown."""
    assert errno_text(524).startswith("errno 524")
