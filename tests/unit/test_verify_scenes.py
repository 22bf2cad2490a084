# SPDX-License-Identifier: GPL-2.0-only
"""verify's scenes without a guest: what each finds, and what it passes over."""

from __future__ import annotations

import ast
import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import HarnessError, ModuleRefused, UsageError
from harness.tools.verify import scene_list
from harness.tools.verify.scenes import guest_state
from harness.tools.verify.scenes.cycles import when_to_count
from harness.tools.verify.scenes.expect import expect_redirected, expect_restored
from harness.tools.verify.scenes.guest_state import GuestState, parse_hooks
from harness.tools.verify.scenes.leaks import Count, count_vmalloc_areas, find_growth, read_slabinfo
from harness.tools.verify.scenes.reverse_force import try_reverse
from harness.tools.verify.scenes.sysctls import changed_settings, read_settings
from harness.tools.verify.scenes.target_order import load_target, unload_target
from harness.tools.verify.scenes.tracing import trace_only
from harness.tools.verify.step import Failed, NotOfPatch
from harness.vm.kernel.codes import Code
from tests.unit.verify_doubles import TARGET, Guest, scene


class Patch:
    """A patch in sysfs: its functions, and whether a transition runs."""

    def __init__(self, *functions: str, patched: bool | None = True) -> None:
        names = [SimpleNamespace(name=name) for name in functions]
        self._object = SimpleNamespace(name="vmlinux", patched=patched, functions=lambda: names)
        self.in_transition = False
        self.exists = True
        self.refuses: Exception | None = None
        self.completes = lambda _: True

    def objects(self) -> tuple[Any, ...]:
        return (self._object,)

    def reverse(self) -> None:
        if self.refuses is not None:
            raise self.refuses


# -- redirected, and restored


def test_hooks() -> None:
    """Only IPMODIFY hooks redirect; flags and modules are as ftrace.c, t_show(), prints them."""
    lines = [
        "cmdline_proc_show (1) R I     \ttramp: 0xffffffffc0203000 (klp_ftrace_handler+0x0/0x1a0)",
        "klp_target_f [klp_target_mod] (1) R I \ttramp: 0xffffffffc0203000 (IRQ I)",
        "schedule (1)           \ttramp: 0xffffffffc0201000 (function_trace_call+0x0/0x1)",
        "version_proc_show (2) R   D \tdirect I",
    ]
    assert parse_hooks(lines) == {"vmlinux:cmdline_proc_show", "klp_target_mod:klp_target_f"}


def test_a_function_without_a_hook() -> None:
    """It is not redirected, and named."""
    guest = Guest(modules="", enabled_functions="f (1) R I\ttramp\n")
    redirected: Any = Patch("f")
    assert expect_redirected(scene(guest), redirected) == "vmlinux:f"
    half: Any = Patch("f", "g")
    with pytest.raises(Failed) as found:
        expect_redirected(scene(guest), half)
    assert (found.value.code, found.value.lines) == (Code.NOT_REDIRECTED, ("vmlinux:g",))


def test_an_object_that_is_not_shown_as_patched() -> None:
    """Sysfs has to agree with ftrace."""
    guest = Guest(modules="", enabled_functions="f (1) R I\ttramp\n")
    patch: Any = Patch("f", patched=False)
    with pytest.raises(Failed, match="not shown as patched"):
        expect_redirected(scene(guest), patch)


def state(**changes: frozenset[str]) -> GuestState:
    nothing: frozenset[str] = frozenset()
    fields = dict.fromkeys(("modules", "hooks", "threads", "entries", "patches"), nothing)
    return GuestState(**{**fields, **changes})


def test_a_hook_that_stays() -> None:
    """A function that is redirected after the patch, and was not before, is not restored."""
    guest = Guest(enabled_functions="f (1) R I\ttramp\n")
    before = state(hooks=frozenset({"vmlinux:f"}))
    expect_restored(scene(guest), before)
    guest.files["enabled_functions"] += "g (1) R I\ttramp\n"
    with pytest.raises(Failed) as found:
        expect_restored(scene(guest), before)
    assert found.value.code is Code.NOT_RESTORED


