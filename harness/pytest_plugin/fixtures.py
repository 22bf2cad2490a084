# SPDX-License-Identifier: GPL-2.0-only
"""The fixtures: from a kernel's sources to a livepatch in a running guest."""

from __future__ import annotations

import functools
import os
import shutil
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pytest

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import Tasks
from harness.pytest_plugin.keeping import after_test, keeper_of
from harness.pytest_plugin.kernels import kernel_of_run
from harness.pytest_plugin.log_check import LogCheck
from harness.pytest_plugin.mutant_switch import switch_of
from harness.pytest_plugin.observing import ORACLE, observe, plugins_for, plugins_of
from harness.pytest_plugin.options import (
    Variant,
    choose,
    guest_settings,
    plan,
    say,
    user_files,
    user_root,
)
from harness.pytest_plugin.reporting import LIVEPATCH, LOG, passed
from harness.report import properties
from harness.resources import Resource, resource_dir
from harness.vm.guest import runs
from harness.vm.guest.rootfs import require_fitting
from harness.vm.guest.session import Session
from harness.vm.host.process import die_with_parent
from harness.vm.kernel.build import DEFAULT_SPEC, KernelRequest
from harness.vm.kernel.finished_spec import FinishedSpec
from harness.vm.kernel.module import obtain_modules
from harness.vm.kernel.progress import LineProgress
from harness.vm.kernel.spec import BuildSpec, parse_spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from harness.observer.oracle import Oracle
    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Kernel

_MODULES_S = 1800.0
GATE_MODULE = "klp_target_gate"


@dataclass(frozen=True, kw_only=True)
class KernelTemplate:
    """What the deprecated fixture ``template`` returns."""

    kernel: Kernel
    session: Session


class BuildModule(Protocol):
    """What the ``build_module`` fixture is: builds a folder of module sources."""

    def __call__(self, source_dir: Path) -> Mapping[str, Path]:
        """Return the built .ko files by module name."""


@pytest.fixture(scope="session")
def klp_session(pytestconfig: pytest.Config) -> Iterator[Session]:
    """The run, which starts guests: ``klp_session.guest(kernel)`` is one more."""
    if hasattr(pytestconfig, "workerinput"):
        # A worker that is killed, or whose controller is, takes its guests with it.
        die_with_parent(os.getppid())
    settings = guest_settings(pytestconfig)
    folder, keeper = plan(pytestconfig).folder, keeper_of(pytestconfig)
    with Session(
        folder,
        settings,
        runs.store(),
        extra_files=user_files(pytestconfig),
        plugins=plugins_of(pytestconfig),
        keeper=keeper,
        root=user_root(pytestconfig),
        inside=switch_of(pytestconfig).inside,
    ) as session:
        yield session


@pytest.fixture(scope="session")
def kernel(request: pytest.FixtureRequest) -> Kernel:
    """The kernel under test, built on first use: ``--kernel SPEC``, by default Debian's 6.1.

    For a test with the marker ``kernel_config`` it is that kernel with more fragments, built too.
    """
    config = request.config
    specs = config.getoption("kernel") or [DEFAULT_SPEC]
    variant: Variant = getattr(request, "param", Variant(spec=specs[0]))
    sha256 = config.getoption("sha256")
    if variant.fragments and _is_built(variant.spec, sha256):
        pytest.skip(f"{variant.spec} is built: it cannot be configured as {variant}")
    wanted = KernelRequest(
        spec=variant.spec,
        sha256=sha256,
        fragments=("base", "livepatch", *config.getoption("kernel_config"), *variant.fragments),
        patches=tuple(config.getoption("patch")),
        config=config.getoption("klp_config"),
        llvm=config.getoption("llvm"),
    )
    progress = LineProgress(lambda text: say(config, f"klp-harness: {text}"))
    made = kernel_of_run(plan(config).kernels, wanted, progress)
    require_fitting(made, user_root(config))
    return made


@pytest.fixture(scope="session")
def template(kernel: Kernel, klp_session: Session) -> KernelTemplate:
    """Deprecated: the fixtures ``kernel`` and ``klp_session`` in one object."""
    warnings.warn(
        "the fixture template is deprecated: take kernel and klp_session, and start a guest with "
        "klp_session.guest(kernel)",
        DeprecationWarning,
        stacklevel=1,
    )
    return KernelTemplate(kernel=kernel, session=klp_session)


