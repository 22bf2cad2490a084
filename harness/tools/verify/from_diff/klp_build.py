# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel's klp-build says: how far it is, and why it made no livepatch. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.errors import HarnessError, PatchDoesNotApply, UsageError
from harness.vm.kernel.make_log import build_failure, first_errors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

"""Where in the cache the trees lie that it runs in."""

# status() of scripts/livepatch/klp-build prints these, and nothing else in that form.
_STAGE = re.compile(
    r"(?:Validating|Building|Copying|Fixing|Generating|Diffing|Finding|SUCCESS)\b[^/]*"
)
_SENTENCE = re.compile(r"^(?:error|warning): klp-build: (.+)$")
_DIED = re.compile(r"^error: klp-build: (.+)$")
_NOT_BUILT = re.compile(r"^(original|patched) kernel build failed$")
_OBJTOOL = re.compile(r"(?:^|: )(?:error|warning): objtool|^objtool: |: objtool: ")
_PLACE = re.compile(r"\S*/klp-tmp/(?:\d{4}-fixed-)?")
_OUTSIDE = ("did not apply", "doesn't exist")
_LINES = 12


def stage(line: str) -> str | None:
    """Return what klp-build begins with, when a line of its output tells."""
    match = _STAGE.match(line)
    return match.group().strip().rstrip(":").lower() if match and "error" not in line else None


def failure(name: str, what: str, lines: Sequence[str], log_path: Path) -> Exception:
    """Return the error for a run of klp-build that failed. ``what`` is the kernel in words.

    By whose fault: the diff does not fit, is nothing that a livepatch can be made of, or does not
    compile; or the kernel itself did not.
    """
    died = [match[1] for line in lines if (match := _DIED.match(line))]
    said = next((sentence for sentence in died if not sentence.startswith("line ")), None)
    sentence = _PLACE.sub("", said or (died[0] if died else "it did not say why"))
    if any(text in sentence for text in _OUTSIDE):
        return PatchDoesNotApply(
            f"{name} does not apply to {what}", details=first_errors(lines), artefacts=log_path
        )
    if match := _NOT_BUILT.match(sentence):
        whole = [line for line in lines if not _SENTENCE.match(line)]
        subject = f"{what} with {name}" if match[1] == "patched" else what
        return build_failure(subject, whole, log_path)
    if "xxhash" in sentence or "patchutils" in sentence:
        return HarnessError(
            f"klp-build cannot work on this host: {sentence}",
            hint="run `klp-harness doctor`: it names the package that has it",
            artefacts=log_path,
        )
    return UsageError(
        f"klp-build makes no livepatch of {name}: {sentence}",
        hint="not every change can be a livepatch: see what it says, and the log",
        details=tuple(line for line in lines if _OBJTOOL.search(line))[:_LINES],
        artefacts=log_path,
    )