@pytest.mark.parametrize(
    ("function", "hook", "known"),
    [
        ("vmlinux:__x64_sys_getpid", "vmlinux:__ia32_sys_getpid", True),
        ("vmlinux:__x64_sys_getpid", "vmlinux:__x64_sys_getppid", False),
        ("vmlinux:__x64_sys_getpid", "a_module:__ia32_sys_getpid", False),
        ("vmlinux:nothing", "vmlinux:__ia32_sys_getpid", False),
    ],
)
def test_names_of_one_address(
    monkeypatch: pytest.MonkeyPatch, function: str, hook: str, known: bool
) -> None:
    """A function that ftrace lists under another of its names is redirected all the same."""
    addresses = {"__x64_sys_getpid": 1, "__ia32_sys_getpid": 1, "__x64_sys_getppid": 2}

    def named(name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(address=addresses[name])] if name in addresses else []

    monkeypatch.setattr(guest_state, "read_vmlinux", lambda _: SimpleNamespace(named=named))
    found = guest_state.under_other_names([function], [hook], Path("vmlinux"))
    assert (function in found) is known
    assert not guest_state.under_other_names([function], [hook], None)


# -- what is left


def test_what_is_left_and_what_is_missing() -> None:
    """Each difference between two states is named."""
    before = state(threads=frozenset({"kthreadd"}))
    after = state(threads=frozenset({"kthreadd", "leaked"}), entries=frozenset({"/proc/leaked"}))
    assert after.changes_since(before) == (
        "kernel thread leaked is left",
        "entry /proc/leaked is left",
    )
    assert "kernel thread leaked is missing" in before.changes_since(after)
    assert before.changes_since(before) == ()


SETTINGS = """\
/proc/sys/fs/dentry-state:589\t48\t45\t0\t1\t0
/proc/sys/fs/inode-nr:600\t0
/proc/sys/kernel/ostype:Linux
/proc/sys/kernel/panic:0
/proc/sys/kernel/ns_last_pid:122
/proc/sys/kernel/random/uuid:bf0e13c6
/proc/sys/kernel/tainted:0
/proc/sys/vm/overcommit:a
/proc/sys/vm/overcommit:b
/sys/module/driver/parameters/calls:7
/sys/module/kernel/parameters/panic:0
not a setting
"""


def test_settings() -> None:
    """A setting that changed is named; counters, random numbers and the taint are not settings."""
    machine: Any = SimpleNamespace(run=lambda _: SimpleNamespace(stdout=SETTINGS))
    before = read_settings(machine, without={"driver"})
    assert before == {
        "/proc/sys/kernel/ostype": "Linux",
        "/proc/sys/kernel/panic": "0",
        "/proc/sys/vm/overcommit": "a b",
        "/sys/module/kernel/parameters/panic": "0",
    }
    now = {**before, "/proc/sys/kernel/panic": "30", "/sys/module/klp_x/parameters/y": "1"}
    del now["/proc/sys/vm/overcommit"]
    (changed,) = changed_settings(before, now)
    assert "/proc/sys/kernel/panic" in changed
    assert changed_settings(before, before) == ()


def test_settings_that_cannot_be_read() -> None:
    """They are no match, unless the kernel has none (CONFIG_PROC_SYSCTL)."""
    there = {"/proc/sys/kernel/ostype"}

    def stat(path: str) -> None:
        if path not in there:
            raise FileNotFoundError(path)

    machine: Any = SimpleNamespace(
        run=lambda _: SimpleNamespace(stdout="", stderr="sh: grep: not found"), stat=stat
    )
    with pytest.raises(HarnessError, match="settings") as raised:
        read_settings(machine, without=())
    assert raised.value.details == ("sh: grep: not found",)
    there.clear()
    assert read_settings(machine, without=()) == {}


# -- leaks


def counts(*values: int, name: str = "kmalloc-64", kind: str = "objects") -> list[Count]:
    fields: dict[str, Any] = {"objects": {}, "things": {}}
    return [
        Count(cycles=5 + 10 * number, **{**fields, kind: {name: value}})
        for number, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("values", "leaks"),
    [
        ((100, 110, 120, 130, 140), True),  # one object in each cycle
        ((100, 140, 140, 140, 140), False),  # a step, once
        ((100, 103, 106, 109, 112), False),  # less than one in each cycle
        ((100, 130, 90, 140, 150), False),  # up and down
        ((100, 100, 100, 100, 100), False),
        ((100, 200), False),  # too few counts
    ],
)
def test_leaks(values: tuple[int, ...], leaks: bool) -> None:
    """A leak grows in every interval; steps and noise do not."""
    growth = find_growth(counts(*values))
    assert [str(each) for each in growth] == (
        ["kmalloc-64: 100 to 140, 1.0 in each cycle"] if leaks else []
    )


def test_a_leak_of_threads() -> None:
    """What is in no slab cache is counted too."""
    assert find_growth(counts(50, 60, 70, name="kernel threads", kind="things"))


