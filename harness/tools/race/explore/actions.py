# SPDX-License-Identifier: GPL-2.0-only
"""What A and B can do, and in which states of the guest: steps of klp-duel.

A new action is an entry of ACTIONS. Its steps may name {patch} and {other}, the livepatches of the
pair, and {held}, the one whose transition is open.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.vm.guest.initramfs import MODULE_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping

PATCHES = "/sys/kernel/livepatch"
TRACING = "/sys/kernel/tracing"
GATE_MODULE = "klp_target_gate"
TARGET_MODULE = "klp_target_mod"
SHADOW_MODULE = "klp_target_shadow"
KTHREAD_MODULE = "klp_target_nap"
HELD_OTHER = "klp_test_gate_b"
RETRY_MODULE = "klp_retry"
_THIRD_CPU = "/sys/devices/system/cpu/cpu2/online"
_STARTS_A_TASK = frozenset({"kernel_clone", "copy_process", "dup_task_struct", "klp_copy_process"})


class StateName(StrEnum):
    """What there is before A and B begin.

    ``open``: a livepatch is being enabled, and a sleeper holds its transition; ``closing``: one is
    being disabled; ``replacing``: one replaces another; ``stacked``: one lies above another.
    """

    IDLE = "idle"
    PATCHED = "patched"
    OPEN = "open"
    CLOSING = "closing"
    STACKED = "stacked"
    REPLACING = "replacing"


HELD_STATES = frozenset({StateName.OPEN, StateName.CLOSING, StateName.REPLACING})
ALL_STATES = frozenset(StateName)
_ENABLED = frozenset({StateName.PATCHED, StateName.STACKED})


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The livepatches of a pair, by what they patch; ``other`` is for a stack and a replace.

    ``held`` is the one whose transition a sleeper holds in the states that have that.
    """

    name: str
    patch: str
    other: str
    held: str = "klp_test_gate"


GATE = Subject(name="gate", patch="klp_test_gate", other=HELD_OTHER)
TARGET = Subject(name="target", patch="klp_test_target_fg", other="klp_test_target_f")
EXIT = Subject(
    name="exit", patch="klp_test_exit", other="klp_test_exit_rcu", held="klp_test_exit_rcu"
)
SYSTEM_STATE = Subject(name="system state", patch="klp_test_state_1", other="klp_test_state_2")


class Kind(StrEnum):
    """What an action is about."""

    CHANGE = "change"  # of livepatches
    TARGET = "target"  # a module that is patched
    TASK = "task"
    LOOK = "look"
    OTHER = "other"
    SHADOW = "shadow"


@dataclass(frozen=True, kw_only=True)
class Action:
    """Something that A or B does. ``does`` is in words. ``only_a``: B cannot do it.

    ``scene``: steps before A and B begin. ``only_with``: of the sensible pairs, only those with
    that A. ``forces``: a livepatch's module can stay loaded for ever after it. ``by_any``: much of
    it is done by a worker, so that points count in any task of A's CPU; where tasks are started
    only with ``starts_kthread``: kthreadd starts workers whenever it likes. ``cpus`` is how many
    the guest needs for it.
    ``warns``: a regular expression for what the kernel prints, rightly, when it refuses the action.
    """

    name: str
    does: str
    steps: tuple[str, ...]
    kind: Kind
    states: frozenset[StateName] = ALL_STATES
    subject: Subject | None = None
    needs: tuple[str, ...] = ()
    scene: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    only_a: bool = False
    by_any: bool = False
    starts_kthread: bool = False
    forces: bool = False
    only_with: str | None = None
    cpus: int = 2
    warns: str | None = None

    @property
    def leaves(self) -> bool:
        """Whether A ends, and nobody waits for it."""
        return self.steps[0].startswith("leave")

    def counts_in_others(self, function: str) -> bool:
        """Return whether it is a part of A that another task of its CPU executes a function."""
        return self.by_any and (self.starts_kthread or function not in _STARTS_A_TASK)


