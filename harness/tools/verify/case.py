# SPDX-License-Identifier: GPL-2.0-only
"""A request whose files have been read: all that its checks need to know of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.inputs import Kind, kind_of, read_file, shown
from harness.livepatch.modules import module_name
from harness.observe.load_plan import Plan, Target, plan_module
from harness.tools.verify.check_tests import SUFFIX, collect
from harness.vm.elf.module_info import read_module

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.tools.verify.request import VerifyRequest
    from harness.vm.elf.module_info import ModuleInfo
    from harness.vm.kernel.kernel import Kernel


@dataclass(frozen=True, kw_only=True)
class Case:
    """One module to verify on a kernel. ``older`` are plans of the versions before it.

    ``samples`` are the modules of the harness itself, by name: some scenes load one of them.
    ``refused`` are the targets that cannot be loaded without the patch either, with the reason.
    """

    request: VerifyRequest
    info: ModuleInfo
    plan: Plan
    targets: tuple[ModuleInfo, ...]
    older: tuple[Plan, ...]
    samples: Mapping[str, Path]
    kernel: Kernel
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def loadable(self) -> tuple[Target, ...]:
        """The targets but those that the kernel refuses without the patch too."""
        return tuple(each for each in self.plan.targets if each.name not in self.refused)

    @property
    def name(self) -> str:
        """The patch's name in the kernel."""
        return self.plan.name

    @property
    def livepatches(self) -> tuple[Path, ...]:
        """The files of the livepatch and of the versions before it."""
        return (self.request.module, *self.request.replaces)

    @property
    def needs_targets(self) -> bool:
        """Whether the patch cannot be loaded without them: it uses what they export."""
        return any(target.name in self.info.depends for target in self.plan.targets)


def read_case(
    request: VerifyRequest,
    kernel: Kernel,
    samples: Mapping[str, Path],
    *,
    read: Callable[[Path], ModuleInfo] = read_module,
) -> Case:
    """Return the case of a request.

    A target that is not given is taken from the samples when they have one of that name. ``read``
    is for requests that share files, so that each is read once. Raises UsageError for a file that
    is missing or no kernel module, for names that collide, and for a test file that pytest cannot
    collect.
    """
    info = read(request.module)
    given = tuple(Target(name=module_name(path), path=path) for path in request.targets)
    known = {name: path for name, path in samples.items() if path != request.module}
    params = [f"{name}={value}" for name, value in request.params.items()]
    name = module_name(request.module)
    plan = plan_module(name, request.module, info, given=given, known=known, params=params)
    targets = tuple(read(target.path) for target in plan.targets)
    older = []
    for path in request.replaces:
        old = read(path)
        if not old.is_livepatch:
            raise UsageError(
                f"--replaces {path.name} is not a livepatch",
                hint="a module that is patched is given with --target",
            )
        older.append(plan_module(module_name(path), path, old, given=given, known=known))
    _check_names(name, request)
    if request.check is not None:
        check_script(request.check)
    return Case(
        request=request,
        info=info,
        plan=plan,
        targets=targets,
        older=tuple(older),
        samples=samples,
        kernel=kernel,
    )


def check_script(path: Path) -> None:
    """Refuse a check that is no file, or a test file that pytest cannot collect: UsageError."""
    if kind_of(path, "the check") is not Kind.FILE:
        raise UsageError(f"there is no check script {shown(path)}")
    read_file(path, "the check")
    if path.suffix == SUFFIX:
        collect(path)


def check_together(patches: Sequence[ModuleInfo]) -> None:
    """Raise UsageError for patches that cannot be meant together.

    That is two of one name, or two that patch the same function without one replacing the other:
    the one that is loaded later hides the other (Documentation/livepatch/livepatch.rst).
    """
    for one, other in combinations(patches, 2):
        if one.name == other.name:
            raise UsageError(f"{one.name} is named twice: modules of one name conflict")
        mine, theirs = one.patch, other.patch
        if mine is None or theirs is None or mine.replace or theirs.replace:
            continue
        keys = [
            {(each.object, each.name, each.sympos) for each in patch.functions}
            for patch in (mine, theirs)
        ]
        for owner, name, _ in sorted(keys[0] & keys[1]):
            raise UsageError(
                f"{one.name} and {other.name} conflict: both patch {name}() of {owner}, and "
                "neither replaces the other",
                hint="verify each alone, or name the older with --replaces",
            )


def _check_names(name: str, request: VerifyRequest) -> None:
    for paths, option in ((request.targets, "--target"), (request.replaces, "--replaces")):
        if any(module_name(path) == name for path in paths):
            raise UsageError(
                f"{name} and the module of {option} conflict: the kernel loads one module of a "
                "name",
                hint="build one of them under another name",
            )
