# SPDX-License-Identifier: GPL-2.0-only
"""What follows the guests of a session: when the oracle judges, and what becomes of its verdict."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import ConsistencyViolated, EventsLost, HarnessError, KernelSplat
from harness.observer import watch as module
from harness.observer.watch import Watch
from harness.vm.host.cache import Store

if TYPE_CHECKING:
    from pathlib import Path

VIOLATED = ConsistencyViolated("consistency is violated 1 time: I1: x", details=("I2: y",))


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[Exception | None]:
    """What the oracle finds in each guest, in turn; those that were asked for are taken away."""
    found: list[Exception | None] = []

    class Double:
        def __init__(self, *_: object) -> None:
            pass

        def check(self) -> None:
            error = found.pop(0)
            if error is not None:
                raise error

    monkeypatch.setattr(module, "Oracle", Double)
    monkeypatch.setattr(module, "Kernel", SimpleNamespace)
    monkeypatch.setattr(Watch, "points", lambda *_: None)
    return found


def watching(tmp_path: Path, *, oracle: bool = True, observed: bool = True) -> Any:
    """Return what a guest is used in."""
    path = tmp_path / "guest-1.observed"
    hypervisor = SimpleNamespace(observed=path if observed else None)
    watch = Watch(folder=tmp_path, store=Store(tmp_path / "cache"), oracle=oracle)
    machine: Any = SimpleNamespace(hypervisor=hypervisor)
    kernel: Any = SimpleNamespace(digest="d")
    return watch.watching(machine, kernel, "the trial")


def test_a_violation_is_raised_at_the_end(tmp_path: Path, checks: list[Exception | None]) -> None:
    """Of a guest in which all else held; and so are events that are lost."""
    checks += [None, VIOLATED, EventsLost("lost")]
    with watching(tmp_path):
        pass
    assert (tmp_path / "guest-1.test").read_text() == "the trial"
    with pytest.raises(ConsistencyViolated), watching(tmp_path):
        pass
    with pytest.raises(EventsLost), watching(tmp_path):
        pass
    assert checks == []


def test_a_violation_is_added_to_another_failure(
    tmp_path: Path, checks: list[Exception | None]
) -> None:
    """The kernel's failure stays what it is, with the oracle's words among its details."""
    checks += [VIOLATED]
    with pytest.raises(KernelSplat) as failed, watching(tmp_path):
        raise KernelSplat("WARNING", details=("a",))
    first, said, more = failed.value.details
    assert first == "a"
    assert said.startswith("the oracle: consistency is violated")
    assert "I2: y" in more


def test_the_harness_failure_is_no_verdict(tmp_path: Path, checks: list[Exception | None]) -> None:
    """Nothing is judged when the harness or the host has failed."""
    checks += [VIOLATED]
    with pytest.raises(HarnessError), watching(tmp_path):
        raise HarnessError("no room")
    assert checks == [VIOLATED]


@pytest.mark.parametrize(("oracle", "observed"), [(False, True), (True, False)])
def test_guests_that_are_not_judged(
    tmp_path: Path, checks: list[Exception | None], oracle: bool, observed: bool
) -> None:
    """Coverage alone asks for no oracle; a guest that is recorded is not observed."""
    with watching(tmp_path, oracle=oracle, observed=observed):
        pass
    assert checks == []
