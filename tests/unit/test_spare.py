# SPDX-License-Identifier: GPL-2.0-only
"""The spare guest: which test gets it, and how one that nobody takes ends."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import QemuFailed
from harness.vm.guest.spare import SpareGuest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class FakeClone:
    """What a SpareGuest uses of a clone."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.dead = False
        self.closed = 0
        self.made_by = threading.current_thread()

    def check(self) -> None:
        if self.dead:
            raise QemuFailed("QEMU has ended")

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def spare() -> Iterator[SpareGuest]:
    """Without a guest, and closed in the end."""
    kept = SpareGuest()
    yield kept
    kept.close()


def test_nothing_is_kept_at_first(spare: SpareGuest) -> None:
    """The first guest of a run has to be started."""
    assert spare.take("a") is None


def test_a_clone_is_given_once(spare: SpareGuest, tmp_path: Path) -> None:
    """No two tests ever get the same guest."""
    clone: Any = FakeClone(tmp_path / "one")
    spare.prepare("a", lambda: clone)
    given: Any = spare.take("a")
    assert given is clone
    assert given.closed == 0
    assert spare.take("a") is None


def test_only_guests_of_its_template_get_it(spare: SpareGuest, tmp_path: Path) -> None:
    """A guest of another kernel or shape is never handed out."""
    clone: Any = FakeClone(tmp_path / "one")
    spare.prepare("a", lambda: clone)
    assert spare.take("b") is None
    assert spare.take("a") is clone


def test_one_of_another_template_is_removed(spare: SpareGuest, tmp_path: Path) -> None:
    """At most one spare guest takes memory."""
    first: Any = FakeClone(tmp_path / "one")
    second: Any = FakeClone(tmp_path / "two")
    made = threading.Event()

    def make() -> Any:
        made.set()
        return first

    spare.prepare("a", make)
    assert made.wait(10)
    spare.prepare("b", lambda: second)
    assert spare.take("b") is second
    assert first.closed == 1
    assert not first.folder.exists()


def test_a_dead_one_is_not_given(spare: SpareGuest, tmp_path: Path) -> None:
    """A spare guest that died meanwhile fails no test."""
    clone: Any = FakeClone(tmp_path / "one")
    clone.dead = True
    spare.prepare("a", lambda: clone)
    assert spare.take("a") is None
    assert clone.closed == 1


def test_one_that_could_not_be_made_is_not_given(spare: SpareGuest) -> None:
    """A spare guest is a convenience: its failure is no failure of the run."""

    def make() -> Any:
        raise QemuFailed("no memory")

    spare.prepare("a", make)
    assert spare.take("a") is None


def test_what_is_kept_is_removed_at_the_end(tmp_path: Path) -> None:
    """A run leaves neither QEMU nor folder of a spare guest."""
    spare = SpareGuest()
    clone: Any = FakeClone(tmp_path / "one")
    made = threading.Event()

    def make() -> Any:
        made.set()
        return clone

    spare.prepare("a", make)
    assert made.wait(10)
    spare.close()
    assert clone.closed == 1
    assert not clone.folder.exists()


def test_all_are_made_by_one_thread_that_lives_on(spare: SpareGuest, tmp_path: Path) -> None:
    """A child gets its death signal when the thread that started it ends."""
    folders = [tmp_path / "one", tmp_path / "two"]

    def make() -> Any:
        return FakeClone(folders.pop())

    threads = []
    for _ in range(2):
        spare.prepare("a", make)
        clone: Any = spare.take("a")
        threads.append(clone.made_by)
    assert threads[0] is threads[1]
    assert threads[0].is_alive()
    assert threads[0] is not threading.current_thread()
