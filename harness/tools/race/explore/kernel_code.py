# SPDX-License-Identifier: GPL-2.0-only
"""The code in which a CPU can be held: addresses of points, and names of addresses."""

from __future__ import annotations

import bisect
import copy
import functools
import re
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UsageError
from harness.observer.accesses import noting, unseen
from harness.observer.image import image_of
from harness.tools.race.explore.points import Point
from harness.vm.elf.module_info import open_module

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from harness.observer.image import Instruction
    from harness.tools.race.explore.duel import Modules
    from harness.tools.race.explore.points import Hold
    from harness.vm.guest.plugin import Plugin
    from harness.vm.kernel.kernel import Kernel

# Between two functions of kernel/livepatch lie others of its files at most, without klp_ in their
# names: attributes of sysfs and the like.
_GAP = 0x1000
_ANCHOR = "klp_enable_patch"
_LONGEST = 1 << 16
_CALL = re.compile(r"call\s+[0-9a-f]+ <([^>+]+)>")
# Calls that read or write nothing which another CPU has: standing before one is standing before
# what comes after it.
_PURE = re.compile(
    r"__fentry__|__x86_|__sanitizer|__asan|__kasan_check|__warn|__stack_chk|_?printk|_dev_|"
    r"str(n?cmp|n?cpy|len|chr|scpy|dup|ndup)|(__)?mem(cmp|cpy|set)|s[cn]*n?printf|kstrto|"
    r"__check_object|__dynamic_(pr|dev)|__cond_resched|__might_|lockdep_|lock_(acquire|release)|"
    r"rcu_read_|debug_lockdep|trace_|__trace|_find_(next|first)_bit|idle_task|__?init_|"
    r"__mutex_init|hrtimer_init|ktime_get|kobject_init|find_sec|get_next_modinfo|test_taint|"
    r"layout_symtab|test_for_valid_rec|is_rlimit|tsk_fork_get_node|kv?m?alloc|kmem_cache_alloc|"
    r"kvz?alloc|__kmalloc|kv?free|vfree|kstrdup|strndup|__alloc_p|free_percpu|_copy_(from|to)_user|"
    r"add_device_randomness|capable|module_(enforce|check|init_section)|arch_mod_section|"
    r"__tsan_|(__)?kcsan_|account_kernel_stack|recalc_sigpending|user_disable_single|pid_vnr|__raw_read_unlock"
)
_RETURN = re.compile(r"(repz )?ret|jmp\s+[0-9a-f]+ <__x86_return_thunk>")
_NOT_MEMORY = re.compile(r"(lea|nop|data16|cs nop|ret|endbr|prefetch)")
# A plain access, which KCSAN watches; a marked one it compares with those that it watches.
_WATCHED = re.compile(r"__tsan_(unaligned_)?(read|write|read_write)\d+$|__tsan_mem\w+$")
_STACK = re.compile(r"\(%rsp|\(%rbp|push|pop")
_ABSOLUTE = re.compile(r"0xffffffff[0-9a-f]{8}|%gs:")
# Between functions: int3, or nops of one byte or more.
_PADDING = re.compile(
    rb"\xcc+|(\x66*\x2e?(\x0f\x1f(\x00|\x40.|\x44..|\x80....|\x84.....)|\x90))+", re.DOTALL
)
_LEAST_PADDING, _ALIGNMENT = 6, 16

# What calls into kernel/livepatch, or decides what it finds: fork, exit, modules, ftrace.
CALLERS = (
    "copy_process",
    "dup_task_struct",
    "kernel_clone",
    "do_exit",
    "exit_notify",
    "release_task",
    "begin_new_exec",
    "load_module",
    "do_init_module",
    "prepare_coming_module",
    "complete_formation",
    "__do_sys_delete_module",
    "__x64_sys_delete_module",
    "free_module",
    "register_ftrace_function",
    "unregister_ftrace_function",
    "ftrace_set_filter_ip",
    "ftrace_module_enable",
    "ftrace_release_mod",
    "schedule_on_each_cpu",
    "cpu_down",
    "_cpu_down",
    "cpu_up",
    "_cpu_up",
)


