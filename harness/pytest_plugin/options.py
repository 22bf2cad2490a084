# SPDX-License-Identifier: GPL-2.0-only
"""Options, markers, and the plan of a run that the controller passes to its xdist workers."""

from __future__ import annotations

import secrets
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import KlpError
from harness.report.text import printable
from harness.vm.guest import runs
from harness.vm.guest.guest_files import guest_files
from harness.vm.guest.rootfs import check_root, obtain
from harness.vm.guest.run_folder import strip
from harness.vm.guest.session import MEMORY_MIB, Fresh, GuestSettings
from harness.vm.host.process import obey_parent
from harness.vm.kernel.build import DEFAULT_SPEC
from harness.vm.kernel.progress import LineProgress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.vm.guest.root_disk import RootDisk
    from harness.vm.host.accel import AccelChoice

_MARKERS = (
    "behaviour(id): the rule of docs/behaviours.md that this test checks",
    "smp(n): the number of CPUs this test's guest needs",
    "needs(feature): run only on kernels that have it, for example needs('CONFIG_KPROBES')",
    "kernel_config(*fragments): run on the kernel under test built with these on top",
    "kernel_args(*words): boot this test's guest with them on the kernel's command line",
    "expect_splat(pattern): this test causes a splat with a text that matches",
    "inconsistent(reason): breaks consistency on purpose, as force does: --oracle leaves it out",
    "slow(seconds): takes about so long, mostly by the kernel's own clock; others overlap it",
)


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What every process of a run agrees on: its folder, and how many guests run at a time.

    The first guest makes ``folder``. In ``kernels``, which is this run's own even when the user
    named the folder, the processes agree on kernels: see harness.pytest_plugin.kernels.
    """

    folder: Path
    kernels: Path
    guests: int


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A kernel as ``--kernel`` names it, with the config fragments that a test adds."""

    spec: str
    fragments: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the variant as a test's id shows it."""
        return "+".join((self.spec, *(Path(name).stem for name in self.fragments)))


