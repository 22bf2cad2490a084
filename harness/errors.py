# SPDX-License-Identifier: GPL-2.0-only
"""Every foreseeable failure, by whose fault it is.

::

    KlpError
    ├── UsageError                  exit 2: what was asked for cannot be done as asked
    │   ├── PatchDoesNotApply
    │   ├── KernelDoesNotBuild      one that was to be made with a consistency model
    │   ├── KernelDoesNotBoot
    │   └── KernelUnfit             a kernel that is configured so that no test can run on it
    ├── HarnessError                exit 3: the harness or host failed; never a verdict on a kernel
    │   ├── MissingTool
    │   ├── CommandFailed
    │   │   └── CommandTimeout
    │   ├── NoSpace
    │   ├── DownloadFailed
    │   ├── CacheCorrupt
    │   ├── QemuFailed              QEMU did not start, broke its own protocol, or is silent
    │   ├── LostGuest               QEMU ended: killed, or crashed
    │   ├── GuestStopped            QEMU, or the guest in it, was stopped while it was waited for
    │   ├── GuestStarved            the host did not let QEMU, or the harness, run
    │   ├── LogIncomplete           a part of the kernel log is missing: it cannot be checked
    │   ├── EventsLost              a part of what the oracle observes is missing
    │   └── LostConnection          SSH or the agent ended while the guest still runs
    └── KernelVerdict               exit 1: the kernel or the patch under test failed
        ├── KernelBuildFailed
        ├── BootFailed
        ├── GuestPanic
        ├── GuestReset              the guest reset or powered off by itself, without a panic
        ├── KernelSplat
        ├── GuestHang
        ├── TransitionTimeout
        ├── TransitionNotHeld       a task that has to hold a transition has switched
        ├── ConsistencyViolated     a task ran a version of a function that its patch state excludes
        ├── WrongAttribute          a file of sysfs or procfs reads as no kernel writes it
        ├── RaceShown               a reproducer showed the race that it is for
        └── ModuleRefused           the kernel refused a module; carries the errno
"""

from __future__ import annotations

import errno as errno_module
import os
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


_OF_GUEST = "klp_of_guest"


class ExitCode(IntEnum):
    """What a command returns to the shell."""

    HELD = 0
    VERDICT = 1
    USAGE = 2
    HARNESS = 3
    INTERRUPTED = 130