class KernelCode:
    """A kernel's image, as points and addresses; raises UsageError for one without symbols."""

    def __init__(self, kernel: Kernel) -> None:
        self._image = image_of(kernel)
        self._symbols = self._image.symbols
        self._ranges = tuple(self._symbols.function_ranges())
        self._starts = [start for start, _, _ in self._ranges]
        self.modules: tuple[tuple[int, str], ...] = ()
        """Addresses and names of functions in modules."""
        self.slide = 0
        """By how much the kernel that runs lies above its image (CONFIG_RANDOMIZE_BASE)."""
        self._start, self._end = self._livepatch()
        self.preempts = kernel.config.enabled("PREEMPTION")
        """Whether a task that is held in the kernel may lose its CPU where it has no lock."""
        self.preempts_readers = kernel.config.enabled("PREEMPT_RCU")
        """Whether it may lose it in a reader's section of RCU too."""
        self.unseen = unseen(self._image)
        """Functions that are not found, by which it may change what all CPUs see."""
        debugs = ("DEBUG_SPINLOCK", "DEBUG_MUTEXES", "DEBUG_LOCK_ALLOC", "PREEMPT_RT")
        self.debugs_locks = any(kernel.config.enabled(option) for option in debugs)
        """Whether its mutexes are laid out in another way than most kernels' are."""
        self.has_kasan = kernel.config.enabled("KASAN")
        """Whether each of its accesses looks at a shadow of all memory, which is mapped too."""
        self.has_kcsan = kernel.config.enabled("KCSAN")
        """Whether it has the kernel's detector of data races."""

    def livepatch_functions(self) -> tuple[str, ...]:
        """Return the functions of kernel/livepatch, in the order of their addresses."""
        return tuple(name for start, _, name in self._ranges if self._start <= start < self._end)

    def has(self, name: str) -> bool:
        """Return whether there is one symbol of that name."""
        return len(self._symbols.named(name)) == 1

    def symbol(self, *names: str) -> int:
        """Return the address of the first of these that the kernel has, as it runs."""
        for name in names:
            found = self._symbols.named(name)
            if found:
                return found[0].address + self.slide
        raise HarnessError(f"the kernel has none of these symbols: {', '.join(names)}")

    def percpu(self, *names: str) -> int:
        """Return a variable's distance from the base of a CPU's own data."""
        address = self.symbol(*names) - self.slide
        # Until 6.14 these symbols begin at 0, and later they are addresses.
        return address + self.slide if address >> 63 else address

    def noting(self, plugin: Plugin, passages: Iterable[int] = ()) -> Plugin:
        """Return the plugin for guests whose accesses to memory are noted, from place to place."""
        return noting(plugin, self._image, passages)

    def check(self, hold: Hold) -> None:
        """Raise UsageError when the kernel does not have what a hold needs."""
        for point in (hold.a, hold.b):
            if point is not None:
                self.addresses(point.place)
        if hold.a.watched and not self.has_kcsan:
            raise UsageError(
                "this kernel has no KCSAN, which would watch the access",
                hint="take --kernel-config kcsan, or leave @watched out",
            )

    def addresses(self, point: Point) -> frozenset[int]:
        """Return where a place is; raises UsageError when the kernel has no such place."""
        found = [each for each in self._symbols.named(point.function) if each.is_function]
        if not found:
            raise UsageError(
                f"the kernel has no function {point.function}",
                hint="`nm vmlinux` lists them; the compiler may have put it into its callers",
            )
        if len(found) > 1:
            raise UsageError(f"the kernel has {len(found)} functions {point.function}")
        (function,) = found
        if point.returns:
            return frozenset(each + self.slide for each in self._returns(point.function))
        if point.callee is None:
            if point.offset >= max(function.size, 1):
                raise UsageError(f"{point} lies behind the end of {point.function}")
            return frozenset({function.address + point.offset + self.slide})
        calls = {
            address for address, callee in self._calls(point.function) if callee == point.callee
        }
        if not calls:
            raise UsageError(
                f"{point.function} does not call {point.callee} in this kernel",
                hint="the compiler may have put it into its callers; name a function it calls",
            )
        return frozenset(address + self.slide for address in calls)

    def where(self, address: int) -> str:
        """Return an address as FUNCTION+0xOFFSET, and one outside of all functions as a number."""
        if not address >> 63:
            return "user mode"
        below = bisect.bisect_right(self.modules, (address, "\x7f")) - 1
        if below >= 0 and address - self.modules[below][0] < _LONGEST:
            start, name = self.modules[below]
        else:
            below = bisect.bisect_right(self._starts, address - self.slide) - 1
            start, size, name = self._ranges[below] if below >= 0 else (0, 0, "")
            start += self.slide
            if address - start >= max(size, 1):
                return hex(address)
        offset = address - start
        return name if not offset else f"{name}+{offset:#x}"

    def function_at(self, address: int) -> str:
        """Return the function that an address is in."""
        return self.where(address).partition("+")[0]

    def take_start(self, kallsyms: str) -> None:
        """Take where the guest's kernel lies from the line of _stext in /proc/kallsyms."""
        (stext,) = self._symbols.named("_stext")[:1]
        self.slide = int(kallsyms.split()[0], 16) - stext.address

    def with_modules(self, loaded: Modules, files: Mapping[str, Path]) -> KernelCode:
        """Return the same code, with the names of functions in modules that lie elsewhere."""
        found = [
            (sections[".text"] + offset, function)
            for name, sections in loaded.items()
            if name in files
            for offset, function in _functions_of(files[name])
        ]
        code = copy.copy(self)
        code.modules = tuple(sorted(found))
        return code

    def padding(self) -> int:
        """Return where four bytes of kernel text are never executed."""
        own = [each for each in self._ranges if self._start <= each[0] < self._end]
        for (start, size, _), (following, _, _) in pairwise(own):
            gap = following - start - size
            if _LEAST_PADDING <= gap < _ALIGNMENT:
                text = self._image.bytes_at(start + size, gap)
                if text is not None and _PADDING.fullmatch(text):
                    return start + size + 1 + self.slide
        raise HarnessError("there is no padding between the functions of kernel/livepatch")

    def entries(self, functions: Iterable[str]) -> dict[int, Point]:
        """Return the entries of those functions that the kernel has, by address."""
        return {
            self._symbols.named(name)[0].address + self.slide: Point(function=name)
            for name in functions
            if self.has(name)
        }

    def inside(self, function: str, *, dense: bool) -> dict[int, Point]:
        """Return the calls in a function, by address.

        ``dense``: and each instruction that reads or writes memory other than the stack, and where
        the function returns; with KCSAN in place of these each access that it watches.
        """
        found: dict[int, Point] = {}
        (symbol,) = self._symbols.named(function)
        for address, callee in self._calls(function):
            if not _PURE.match(callee):
                found[address + self.slide] = Point(function=function, callee=callee)
        if dense and self.has_kcsan:
            for address, callee in self._calls(function):
                if _WATCHED.match(callee):
                    offset = address - symbol.address
                    found[address + self.slide] = Point(
                        function=function, offset=offset, watched=True
                    )
        elif dense:
            for insn in self._image.function(function):
                offset = insn.address - symbol.address
                if offset and _is_access(insn):
                    point = Point(function=function, offset=offset)
                    found.setdefault(insn.address + self.slide, point)
            for address in self._returns(function):
                found[address + self.slide] = Point(function=function, returns=True)
        return found

    def _calls(self, function: str) -> Iterator[tuple[int, str]]:
        for insn in self._image.function(function):
            found = _CALL.match(insn.text)
            if found is not None:
                yield insn.address, found[1]

    def _returns(self, function: str) -> Iterator[int]:
        for insn in self._image.function(function):
            if _RETURN.match(insn.text):
                yield insn.address

    def _livepatch(self) -> tuple[int, int]:
        """Return the range of addresses of kernel/livepatch."""
        ours = [each for each in self._ranges if each[2].startswith(("klp_", "__klp_"))]
        anchor = next((at for at, each in enumerate(ours) if each[2] == _ANCHOR), None)
        if anchor is None:
            raise UsageError("the kernel has no livepatching: there is no klp_enable_patch()")
        first = last = anchor
        while first and ours[first][0] - sum(ours[first - 1][:2]) < _GAP:
            first -= 1
        while last + 1 < len(ours) and ours[last + 1][0] - sum(ours[last][:2]) < _GAP:
            last += 1
        return ours[first][0], sum(ours[last][:2])


@functools.cache
def _functions_of(module: Path) -> tuple[tuple[int, str], ...]:
    """Return the functions in .text of a .ko file, by offset."""
    elf = open_module(module).elf
    return tuple(
        (symbol.value, symbol.name)
        for symbol in elf.symbols or ()
        if symbol.name
        and symbol.defined_in is not None
        and elf.sections[symbol.defined_in].name == ".text"
    )


def _is_access(insn: Instruction) -> bool:
    text = insn.text
    if _NOT_MEMORY.match(text) or _STACK.search(text) or text.startswith(("call", "j")):
        return False
    return "(" in text or _ABSOLUTE.search(text) is not None or text.startswith("lock")
