# SPDX-License-Identifier: GPL-2.0-only
"""Faults of disk and host while something is kept: the cache, results, recordings, keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.behaviours.latest_results import History
from harness.cli.invocation import write_file
from harness.deadline import Deadline
from harness.report.base import CheckOutcome, KernelFacts
from harness.report.suite_results import TestResult
from harness.tools.race.recording_file import RecordingNote, pack, read_note, unpacked
from harness.vm.cluster.artefacts import artefact_path, digest_of, receive
from harness.vm.guest.keys import make_keys
from harness.vm.host.cache import Store
from harness.vm.host.files import replace_text
from tests.faults.injector import ALL, Fault, unharmed
from tests.faults.trial import Ended, Scenario, fail_each, work

if TYPE_CHECKING:
    from collections.abc import Callable

FACTS = KernelFacts(
    spec="6.1", version="6.1.192", digest="d61", config_digest="c", compiler="gcc", source="s"
)


def soon() -> Deadline:
    return Deadline.after(60)


def obtain(root: Path) -> Ended:
    """One entry of the cache with two files and a folder."""

    def fill(folder: Path) -> None:
        (folder / "one").write_text("1" * 20000)
        (folder / "in").mkdir()
        (folder / "in" / "two").write_text("2")

    def body() -> object:
        store = Store(root / "cache")
        entry = store.obtain("thing", "key", fill, deadline=soon())
        store.release("thing", "key")
        with unharmed():
            paths = (entry / "one", entry / "in" / "two")
            return {path.name: path.read_text() for path in paths}

    return work(body)


def damaged(root: Path) -> None:
    """The same entry, damaged."""
    assert obtain(root).code == 0
    (root / "cache/thing/key/one").write_text("other")


def remove(root: Path) -> Ended:
    """The entry is removed, and what is left listed."""

    def body() -> object:
        store = Store(root / "cache")
        store.sweep()
        store.remove("thing", "key")
        return [entry.key for entry in store.entries("thing")]

    return work(body)


def keep_results(root: Path) -> Ended:
    """The results of a run are recorded beside earlier ones."""
    history = History(folder=root / "results", suite=root / "suite")

    def body() -> object:
        history.record([passed("test_two")], [FACTS], at="2026-11-21T10:00:00+00:00")
        with unharmed():
            return [sorted(kernel.tests) for kernel in history.kernels()]

    return work(body)


def passed(test: str) -> TestResult:
    return TestResult(
        id=f"a/test_a.py::{test}",
        outcome=CheckOutcome.PASSED,
        seconds=1.0,
        kernel_digest=FACTS.digest,
    )


def a_suite(root: Path) -> None:
    """A suite of one file, and a result of it."""
    (root / "suite/a").mkdir(parents=True)
    (root / "suite/a/test_a.py").write_text("# a test")
    history = History(folder=root / "results", suite=root / "suite")
    history.record([passed("test_one")], [FACTS], at="2026-11-20T10:00:00+00:00")


def record(root: Path) -> Ended:
    """A recording is packed, read and unpacked."""
    target = root / "a.recording"

    def body() -> object:
        members: Any = {name: root / name for name in ("inputs", "initrd", "bzImage")}
        members["console.log"] = root / "console.log"
        note = RecordingNote(
            reproducer="fork",
            seed=3,
            kernel="6.1",
            digest="d",
            qemu="QEMU",
            argv=("qemu",),
            memory_mib=256,
            seconds=1.0,
            shown=False,
            message=None,
            files={name: digest_of(path) for name, path in members.items()},
        )
        pack(target, note, members)
        with unpacked(target, read_note(target)) as folder, unharmed():
            return sorted(path.name for path in folder.iterdir())

    return work(body)


def members(root: Path) -> None:
    """What a recording is made of."""
    for name in ("inputs", "initrd", "bzImage", "console.log"):
        (root / name).write_bytes(name.encode() * 9000)


def write_result(root: Path) -> Ended:
    """A file of results is written in place of an older one."""

    def body() -> object:
        write_file(root / "result.json", "new" * 30000)
        with unharmed():
            return (root / "result.json").read_text()

    return work(body)


def old_result(root: Path) -> None:
    """The older file."""
    (root / "result.json").write_text("old")


def receive_content(root: Path) -> Ended:
    """Content that another machine sent is kept, and read."""
    import hashlib

    content = b"content" * 20000
    digest = hashlib.sha256(content).hexdigest()

    def body() -> object:
        store = Store(root / "cache")
        receive(store, digest, content)
        path = artefact_path(store, digest)
        store.release("artefact", digest)
        with unharmed():
            return digest_of(path)

    return work(body)


def keys(root: Path) -> Ended:
    """Keys of a run."""

    def body() -> object:
        folder = root / "keys"
        with unharmed():
            folder.mkdir(exist_ok=True, mode=0o700)
        made = make_keys(folder, deadline=soon())
        with unharmed():
            return sorted(path.name for path in made.folder.iterdir())

    return work(body)


def replace(root: Path) -> Ended:
    """A small file is replaced as a whole."""

    def body() -> object:
        replace_text(root / "verdict", "new")
        with unharmed():
            return (root / "verdict").read_text()

    return work(body)


SCENARIOS = (
    Scenario(name="obtain", run=obtain),
    Scenario(name="obtain-damaged", prepare=damaged, run=obtain),
    Scenario(name="remove", prepare=lambda root: _assert_made(obtain, root), run=remove),
    Scenario(name="keep-results", prepare=a_suite, run=keep_results, aside=("*.json.*",)),
    Scenario(name="recording", prepare=members, run=record),
    Scenario(name="result-file", prepare=old_result, run=write_result),
    Scenario(name="receive", run=receive_content),
    Scenario(name="keys", run=keys),
    Scenario(name="replace-text", run=replace, aside=(".verdict-*",)),
)


def _assert_made(make: Callable[[Path], Ended], root: Path) -> None:
    assert make(root).code == 0


@pytest.mark.parametrize("fault", ALL, ids=str)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_each_call_fails_once(scenario: Scenario, fault: Fault, tmp_path: Path) -> None:
    """Whichever call fails: a sentence, the right code, nothing left, and the next run is right."""
    fail_each(scenario, fault, tmp_path)