@pytest.fixture
def guest(
    kernel: Kernel, klp_session: Session, request: pytest.FixtureRequest
) -> Iterator[Machine]:
    """A fresh guest, this test's own. Marker ``smp(n)`` chooses its CPUs."""
    node = request.node
    accel = choose(request.config)
    node.user_properties += [
        properties.KERNEL.of(kernel.describe()),
        properties.KERNEL_DIGEST.of(kernel.digest),
        properties.ACCELERATOR.of(f"{accel.accel} ({accel.reason})"),
        properties.CONFIG_DIGEST.of(kernel.config_digest),
        properties.COMPILER.of(kernel.compiler),
    ]
    # After them: a test that is skipped says on which kernel.
    _require_features(node, kernel)
    smp = node.get_closest_marker("smp")
    arguments = node.get_closest_marker("kernel_args")
    with klp_session.guest(
        kernel,
        name=node.name,
        cpus=smp.args[0] if smp else None,
        kernel_args=(
            *(arguments.args if arguments else ()),
            *switch_of(request.config).kernel_args,
        ),
        plugins=plugins_for(node),
    ) as machine:
        observe(machine, node, kernel)
        for marker in node.iter_markers("expect_splat"):
            machine.expect_splat(marker.args[0])
        check = node.stash[LOG] = LogCheck(machine)
        yield machine
        # Once more: fixtures that use the guest have ended since the test did.
        found = check.look()
        if found is not None:
            raise found
        after_test(node, klp_session, machine, kernel)
        folder = machine.folder
    if passed(node) and not request.config.getoption("keep"):
        shutil.rmtree(folder)


@pytest.fixture
def oracle(guest: Machine, request: pytest.FixtureRequest) -> Oracle:
    """Judges the consistency of every call of every patched function in this test's guest.

    A test that asks for it fails when consistency is violated, as all do in a run with --oracle.
    """
    assert guest.hypervisor.observed is not None
    judge: Oracle = request.node.stash[ORACLE]
    return judge


@pytest.fixture(scope="session")
def sample_modules(kernel: Kernel) -> Mapping[str, Path]:
    """The modules of livepatch-modules/, built for the kernel under test: name to .ko file."""
    return _build(kernel, resource_dir(Resource.LIVEPATCH_MODULES))


@pytest.fixture(scope="session")
def build_module(kernel: Kernel) -> BuildModule:
    """A function that builds your own folder of module sources for the kernel under test."""
    return functools.partial(_build, kernel)


@pytest.fixture
def livepatch(
    guest: Machine, sample_modules: Mapping[str, Path], request: pytest.FixtureRequest
) -> Livepatch:
    """Live patching in the fresh guest: load patches and targets by the name of a sample module."""
    made = Livepatch(guest, modules=sample_modules)
    request.node.stash[LIVEPATCH] = made
    return made


@pytest.fixture
def tasks(guest: Machine) -> Tasks:
    """All tasks of the guest and their patch states."""
    return Tasks(guest)


@pytest.fixture
def gate(livepatch: Livepatch, guest: Machine) -> Gates:
    """Gates that hold a task inside a function; loads the module that has them."""
    livepatch.load_target(GATE_MODULE)
    return Gates(guest)


@pytest.fixture
def kernel_log(guest: Machine) -> KernelLog:
    """The guest's kernel log from the test's start on."""
    return KernelLog(guest)


def _build(kernel: Kernel, source_dir: Path) -> Mapping[str, Path]:
    return obtain_modules(
        kernel, source_dir, store=runs.store(), deadline=Deadline.after(_MODULES_S)
    )


def _is_built(spec: str, sha256: str | None) -> bool:
    return isinstance(parse_spec(spec, sha256=sha256), BuildSpec | FinishedSpec)


@pytest.fixture(autouse=True)
def needed_features(request: pytest.FixtureRequest) -> None:
    """Marker ``needs`` of a test that starts its guests itself; ``guest`` looks at it otherwise."""
    names = request.fixturenames
    if request.node.get_closest_marker("needs") and "kernel" in names and "guest" not in names:
        _require_features(request.node, request.getfixturevalue("kernel"))


def _require_features(node: pytest.Item, kernel: Kernel) -> None:
    for marker in node.iter_markers("needs"):
        for feature in marker.args:
            if not str(feature).startswith("CONFIG_"):
                raise UsageError(f"needs({feature!r}): only CONFIG_ symbols are known")
            if not kernel.config.enabled(str(feature).removeprefix("CONFIG_")):
                pytest.skip(f"kernel {kernel.version} is built without {feature}")
