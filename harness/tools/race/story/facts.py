# SPDX-License-Identifier: GPL-2.0-only
"""What a stopped replay was asked: names of tasks, modules with their functions, livepatches."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StopAt(StrEnum):
    """The functions of the kernel at which a replay is stopped."""

    BORN = "wake_up_new_task"
    NAMED = "__set_task_comm"
    LOADED = "do_init_module"
    ENABLED = "klp_enable_patch"
    FREED = "free_module"


@dataclass(frozen=True, kw_only=True)
class TaskBorn:
    """A task that was forked; ``task`` is its address."""

    task: int
    pid: int
    comm: str


@dataclass(frozen=True, kw_only=True)
class TaskNamed:
    """A task that gets another name."""

    task: int
    comm: str


@dataclass(frozen=True, kw_only=True)
class ModuleFunction:
    """A function of a module, with the range of its addresses."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class ModuleLoaded:
    """A module whose init is about to run."""

    name: str
    functions: tuple[ModuleFunction, ...]


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """A klp_func at ``place``: what it replaces, and the address of the new function."""

    place: int
    object: str
    name: str
    new: int


@dataclass(frozen=True, kw_only=True)
class PatchEnabled:
    """A livepatch that is about to be enabled."""

    name: str
    replaces_all: bool
    functions: tuple[Replacement, ...]


@dataclass(frozen=True, kw_only=True)
class ModuleFreed:
    """A module whose text is about to be freed."""

    name: str


Fact = TaskBorn | TaskNamed | ModuleLoaded | PatchEnabled | ModuleFreed
"""One of them for each stop."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A stop, by its address, and what was read there."""

    address: int
    fact: Fact
