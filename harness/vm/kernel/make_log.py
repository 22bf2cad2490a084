# SPDX-License-Identifier: GPL-2.0-only
"""What a Kbuild log shows: how far the build is, and why it failed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.errors import HarnessError, KernelBuildFailed, MissingTool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_OBJECT = re.compile(r"  (?:CC|AS|HOSTCC)(?: \[M\])? +\S")
_NOT_FOUND = re.compile(r"(?:^|[ :])([\w.+-]+): (?:command )?not found\b")
_HEADER = re.compile(r"fatal error: ((?:openssl|libelf|gelf|elf)\S*): No such file")
_KILLED = re.compile(
    r"(?:Killed signal terminated program|virtual memory exhausted|out of memory"
    r"|internal compiler error: (?:Killed|Bus error)|Cannot allocate memory)"
)
# What system calls answered to make, the compiler, the linker or a script: as they print it after
# a colon, or in brackets, at the end of a line. The sources cannot cause any of these.
_REFUSED = re.compile(
    r"^.*[:(] ?(?P<why>Resource temporarily unavailable|Too many open files(?: in system)?"
    r"|Input/output error|Read-only file system|Stale file handle|Text file busy"
    r"|Transport endpoint is not connected|Structure needs cleaning|File too large)\)?\.?$",
    re.MULTILINE,
)
_ERROR = re.compile(
    r"error:|\*\*\*|undefined reference|undefined!|No rule to make target|^ERROR:|cannot find"
)
_CONSEQUENCE = re.compile(r"make(?:\[\d+\])?: \*\*\*")
_MAX_LINES = 12


def compiles(line: str) -> bool:
    """Return whether a line of the log says that an object is compiled."""
    return _OBJECT.match(line) is not None


def first_errors(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the lines that say why a build failed: causes, or else what followed from them."""
    errors = [line.rstrip() for line in lines if _ERROR.search(line)]
    causes = [line for line in errors if not _CONSEQUENCE.match(line)]
    return tuple((causes or errors or [line.rstrip() for line in lines[-_MAX_LINES:]])[:_MAX_LINES])


def build_failure(what: str, lines: Sequence[str], log_path: Path) -> Exception:
    """Return the error for a build that failed: the host's fault, or the source's."""
    text = "\n".join(lines)
    for kind, pattern in (("program", _NOT_FOUND), ("header", _HEADER)):
        if match := pattern.search(text):
            return MissingTool(
                f"building {what} needs the {kind} {match[1]}, which is not installed",
                hint="run `klp-harness doctor`: it names the package that has it",
                artefacts=log_path,
            )
    errors = first_errors(lines)
    if _KILLED.search(text):
        return HarnessError(
            f"the host ran out of memory while building {what}",
            hint="end other programs, or give the machine more memory",
            details=errors,
            artefacts=log_path,
        )
    if match := _REFUSED.search(text):
        return HarnessError(
            f"the host failed while building {what}: {match['why']}",
            hint="look at the disk, and at the limits of processes and open files (ulimit -a)",
            details=(match.group().strip(), *errors),
            artefacts=log_path,
        )
    return KernelBuildFailed(f"{what} does not build", details=errors, artefacts=log_path)
