# SPDX-License-Identifier: GPL-2.0-only
"""A revision of a git repository with kernel sources, which need not be checked out anywhere.

The repository is only read: the index that git needs is in a temporary folder.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.inputs import shown
from harness.vm.host.process import run
from harness.vm.host.temporary import temporary_folder
from harness.vm.kernel.tree import KERNEL_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.kernel.spec import GitSpec

# The kernel of 2026 has 1.6 GB in 93,000 files.
_MOST_BYTES = 8 << 30
_REGULAR = ("100644", "100755", "120000")


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A commit whose content is known. ``tree`` is the digest that `opened` of a clone gives."""

    repository: Path
    revision: str
    commit: str
    tree: str
    scratch: Path

    @property
    def description(self) -> str:
        """The exact commit, and how it was named, in words."""
        named = "" if self.commit.startswith(self.revision) else f" ({shown(self.revision)})"
        return f"commit {self.commit}{named} of {self.repository}"

    def copy_to(self, destination: Path, deadline: Deadline) -> None:
        """Write the content to a folder that does not exist yet. Raises UsageError, NoSpace."""
        size = 0
        listed = _git(self.repository, "ls-tree", "-r", "-l", self.commit, deadline=deadline)
        for line in listed.splitlines():
            mode, kind, _, rest = line.split(maxsplit=3)
            if kind == "blob" and mode in _REGULAR:
                number = rest.split(maxsplit=1)[0]
                size += int(number) if number.isdecimal() else 0
        if size > _MOST_BYTES:
            raise UsageError(
                f"{self.description} has {size >> 30} GiB, which are no kernel sources"
            )
        destination.mkdir()
        index = self.scratch / "index"
        _git(self.repository, "read-tree", self.commit, index=index, deadline=deadline)
        _git(
            self.repository,
            f"--work-tree={destination}",
            "checkout-index",
            "--all",
            "--quiet",
            f"--prefix={destination}/",
            index=index,
            deadline=deadline,
        )


@contextlib.contextmanager
def revision(spec: GitSpec, deadline: Deadline) -> Iterator[Revision]:
    """Give the revision that a spec names; its temporary files are removed at the end.

    Raises UsageError when there is no repository, no such commit in it, or no kernel in that.
    """
    where = spec.repository
    refusal = f"{where} is no git repository"
    _git(where, "rev-parse", "--absolute-git-dir", deadline=deadline, failure=refusal)
    commit = _git(
        where,
        *("rev-parse", "--verify", "--quiet", "--end-of-options"),
        f"{spec.revision}^{{commit}}",
        deadline=deadline,
        failure=f"the repository {where} has no revision '{shown(spec.revision)}'",
    )
    tree = _git(where, "rev-parse", f"{commit}^{{tree}}", deadline=deadline)
    names = ("Makefile", *KERNEL_FILES)
    listed = _git(where, "ls-tree", "--full-tree", "--name-only", commit, *names, deadline=deadline)
    missing = [name for name in names if name not in listed.splitlines()]
    if missing:
        raise UsageError(
            f"'{shown(spec.revision)}' of {where} holds no kernel sources: it lacks {missing[0]}"
        )
    with temporary_folder("git") as scratch:
        yield Revision(
            repository=where, revision=spec.revision, commit=commit, tree=tree, scratch=scratch
        )


def _git(
    where: Path,
    *arguments: str,
    deadline: Deadline,
    index: Path | None = None,
    failure: str | None = None,
) -> str:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    } | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    if index is not None:
        environment["GIT_INDEX_FILE"] = str(index)
    finished = run(
        ["git", "-C", where, *arguments],
        deadline=deadline,
        env=environment,
        explain=lambda error: UsageError(
            failure or f"git cannot read the repository {where}", details=error.details[-3:]
        ),
    )
    return finished.stdout.strip()
