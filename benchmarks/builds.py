# SPDX-License-Identifier: GPL-2.0-only
"""Build times of kernels: from nothing, and with a patch in a warm workspace."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from benchmarks.figures import Bound, Budget, Figure, ratio, side
from benchmarks.reference import modules_build
from harness.behaviours.mutants import fitted, load_mutants, series_of, written_for
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.resources import Resource, resource_dir
from harness.tools.mutants.sample import sample
from harness.vm.host.cache import Store
from harness.vm.kernel.build import KernelRequest, obtain_kernel
from harness.vm.kernel.finished_spec import FinishedSpec
from harness.vm.kernel.kernel import KIND
from harness.vm.kernel.spec import BuildSpec, parse_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.behaviours.mutants import Mutant
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress

COLD_BUILD_RATIO = 14.0
MUTANT_BUILD_RATIO = 1.0

_BUILD_DEADLINE_S = 3600.0
_MUTANTS = 3
# The same ones in every run, so that figures can be compared.
_SEED = 0


def cold_build(kernel: Kernel, cache: Path, *, progress: Progress) -> list[Figure]:
    """Measure a kernel from nothing: download, unpack, configure and build.

    The budget is for what make does, against the build of the sample modules. It starts with an
    empty cache: without sources, lists of packages and objects of ccache. That cache is the folder
    ``bench`` of the real one, which is removed afterwards, or by the next measurement when this one
    is killed.
    """
    reference = modules_build(kernel)
    folder = cache / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")), contextlib.ExitStack() as stack:
        shutil.rmtree(folder)
        folder.mkdir()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stages = Stages(progress)
        start = time.monotonic()
        obtain_kernel(
            KernelRequest(spec=kernel.spec),
            store=Store(folder),
            deadline=Deadline.after(_BUILD_DEADLINE_S),
            progress=stages,
        )
        seconds, made_s = time.monotonic() - start, stages.last_s
    return [
        Figure(id="cold-build", what=f"kernel {kernel.spec} from nothing", value=seconds, unit="s"),
        ratio(
            "cold-build-make",
            "of this, make and what is after it, against the sample modules",
            side("make", "s", [made_s]),
            reference,
            Budget(bound=Bound.AT_MOST, value=COLD_BUILD_RATIO),
        ),
    ]


class Stages:
    """Passes progress on, and measures the time since the last stage began."""

    def __init__(self, progress: Progress, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._began_s = clock()

    @property
    def last_s(self) -> float:
        """Seconds since the last stage began."""
        return self._clock() - self._began_s

    def stage(self, text: str) -> None:
        """Begin a stage."""
        self._began_s = self._clock()
        self._progress.stage(text)

    def count(self, done: int, total: int | None, what: str) -> None:
        """Pass a count on."""
        self._progress.count(done, total, what)


def mutants_to_build(kernel: Kernel) -> tuple[Mutant, ...]:
    """Return the mutants of the catalogue whose builds are measured.

    None for a series without mutants, and for a finished build, of which there are no sources.
    """
    if isinstance(parse_spec(kernel.spec), BuildSpec | FinishedSpec):
        return ()
    series = series_of(kernel.version)
    known = written_for(load_mutants(resource_dir(Resource.KERNEL_MUTANTS)), series)
    return sample(fitted(known, series), _MUTANTS, _SEED) if known else ()


def mutant_build(kernel: Kernel, cache: Path, *, progress: Progress) -> list[Figure]:
    """Measure builds of kernel mutants in the workspace of the clean kernel.

    Their patches get new names, since the cache may have the mutants, and the kernels are removed
    afterwards. Raises UsageError for a kernel without mutants, and the errors of `obtain_kernel`.
    """
    mutants = mutants_to_build(kernel)
    if not mutants:
        raise UsageError(f"there is no mutant to build of {kernel.describe()}")
    store = Store(cache)
    reference = modules_build(kernel)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for mutant in mutants:
            patch = Path(folder) / f"{mutant.name}-bench-{secrets.token_hex(4)}.patch"
            shutil.copyfile(mutant.path, patch)
            start = time.monotonic()
            built = obtain_kernel(
                KernelRequest(spec=kernel.spec, patches=(patch,)),
                store=store,
                deadline=Deadline.after(_BUILD_DEADLINE_S),
                progress=progress,
            )
            seconds.append(time.monotonic() - start)
            store.release(KIND, built.digest)
            store.remove(KIND, built.digest)
    return [
        ratio(
            "mutant-build",
            "a kernel mutant in a warm tree, against the sample modules",
            side(f"median of {len(seconds)}", "s", seconds),
            reference,
            Budget(bound=Bound.AT_MOST, value=MUTANT_BUILD_RATIO),
        )
    ]
