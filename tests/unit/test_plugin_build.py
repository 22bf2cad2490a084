# SPDX-License-Identifier: GPL-2.0-only
"""The plugin of QEMU: which version is built, and the words for a machine without it."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.deadline import Deadline
from harness.errors import ConsistencyViolated, EventsLost, HarnessError, MissingTool, UsageError
from harness.observer.plugin_build import BuiltPlugin, examine_plugin, obtain_plugin
from harness.observer.shared_file import Flag
from harness.observer.versions import Verdict
from harness.observer.watch import require_translation
from harness.pytest_plugin import observing
from harness.vm.host.accel import Accel, AccelChoice
from harness.vm.host.cache import Store

# Accepts the plugin that is built for version 2, as its second call.
SECOND = """#!/bin/sh
[ "$1" = --version ] && echo "QEMU emulator version 9.2.4 (Debian 1:9.2.4)" && exit
echo call >>"$0.calls"
[ "$(wc -l <"$0.calls")" = 2 ] && echo "klp_observer: version 2 is accepted" && exit 1
echo "qemu: Could not load plugin x: plugin requires API version 3, but this QEMU supports 2" >&2
exit 1
"""
WITHOUT = '#!/bin/sh\necho "qemu-system-x86_64: -plugin: invalid option" >&2\nexit 1\n'


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched for programs before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def fake(folder: Path, text: str) -> None:
    (folder / "qemu-system-x86_64").write_text(text)
    (folder / "qemu-system-x86_64").chmod(0o755)


def test_the_newest_version_that_qemu_accepts(path: Path, tmp_path: Path) -> None:
    """They are tried from the newest on; the cache has the one that was accepted."""
    fake(path, SECOND)
    store = Store(tmp_path / "cache")
    for _ in range(2):
        built = obtain_plugin(store, deadline=Deadline.after(60))
        assert (built.version, built.qemu) == (2, "9.2.4")
        assert built.library.is_file()
    assert len((path / "qemu-system-x86_64.calls").read_text().split()) == 2


@pytest.mark.parametrize(
    ("qemu", "by_gs"),
    [("7.2.22", False), ("9.2.4", False), ("10.0.2", True), ("10.1.0", True), ("", False)],
)
def test_a_qemu_that_names_the_wrong_cpu(qemu: str, by_gs: bool) -> None:
    """The plugin is asked to find the CPU by itself."""
    flags = BuiltPlugin(library=Path("x.so"), version=3, qemu=qemu).flags
    assert bool(flags & Flag.CPU_BY_GS) is by_gs


def test_a_qemu_without_plugins(path: Path, tmp_path: Path) -> None:
    """What QEMU says is quoted."""
    fake(path, WITHOUT)
    with pytest.raises(HarnessError, match=r"cannot load the plugin.*: -plugin: invalid option"):
        obtain_plugin(Store(tmp_path / "cache"), deadline=Deadline.after(60))


def test_a_machine_without_gcc(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a finding of doctor, and an error of who needs the plugin."""
    fake(path, WITHOUT)
    sh = shutil.which("sh")
    assert sh is not None
    (path / "sh").symlink_to(sh)
    monkeypatch.setenv("PATH", str(path))
    store = Store(tmp_path / "cache")
    with pytest.raises(MissingTool, match="gcc"):
        obtain_plugin(store, deadline=Deadline.after(60))
    works, why = examine_plugin(store, deadline=Deadline.after(60))
    assert not works
    assert "gcc" in why


def test_kvm_is_refused() -> None:
    """It has no plugins; what to do is said."""
    choice = AccelChoice(accel=Accel.KVM, reason="it works", probed_s=0.1)
    with pytest.raises(UsageError) as error:
        require_translation(choice, "--coverage")
    assert "--coverage needs guests that QEMU translates" in error.value.message
    assert error.value.hint == "add --accel tcg"


class FakeOracle:
    """One that finds a violation."""

    def check(self) -> None:
        raise ConsistencyViolated("cat (7) enters the wrong version")


@pytest.fixture
def item() -> Any:
    return SimpleNamespace(stash={observing.ORACLE: FakeOracle()})


def test_a_violation_fails_a_test_that_passed(item: Any) -> None:
    """Nothing else was wrong with it."""
    with pytest.raises(ConsistencyViolated):
        observing.judge(item, None)


def test_a_violation_is_added_to_what_a_test_raised(item: Any) -> None:
    """The test's own failure stays what it is."""
    error = AssertionError("x")
    observing.judge(item, error)
    assert error.__notes__ == ["the oracle: cat (7) enters the wrong version"]


def test_what_was_not_judged_is_said() -> None:
    """A livepatch whose structures no file has is not passed in silence."""
    said: list[Warning] = []
    oracle = SimpleNamespace(check=lambda: Verdict(unknown_versions=2))
    item: Any = SimpleNamespace(stash={observing.ORACLE: oracle}, warn=said.append, name="test_x")
    observing.judge(item, None)
    assert "test_x: the oracle has not judged a livepatch" in str(said[0])


def test_a_test_that_skips_itself_hides_no_violation(item: Any) -> None:
    """It is judged as one that passed; what it did not do to the end is no error."""
    skip = pytest.skip.Exception("x")
    with pytest.raises(ConsistencyViolated):
        observing.judge(item, skip)

    def lost() -> None:
        raise EventsLost("one is lost")

    observing.judge(
        cast("Any", SimpleNamespace(stash={observing.ORACLE: SimpleNamespace(check=lost)})), skip
    )


def test_a_test_without_an_oracle_is_not_judged() -> None:
    """Its guest is not observed."""
    observing.judge(SimpleNamespace(stash={}), None)  # type: ignore[arg-type]