PLAN = pytest.StashKey[RunPlan]()
_ROOT = pytest.StashKey["RootDisk | None"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the harness's options to pytest's."""
    group = parser.getgroup("klp-harness", "kernel live patching on real kernels in QEMU")
    group.addoption(
        "--kernel",
        action="append",
        metavar="SPEC",
        help="kernel to test on: 6.1 (default), 6.12, a source tree, a tarball ...; repeatable",
    )
    group.addoption(
        "--kernel-config",
        action="append",
        metavar="FRAGMENT",
        default=[],
        help="config fragment on top of base and livepatch: a name in kernel-configs or a file",
    )
    group.addoption(
        "--patch",
        action="append",
        metavar="FILE",
        type=Path,
        default=[],
        help="patch to apply to the kernel's sources, without fuzz; repeatable",
    )
    group.addoption(
        "--config",
        dest="klp_config",
        metavar="FILE",
        type=Path,
        help="whole .config to build the kernel's sources with, such as a distribution's",
    )
    group.addoption(
        "--llvm", action="store_true", help="build kernel and modules with clang and lld"
    )
    group.addoption(
        "--sha256", metavar="HEX", help="digest that a kernel's tarball or URL must have"
    )
    group.addoption(
        "--accel", choices=["auto", "kvm", "tcg"], default="auto", help="how QEMU runs guests"
    )
    group.addoption("--smp", type=int, default=2, metavar="N", help="CPUs of a guest (default 2)")
    group.addoption(
        "--fresh",
        choices=[fresh.value for fresh in Fresh],
        default=Fresh.SNAPSHOT.value,
        help="start each guest from a snapshot (default), or boot it from power-on",
    )
    group.addoption(
        "--artefacts",
        type=Path,
        metavar="DIR",
        help="keep the logs of failing tests there (default: a folder of this run)",
    )
    group.addoption(
        "--observe",
        type=Path,
        metavar="DIR",
        help="have QEMU count what the kernel executes, in a file of DIR for each guest",
    )
    group.addoption(
        "--cover",
        metavar="FILES",
        default="kernel/livepatch",
        help="with --observe: C files or folders of the kernel to count in (kernel/livepatch)",
    )
    group.addoption(
        "--oracle",
        action="store_true",
        help="with --observe: judge the consistency of every call of every patched function",
    )
    group.addoption(
        "--file",
        action="append",
        metavar="SRC:DST",
        default=[],
        help="file or folder to be in each guest, at the path DST there; repeatable",
    )
    group.addoption(
        "--append",
        action="append",
        metavar="WORDS",
        default=[],
        help="words for the kernel's command line; repeatable",
    )
    group.addoption(
        "--memory",
        type=int,
        metavar="MIB",
        default=MEMORY_MIB,
        help=f"memory of a guest (default {MEMORY_MIB})",
    )
    group.addoption(
        "--rootfs",
        metavar="DIR|IMAGE|deb:SUITE",
        help="root file system of the guests: a folder, an image, a suite of Debian with packages",
    )
    group.addoption(
        "--rootfs-init",
        action="store_true",
        help="start that root's own init, systemd, and wait until it is up",
    )
    group.addoption(
        "--stop-at-failure",
        action="store_true",
        help="hold the guest of the first test that fails until `klp-harness guests stop`",
    )
    group.addoption(
        "--dump-on-failure",
        action="store_true",
        help="write the memory of the guest of the first test that fails beside its logs",
    )
    group.addoption(
        "--kernel-mutant",
        type=int,
        default=0,
        metavar="N",
        help="on a kernel of `klp-harness mutants sweep`: the mutant that is on in each guest",
    )
    group.addoption("--keep", action="store_true", help="keep the logs of passing tests as well")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers; in a worker, take over the controller's plan."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    worker_input = getattr(config, "workerinput", None)
    if worker_input is not None and "klp_plan" in worker_input:
        folder, kernels, guests = worker_input["klp_plan"]
        config.stash[PLAN] = RunPlan(folder=Path(folder), kernels=Path(kernels), guests=guests)
    obey_parent()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Pass the plan to an xdist worker."""
    made = plan(node.config)
    node.workerinput["klp_plan"] = str(made.folder), str(made.kernels), made.guests


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Let ``-n auto`` mean as many guests as this machine can overlap.

    Without a usable QEMU the answer is xdist's own; a test that needs a guest says why it fails.
    """
    try:
        return runs.guests_at_a_time(choose(config))
    except KlpError:
        return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that needs a kernel on every kernel of the run, with its marker's fragments."""
    if "kernel" not in metafunc.fixturenames:
        return
    specs = metafunc.config.getoption("kernel") or [DEFAULT_SPEC]
    marker = metafunc.definition.get_closest_marker("kernel_config")
    if marker is None and len(specs) == 1:
        return
    fragments = marker.args if marker else ()
    wanted = [Variant(spec=spec, fragments=fragments) for spec in specs]
    metafunc.parametrize("kernel", wanted, indirect=True, scope="session", ids=str)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what the run's processes shared, and its folder when no logs are in it."""
    made = config.stash.get(PLAN, None)
    if made is None or hasattr(config, "workerinput"):
        return
    shutil.rmtree(made.kernels, ignore_errors=True)
    guests = made.folder / "guests"
    if not guests.is_dir() or not any(guests.iterdir()):
        shutil.rmtree(made.folder, ignore_errors=True)
    else:
        strip(made.folder)


def plan(config: pytest.Config) -> RunPlan:
    """Return the plan of this run; the controller of xdist's workers makes it for all of them."""
    known = config.stash.get(PLAN, None)
    if known is not None:
        return known
    folder: Path = (config.getoption("artefacts") or runs.folder_for("test")).resolve()
    runs.sweep()
    workers = config.getoption("tx", default=None) or ()
    kernels = folder / f"kernels-{secrets.token_hex(4)}"
    made = RunPlan(folder=folder, kernels=kernels, guests=max(1, len(workers)))
    config.stash[PLAN] = made
    return made


def choose(config: pytest.Config) -> AccelChoice:
    """Return the accelerator for this run's guests; probed once since the host booted.

    Raises HarnessError when the chosen one cannot be used.
    """
    return runs.accelerator(config.getoption("accel"))


def guest_settings(config: pytest.Config) -> GuestSettings:
    """Return what all guests of this run have in common; raises HarnessError as ``choose`` does."""
    return runs.settings(
        choose(config).accel,
        guests=plan(config).guests,
        cpus=config.getoption("smp"),
        fresh=Fresh(config.getoption("fresh")),
        memory_mib=config.getoption("memory"),
        kernel_args=tuple(word for text in config.getoption("append") for word in text.split()),
    )


def user_files(config: pytest.Config) -> Mapping[str, Path]:
    """Return the user's files that are in each guest of this run, by their paths there.

    Raises UsageError.
    """
    return guest_files(config.getoption("file"))


def user_root(config: pytest.Config) -> RootDisk | None:
    """Return the root file system of this run's guests, None where they have none of their own.

    Raises UsageError, and what making it does.
    """
    if _ROOT not in config.stash:
        spec = check_root(config.getoption("rootfs"), init=config.getoption("rootfs_init"))
        progress = LineProgress(lambda text: say(config, f"klp-harness: {text}"))
        init = config.getoption("rootfs_init")
        config.stash[_ROOT] = obtain(spec, progress, init=init) if spec is not None else None
    return config.stash[_ROOT]


def say(config: pytest.Config, text: str) -> None:
    """Print a line past pytest's capturing: long work is about to happen."""
    text = printable(text)
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        sys.stderr.write(text + "\n")
        return
    with capture.global_and_fixture_disabled():
        sys.stderr.write(text + "\n")
