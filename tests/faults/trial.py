# SPDX-License-Identifier: GPL-2.0-only
"""A command in this process, once for each call that can fail in it, and what must hold after each.

What must hold, whatever failed (`Scenario.check` adds to it):

- the exit code is 2 or 3, or 130 when interrupted; 0 only with the same results as without a fault;
- standard error has sentences, and neither a traceback nor "this is a bug";
- no child process and no descriptor is left, nor a file that was being written;
- the same command without a fault, on what the failed one left, has the right results.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import re
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from harness.cli.exits import guarded, run_to_exit
from harness.errors import ExitCode
from harness.log import LOGGER
from tests.faults.injector import (
    INTERRUPT,
    Fault,
    Injector,
    Point,
    children,
    leftovers,
    open_descriptors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVERY_CALL = os.environ.get("KLP_FAULTS") == "all"
"""Whether each call is to fail once; otherwise one of those that share their way to it."""

ASIDE = (".partial-*", ".trash-*", "scratch-*", "root-*", "more-*", "klp-*-??????", ".*.[0-9]*")
"""Files and folders that are being written or removed, and must not stay."""

_FAILED = {ExitCode.USAGE, ExitCode.HARNESS}
# Locks on cache entries that a process uses stay until it ends.
_KEPT = re.compile(r".*\.used(?: \(deleted\))?$")
_MOST_CALLS = 5000


@dataclass(kw_only=True)
class Ended:
    """How a command ended. ``value`` is what it made, for comparison."""

    code: int
    out: str
    err: str
    value: object = None


@dataclass(kw_only=True)
class Scenario:
    """Something to run in an empty folder.

    ``prepare`` makes what must be there, without faults. ``run`` is the work; it returns how it
    ended. ``aside`` are more names of files that must not stay. ``codes`` are exit codes that are
    right after a fault. ``says`` are warnings that a part is left out: then results may differ.
    ``most`` is how many trials to make, spread over the calls, unless every call is to fail.
    """

    name: str
    run: Callable[[Path], Ended]
    prepare: Callable[[Path], None] = field(default=lambda _: None)
    aside: tuple[str, ...] = ()
    codes: frozenset[int] = frozenset(_FAILED)
    says: tuple[str, ...] = ()
    most: int = 1000

    def __str__(self) -> str:
        return self.name


def command(*words: str) -> Ended:
    """Run a command of klp-harness as its entry point does, with standard streams of its own."""
    from harness.cli import _application

    return _ended(_application, words)


def work(body: Callable[[], object]) -> Ended:
    """Run a function as the body of a command, and return how that ended."""
    made: list[object] = []

    def load() -> Callable[..., Any]:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

        @app.command()
        @guarded
        def made_up() -> int:
            made.append(body())
            return ExitCode.HELD

        return app

    ended = _ended(load, ())
    ended.value = made[0] if made else None
    return ended


def _ended(load: Callable[[], Callable[..., Any]], words: tuple[str, ...]) -> Ended:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    before = sys.argv
    sys.argv = ["klp-harness", *words]
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            # Without the handling of this process's own streams and signals.
            code = run_to_exit(load, "klp-harness")
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    texts = []
    for stream in (out, err):
        with contextlib.suppress(ValueError):
            stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    return Ended(code=int(code or 0), out=texts[0], err=texts[1])


def fail_each(scenario: Scenario, fault: Fault, home: Path, *, every: bool = EVERY_CALL) -> int:
    """Let the calls of a fault fail one after the other; return how many trials that were."""
    root = home / "root"
    with _as_at_start(home):
        for name in ("runs", "cache", "tmp", "home"):
            (root / name).mkdir(parents=True)
        scenario.prepare(root)
        shutil.copytree(root, home / "prepared", symlinks=True)
        clean, expected = _trial(scenario, fault, home, 0)
        assert expected.code == 0, f"without a fault: {expected}"
        chosen = range(1, _MOST_CALLS) if every else _spread(clean, scenario.most)
        for trials, number in enumerate(chosen):
            injector, ended = _trial(scenario, fault, home, number)
            if injector.fired is None:
                return trials
            _judge(scenario, home, injector, ended, expected)
        raise AssertionError(f"{scenario} has more than {_MOST_CALLS} calls")


def _spread(clean: Injector, most: int) -> list[int]:
    """Return numbers of calls, one of those that share their way, and one that is not reached."""
    first: dict[tuple[str, ...], int] = {}
    for number, call in enumerate(clean.calls, start=1):
        first.setdefault(call.place, number)
    numbers = list(first.values())
    step = max(1.0, len(numbers) / most)
    chosen = [numbers[int(index * step)] for index in range(int(len(numbers) / step))]
    # More calls may come than in the run without a fault, but not so many.
    return [*chosen, _MOST_CALLS]


def _trial(scenario: Scenario, fault: Fault, home: Path, number: int) -> tuple[Injector, Ended]:
    root = home / "root"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(home / "prepared", root, symlinks=True)
    before = set(open_descriptors())
    with Injector(fault=fault, root=root, nth=number) as injector:
        ended = scenario.run(root)
    more = _opened_since(before)
    if more:
        # The frames of a failure hold what they have opened, and refer to each other.
        gc.collect()
        more = _opened_since(before)
    if more:
        _broken(f"left open {more}", scenario, injector, ended)
    if children():
        _broken(f"left children {children()}", scenario, injector, ended)
    return injector, ended


def _opened_since(before: set[int]) -> dict[int, str]:
    return {
        number: what
        for number, what in open_descriptors().items()
        if number not in before and not _KEPT.match(what) and "/fd" not in what
    }


def _judge(
    scenario: Scenario, home: Path, injector: Injector, ended: Ended, expected: Ended
) -> None:
    for what, is_wrong in _wrongs(scenario, injector, ended, expected).items():
        if is_wrong:
            _broken(what, scenario, injector, ended)
    root = home / "root"
    assert injector.fired is not None
    # What cannot be removed stays.
    if injector.fired.point is not Point.UNLINK and not injector.fired.in_removal:
        left = leftovers(root, (*ASIDE, *scenario.aside))
        if left:
            _broken(f"left {left}", scenario, injector, ended)
    again = scenario.run(root)
    if again.code != 0 or again.value != expected.value:
        _broken(f"the next run failed: {again}", scenario, injector, ended)


def _wrongs(
    scenario: Scenario, injector: Injector, ended: Ended, expected: Ended
) -> dict[str, bool]:
    """Return what may be wrong with an end, in words, and whether it is."""
    is_interrupt = injector.fault is INTERRUPT
    right = {ExitCode.INTERRUPTED} if is_interrupt else scenario.codes
    return {
        "a bug": "this is a bug" in ended.err,
        "a traceback": "Traceback" in ended.err + ended.out,
        "the interrupt is lost": ended.code == 0 and is_interrupt,
        "results are lost": ended.code == 0
        and ended.value != expected.value
        and not any(words in ended.err + ended.out for words in scenario.says),
        f"exit code {ended.code}": ended.code != 0 and ended.code not in right,
        "no sentence": ended.code in _FAILED and "error: " not in ended.err,
    }


def _broken(what: str, scenario: Scenario, injector: Injector, ended: Ended) -> NoReturn:
    number, count = injector.nth, len(injector.calls)
    raise AssertionError(
        f"{scenario}, {injector.fault}: {what}: call {number} of {count}, {injector.fired}\n"
        f"{injector.fired.trace if injector.fired else ''}\nexit code {ended.code}\n"
        f"--- out\n{ended.out}\n--- err\n{ended.err}"
    )


@contextlib.contextmanager
def _as_at_start(home: Path) -> Iterator[None]:
    """Give a command its folders below ``home``; undo what it does to this process."""
    root = home / "root"
    environment = dict(os.environ)
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    log = LOGGER.handlers[:], LOGGER.level, LOGGER.propagate
    temporary = tempfile.tempdir
    os.environ.update(
        KLP_HARNESS_RUNS=str(root / "runs"),
        KLP_HARNESS_CACHE=str(root / "cache"),
        HOME=str(root / "home"),
        TMPDIR=str(root / "tmp"),
        COLUMNS="200",
    )
    os.environ.pop("KLP_HARNESS_DIE_WITH_PARENT", None)
    tempfile.tempdir = str(root / "tmp")
    try:
        yield
    finally:
        tempfile.tempdir = temporary
        os.environ.clear()
        os.environ.update(environment)
        LOGGER.handlers[:], LOGGER.propagate = log[0], log[2]
        LOGGER.setLevel(log[1])
        for number, handler in signals.items():
            signal.signal(number, handler)
