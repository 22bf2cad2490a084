# SPDX-License-Identifier: GPL-2.0-only
"""A source tree for a tool that makes a livepatch of a diff, kept for the kernel's next diff.

It is below ``<cache>/<trees>/<kernel>``. A file ``ready`` beside it exists while the tree can be
used again: the tool's first build is there, and no diff is applied to the sources. It is removed
before the tool starts, so that after a killed process the tree is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import signal
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from filelock import FileLock, Timeout

from harness.errors import (
    CommandFailed,
    CommandTimeout,
    HarnessError,
    KlpError,
    MissingTool,
    NoSpace,
    PatchDoesNotApply,
)
from harness.vm.host.process import run
from harness.vm.kernel.kernel import BUILD
from harness.vm.kernel.source import TREE
from harness.vm.kernel.toolchain import build_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.patch_file import PatchFile
    from harness.vm.kernel.progress import Progress

_FORMAT = "1"
_READY = "ready"
_PATCHES = "patches"
_ROOM_BYTES = 4 << 30
_APPLY = ("-p1", "--force", "--no-backup-if-mismatch", "--reject-file=-")

Need = tuple[str, "Callable[[], str | None]", str]
"""What a tool needs of the host: its name, a function that looks for it, and its package."""


@dataclass(frozen=True, kw_only=True)
class DiffJob(ABC):
    """One diff for one kernel, of which a tool makes a livepatch."""

    tool: ClassVar[str]
    trees: ClassVar[str]
    """The folder of the cache that has its trees."""
    needs: ClassVar[Sequence[Need]]

    diff: PatchFile
    kernel: Kernel
    store: Store
    deadline: Deadline
    progress: Progress

    @property
    def identity(self) -> str:
        """The version of the tool, where that is not the kernel's."""
        return ""

    @abstractmethod
    def run_tool(self, place: Path, folder: Path, diff: Path, *, ready: bool) -> None:
        """Make a module in ``folder``, in the tree of ``place``; raises as obtain_from_patch()."""

    @abstractmethod
    def is_ready(self, tree: Path) -> bool:
        """Return whether the tool's first build is in the tree."""

    def prepare(self, place: Path, tree: Path) -> None:  # noqa: B027 - klp-build needs nothing
        """Do what the tool needs once in a new tree."""

    def run_logged(
        self,
        command: Sequence[str | Path],
        failure: Callable[[list[str]], Exception],
        *,
        stage: Callable[[str], str | None] = lambda _: None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Run a command with its output in the log; raises ``failure`` of its lines.

        ``stage`` returns what a line says that the tool begins with.
        """
        lines: list[str] = []

        def on_line(line: str) -> None:
            lines.append(line)
            begun = stage(line)
            if begun is not None:
                self.progress.stage(f"{self.tool}: {begun}")

        try:
            run(
                command,
                deadline=self.deadline,
                cwd=cwd,
                env={**build_environment(), **self._compiler(), **(env or {})},
                log_path=self.log_path,
                on_line=on_line,
                death_signal=signal.SIGTERM,
            )
        except (CommandTimeout, NoSpace):
            raise
        except CommandFailed as error:
            raise failure(lines) from error

    def _compiler(self) -> dict[str, str]:
        # The tools call make by themselves; it takes LLVM from the environment.
        return {"LLVM": "1"} if self.kernel.is_clang_built else {}

    @property
    def key(self) -> str:
        """The key of the module in the cache."""
        tools = self.identity + self.kernel.toolchain().identity
        made_by = f"{_FORMAT}\x00{tools}\x00{self.diff.name}\x00{self.diff.digest}"
        digest = hashlib.sha256(made_by.encode()).hexdigest()[:32]
        return f"{self.kernel.digest}-{digest}"

    @property
    def log_path(self) -> Path:
        """Where its output is written while it runs."""
        return self.store.root / "logs" / f"{self.tool}-{self.key}.log"

    def fill(self, folder: Path) -> None:
        """Make the module in an empty folder."""
        self._check_host()
        place = self.store.root / self.trees / self.kernel.digest
        place.mkdir(parents=True, exist_ok=True)
        self._check_applies(folder)
        self.log_path.parent.mkdir(exist_ok=True)
        self.log_path.unlink(missing_ok=True)
        with self._locked(place):
            tree = self._tree(place)
            ready = place / _READY
            was_ready = ready.exists()
            ready.unlink(missing_ok=True)
            diff = place / self.diff.name
            diff.write_bytes(self.diff.content)
            try:
                self.run_tool(place, folder, diff, ready=was_ready)
            except KlpError as error:
                # One that was killed has not cleaned up.
                if not isinstance(error, CommandTimeout | NoSpace) and self.is_ready(tree):
                    ready.touch()
                raise
            if self.is_ready(tree):
                ready.touch()
            diff.unlink()
        shutil.move(self.log_path, folder / "build.log")

    def _check_host(self) -> None:
        missing = [(name, package) for name, probe, package in self.needs if probe() is None]
        if missing:
            packages = " ".join(dict.fromkeys(package for _, package in missing))
            raise MissingTool(
                f"{self.tool} needs {' and '.join(name for name, _ in missing)}, which the host "
                "lacks",
                hint=f"Debian, Ubuntu: apt-get install {packages}",
            )

    def _check_applies(self, folder: Path) -> None:
        """Refuse at once a diff that the tool would refuse after a build."""
        if _own_patches(self.kernel):
            return  # the sources beside a patched kernel are those of the clean one
        file = folder / self.diff.name
        file.write_bytes(self.diff.content)
        tree = self.kernel.build_dir.parent
        try:
            self._patch(file, tree, "--dry-run")
        finally:
            file.unlink()

    def _patch(self, file: Path, tree: Path, *options: str) -> None:
        try:
            run(
                ["patch", *_APPLY, *options, f"--directory={tree}", f"--input={file}"],
                deadline=self.deadline,
            )
        except (CommandTimeout, NoSpace):
            raise
        except CommandFailed as error:
            raise PatchDoesNotApply(
                f"{file.name} does not apply to {self.kernel.describe()}", details=error.details
            ) from error

    @contextlib.contextmanager
    def _locked(self, place: Path) -> Iterator[None]:
        lock = FileLock(place.with_name(f"{place.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.progress.stage(f"waiting for another {self.tool} for this kernel")
            try:
                lock.acquire(timeout=self.deadline.remaining_s)
            except Timeout:
                raise HarnessError(
                    f"another {self.tool} is still running, and time is up"
                ) from None
        try:
            yield
        finally:
            lock.release()

    def _tree(self, place: Path) -> Path:
        """Return the tree to run in, which is made again unless it is ready."""
        tree = place / TREE
        if (place / _READY).exists():
            return tree
        shutil.rmtree(tree, ignore_errors=True)
        free = shutil.disk_usage(place).free
        if free < _ROOM_BYTES:
            raise NoSpace(
                f"{self.tool} needs {_ROOM_BYTES >> 30} GiB below {place}, which has "
                f"{free / (1 << 30):.1f}",
                hint="`klp-harness kernel prune` removes kernels that are not in use",
            )
        self.progress.stage(f"copying the sources of {self.kernel.describe()}")
        sources = self.kernel.build_dir.parent
        tree.mkdir()
        names = [path for path in sorted(sources.iterdir()) if path.name != BUILD]
        # No hard links: the tool writes to its sources.
        run(["cp", "-a", "--reflink=auto", "--", *names, tree], deadline=self.deadline)
        for file in _own_patches(self.kernel):
            self._patch(file, tree, "--fuzz=0")
        shutil.copyfile(self.kernel.build_dir / ".config", tree / ".config")
        self.prepare(place, tree)
        return tree


def _own_patches(kernel: Kernel) -> list[Path]:
    """Return the patches that a kernel was built with, in their order."""
    return sorted(
        kernel.image.parent.joinpath(_PATCHES).glob("*"),
        key=lambda path: int(path.name.partition("-")[0]),
    )
