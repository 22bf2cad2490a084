# SPDX-License-Identifier: GPL-2.0-only
"""What a dump says of live patching: patches, stacks of functions, tasks, as the kernel holds them.

Read by drgn, an optional package; the structures are those of include/linux/livepatch.h and
kernel/livepatch/patch.h.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.tools.guests.vmcoreinfo import vmcoreinfo
from harness.vm.elf.symbols import function_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.vm.guest.kept import KeptGuest

_TIF_PATCH_PENDING = 1 << 13  # arch/x86/include/asm/thread_info.h
_MOST_FRAMES = 12
_STATES = {-1: "undefined", 0: "unpatched", 1: "patched"}


def report_lines(guest: KeptGuest, dump: Path) -> Iterator[str]:
    """Yield the report on a dump of that guest, or one sentence that says why there is none.

    Raises HarnessError for a dump that drgn cannot read.
    """
    try:
        drgn = importlib.import_module("drgn")
    except ImportError:
        yield "a report on its livepatches needs drgn: pip install drgn"
        return
    if guest.vmlinux is None or not Path(guest.vmlinux).is_file():
        yield f"no report: there is no vmlinux of {guest.kernel} on this machine"
        return
    program = drgn.Program(vmcoreinfo=vmcoreinfo(guest))
    try:
        program.set_core_dump(str(dump))
        program.load_debug_info([guest.vmlinux])
        program.type("struct klp_patch")
    except drgn.MissingDebugInfoError as error:
        yield f"no report: drgn does not find its debug info: {_first_line(error)}"
        return
    except LookupError:
        yield (
            "no report: the kernel is built without debug info; --kernel-config debug-info "
            "builds it in"
        )
        return
    except (OSError, ValueError) as error:
        raise HarnessError(f"drgn cannot read {dump}: {_first_line(error)}") from error
    # What a kernel of another layout lacks ends the part of the report that needs it.
    for part in (_transition, _patches, _functions, _tasks):
        try:
            yield from part(_View(program, guest))
        except (LookupError, AttributeError, TypeError, drgn.FaultError) as error:
            yield f"{part.__name__.strip('_')}: cannot be read: {_first_line(error)}"


class _View:
    """A dump with the helpers of drgn that the report uses."""

    def __init__(self, program: Any, guest: KeptGuest) -> None:
        self.program = program
        self.guest = guest
        lists = importlib.import_module("drgn.helpers.linux.list")
        tasks = importlib.import_module("drgn.helpers.linux.pid")
        self.entries: Any = lists.list_for_each_entry
        self.tasks: Any = tasks.for_each_task


def _transition(view: _View) -> Iterator[str]:
    patch = view.program["klp_transition_patch"]
    if not patch:
        yield "transition: none"
        return
    target = _STATES.get(int(view.program["klp_target_state"]), "?")
    yield f"transition: {_text(patch.mod.name)} to {target}"


def _patches(view: _View) -> Iterator[str]:
    patches = list(_each(view, view.program["klp_patches"], "struct klp_patch", "list"))
    yield f"klp_patches: {len(patches) or 'none'}"
    for patch in patches:
        flags = ["enabled" if patch.enabled else "disabled"]
        flags += [name for name in ("replace", "forced") if getattr(patch, name)]
        yield f"  {_text(patch.mod.name)}: {', '.join(flags)}"
        for each in _each(view, patch.obj_list, "struct klp_object", "node"):
            name = _text(each.name) if each.name else "vmlinux"
            state = "patched" if each.patched else "not patched"
            yield f"    {name}: {state}"
            for function in _each(view, each.func_list, "struct klp_func", "node"):
                yield f"      {_function(function)}"


def _functions(view: _View) -> Iterator[str]:
    operations = list(_each(view, view.program["klp_ops"], "struct klp_ops", "node"))
    yield f"klp_ops: {len(operations) or 'none'}"
    for ops in operations:
        stack = list(_each(view, ops.func_stack, "struct klp_func", "stack_node"))
        old = _symbol(view, stack[0].old_func) if stack else "?"
        yield f"  {old}: {len(stack)} on its stack, the newest first"
        for function in stack:
            yield f"    {_symbol(view, function.new_func)} ({_flags(function)})"


def _tasks(view: _View) -> Iterator[str]:
    is_running = bool(view.program["klp_transition_patch"])
    target = int(view.program["klp_target_state"])
    tasks = list(view.tasks(view.program))
    counts: dict[int, int] = {}
    for task in tasks:
        state = int(task.patch_state)
        counts[state] = counts.get(state, 0) + 1
    words = ", ".join(f"{counts[state]} {_STATES.get(state, state)}" for state in sorted(counts))
    yield f"tasks: {len(tasks)}: {words}"
    for task in tasks:
        state = int(task.patch_state)
        if state == -1 or (is_running and state == target):
            continue
        pending = int(task.thread_info.flags) & _TIF_PATCH_PENDING
        word = ", TIF_PATCH_PENDING" if pending else ""
        yield f"  {int(task.pid)} {_text(task.comm)}: {_STATES.get(state, state)}{word}"
        yield from _frames(view, task)


def _frames(view: _View, task: Any) -> Iterator[str]:
    try:
        trace = view.program.stack_trace(task)
    except (ValueError, LookupError) as error:
        yield f"    no stack: {_first_line(error)}"
        return
    for frame in list(trace)[:_MOST_FRAMES]:
        try:
            yield f"    {_symbol(view, frame.pc)}"
        except LookupError:
            yield "    ?"


def _each(view: _View, head: Any, kind: str, member: str) -> Any:
    return view.entries(kind, head.address_of_(), member)


def _function(function: Any) -> str:
    return f"{_text(function.old_name)} ({_flags(function)})"


def _flags(function: Any) -> str:
    words = ["patched" if function.patched else "not patched"]
    words += [name for name in ("transition", "nop") if getattr(function, name)]
    return ", ".join(words)


def _symbol(view: _View, address: Any) -> str:
    value = int(address)
    try:
        symbol = view.program.symbol(value)
    except LookupError:
        return _in_module(view, value) or f"{value:#x}"
    return f"{symbol.name}+{value - symbol.address:#x}" if value != symbol.address else symbol.name


def _in_module(view: _View, address: int) -> str | None:
    """Return the function or the module of an address, of which drgn has no symbols."""
    for name, module in view.guest.modules.items():
        if not Path(module.file).is_file():
            continue
        for section, start in module.sections.items():
            found = function_at(Path(module.file), address - start, section)
            if found is not None:
                function, _, place = found.partition("+")
                return f"{function if place.startswith('0x0/') else found} [{name}]"
    for each in view.program.modules():
        for low, high in each.address_ranges or ():
            if low <= address < high:
                return f"{address:#x} [{each.name}]"
    return None


def _text(value: Any) -> str:
    return bytes(value.string_()).decode(errors="replace")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
