# SPDX-License-Identifier: GPL-2.0-only
"""kpatch-build itself: where it is found or built, its output, and why it made no livepatch.

An installed one is used. Else Debian's source package is fetched, and its tools are built and kept.
"""

from __future__ import annotations

import hashlib
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import DownloadFailed, MissingTool, PatchDoesNotApply, UsageError
from harness.vm.host.lookup import header, program, program_version
from harness.vm.host.process import run
from harness.vm.kernel.debian import DebianArchive
from harness.vm.kernel.make_log import build_failure
from harness.vm.kernel.toolchain import build_environment, find_toolchain, jobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress

TOOL = "kpatch-build"

_KIND = "kpatch"
_PACKAGE = "kpatch"
_FORMAT = "1"
_TOOLS = "kpatch"
_VERSION = re.compile(r"^VERSION=(\S+)$", re.MULTILINE)
_STAGE = re.compile(r"(?:Testing|Reading|Building|Extracting)\b[^/]*")
_ERROR = re.compile(r"^ERROR: (.+?)(?:\. Check \S+ for more details)?\.?$")
# What its die() prints when a make that it started has failed.
_SILENT = "kpatch build failed"
_NO_REASON = re.compile(r"Using source directory|\s*$")
_LINES = 12


@dataclass(frozen=True, kw_only=True)
class Kpatch:
    """A kpatch-build that can be run."""

    script: Path
    version: str


def obtain_kpatch(store: Store, *, deadline: Deadline, progress: Progress) -> Kpatch:
    """Return the installed kpatch-build, or that of Debian's newest source package, built here.

    It is built once for a compiler. Raises DownloadFailed, MissingTool, CommandFailed, NoSpace.
    """
    installed = program(TOOL)()
    if installed is not None:
        return Kpatch(script=Path(installed), version=program_version(TOOL) or "unknown")
    identity = f"{_FORMAT}\0{find_toolchain().identity}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:32]

    def fill(folder: Path) -> None:
        if header("gelf.h")() is None:
            raise MissingTool(
                f"{TOOL} is not installed, and building it needs gelf.h, which the host lacks",
                hint="Debian, Ubuntu: apt-get install libelf-dev",
            )
        archive = DebianArchive(store.root / "debian")
        fetched = archive.download_source(_PACKAGE, folder, deadline=deadline, progress=progress)
        tools = folder / _TOOLS
        tools.mkdir()
        run(["tar", "-xf", fetched, "--strip-components=1", "-C", tools], deadline=deadline)
        fetched.unlink()
        if not (tools / TOOL / TOOL).is_file():
            raise DownloadFailed(f"the sources of {_PACKAGE} have no {TOOL}")
        progress.stage(f"building {TOOL}")
        run(
            ["make", "-C", tools / TOOL, jobs()],
            deadline=deadline,
            env=build_environment(),
            death_signal=signal.SIGTERM,
        )

    entry = store.obtain(_KIND, key, fill, deadline=deadline)
    script = entry / _TOOLS / TOOL / TOOL
    version = _VERSION.search(script.read_text(errors="replace"))
    return Kpatch(script=script, version=version[1] if version else "unknown")


def stage(line: str) -> str | None:
    """Return what kpatch-build begins with, when a line of its output says so."""
    match = _STAGE.match(line)
    return match.group().strip().rstrip(":").lower() if match else None


def failure(
    name: str, what: str, lines: Sequence[str], built: Sequence[str], log_path: Path
) -> Exception:
    """Return the error for a run that failed.

    ``what`` is the kernel in words, ``built`` the output of make. The error's kind
    says why: the diff does not apply, does not compile, or cannot be made a livepatch; or the
    kernel itself does not compile.
    """
    errors = [match[1] for line in lines if (match := _ERROR.match(line))]
    reason = errors[-1] if errors else "it did not say why"
    if "failed to apply" in reason:
        return PatchDoesNotApply(f"{name} does not apply to {what}", artefacts=log_path)
    begun = [begun for line in lines if (begun := stage(line))]
    if reason == _SILENT and begun and begun[-1].startswith("building"):
        subject = what if begun[-1] == "building original source" else f"{what} with {name}"
        return build_failure(subject, list(built), log_path)
    found = [
        _ERROR.sub(r"\1", line) for line in lines if not (stage(line) or _NO_REASON.match(line))
    ]
    return UsageError(
        f"{TOOL} makes no livepatch of {name}: {reason}",
        hint="not every change can be made a livepatch: see its message and the log",
        details=tuple(line for line in found if line != reason)[-_LINES:],
        artefacts=log_path,
    )
