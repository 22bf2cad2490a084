# SPDX-License-Identifier: GPL-2.0-only
"""Livepatches in the guest: load, wait, disable, reverse, force, unload.

The state of a patch is always read from /sys/kernel/livepatch
(Documentation/ABI/testing/sysfs-kernel-livepatch).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.agent_protocol import Op
from harness.errors import TransitionTimeout, UsageError
from harness.livepatch.blockers import Blocker, find_blockers
from harness.livepatch.modules import Module, Parameter, find_module, format_params, module_name
from harness.livepatch.sysfs import SYSFS, Directory, flag, number
from harness.livepatch.tasks import PatchState
from harness.livepatch.waiting import TRANSITION_S, poll, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.livepatch.guest import Guest


@dataclass(frozen=True, kw_only=True, order=True)
class PatchedFunction:
    """A function of a patch. ``sympos`` counts from 1; sysfs shows 1 for 0, too."""

    name: str
    sympos: int


class PatchObject(Directory):
    """An object of a patch: vmlinux or a target module, loaded or not."""

    def __init__(self, guest: Guest, patch: str, name: str) -> None:
        super().__init__(guest, f"{SYSFS}/{patch}/{name}")
        self.name = name

    def __repr__(self) -> str:
        return f"<object {self.name}>"

    @property
    def patched(self) -> bool | None:
        """Whether its functions are patched; None on a kernel without the attribute (before 6.1).

        Raises FileNotFoundError when the patch does not exist.
        """
        text = self.optional("patched")
        return None if text is None else flag(text, f"{self.path}/patched")

    def functions(self) -> tuple[PatchedFunction, ...]:
        """Return its functions, with the nops of an atomic replace.

        Raises FileNotFoundError when the patch does not exist.
        """
        found = []
        for name in self.subdirectories():
            function, _, sympos = name.rpartition(",")
            position = number(sympos, f"the end of the name {self.path}/{name}")
            found.append(PatchedFunction(name=function, sympos=position))
        return tuple(sorted(found))


class Patch(Directory):
    """The livepatch of a name. It may not exist, or not any more: see ``exists``."""

    def __init__(self, guest: Guest, name: str) -> None:
        super().__init__(guest, f"{SYSFS}/{name}")
        self.name = name
        self.module = Module(guest, name)

    def __repr__(self) -> str:
        return f"<patch {self.name}>"

    # -- its state ----------------------------------------------------------------------------

    @property
    def enabled(self) -> bool:
        """Whether it is enabled or being enabled: it changes when a transition starts.

        Raises FileNotFoundError when the patch does not exist.
        """
        return flag(self.read("enabled"), f"{self.path}/enabled")

    @property
    def in_transition(self) -> bool:
        """Whether it is in transition. Raises FileNotFoundError when it does not exist."""
        return flag(self.read("transition"), f"{self.path}/transition")

    @property
    def replace(self) -> bool | None:
        """Whether it is an atomic replace; None on a kernel without the attribute (before 6.11)."""
        text = self.optional("replace")
        return None if text is None else flag(text, f"{self.path}/replace")

    @property
    def stack_order(self) -> int | None:
        """Its place in the stack from 1; None on a kernel without the attribute (before 6.14)."""
        text = self.optional("stack_order")
        return None if text is None else number(text, f"{self.path}/stack_order")

    def objects(self) -> tuple[PatchObject, ...]:
        """Return its objects by name. Raises FileNotFoundError when it does not exist."""
        return tuple(PatchObject(self._guest, self.name, name) for name in self.subdirectories())

    def object(self, name: str) -> PatchObject:
        """Return one of its objects, whether that exists or not."""
        return PatchObject(self._guest, self.name, name)

    def blockers(self) -> list[Blocker]:
        """Return the tasks that hold its transition, by thread id."""
        try:
            if not self.in_transition:
                return []
            target = PatchState.PATCHED if self.enabled else PatchState.UNPATCHED
            functions = [
                (patched.name, function.name)
                for patched in self.objects()
                for function in patched.functions()
            ]
            patches = Directory(self._guest, SYSFS).subdirectories()
        except FileNotFoundError:
            return []
        return find_blockers(self._guest, target, functions=functions, patches=patches)

    # -- transitions --------------------------------------------------------------------------

    def enable(self) -> None:
        """Write 1 to ``enabled``, which reverses a running disable. Raises OSError when refused."""
        self.write("enabled", "1")

    def disable(self, *, wait: bool = True, deadline: Deadline | None = None) -> None:
        """Write 0 to ``enabled`` and, unless ``wait`` is false, wait for the end of the transition.

        Raises OSError when it is refused, TransitionTimeout, and TimeoutError when the write does
        not return.
        """
        self.write("enabled", "0", deadline=deadline)
        if wait:
            self.wait_complete(deadline)

    def reverse(self) -> None:
        """Reverse the running transition and do not wait. Raises OSError when refused.

        Raises UsageError when no transition runs: the write would disable the patch instead.
        """
        if not self.in_transition:
            raise UsageError(f"{self.name} is not in transition, so it cannot be reversed")
        self.write("enabled", "0" if self.enabled else "1")

    def force(self) -> None:
        """Write 1 to ``force``: ends its transition at once. Raises OSError when refused."""
        self.write("force", "1")

    def wait_complete(self, deadline: Deadline | None = None) -> None:
        """Wait until its transition has ended; that of a patch that is gone has.

        The default deadline is 30 s on fast hardware. Raises TransitionTimeout, which names each
        task that holds the transition, its state and the patched function that it sleeps in.
        """
        # A file that does not exist differs, too.
        self._wait(f"{self.path}/transition", Op.DIFFERS, deadline)

    def wait_gone(self, deadline: Deadline | None = None) -> None:
        """Wait until it is gone from sysfs, after it was disabled or replaced.

        Raises TransitionTimeout.
        """
        self._wait(self.path, Op.ABSENT, deadline)

    def _wait(self, path: str, op: Op, deadline: Deadline | None) -> None:
        deadline = deadline or scaled(self._guest, TRANSITION_S)
        waited_s = deadline.remaining_s
        if not poll(self._guest, path, op, "1", deadline=deadline):
            raise self.overdue(waited_s)

    def unload(self, deadline: Deadline | None = None) -> None:
        """Wait until a disabled or replaced patch is gone and its module unused, and unload that.

        Raises TransitionTimeout when it is not gone by then, and ModuleRefused with the kernel's
        errno: at once when it is enabled (EBUSY), and when its module is still used then.
        """
        deadline = deadline or scaled(self._guest, TRANSITION_S)
        try:
            enabled = self.enabled
        except FileNotFoundError:
            enabled = False
        if not enabled:
            self.wait_gone(deadline)
            self.module.wait_unused(deadline)
        self.module.unload()

    def describe_blockers(self) -> tuple[str, ...]:
        """Return lines that say which tasks hold its transition, with their stacks."""
        return tuple(line for blocker in self.blockers() for line in blocker.describe())

    def overdue(self, waited_s: float) -> TransitionTimeout:
        """Return the error for a transition that has not ended: it names the tasks that hold it."""
        # Those in a patched function first: the kernel may not have tried the others yet.
        blockers = sorted(self.blockers(), key=lambda blocker: blocker.in_function is None)
        if not blockers:
            why = "no task holds it" if self.exists else "the patch is gone by now"
        else:
            names = ", ".join(
                f"{blocker.task.comm} ({blocker.task.tid}) in "
                f"{blocker.in_function or 'no patched function'}"
                for blocker in blockers[:3]
            )
            more = f" and {len(blockers) - 3} more" if len(blockers) > 3 else ""
            why = f"held by {names}{more}"
        return TransitionTimeout(
            f"{self.name} did not end its transition within {waited_s:.0f} s: {why}",
            details=tuple(line for blocker in blockers for line in blocker.describe()),
        )

    def completes(self, deadline: Deadline) -> bool:
        """Wait as ``wait_complete`` does; return False when the deadline came first."""
        return poll(self._guest, f"{self.path}/transition", Op.DIFFERS, "1", deadline=deadline)


class Livepatch:
    """Live patching in one guest. ``modules`` are the files of the modules known by name."""

    def __init__(self, guest: Guest, *, modules: Mapping[str, Path] | None = None) -> None:
        self.guest = guest
        self._modules = modules or {}

    def load(
        self,
        module: str | Path,
        /,
        *,
        wait: bool = False,
        deadline: Deadline | None = None,
        **params: Parameter,
    ) -> Patch:
        """Load a livepatch, by a known name or a path, and return when its transition has started.

        With ``wait``, return when it has ended. Raises ModuleRefused with the kernel's errno, and
        UsageError for an unknown name and for a module that is no livepatch.
        """
        patch = Patch(self.guest, self._insmod(module, params, deadline))
        if not patch.exists:
            raise UsageError(
                f"{patch.name} is loaded but has no directory in {SYSFS}",
                hint="a module that is no livepatch is loaded with load_target()",
            )
        if wait:
            patch.wait_complete(deadline)
        return patch

    def load_target(
        self, module: str | Path, /, *, deadline: Deadline | None = None, **params: Parameter
    ) -> Module:
        """Load an ordinary module. Raises ModuleRefused and UsageError as ``load`` does."""
        return Module(self.guest, self._insmod(module, params, deadline))

    def patch(self, name: str) -> Patch:
        """Return the patch of that name, whether it exists or not."""
        return Patch(self.guest, name)

    def module(self, name: str) -> Module:
        """Return the module of that name, whether it is loaded or not."""
        return Module(self.guest, name)

    def patches(self) -> list[Patch]:
        """Return the patches that exist, by name. Raises FileNotFoundError without livepatching."""
        names = Directory(self.guest, SYSFS).subdirectories()
        return [Patch(self.guest, name) for name in names]

    def in_transition(self) -> Patch | None:
        """Return the patch that is in transition: there is one at most."""
        for patch in self.patches():
            try:
                if patch.in_transition:
                    return patch
            except FileNotFoundError:
                continue
        return None

    def describe_transition(self) -> str:
        """Return lines that say which patch is in transition and which tasks hold it."""
        patch = self.in_transition()
        if patch is None:
            return "no transition runs"
        try:
            direction = "being enabled" if patch.enabled else "being disabled"
        except FileNotFoundError:
            return f"{patch.name} is just gone"
        lines = patch.describe_blockers() or ("no task holds it",)
        return "\n".join([f"{patch.name} is {direction}", *lines])

    def _insmod(
        self, module: str | Path, params: Mapping[str, Parameter], deadline: Deadline | None
    ) -> str:
        path = find_module(module, self._modules)
        self.guest.insmod(self.guest.upload(path), format_params(params), deadline=deadline)
        return module_name(path)
