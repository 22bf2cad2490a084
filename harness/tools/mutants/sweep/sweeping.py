# SPDX-License-Identifier: GPL-2.0-only
"""A sweep: its workers and the template of their guests, its baseline, its mutants."""

from __future__ import annotations

import contextlib
import shutil
import threading
from typing import TYPE_CHECKING

from harness.resources import Resource, resource_dir
from harness.threads import run_jobs
from harness.tools.mutants.sweep.compiling import Compiler
from harness.tools.mutants.sweep.messages import Job
from harness.tools.mutants.sweep.pool import OutOfTime, WorkerLost, Workers
from harness.tools.mutants.sweep.schema import schema_files
from harness.tools.suite.pytest_words import left_out, plugin_settings
from harness.vm.guest import runs
from harness.vm.guest.session import Session
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.cli.options import KernelOptions
    from harness.deadline import Deadline
    from harness.tools.mutants.sweep.dispatch import Dispatch, Task
    from harness.tools.mutants.sweep.kernel_of_mutants import Mutants
    from harness.tools.mutants.sweep.pool import RunsTests
    from harness.tools.mutants.sweep.results import SweepResult
    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Kernel


def words_for_tests(kernel: KernelOptions, accel: str) -> tuple[str, ...]:
    """Return pytest's words for the behaviour suite on a kernel, in one process."""
    suite = resource_dir(Resource.BEHAVIOUR_TESTS)
    return (
        *plugin_settings(suite),
        *left_out((), (str(suite),), suite),
        *kernel.as_arguments(),
        f"--accel={accel}",
        *("-n", "0", "-q", "--no-header", "-p", "no:cacheprovider"),
        str(suite),
    )


@contextlib.contextmanager
def open_workers(
    kernel: Kernel, choice: AccelChoice, words: Sequence[str], *, guests: int
) -> Iterator[Workers]:
    """Boot the template of all guests once, and give workers that restore it.

    Raises what the boot of a guest raises. What is left of their guests is removed.
    """
    folder = runs.make_folder("sweep")
    settings = runs.settings(choice.accel, guests=guests)
    try:
        with Session(folder, settings, runs.store()) as session:
            session.prepare(kernel)
            with Workers(words, folder, guests=guests) as workers:
                yield workers
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_sweep(
    dispatch: Dispatch,
    mutants: Mutants,
    clean: Kernel,
    workers: RunsTests,
    *,
    guests: int,
    waiting: int,
    deadline: Deadline,
) -> Iterator[SweepResult]:
    """Yield the result of each mutant as soon as it is known.

    ``waiting`` is how many tests may wait in their guests beside those for which there are
    ``guests``.
    """
    yield from dispatch.known()
    with temporary_folder("objects") as folder:
        compiler = Compiler(kernel=clean, folder=folder, deadline=deadline)
        compiler.write(mutants.others)
        compiler.write(schema_files(mutants.sources, mutants.mutants))
        originals = _Originals(compiler)

        def do(task: Task) -> SweepResult | None:
            if task.test is None:
                file, number = task.mutant.file, task.mutant.number
                original = originals.of(file)
                same = original is not None and compiler.digest(file, number) == original
                return dispatch.compared(task, is_same=same)
            job = Job(number=task.mutant.number, tests=(task.test,), at_boot=task.mutant.init)
            try:
                (ran,) = workers.run(job, limit_s=dispatch.limit_s)
            except OutOfTime:
                return dispatch.ended(task, None)
            except WorkerLost as error:
                return dispatch.ended(task, None, lost=f"a worker was lost: {error}")
            return dispatch.ended(task, ran)

        for result in run_jobs(dispatch.tasks(), do, at_a_time=guests + waiting, name="sweep"):
            if result is not None:
                yield result


class _Originals:
    """The digests of the files' objects without a mutant, each made once."""

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler
        self._known: dict[str, str | None] = {}
        self._lock = threading.Lock()

    def of(self, file: str) -> str | None:
        with self._lock:
            if file not in self._known:
                self._known[file] = self._compiler.digest(file, 0)
            return self._known[file]