def insmod(name: str, parameters: str = "") -> str:
    """Return the step that loads a module of the guest."""
    return f"insmod {MODULE_DIR}/{name}.ko{' ' if parameters else ''}{parameters}"


def _shadow(name: str, does: str, verb: str, *, warns: str | None = None) -> Action:
    """Return the action in which a task has the sample module call one function of shadow.c."""
    return Action(
        name=name,
        does=does,
        steps=(f"write /sys/kernel/klp_shadow/variable {verb}",),
        kind=Kind.SHADOW,
        states=frozenset({StateName.IDLE}),
        needs=(SHADOW_MODULE,),
        warns=warns,
    )


_ALL = (
    Action(
        name="load",
        does="a livepatch is loaded",
        steps=(insmod("{fresh}"),),
        kind=Kind.CHANGE,
        states=frozenset({StateName.IDLE, StateName.PATCHED}),
    ),
    Action(
        name="replace",
        does="a livepatch that replaces all others is loaded",
        steps=(insmod("{other}", "replace=1"),),
        kind=Kind.CHANGE,
        states=frozenset({StateName.PATCHED}),
    ),
    Action(
        name="supersede",
        does="a livepatch replaces another one, whose module is unloaded then",
        steps=(insmod("{other}", "replace=1"), "unload {patch}"),
        kind=Kind.CHANGE,
        states=frozenset({StateName.PATCHED}),
        by_any=True,
    ),
    Action(
        name="disable",
        does="0 is written to enabled",
        steps=(f"write {PATCHES}/{{patch}}/enabled 0",),
        kind=Kind.CHANGE,
        states=_ENABLED,
        by_any=True,
    ),
    Action(
        name="undo",
        does="0 is written to enabled of the livepatch that is being loaded",
        steps=(f"write {PATCHES}/{{fresh}}/enabled 0",),
        kind=Kind.CHANGE,
        states=frozenset({StateName.IDLE, StateName.PATCHED}),
        only_with="load",
    ),
    Action(
        name="unload",
        does="a livepatch is disabled, and its module unloaded",
        steps=(f"write {PATCHES}/{{patch}}/enabled 0", "unload {patch}"),
        kind=Kind.CHANGE,
        states=_ENABLED,
        by_any=True,
    ),
    Action(
        name="reverse",
        does="an open transition is reversed by 0 in enabled",
        steps=(f"write {PATCHES}/{{held}}/enabled 0",),
        kind=Kind.CHANGE,
        states=frozenset({StateName.OPEN, StateName.REPLACING}),
        by_any=True,
    ),
    Action(
        name="enable",
        does="a livepatch that is being disabled is enabled again",
        steps=(f"write {PATCHES}/{{held}}/enabled 1",),
        kind=Kind.CHANGE,
        states=frozenset({StateName.CLOSING}),
        by_any=True,
    ),
    Action(
        name="force",
        does="1 is written to force",
        steps=(f"write {PATCHES}/{{held}}/force 1",),
        kind=Kind.CHANGE,
        states=HELD_STATES,
        by_any=True,
        forces=True,
    ),
    Action(
        name="release",
        does="the task that holds the transition goes on",
        steps=("write /dev/klp_gate open 0",),
        kind=Kind.TASK,
        states=HELD_STATES,
    ),
    Action(
        name="finish",
        does="the task that holds the transition goes on, and the transition ends",
        steps=(
            "write /dev/klp_gate open 0",
            f"await {PATCHES}/{{held}}/transition 0",
        ),
        kind=Kind.CHANGE,
        states=HELD_STATES,
        by_any=True,
    ),
    Action(
        name="call",
        does="a task calls the patched function",
        steps=("enter 1",),
        kind=Kind.TASK,
    ),
    Action(
        name="target",
        does="a module that a livepatch patches is loaded",
        steps=(insmod(TARGET_MODULE),),
        kind=Kind.TARGET,
        subject=TARGET,
    ),
    Action(
        name="untarget",
        does="such a module is unloaded",
        steps=(f"rmmod {TARGET_MODULE}",),
        kind=Kind.TARGET,
        subject=TARGET,
        needs=(TARGET_MODULE,),
    ),
    Action(name="fork", does="a task forks", steps=("fork",), kind=Kind.TASK),
    Action(name="vfork", does="a task forks by vfork(2)", steps=("vfork",), kind=Kind.TASK),
    Action(
        name="exec",
        does="a task executes a program",
        steps=("execute",),
        kind=Kind.TASK,
        only_a=True,
    ),
    Action(
        name="exit",
        does="a thread for which nobody waits ends",
        steps=("leave",),
        kind=Kind.TASK,
        subject=EXIT,
        only_a=True,
    ),
    Action(
        name="leader",
        does="a process for which nobody waits ends",
        steps=("leave leader",),
        kind=Kind.TASK,
        subject=EXIT,
        only_a=True,
    ),
    Action(
        name="end",
        does="a task forks, and its child ends at once",
        steps=("exit",),
        kind=Kind.TASK,
        subject=EXIT,
    ),
    Action(
        name="kthread",
        does="a module that starts a kernel thread is loaded",
        steps=(insmod(KTHREAD_MODULE),),
        kind=Kind.TASK,
        by_any=True,
        starts_kthread=True,
    ),
    Action(
        name="read",
        does="transition of a livepatch is read",
        steps=(f"read {PATCHES}/{{patch}}/transition",),
        kind=Kind.LOOK,
        states=ALL_STATES - {StateName.IDLE},
    ),
    Action(
        name="refused",
        does="a livepatch is loaded that the kernel refuses",
        steps=(insmod("klp_test_refused"),),
        kind=Kind.CHANGE,
        states=frozenset({StateName.IDLE, StateName.PATCHED}),
    ),
    Action(
        name="tracer",
        does="the function tracer is switched on, for functions named *klp*",
        steps=(f"write {TRACING}/current_tracer function",),
        kind=Kind.OTHER,
        states=frozenset({StateName.IDLE, StateName.PATCHED}),
        # All functions would take many seconds of an emulated CPU.
        scene=(f"write {TRACING}/set_ftrace_filter *klp*",),
        after=(f"write {TRACING}/current_tracer nop",),
    ),
    Action(
        name="kprobe",
        does="a kprobe is set on the patched function",
        steps=(insmod("klp_test_kprobe", "symbol=klp_gate_wait"),),
        kind=Kind.OTHER,
        states=frozenset({StateName.IDLE, StateName.PATCHED}),
        after=("?rmmod klp_test_kprobe",),
    ),
    Action(
        name="cpu",
        does="a third CPU goes offline, and online again",
        steps=(f"write {_THIRD_CPU} 0", f"write {_THIRD_CPU} 1"),
        kind=Kind.OTHER,
        after=(f"?write {_THIRD_CPU} 1",),
        by_any=True,
        cpus=3,
    ),
    Action(
        name="state",
        does="a livepatch with a system state is loaded, cumulatively",
        steps=(insmod("{other}", "replace=1"),),
        kind=Kind.CHANGE,
        states=frozenset({StateName.PATCHED}),
        subject=SYSTEM_STATE,
    ),
    _shadow("shadow", "klp_shadow_get_or_alloc() of one variable", "get"),
    _shadow(
        "shalloc",
        "klp_shadow_alloc() of that variable",
        "alloc",
        warns="Duplicate shadow variable",
    ),
    _shadow("unshadow", "klp_shadow_free() of that variable", "free"),
    _shadow("unshadowall", "klp_shadow_free_all() of its id", "free_all"),
)

ACTIONS: Mapping[str, Action] = {action.name: action for action in _ALL}
