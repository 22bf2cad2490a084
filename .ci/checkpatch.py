#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Run the kernel's own checkpatch.pl over C sources: ``.ci/checkpatch.py [--required] FOLDER...``.

The script comes with the kernel source in the cache. Before there is one, this says so and passes,
unless it is required: CI runs it again, required, after the kernel was built. A file that was clean
is remembered by its content, so the second run looks at what has changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import ExitCode, HarnessError, KlpError
from harness.resources import cache_root
from harness.vm.host.process import run

DEADLINE_S = 120.0
# Each file says which types it ignores, with the reason: "checkpatch: ignore TYPE: reason".
IGNORED = re.compile(r"checkpatch: ignore ([A-Z_]+): \S")


def find_script() -> Path | None:
    """Return the checkpatch.pl of one cached kernel source; the newest, when there are several."""
    found = cache_root().glob("source/*/linux/scripts/checkpatch.pl")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def check(script: Path, source: Path) -> str | None:
    """Return what checkpatch.pl has to say about a file, or None when it is clean."""
    content = script.read_bytes() + source.suffix.encode() + source.read_bytes()
    clean = cache_root() / "checkpatch" / hashlib.sha256(content).hexdigest()
    if clean.exists():
        return None
    ignored = IGNORED.findall(source.read_text())
    done = run(
        [
            "perl",
            script,
            "--no-tree",
            "--strict",
            "--terse",
            "--show-types",
            *(["--ignore", ",".join(ignored)] if ignored else []),
            "--no-summary",
            "--file",
            source,
        ],
        deadline=Deadline.after(DEADLINE_S),
        check=False,
    )
    if done.returncode != 0:
        return done.stdout + done.stderr
    clean.parent.mkdir(parents=True, exist_ok=True)
    clean.touch()
    return None


def main(arguments: list[str]) -> int:
    required = "--required" in arguments
    folders = [Path(argument) for argument in arguments if argument != "--required"]
    sources = sorted(path for folder in folders for path in folder.rglob("*.[ch]"))
    sources = [path for path in sources if not path.name.endswith(".mod.c")]
    script = find_script()
    if script is None:
        if required:
            raise HarnessError(
                "checkpatch.pl is required and no kernel source is in the cache",
                hint="`klp-harness kernel build` fetches one",
            )
        print("checkpatch: not run: no kernel source in the cache yet; `make test` fetches one")
        return ExitCode.HELD
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda source: check(script, source), sources)
        complaints = [text for text in found if text]
    print("".join(complaints), end="")
    print(f"checkpatch: {len(sources)} files, {len(complaints)} with complaints")
    return ExitCode.VERDICT if complaints else ExitCode.HELD


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KlpError as error:
        sys.exit(f"checkpatch: {error}")
