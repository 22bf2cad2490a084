# SPDX-License-Identifier: GPL-2.0-only
"""Which guests make more than one trial, without a guest."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from harness.errors import HarnessError, KernelSplat
from harness.tools.race.explore import guests
from harness.tools.race.explore.guests import used_guest
from harness.tools.race.explore.idle import IdleGuests
from harness.tools.race.explore.pairs import find_pairs
from harness.tools.race.explore.trial import _seen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.tools.race.explore.control import HeldGuest
    from harness.tools.race.explore.scene import Scenes
    from harness.vm.guest.snapshot import Clone


class Guest:
    """A guest whose trials leave what a test says."""

    made: list[Guest]

    def __init__(self, *_: object) -> None:
        self.earlier: list[str] = []
        self.held = SimpleNamespace(is_clean=True)
        self.gdb = SimpleNamespace(breakpoints=Counter[int]())
        self.expected: list[str] = []
        self.hypervisor = SimpleNamespace(
            expect_splat=lambda text, *, required: self.expected.append(text)
        )
        self.is_closed = False
        self.refuses = False
        self.made.append(self)

    def begin_again(self, earlier: str) -> None:
        if self.refuses:
            raise HarnessError("its scene is not made again: insmod: EBUSY")
        self.earlier.append(earlier)

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True


class Places:
    """One scene for all states."""

    def __init__(self) -> None:
        self.scene = SimpleNamespace(idle=IdleGuests(), saved=None)

    def get(self, state: object) -> SimpleNamespace:
        return self.scene


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    Guest.made = []
    monkeypatch.setattr(guests, "TrialGuest", Guest)
    places = Places()
    yield places
    places.scene.idle.close()
    assert all(guest.is_closed for guest in Guest.made)


def tried(
    scenes: Places,
    pair: str = "fork-load",
    *,
    clean: bool = True,
    plan: str = "f",
    breakpoints: int = 0,
) -> Guest:
    (found,) = find_pairs([pair])
    with used_guest(cast("Scenes", scenes), found, plan) as guest:
        guest.held.is_clean = clean
        guest.gdb.breakpoints[0x100] = breakpoints
    return cast("Guest", guest)


def test_a_guest_goes_on_after_a_trial_that_has_left_nothing(scenes: Places) -> None:
    """And it is known what it has done before."""
    first = tried(scenes, plan="f")
    assert tried(scenes, plan="g") is first
    assert first.earlier == ["fork-load at 'f'"]
    assert not first.is_closed


def test_one_with_anything_wrong_is_never_used_again(scenes: Places) -> None:
    """Nor one in which a trial was broken off."""
    first = tried(scenes, clean=False)
    assert first.is_closed
    assert tried(scenes, breakpoints=1).is_closed
    second = tried(scenes)
    assert second is not first
    (pair,) = find_pairs(["fork-load"])
    with (
        pytest.raises(HarnessError, match="the host"),
        used_guest(cast("Scenes", scenes), pair, "f"),
    ):
        raise HarnessError("the host")
    assert second.is_closed


@pytest.mark.parametrize("pair", ["shalloc-shadow", "shadow-shalloc"])
def test_a_warning_that_is_right_ends_the_guest(scenes: Places, pair: str) -> None:
    """What is expected of one pair is none for the next one."""
    assert tried(scenes, pair).is_closed


def test_a_guest_goes_on_after_a_forced_transition(scenes: Places) -> None:
    """klp-duel unloads the livepatch before it makes its scene again."""
    assert not tried(scenes, "force-fork").is_closed


def test_a_guest_makes_so_many_trials_at_most(
    scenes: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they leave that nobody looks at does not grow for ever."""
    monkeypatch.setattr(guests, "MOST_ROUNDS", 2)
    first = tried(scenes)
    assert tried(scenes) is first
    assert first.is_closed
    assert tried(scenes) is not first


def test_a_guest_whose_scene_cannot_be_made_again(
    scenes: Places, caplog: pytest.LogCaptureFixture
) -> None:
    """It is ended, which is said, and a fresh one is taken."""
    first = tried(scenes)
    first.refuses = True
    assert tried(scenes) is not first
    assert first.is_closed
    assert "not used again after fork-load at 'f': its scene is not made again" in caplog.text


def test_what_is_put_back_after_the_end_is_ended(scenes: Places) -> None:
    """A trial may end after its campaign was interrupted."""
    scenes.scene.idle.close()
    assert tried(scenes).is_closed


def test_what_ends_a_guest_too_late_is_the_next_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A splat while the scene is made again is of an earlier trial, and is not lost."""
    splat = KernelSplat("splat in the kernel log: BUG in f")
    guest = object.__new__(guests.TrialGuest)
    guest.earlier, guest.verdict, guest.cpu_s = [], None, 0.0
    console = SimpleNamespace(text=lambda: "[1.0] BUG in f")
    hypervisor = SimpleNamespace(cpu_s=lambda: 1.0, console=console)
    guest.clone = cast("Clone", SimpleNamespace(hypervisor=hypervisor))

    def make_scene() -> None:
        raise HarnessError("its scene is not made again in time")

    held = SimpleNamespace(observed=None, make_scene=make_scene)
    guest.held = cast("HeldGuest", held)
    monkeypatch.setattr(guest, "_hold", lambda: held)
    found: list[KernelSplat | None] = [None, splat]
    monkeypatch.setattr(guests, "verdict_of", lambda *_, **__: found.pop())
    guest.begin_again("fork-load at 'f'")
    (pair,) = find_pairs(["fork-load"])
    seen = _seen(guest, pair, "g")
    assert (seen.verdict, seen.reached, seen.ended) == (splat, True, False)
    assert (seen.earlier, seen.console) == (("fork-load at 'f'",), ("[1.0] BUG in f",))
    with pytest.raises(HarnessError, match="not made again in time"):
        guest.begin_again("fork-load at 'g'")
