# SPDX-License-Identifier: GPL-2.0-only
"""Faults of disk and host in whole commands, on kernels that build in milliseconds."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.deadline import Deadline
from harness.vm.guest import runs
from harness.vm.kernel import build
from harness.vm.kernel.config import load_fragments
from harness.vm.kernel.module import obtain_modules
from harness.vm.kernel.requirements import GUEST_NEEDS
from tests.faults.injector import (
    ALL,
    BROKEN,
    DENIED,
    FULL,
    INTERRUPT,
    NO_DESCRIPTORS,
    NO_FORK,
    UNREADABLE,
    Fault,
    unharmed,
)
from tests.faults.trial import Ended, Scenario, command, fail_each, work

if TYPE_CHECKING:
    from collections.abc import Iterable

FAKE_KERNEL = Path(__file__).parents[1] / "unit" / "data" / "fake-kernel"
MODULE = Path(__file__).parents[1] / "unit" / "data" / "modules"


@pytest.fixture(autouse=True)
def own_fragments_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake tree knows none of the options in the harness's own fragments."""
    path = tmp_path / "guest.config"
    path.write_text("".join(f"CONFIG_{name}=y\n" for name in GUEST_NEEDS))

    def load(names: Iterable[str]) -> Any:
        mine = [name for name in names if name not in ("base", "livepatch")]
        return load_fragments([str(path), *mine])

    monkeypatch.setattr(build, "load_fragments", load)


def sources(root: Path) -> None:
    """A tree that somebody works in."""
    shutil.copytree(FAKE_KERNEL, root / "linux")


def a_kernel(root: Path) -> None:
    """A kernel in the cache, and its tree."""
    sources(root)
    assert command("kernel", "build", str(root / "linux")).code == 0
    release()


def release() -> None:
    """Let go of what this process holds in the cache, as its end would."""
    with unharmed():
        store = runs.store()
        for kind in store.kinds():
            for entry in store.entries(kind):
                store.release(kind, entry.key)


def outcomes(path: Path) -> list[tuple[str, ...]]:
    """Return what a file of results says, without what differs from run to run."""
    with unharmed():
        if not path.exists():
            return []
        said = json.loads(path.read_text())
        return [(one["id"], one["outcome"]) for one in said["results"]]


def with_files(root: Path, *words: str) -> Ended:
    """Run a command that writes all kinds of result files; what it made are these."""
    names = {kind: root / f"result.{kind}" for kind in ("json", "junit", "ktap")}
    with unharmed():
        for path in names.values():
            path.unlink(missing_ok=True)
    options = [word for kind, path in names.items() for word in (f"--{kind}", str(path))]
    ended = command(*words, *options)
    with unharmed():
        cases = (
            re.findall(r'<testcase [^>]*name="([^"]*)"', names["junit"].read_text())
            if names["junit"].exists()
            else []
        )
        ends = names["ktap"].read_text().count("ok ") if names["ktap"].exists() else 0
    ended.value = (outcomes(names["json"]), cases, ends)
    return ended


def kernel_build(root: Path) -> Ended:
    """A kernel is built from a tree."""
    return with_files(root, "kernel", "build", str(root / "linux"))


def kernel_list(root: Path) -> Ended:
    """The kernels in the cache are listed."""
    return with_files(root, "kernel", "list")


def kernel_prune(root: Path) -> Ended:
    """All kernels are removed, and what is left counted."""
    ended = command("kernel", "prune", "--all")
    with unharmed():
        ended.value = len(list((root / "cache/kernel").glob("[0-9a-f]*/.manifest.json")))
    return ended


def mutants_list(root: Path) -> Ended:
    """The catalogue of kernel mutants is listed."""
    return with_files(root, "mutants", "list")


def behaviours(root: Path) -> Ended:
    """The rules are listed."""
    return with_files(root, "behaviours")


def modules(root: Path) -> Ended:
    """Modules are built against a kernel."""
    folder = root / "sources"

    def body() -> object:
        from harness.vm.kernel.build import KernelRequest, obtain_kernel
        from tests.unit.conftest import Recorder

        store, soon = runs.store(), Deadline.after(60)
        request = KernelRequest(spec=str(root / "linux"))
        kernel = obtain_kernel(request, store=store, deadline=soon, progress=Recorder())
        return sorted(obtain_modules(kernel, folder, store=store, deadline=soon))

    ended = work(body)
    release()
    return ended


def a_module(root: Path) -> None:
    """A kernel, and the sources of a module."""
    a_kernel(root)
    (root / "sources").mkdir()
    (root / "sources/Kbuild").write_text("obj-m += one.o\n")
    (root / "sources/one.c").write_text("int one;\n")


# What cannot be read of the cache is left out with a warning, and made again.
DAMAGED = ("damaged", "is made again")

QUICK = (
    Scenario(name="kernel-list", prepare=a_kernel, run=kernel_list, says=DAMAGED, most=12),
    Scenario(name="kernel-prune", prepare=a_kernel, run=kernel_prune, says=DAMAGED, most=12),
    Scenario(name="mutants-list", run=mutants_list, most=6),
    Scenario(name="behaviours", run=behaviours, most=6),
)
SLOW = (
    Scenario(name="kernel-build", prepare=sources, run=kernel_build, most=5),
    Scenario(name="modules", prepare=a_module, run=modules, most=5),
)


@pytest.mark.parametrize("fault", ALL, ids=str)
@pytest.mark.parametrize("scenario", QUICK, ids=str)
def test_each_call_fails_once(scenario: Scenario, fault: Fault, tmp_path: Path) -> None:
    """Whichever call fails: a sentence, the right code, nothing left, and the next run is right."""
    fail_each(scenario, fault, tmp_path)


@pytest.mark.parametrize(
    "fault", [FULL, BROKEN, UNREADABLE, DENIED, NO_FORK, NO_DESCRIPTORS, INTERRUPT], ids=str
)
@pytest.mark.parametrize("scenario", SLOW, ids=str)
def test_each_call_of_a_build_fails_once(scenario: Scenario, fault: Fault, tmp_path: Path) -> None:
    """A build that fails by the host's fault is no verdict, and leaves no half kernel."""
    fail_each(scenario, fault, tmp_path)
