# SPDX-License-Identifier: GPL-2.0-only
"""The hooks of live patching outside of its core: where else the kernel serves it.

They are in files of which most has nothing to do with it: forks, module loading, the idle loop, the
way to user space, the scheduler, the unwinder. So lines are chosen, not files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.tools.mutants.sweep.series import touched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.tools.mutants.sweep.candidates import Candidate

FILES = (
    *("kernel/fork.c", "kernel/signal.c", "kernel/entry/common.c", "kernel/stacktrace.c"),
    *("kernel/sched/core.c", "kernel/sched/idle.c", "arch/x86/kernel/stacktrace.c"),
    # The first two are those of before and after 5.19, where module.c was divided.
    *("kernel/module.c", "kernel/module/main.c", "kernel/module/livepatch.c"),
    "kernel/module/kallsyms.c",
)
"""The files that have hooks, in some series; found by grep on 5.10, 6.1, 6.12 and 7.2."""

_HOOK = re.compile(rb"\bklp_[a-z]\w*|\bTIF_PATCH_PENDING|\b_TIF_PATCH_PENDING|\w*livepatch\w*\(")
# What a transition knows of a stack is what these say (kernel/livepatch/transition.c).
_WHOLE = re.compile(
    rb"^[^\n;{}]*\b(?:arch_stack_walk_reliable|stack_trace_save_tsk_reliable|stack_trace_consume_entry)"
    rb"\([^;{]*\{.*?^\}",
    re.MULTILINE | re.DOTALL,
)


def hook_lines(sources: Mapping[str, bytes]) -> dict[str, frozenset[int]]:
    """Return the lines of hooks, by file; files without any are left out."""
    found = {}
    for name, text in sources.items():
        named = {number for number, line in enumerate(text.splitlines(), 1) if _HOOK.search(line)}
        if lines := named | _whole_lines(name, text):
            found[name] = frozenset(lines)
    return found


def of_hooks(mutants: Sequence[Candidate], sources: Mapping[str, bytes]) -> tuple[Candidate, ...]:
    """Return the mutants of which the code names the core, or is in a function that is all hook.

    On the line of a hook there may be more: of ``i == 0 || is_livepatch_module(mod)``, the first
    part is no business of live patching.
    """
    whole = {name: _whole_lines(name, text) for name, text in sources.items()}
    found = []
    for mutant in touched(mutants, sources, hook_lines(sources)):
        text = sources[mutant.file]
        code = text[mutant.start : mutant.end] + text[mutant.partner_start : mutant.partner_end]
        if _HOOK.search(code) or mutant.line in whole[mutant.file]:
            found.append(mutant)
    return tuple(found)


def _whole_lines(name: str, text: bytes) -> frozenset[int]:
    if name.endswith("/livepatch.c"):
        return frozenset(range(1, text.count(b"\n") + 1))
    return frozenset(
        line
        for match in _WHOLE.finditer(text)
        for line in range(_line(text, match.start()), _line(text, match.end()) + 1)
    )


def _line(text: bytes, offset: int) -> int:
    return text.count(b"\n", 0, offset) + 1
