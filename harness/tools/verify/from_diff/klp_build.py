# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch made of a diff by the kernel's own klp-build (scripts/livepatch/klp-build).

It compiles a kernel with and without the diff, and makes a module of the functions that differ. The
tree with the first build is kept for each kernel, so that the next diff needs only the second build
(``--short-circuit``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.errors import HarnessError, PatchDoesNotApply, UsageError
from harness.tools.verify.from_diff.diff_tree import DiffJob, Need
from harness.vm.host.lookup import header, program
from harness.vm.kernel.make_log import build_failure, first_errors
from harness.vm.kernel.source import TREE
from harness.vm.kernel.toolchain import jobs
from harness.vm.kernel.workspace import KLP_BUILD

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SCRIPT = "scripts/livepatch/klp-build"
_FIRST_BUILD = "klp-tmp/1-orig/.complete"
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


@dataclass(frozen=True, kw_only=True)
class KlpBuildJob(DiffJob):
    """A diff for klp-build."""

    tool: ClassVar[str] = "klp-build"
    trees: ClassVar[str] = KLP_BUILD
    # It looks for these itself, but only after the first build.
    needs: ClassVar[Sequence[Need]] = (
        ("recountdiff", program("recountdiff"), "patchutils"),
        ("gawk", program("gawk"), "gawk"),
        ("xxhash.h", header("xxhash.h"), "libxxhash-dev"),
    )

    def is_ready(self, tree: Path) -> bool:
        """Return whether the kernel without the diff is built."""
        return (tree / _FIRST_BUILD).exists()

    def run_tool(self, place: Path, folder: Path, diff: Path, *, ready: bool) -> None:
        """Run klp-build in the tree."""
        steps = ["--short-circuit=2"] if ready else []
        output = f"--output={folder / f'livepatch-{diff.stem}.ko'}"
        self.run_logged(
            ["bash", SCRIPT, "--keep-tmp", *steps, jobs(), output, diff],
            lambda lines: failure(diff.name, self.kernel.describe(), lines, self.log_path),
            stage=stage,
            cwd=place / TREE,
        )


def stage(line: str) -> str | None:
    """Return what klp-build begins with, when a line of its output says so."""
    match = _STAGE.match(line)
    return match.group().strip().rstrip(":").lower() if match and "error" not in line else None


def failure(name: str, what: str, lines: Sequence[str], log_path: Path) -> Exception:
    """Return the error for a run of klp-build that failed. ``what`` is the kernel in words.

    Its kind says why: the diff does not apply, does not compile, or cannot be made a livepatch; or
    the kernel itself does not compile.
    """
    died = [match[1] for line in lines if (match := _DIED.match(line))]
    reasons = [sentence for sentence in died if not sentence.startswith("line ")] or died
    sentence = _PLACE.sub("", reasons[0] if reasons else "it did not say why")
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
        hint="not every change can be made a livepatch: see its message and the log",
        details=tuple(line for line in lines if _OBJTOOL.search(line))[:_LINES],
        artefacts=log_path,
    )
