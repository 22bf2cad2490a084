# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch module made of a plain diff, by the tool that comes with the kernel: klp-build.

klp-build (scripts/livepatch/klp-build, CONFIG_KLP_BUILD) compiles a kernel with and without the
diff, in the root of a tree of its own, and makes a module of the functions that differ. It is run
as it is. The tree with the first of the two builds is kept below ``<cache>/klp-build/`` for each
kernel, so that the next diff needs the second build alone (``--short-circuit``).

A file ``ready`` beside the tree exists while that first build is whole and nothing is applied to
the sources. It is removed before klp-build begins; whoever finds none begins anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from harness.errors import (
    CommandFailed,
    CommandTimeout,
    HarnessError,
    MissingTool,
    NoSpace,
    PatchDoesNotApply,
    UsageError,
)
from harness.host.lookup import header, program
from harness.host.process import run
from harness.kernel.inventory import MODULES
from harness.kernel.kernel import BUILD
from harness.kernel.klpbuild import TREES, failure, stage
from harness.kernel.patchfile import read_patch
from harness.kernel.source import TREE
from harness.kernel.toolchain import build_environment, find_toolchain, jobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.host.cache import Store
    from harness.kernel.kernel import Kernel
    from harness.kernel.patchfile import PatchFile
    from harness.kernel.progress import Progress

SCRIPT = "scripts/livepatch/klp-build"
_FORMAT = "1"
_READY = "ready"
_PATCHES = "patches"
_FIRST_BUILD = "klp-tmp/1-orig/.complete"
_ROOM_BYTES = 4 << 30
_NEEDS = (
    ("recountdiff", program("recountdiff"), "patchutils"),
    ("gawk", program("gawk"), "gawk"),
    ("xxhash.h", header("xxhash.h"), "libxxhash-dev"),
)
_APPLY = ("-p1", "--force", "--no-backup-if-mismatch", "--reject-file=-")


def obtain_from_patch(
    patch: Path, kernel: Kernel, *, store: Store, deadline: Deadline, progress: Progress
) -> Path:
    """Return the livepatch module (.ko) that klp-build makes of a diff for a kernel, or made.

    Its name is ``livepatch-`` and that of the diff; it replaces all other patches. The first diff
    for a kernel costs a build of that kernel, the next ones what they change.
    Raises UsageError for a kernel without klp-build and for a diff that it makes no livepatch of,
    PatchDoesNotApply, KernelBuildFailed when the diff does not compile, MissingTool, NoSpace, and
    HarnessError when time is up.
    """
    diff = read_patch(patch)
    _check_kernel(kernel)
    job = _Job(diff=diff, kernel=kernel, store=store, deadline=deadline, progress=progress)
    entry = store.obtain(
        MODULES,
        job.key,
        job.fill,
        deadline=deadline,
        on_wait=lambda: progress.stage(f"waiting for another build of {diff.name}"),
    )
    return next(entry.glob("*.ko"))


def _check_kernel(kernel: Kernel) -> None:
    tree = kernel.build_dir.parent
    if kernel.build_dir.name != BUILD or not (tree / "Makefile").is_file():
        raise UsageError(
            f"no livepatch can be made of a diff for {kernel.describe()}: its sources are not here",
            hint="name a kernel that is built from source",
        )
    if not (tree / SCRIPT).is_file():
        raise UsageError(
            f"{kernel.describe()} has no {SCRIPT}, which makes a livepatch of a diff",
            hint="--kernel newest has it; for this kernel, give a module's sources or a .ko",
        )
    if not kernel.config.enabled("KLP_BUILD"):
        raise UsageError(f"{kernel.describe()} is configured without CONFIG_KLP_BUILD")


def _check_host() -> None:
    missing = [(name, package) for name, probe, package in _NEEDS if probe() is None]
    if missing:
        raise MissingTool(
            f"klp-build needs {' and '.join(name for name, _ in missing)}, which the host lacks",
            hint=f"Debian, Ubuntu: apt-get install {' '.join(name for _, name in missing)}",
        )


