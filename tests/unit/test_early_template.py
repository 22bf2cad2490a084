# SPDX-License-Identifier: GPL-2.0-only
"""The template that boots while the workers start."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import pytest

from harness.errors import BootFailed, UsageError
from harness.pytest_plugin import early
from harness.pytest_plugin.early import EarlyTemplate
from harness.vm.guest.plugin import no_plugin
from harness.vm.guest.session import Fresh, GuestSettings
from harness.vm.host.accel import Accel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KERNEL: Any = object()
SETTINGS = GuestSettings(accel=Accel.TCG, time_scale=2.0)


class FakeSession:
    """A session whose template is there once ``prepare`` was called."""

    def __init__(self, prepare: Callable[[], None]) -> None:
        self.prepared: list[object] = []
        self.is_open = False
        self._prepare = prepare

    def __enter__(self) -> Self:
        self.is_open = True
        return self

    def __exit__(self, *exc: object) -> None:
        self.is_open = False

    def prepare(self, kernel: object) -> None:
        self.prepared.append(kernel)
        self._prepare()


def started(
    monkeypatch: pytest.MonkeyPatch,
    session: FakeSession,
    settings: GuestSettings = SETTINGS,
    *,
    files: Callable[[object], Mapping[str, Path]] | None = None,
) -> EarlyTemplate:
    """The plugin once workers are about to be started."""
    monkeypatch.setattr(early, "guest_settings", lambda config: settings)
    monkeypatch.setattr(early, "plan", lambda config: SimpleNamespace(folder=Path("/none")))
    monkeypatch.setattr(early, "user_files", files or (lambda config: {}))
    monkeypatch.setattr(early, "user_root", lambda config: None)
    monkeypatch.setattr(early, "Session", lambda *arguments, **more: session)
    monkeypatch.setattr(early, "plugins_of", lambda config: no_plugin)
    plugin = EarlyTemplate(KERNEL)
    nothing: Any = None
    plugin.pytest_xdist_setupnodes(nothing)
    return plugin


def wait_for_thread() -> None:
    for thread in threading.enumerate():
        if thread.name == "template":
            thread.join(30)


def test_a_wrong_option_is_not_its_business(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first test that needs a guest says what is wrong; pytest itself goes on."""

    def refuse(config: object) -> Mapping[str, Path]:
        raise UsageError("there is no file")

    session = FakeSession(lambda: None)
    started(monkeypatch, session, files=refuse)
    wait_for_thread()
    assert session.prepared == []


def test_it_lives_from_the_first_worker_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers' guests map its memory, which is its owner's."""
    session = FakeSession(lambda: None)
    plugin = started(monkeypatch, session)
    wait_for_thread()
    assert session.prepared == [KERNEL]
    assert session.is_open  # the RAM is its owner's
    plugin.pytest_unconfigure()
    assert not session.is_open


def test_a_failure_is_left_to_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that does not boot fails the tests that need it, and not the run."""

    def fail() -> None:
        raise BootFailed("it does not come up")

    session = FakeSession(fail)
    plugin = started(monkeypatch, session)
    wait_for_thread()
    assert not session.is_open
    plugin.pytest_unconfigure()


def test_the_end_does_not_wait_for_a_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of no guest test, or one that is interrupted, ends at once."""
    release = threading.Event()

    def boot() -> None:
        release.wait(30)

    session = FakeSession(boot)
    plugin = started(monkeypatch, session)
    plugin.pytest_unconfigure()
    assert session.is_open
    release.set()
    wait_for_thread()


def test_nothing_is_booted_that_nobody_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """When each guest boots, the template would be in vain. Without workers xdist does not call."""
    session = FakeSession(lambda: None)
    plugin = started(monkeypatch, session, dataclasses.replace(SETTINGS, fresh=Fresh.BOOT))
    plugin.pytest_unconfigure()
    wait_for_thread()
    assert not session.prepared