def test_slabinfo() -> None:
    """Active objects are read by cache."""
    text = (
        "slabinfo - version: 2.1\n# name <active_objs> <num_objs> ...\n"
        "kmalloc-64 128 192 64 64 1 : tunables 0 0 0 : slabdata 3 3 0\n"
    )
    assert read_slabinfo(text) == {"kmalloc-64": 128}


def test_areas_that_are_freed_late_are_not_counted() -> None:
    """Stacks of ended threads stay in /proc/vmallocinfo until many are freed at once."""
    text = (
        "0xffffc90000000000-0xffffc90000005000   20480 dup_task_struct+0x5f/0x560 pages=4 vmalloc\n"
        "0xffffc90000008000-0xffffc9000000d000   20480 unpurged vm_area\n"
    )
    assert count_vmalloc_areas(text) == 1


@pytest.mark.parametrize("cycles", [7, 12, 50])
def test_when_counts_are_taken(cycles: int) -> None:
    """At least three times: after a few cycles, between, and at the end."""
    first, *between, last = sorted(when_to_count(cycles))
    assert first > 1
    assert between
    assert last == cycles


# -- a transition that is reversed


@pytest.mark.parametrize(
    ("refusal", "runs", "reversed_"),
    [
        (None, True, True),
        (UsageError("in no transition"), False, False),
        (FileNotFoundError(errno.ENOENT, "gone"), False, False),
        (OSError(errno.EINVAL, "Invalid argument"), False, False),
    ],
)
def test_reversing_too_late(refusal: Exception | None, runs: bool, reversed_: bool) -> None:
    """A transition that ended before it was reversed is no failure."""
    patch: Any = Patch()
    patch.refuses, patch.in_transition = refusal, runs
    assert try_reverse(scene(), patch) is reversed_


def test_a_transition_that_cannot_be_reversed() -> None:
    """A refusal while it runs is a failure."""
    patch: Any = Patch()
    patch.refuses, patch.in_transition = OSError(errno.EINVAL, "Invalid argument"), True
    with pytest.raises(OSError, match="Invalid argument"):
        try_reverse(scene(), patch)


# -- targets


def test_a_target_that_cannot_be_loaded() -> None:
    """The patch is to blame when the kernel refuses its target."""
    guest = Guest()
    guest.refuses[f"insmod {TARGET.path.name}"] = ModuleRefused(TARGET.name, errno.EBUSY)
    with pytest.raises(Failed) as found:
        load_target(scene(guest), TARGET)  # type: ignore[arg-type]
    assert found.value.code is Code.TARGET_REFUSED


def test_a_target_that_cannot_be_unloaded() -> None:
    """The patch is to blame, unless the target cannot be unloaded without it either."""
    guest, other = Guest(), Guest()
    refusal = ModuleRefused(TARGET.name, errno.EBUSY, action="unload")
    guest.refuses[f"rmmod {TARGET.name}"] = refusal
    with pytest.raises(Failed) as found:
        unload_target(scene(guest, other=other), TARGET)  # type: ignore[arg-type]
    assert found.value.code is Code.PINNED
    other.refuses[f"rmmod {TARGET.name}"] = refusal
    with pytest.raises(NotOfPatch):
        unload_target(scene(guest, other=other), TARGET)  # type: ignore[arg-type]


# -- the tracer


def test_a_function_that_the_tracer_does_not_know() -> None:
    """It is passed over; any other refusal is a failure."""
    guest = Guest()
    assert trace_only(scene(guest), "f")
    guest.refuses["write f"] = OSError(errno.EINVAL, "Invalid argument")
    assert not trace_only(scene(guest), "f")
    guest.refuses["write f"] = OSError(errno.EBUSY, "busy")
    with pytest.raises(OSError, match="busy"):
        trace_only(scene(guest), "f")


def test_a_scene_that_no_case_has_is_refused_before_the_kernel() -> None:
    """A misspelt scene is wrong usage at once; the list of names is that of the scenes."""
    tree = ast.parse(Path(scene_list.__file__).read_text())
    made = {
        ast.unparse(keyword.value).lstrip("f").strip("'\"").partition("{")[0].rstrip("-")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "SceneSpec"
        for keyword in node.keywords
        if keyword.arg == "name"
    }
    assert made == set(scene_list.NAMES)
    scene_list.check_names(["idle", "load-forks", "re", "upgrade-old"])
    with pytest.raises(UsageError, match="verify has no scene busy"):
        scene_list.check_names(["busy"])
