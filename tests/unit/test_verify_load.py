# SPDX-License-Identifier: GPL-2.0-only
"""verify's loads, without a guest: system calls, and modules that are loaded and unloaded."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.deadline import Deadline
from harness.tools.verify.request import LoadProfile
from harness.tools.verify.scenes import calls as calls_scene
from harness.tools.verify.scenes import load
from harness.tools.verify.scenes.load_profiles import CHURNED
from harness.vm.host.process import PIPE, run, spawn

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    program = folder / "klp-calls"
    run(
        ["make", "-C", ROOT / "guest-programs", f"OUT={folder}", str(program)],
        deadline=Deadline.after(120),
    )
    return program


def test_it_makes_calls_until_its_input_ends(calls: Path) -> None:
    """It goes on until the harness lets go of it, and removes its files."""
    with spawn([calls, "/proc/self/stat", "/no/such/file"], stdin=PIPE, stdout=PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        begun = json.loads(child.stdout.readline())
        folder = Path(f"/tmp/klp-calls-{begun['calling']}")
        assert folder.is_dir()
        child.stdin.close()
        ended = json.loads(child.stdout.readline())
        assert ended["rounds"] > 0
        assert child.wait(30) == 0
    assert not folder.exists()


def test_modules_that_are_loaded_and_unloaded() -> None:
    """They are samples, and two: a patch of the one is verified with the other."""
    sources = {path.stem for path in (ROOT / "livepatch-modules").glob("*.c")}
    sources |= {
        line.split("-y")[0].strip()
        for line in (ROOT / "livepatch-modules/Kbuild").read_text().splitlines()
        if "-y :=" in line
    }
    assert len(CHURNED) > 1
    assert set(CHURNED) <= sources


class _Starved:
    """A scene whose guest gets a tenth of a second of CPU time each time that it is waited."""

    def __init__(self, *, thorough: bool) -> None:
        self.held = 0
        self.case = SimpleNamespace(request=SimpleNamespace(thorough=thorough))
        hypervisor = SimpleNamespace(cpu_s=lambda: self.held / 10)
        self.machine = SimpleNamespace(hypervisor=hypervisor, time_scale=2.0)

    def check(self, _: Any) -> None:
        pass

    def hold(self, _: float) -> None:
        self.held += 1


@pytest.mark.parametrize(("thorough", "least_s"), [(False, 6), (True, 40)])
def test_a_guest_that_gets_little_is_loaded_for_longer(
    monkeypatch: pytest.MonkeyPatch, thorough: bool, least_s: int
) -> None:
    """The load lasts by the CPU time of the guest, not by the clock alone."""
    monkeypatch.setattr(load, "_HOLD_S", 0.0)
    monkeypatch.setattr(load, "_THOROUGH_HOLD_S", 0.0)
    scene = _Starved(thorough=thorough)
    load._work(cast("Any", scene), [LoadProfile.CPU])
    assert scene.held == 10 * least_s


def test_a_load_that_sleeps_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of the user's gets its time, and no more when it does not use it."""
    monkeypatch.setattr(load, "_HOLD_S", 0.0)
    monkeypatch.setattr(load, "_MOST_USERS_HOLD_S", 0.0)
    scene = _Starved(thorough=False)
    load._work(cast("Any", scene), [Path("watch.sh")])
    assert scene.held == 0


def test_calls_are_made_until_the_guest_has_got_its_time() -> None:
    """A second of CPU time, however long that takes; on a quiet host no longer."""
    scene = _Starved(thorough=False)
    calls_scene._wait_for_work(cast("Any", scene))
    assert scene.held == 10


def test_a_guest_that_gets_no_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait has an end."""
    monkeypatch.setattr(calls_scene, "_MOST_WORK_S", 0.0)
    scene = _Starved(thorough=False)
    calls_scene._wait_for_work(cast("Any", scene))
    assert scene.held == 0