class KlpError(Exception):
    """A failure with a sentence for the user, a hint on what to do, and the path of the logs.

    ``details`` holds lines worth reading in full, for example the console's last lines.
    """

    exit_code = ExitCode.HARNESS

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        details: tuple[str, ...] = (),
        artefacts: Path | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details
        self.artefacts = artefacts

    def __str__(self) -> str:
        lines = [self.message]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        lines += [f"    {line}" for line in self.details]
        if self.artefacts is not None:
            lines.append(f"logs: {self.artefacts}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # pytest-xdist and pickle rebuild an exception from args alone, which would lose the rest.
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(cls: type[KlpError], args: tuple[object, ...], state: dict[str, object]) -> KlpError:
    error = cls.__new__(cls)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error


class UsageError(KlpError):
    """What was asked for cannot be done as asked; the user can change that."""

    exit_code = ExitCode.USAGE


class PatchDoesNotApply(UsageError):
    """A patch of the kernel's sources does not fit them, or is no patch."""


class KernelDoesNotBuild(UsageError):
    """A kernel that was to be made with a consistency model does not build."""


class KernelDoesNotBoot(UsageError):
    """A kernel that was to be made with a consistency model does not boot."""


class KernelUnfit(UsageError):
    """A kernel, as it is configured, cannot be tested; the sentence names the option."""


class HarnessError(KlpError):
    """The harness or the host failed; that means nothing for the kernel under test."""


class MissingTool(HarnessError):
    """A program that the harness runs is not installed."""


class CommandFailed(HarnessError):
    """A host command ended with a failure."""


class CommandTimeout(CommandFailed):
    """A host command did not end before its deadline and was killed."""


class NoSpace(HarnessError):
    """A file system is full."""


class DownloadFailed(HarnessError):
    """Something could not be fetched: no network, no such file, wrong content."""


class CacheCorrupt(HarnessError):
    """A cache entry does not match its own manifest."""


class QemuFailed(HarnessError):
    """QEMU did not start, broke its own protocol, or does not answer on its monitor."""


class LostGuest(HarnessError):
    """QEMU ended: killed from outside, or crashed."""


class GuestStopped(HarnessError):
    """QEMU, or the guest in it, was stopped while it was waited for: the guest could not run."""


class GuestStarved(HarnessError):
    """The host gave QEMU, or the harness, too little CPU time to say anything about the guest."""


class LogIncomplete(HarnessError):
    """A part of the kernel log is missing, so that nothing can be said about what it held."""


class EventsLost(HarnessError):
    """A part of what was observed of a guest is missing, so that nothing can be said about it."""


class LostConnection(HarnessError):
    """SSH or the agent ended while the guest still runs."""


class KernelVerdict(KlpError):
    """The kernel or the patch under test failed."""

    exit_code = ExitCode.VERDICT


class KernelBuildFailed(KernelVerdict):
    """The kernel's or a module's source does not build."""


class BootFailed(KernelVerdict):
    """The guest did not reach user space, or not with what was asked for."""


class GuestPanic(KernelVerdict):
    """The guest kernel panicked."""


class GuestReset(KernelVerdict):
    """The guest reset, halted or powered itself off without a panic, as by a triple fault."""


class KernelSplat(KernelVerdict):
    """The kernel log has a warning, oops, lockup or the like that no test declared."""


class GuestHang(KernelVerdict):
    """The guest runs and does not answer."""


class TransitionTimeout(KernelVerdict):
    """A transition did not end before its deadline; ``details`` names the tasks that block it."""


class TransitionNotHeld(KernelVerdict):
    """A task that has to hold a transition has switched, or the transition has ended."""


class ConsistencyViolated(KernelVerdict):
    """A task ran a version of a function that its patch state excludes, or that was going."""


class WrongAttribute(KernelVerdict):
    """A file of the guest's sysfs or procfs reads as no kernel writes it."""


class RaceShown(KernelVerdict):
    """A reproducer showed the race that it is for."""


class ModuleRefused(KernelVerdict):
    """The kernel refused to load or to unload a module.

    ``errno`` is the positive error number of finit_module(2) or delete_module(2).
    """

    def __init__(
        self,
        module: str,
        errno: int,
        *,
        action: str = "load",
        details: tuple[str, ...] = (),
        hint: str | None = None,
        artefacts: Path | None = None,
    ) -> None:
        self.module = module
        self.errno = errno
        self.action = action
        super().__init__(
            f"the kernel refused to {action} {module}: {errno_text(errno)}",
            hint=hint,
            details=details,
            artefacts=artefacts,
        )


def guest_error(errno: int, text: str | None, subject: str) -> OSError:
    """Return the error of a call that the guest's kernel refused, about a path or name there.

    It is of the class that Python has for that number, as FileNotFoundError is; `is_of_guest` tells
    it from an error of the host.
    """
    error = OSError(errno, str(text or _strerror(errno)), subject)
    setattr(error, _OF_GUEST, True)
    return error


def _strerror(errno: int) -> str:
    try:
        return os.strerror(errno)
    except (ValueError, OverflowError):
        return "an errno that does not exist"


def is_of_guest(error: BaseException) -> bool:
    """Return whether the guest's kernel refused a call, and not the host's."""
    return getattr(error, _OF_GUEST, False)


def errno_text(errno: int) -> str:
    """Return an error number in words, for example ``EBUSY (Device or resource busy)``."""
    name = errno_module.errorcode.get(errno, f"errno {errno}")
    return f"{name} ({os.strerror(errno)})"
