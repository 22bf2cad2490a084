# SPDX-License-Identifier: GPL-2.0-only
"""One run: its private folder, keys, initrd and templates, shared by all processes of the run."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import secrets
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from filelock import FileLock

from harness.deadline import Deadline
from harness.errors import KernelVerdict
from harness.vm.guest import root_init
from harness.vm.guest.boot_failures import BootFailures
from harness.vm.guest.plugin import PluginMaker, no_plugin
from harness.vm.guest.qemu import GuestShape
from harness.vm.guest.run_folder import GUESTS, RunFolder, claim, writing
from harness.vm.guest.run_initrd import RunInitrd
from harness.vm.guest.shared_template import adopt, publish
from harness.vm.guest.snapshot import (
    INIT_S,
    Clone,
    Template,
    changed_template,
    cold_guest,
    restored_guest,
    template,
)
from harness.vm.guest.spare import SpareGuest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from harness.vm.guest.keeper import Keeper
    from harness.vm.guest.keys import RunKeys
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.qemu import Recording
    from harness.vm.guest.root_disk import RootDisk
    from harness.vm.guest.watching import GuestWatch
    from harness.vm.host.accel import Accel
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Bootable

MEMORY_MIB = 256
"""The memory of a guest, unless its settings say otherwise."""

_START_S = 120.0
# The kernel's defaults and its maxima (kernel/rcu/update.c, kernel/watchdog.c, sysctl).
_RCU_STALL_S, _MOST_RCU_STALL_S = 21, 300
_WATCHDOG_S, _MOST_WATCHDOG_S = 10, 60
# Of all sessions of this process: two may have guests of one name in one folder. next() is atomic:
# several threads may start guests.
_NUMBERS = itertools.count(1)
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9.-]+")


class Fresh(StrEnum):
    """How a fresh guest is made: restored from a snapshot, or booted from power-on."""

    SNAPSHOT = "snapshot"
    BOOT = "boot"


@dataclass(frozen=True, kw_only=True)
class GuestSettings:
    """What all guests of a run have in common, unless one asks for something else.

    ``kernel_args`` are words of the user's for the kernel's command line.
    """

    accel: Accel
    time_scale: float
    cpus: int = 2
    memory_mib: int = MEMORY_MIB
    fresh: Fresh = Fresh.SNAPSHOT
    kernel_args: tuple[str, ...] = ()


def _nothing(machine: Machine) -> AbstractContextManager[None]:  # noqa: ARG001
    return contextlib.nullcontext()


class Session:
    """Starts guests. Processes that name the same folder share keys, initrd and templates."""

    def __init__(
        self,
        folder: Path,
        settings: GuestSettings,
        store: Store,
        *,
        extra_files: Mapping[str, Path] = MappingProxyType({}),
        base: Path | None = None,
        plugins: PluginMaker = no_plugin,
        watch: GuestWatch | None = None,
        keeper: Keeper | None = None,
        root: RootDisk | None = None,
        inside: Callable[[Machine], AbstractContextManager[None]] = _nothing,
    ) -> None:
        """``extra_files`` are those that guests of this run have beside the usual ones, by path.

        ``base`` is the archive with the usual ones when it was made elsewhere. ``plugins`` chooses
        the plugin of QEMU for guests that are not recorded; ``watch`` does so as well, and follows
        each guest. ``keeper`` gets the guest in which something fails. ``root`` is the root file
        system of guests that are not recorded. ``inside`` gives what each guest is used in, from
        its start to its end.
        """
        self.folder = folder
        self.settings = settings
        self.store = store
        self._initrd = RunInitrd(folder, store, extra_files=extra_files, base=base, root=root)
        self._plugins = watch or plugins
        self._watch = watch
        self._inside = inside
        self._stack = contextlib.ExitStack()
        self._templates: dict[str, Template] = {}
        self._spare = SpareGuest()
        self._claimed: RunFolder | None = None
        self.keeper = keeper
        self._root = root
        self._starter = keeper.starter if keeper is not None else None

    def __enter__(self) -> Self:
        self._claimed = claim(self.folder)
        return self

    def __exit__(self, *exc: object) -> None:
        self._spare.close()
        self._stack.close()
        if self._claimed is not None:
            self._claimed.release()

    @contextlib.contextmanager
    def guest(
        self,
        kernel: Bootable,
        *,
        name: str = "guest",
        cpus: int | None = None,
        fresh: Fresh | None = None,
        kernel_args: tuple[str, ...] = (),
        boot_s: float | None = None,
        recording: Recording | None = None,
        spare: bool = True,
        plugins: PluginMaker | None = None,
        ssh: bool = False,
    ) -> Iterator[Machine]:
        """Start a fresh guest with that kernel; it is killed when the context ends.

        Its logs lie in a folder named after ``name``, which stays. ``boot_s`` is how long a
        cold boot may take. One with a ``recording`` has one CPU, and boots from power-on.
        ``spare``: QEMU for the next guest starts while this one is used. ``plugins`` chooses the
        plugin of QEMU for this guest alone. ``ssh``: SSH has been connected in the template, and is
        there at once in the restored guest; it makes the template 0.15 s slower.
        Raises BootFailed, QemuFailed, LostConnection, GuestPanic and the like.
        """
        keys, _ = self._initrd.prepare_for(kernel)
        shape = self._shape(kernel, cpus, kernel_args, recording, plugins)
        shape = replace(shape, ssh=ssh)
        scale = self._scale(kernel)
        deadline = self._start_by(scale)
        if recording is not None or (fresh or self.settings.fresh) is Fresh.BOOT:
            folder = self._guest_folder(name)
            with (
                cold_guest(
                    shape,
                    keys,
                    folder,
                    time_scale=scale,
                    deadline=deadline,
                    boot_s=boot_s,
                    starter=self._starter,
                ) as machine,
                self._inside(machine),
                self._failing(machine, kernel),
                self._watching(machine, kernel, name),
            ):
                yield machine
            return
        saved = self.template(kernel, shape)
        key = _template_key(kernel, shape)
        clone = self._spare.take(key) or self._clone(saved, scale)
        clone.hypervisor.move_logs(self._guest_folder(name))
        with (
            restored_guest(clone, keys, time_scale=scale, deadline=deadline) as machine,
            self._inside(machine),
            self._failing(machine, kernel),
            self._watching(machine, kernel, name),
        ):
            if spare:
                self._spare.prepare(key, lambda: self._clone(saved, scale))
            yield machine

    def failed(self, machine: Machine, kernel: Bootable, why: str) -> None:
        """Say that something failed in a guest that still runs: it may be kept, or dumped.

        ``why`` is the failure in a line. What is raised out of the guest's context needs no call.
        """
        if self.keeper is not None:
            self.keeper.failed(machine, kernel, why)

    @contextlib.contextmanager
    def _failing(self, machine: Machine, kernel: Bootable) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failed(machine, kernel, str(error) or type(error).__name__)
            raise

    def _watching(
        self, machine: Machine, kernel: Bootable, name: str
    ) -> contextlib.AbstractContextManager[None]:
        if self._watch is None:
            return contextlib.nullcontext()
        return self._watch.watching(machine, kernel, name)

    def template(self, kernel: Bootable, shape: GuestShape) -> Template:
        """Return the template for that shape, booted unless a process of the run has done so.

        Raises BootFailed at once when processes of the run have failed to: see BootFailures.
        """
        key = _template_key(kernel, shape)
        known = self._templates.get(key)
        if known is not None:
            return known
        keys, _ = self._initrd.prepare()
        folder = self.folder / "templates" / key
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with writing(folder), FileLock(folder / "lock"):
            saved = adopt(folder, shape, self._stack)
            if saved is None:
                saved = self._boot_template(kernel, shape, keys, folder)
        self._templates[key] = saved
        return saved

    @contextlib.contextmanager
    def changed(
        self, kernel: Bootable, change: Callable[[Machine], None], *, name: str
    ) -> Iterator[Template]:
        """Make a template of guests in which ``change`` has been done; `clone` makes such guests.

        Raises what the start of a guest and ``change`` raise.
        """
        keys, _ = self._initrd.prepare_for(kernel)
        saved = self.template(kernel, self._shape(kernel, None, (), None))
        scale = self._scale(kernel)
        with changed_template(
            saved,
            keys,
            self._guest_folder(name),
            change,
            time_scale=scale,
            deadline=Deadline.after(_START_S * scale),
        ) as made:
            yield made

    def clone(self, kernel: Bootable, saved: Template, *, name: str) -> Clone:
        """Return a guest of such a template that has not been continued; the caller closes it."""
        clone = self._clone(saved, self._scale(kernel))
        clone.hypervisor.move_logs(self._guest_folder(name))
        return clone

    def _boot_template(
        self, kernel: Bootable, shape: GuestShape, keys: RunKeys, folder: Path
    ) -> Template:
        failures = BootFailures(folder)
        failures.check()
        scale = self._scale(kernel)
        deadline = self._start_by(scale)
        try:
            saved = self._stack.enter_context(
                template(shape, keys, folder, time_scale=scale, deadline=deadline)
            )
        except KernelVerdict as error:
            failures.add(error)
            raise
        publish(saved, folder)
        return saved

    def prepare(self, kernel: Bootable) -> None:
        """Make the template for guests of the settings' own shape, so that other processes find it.

        Raises what the start of a guest raises.
        """
        self.template(kernel, self._shape(kernel, None, (), None))

    def _shape(
        self,
        kernel: Bootable,
        cpus: int | None,
        kernel_args: tuple[str, ...],
        recording: Recording | None,
        plugins: PluginMaker | None = None,
    ) -> GuestShape:
        _, initrd = self._initrd.prepare_for(kernel)
        root = self._root if recording is None else None
        return GuestShape(
            image=kernel.image,
            initrd=initrd,
            accel=self.settings.accel,
            cpus=1 if recording is not None else cpus or self.settings.cpus,
            memory_mib=self.settings.memory_mib,
            kernel_args=(
                *self._kernel_args(kernel, recording),
                *(root_init.kernel_args(root) if root is not None else ()),
                *self.settings.kernel_args,
                *kernel_args,
            ),
            recording=recording,
            plugin=None if recording is not None else (plugins or self._plugins)(kernel),
            root=root,
        )

    def _clone(self, saved: Template, scale: float) -> Clone:
        folder = self.folder / GUESTS / f"clone-{os.getpid()}-{secrets.token_hex(4)}"
        with writing(folder):
            folder.mkdir(parents=True, mode=0o700)
        deadline = self._start_by(scale)
        return Clone(saved, folder, deadline=deadline, starter=self._starter)

    def _start_by(self, scale: float) -> Deadline:
        with_init = self._root is not None and self._root.init
        return Deadline.after((_START_S + (INIT_S if with_init else 0)) * scale)

    def _scale(self, kernel: Bootable) -> float:
        return self.settings.time_scale * kernel.slowness

    def _kernel_args(self, kernel: Bootable, recording: Recording | None) -> tuple[str, ...]:
        """Return the arguments that host and kernel make necessary on the kernel's command line.

        Stall detectors are scaled as deadlines are: their clock goes on while the guest gets no
        CPU, and a busy host is not the kernel's fault. The arguments of a recording do not depend
        on the host, since another one may replay it.
        """
        if recording is not None:
            return kernel.boot_args
        scale = self._scale(kernel)
        stall_s = min(_MOST_RCU_STALL_S, round(_RCU_STALL_S * scale))
        watchdog_s = min(_MOST_WATCHDOG_S, round(_WATCHDOG_S * scale))
        stalls = (f"rcupdate.rcu_cpu_stall_timeout={stall_s}", f"watchdog_thresh={watchdog_s}")
        return (*kernel.boot_args, *stalls)

    def _guest_folder(self, name: str) -> Path:
        plain = _NOT_IN_A_NAME.sub("-", name).strip("-") or "guest"
        folder = self.folder / GUESTS / f"{plain[:80]}-{os.getpid()}-{next(_NUMBERS)}"
        with writing(folder):
            folder.mkdir(parents=True, mode=0o700)
        return folder


def _template_key(kernel: Bootable, shape: GuestShape) -> str:
    what = (
        *(kernel.digest, shape.accel, shape.cpus, shape.memory_mib, shape.kernel_args),
        shape.plugin.head if shape.plugin is not None else None,
        *(shape.root, shape.ssh),
    )
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]