@dataclass(frozen=True, kw_only=True)
class _Job:
    diff: PatchFile
    kernel: Kernel
    store: Store
    deadline: Deadline
    progress: Progress

    @property
    def key(self) -> str:
        made_by = f"{_FORMAT}\0{find_toolchain().identity}\0{self.diff.name}\0{self.diff.digest}"
        digest = hashlib.sha256(made_by.encode()).hexdigest()[:32]
        return f"{self.kernel.digest}-{digest}"

    @property
    def log_path(self) -> Path:
        return self.store.root / "logs" / f"klp-build-{self.key}.log"

    def fill(self, folder: Path) -> None:
        _check_host()
        place = self.store.root / TREES / self.kernel.digest
        place.mkdir(parents=True, exist_ok=True)
        self._check_applies(folder)
        with self._locked(place):
            tree = self._tree(place)
            self._run(place, tree, folder)
        shutil.move(self.log_path, folder / "build.log")

    def _check_applies(self, folder: Path) -> None:
        """Refuse in a second what klp-build would refuse after a build."""
        if _own_patches(self.kernel):
            return  # the sources at hand are not those of the kernel
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
            self.progress.stage("waiting for another klp-build for this kernel")
            try:
                lock.acquire(timeout=self.deadline.remaining_s)
            except Timeout:
                raise HarnessError("another klp-build still runs, and time is up") from None
        try:
            yield
        finally:
            lock.release()

    def _tree(self, place: Path) -> Path:
        """Return the tree to run in, made anew unless it is as klp-build leaves it."""
        tree = place / TREE
        if (place / _READY).exists():
            return tree
        shutil.rmtree(tree, ignore_errors=True)
        free = shutil.disk_usage(place).free
        if free < _ROOM_BYTES:
            raise NoSpace(
                f"klp-build needs {_ROOM_BYTES >> 30} GiB below {place}, which has "
                f"{free / (1 << 30):.1f}",
                hint="`klp-harness kernel prune` removes kernels that are not in use",
            )
        self.progress.stage(f"copying the sources of {self.kernel.describe()}")
        sources = self.kernel.build_dir.parent
        tree.mkdir()
        names = [path for path in sorted(sources.iterdir()) if path.name != BUILD]
        # No hard links: klp-build writes to its sources.
        run(["cp", "-a", "--reflink=auto", "--", *names, tree], deadline=self.deadline)
        for file in _own_patches(self.kernel):
            self._patch(file, tree, "--fuzz=0")
        shutil.copyfile(self.kernel.build_dir / ".config", tree / ".config")
        return tree

    def _run(self, place: Path, tree: Path, folder: Path) -> None:
        ready = place / _READY
        steps = ["--short-circuit=2"] if ready.exists() else []
        ready.unlink(missing_ok=True)
        diff = place / self.diff.name
        diff.write_bytes(self.diff.content)
        product = folder / f"livepatch-{diff.stem}.ko"
        self.log_path.parent.mkdir(exist_ok=True)
        self.log_path.unlink(missing_ok=True)
        lines: list[str] = []

        def on_line(line: str) -> None:
            lines.append(line)
            begun = stage(line)
            if begun is not None:
                self.progress.stage(f"klp-build: {begun}")

        try:
            run(
                ["bash", SCRIPT, "--keep-tmp", *steps, jobs(), f"--output={product}", diff],
                deadline=self.deadline,
                cwd=tree,
                env=build_environment(),
                log_path=self.log_path,
                on_line=on_line,
                death_signal=signal.SIGTERM,
            )
        except (CommandTimeout, NoSpace):
            raise
        except CommandFailed as error:
            # It has cleaned up after itself; what was killed has not, and raised above.
            self._keep_ready(ready, tree)
            raise failure(self.diff.name, self.kernel.describe(), lines, self.log_path) from error
        self._keep_ready(ready, tree)
        diff.unlink()

    def _keep_ready(self, ready: Path, tree: Path) -> None:
        if (tree / _FIRST_BUILD).exists():
            ready.touch()


def _own_patches(kernel: Kernel) -> list[Path]:
    """Return the patches that a kernel was built with, in their order."""
    return sorted(
        kernel.image.parent.joinpath(_PATCHES).glob("*"),
        key=lambda path: int(path.name.partition("-")[0]),
    )
