# SPDX-License-Identifier: GPL-2.0-only
"""The options of coverage, which commands that start guests share, and what they do with it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.invocation import check_writable, write_file
from harness.errors import HarnessError, UsageError
from harness.resources import Resource, resource_dir
from harness.vm.guest import run_folder, runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.cli.invocation import Invocation
    from harness.observer.coverage import Coverage
    from harness.observer.judged import Judged
    from harness.observer.watch import Watch
    from harness.report.terminal import Terminal
    from harness.vm.kernel.kernel import Kernel

# Of these the terminal shows the source.
_MOST_MISSING = 80
_NO_LIVEPATCHES: Mapping[Path, Path | None] = MappingProxyType({})

Page = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write the coverage as a page with the source."),
]
Lcov = Annotated[
    Path | None,
    typer.Option("--lcov", metavar="FILE", help="Write the coverage as a tracefile of lcov."),
]


@dataclass(frozen=True, kw_only=True)
class ObserveOptions:
    """The options that ask for coverage, name its files, and ask for the oracle."""

    coverage: Annotated[
        bool,
        typer.Option(
            "--coverage",
            help="Print which lines of the kernel's livepatch code ran, and which never did. The "
            "kernel is not changed; guests are translated by QEMU (--accel tcg).",
        ),
    ] = False
    cover: Annotated[
        str | None,
        typer.Option(
            "--cover",
            metavar="FILES",
            help="With --coverage: other C files or folders of the kernel, separated by commas: "
            "kernel/livepatch,kernel/module/main.c.",
        ),
    ] = None
    oracle: Annotated[
        bool,
        typer.Option(
            "--oracle/--no-oracle",
            help="Judge the consistency of every call of every patched function, in every guest; "
            "guests are translated by QEMU (--accel tcg).",
        ),
    ] = False
    lcov: Lcov = None
    coverage_file: Annotated[
        Path | None,
        typer.Option(
            "--coverage-file",
            metavar="FILE",
            help="Write the coverage as JSON, for `klp-harness coverage`.",
        ),
    ] = None

    @property
    def observes(self) -> bool:
        """Whether guests are to be observed at all."""
        return self.coverage or self.oracle

    @property
    def files(self) -> tuple[str, ...]:
        """The files asked for; none for the default."""
        return tuple(name for name in (self.cover or "").split(",") if name)

    @property
    def page(self) -> Path | None:
        """Where the page with the source is to be written."""
        return None

    def check(self) -> None:
        """Raise UsageError for options without --coverage, and files that cannot be written."""
        given = {
            "--cover": self.cover,
            "--html": self.page,
            "--lcov": self.lcov,
            "--coverage-file": self.coverage_file,
        }
        for option, value in given.items():
            if value is not None and not self.coverage:
                raise UsageError(f"{option} is an option of the coverage", hint="add --coverage")
        check_writable(self.page, self.lcov, self.coverage_file)

    def refuse_oracle(self, why: str) -> None:
        """Raise UsageError when the oracle is asked for where it can judge nothing."""
        if self.oracle:
            raise UsageError(f"--oracle judges nothing here: {why}", hint="leave it out")

    def require_here(self, *, is_here: bool) -> None:
        """Raise UsageError when guests of other machines are to be observed."""
        if self.observes and not is_here:
            option = "--coverage" if self.coverage else "--oracle"
            raise UsageError(
                f"{option} needs guests of this machine", hint="leave out --workers and --cluster"
            )


@dataclass(frozen=True, kw_only=True)
class CoverageOptions(ObserveOptions):
    """The same, with a page."""

    html: Page = None

    @property
    def page(self) -> Path | None:
        """Where the page with the source is to be written."""
        return self.html


class Covered:
    """The coverage of a command's guests, from before the first one to its files."""

    def __init__(
        self,
        invocation: Invocation,
        options: ObserveOptions,
        kernels: Sequence[Kernel],
        *,
        livepatches: Mapping[Path, Path | None] = _NO_LIVEPATCHES,
    ) -> None:
        """Prepare to observe; the kernels and the accelerator of the run are known.

        ``livepatches`` are files of the user, whose functions the oracle follows as well, and whose
        lines are counted, with the folders of their sources, where those are known.

        Raises UsageError for KVM, several kernels, and a kernel whose lines are not known.
        """
        from harness.observer.debug_objects import DEFAULT_FILES
        from harness.observer.watch import Watch, require_translation

        assert invocation.accel is not None
        option = "--coverage" if options.coverage else "--oracle"
        require_translation(invocation.accel, option)
        if options.coverage and len(kernels) != 1:
            raise UsageError(
                "--coverage is of one kernel: lines of several cannot be added",
                hint="run the command once for each",
            )
        self._invocation, self._options, self._kernel = invocation, options, kernels[0]
        files = options.files or DEFAULT_FILES
        folder = runs.folder_for("observed")
        self._claimed = run_folder.claim(folder)
        self.watch: Watch = Watch(
            folder=folder,
            store=runs.store(),
            files=files if options.coverage else (),
            oracle=options.oracle,
            livepatches=tuple(livepatches.items()),
        )
        with invocation.terminal.progress() as progress:
            what = ", ".join(self.watch.files or ("what the oracle observes",))
            for kernel in kernels:
                progress.stage(f"{what} in {kernel.version}")
                self.watch(kernel)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The options of pytest that have its guests observed."""
        files = f"--cover={','.join(self.watch.files)}"
        return (
            f"--observe={self.watch.folder}",
            files,
            *(["--oracle"] if self.watch.oracle else []),
        )

    def finish(self, *, partial: bool = False) -> None:
        """Print the coverage and write its files, if it was asked for; remove the counters."""
        try:
            if self._options.oracle:
                print_judged(self._invocation.terminal, self.watch.judged())
            if self._options.coverage:
                self._write(partial)
        finally:
            self.watch.remove()
            self._claimed.release()

    def _write(self, partial: bool) -> None:
        coverage = self.watch.collect(self._kernel)
        if partial:
            note = "the run did not finish: what the other tests would have run is missing"
            coverage = coverage.model_copy(update={"notes": (*coverage.notes, note)})
        print_coverage(self._invocation.terminal, coverage)
        write_coverage(coverage, self._options, partial=partial)
        self._keep(coverage)

    def _keep(self, coverage: Coverage) -> None:
        """Keep which test ran which lines; that it cannot be kept does not undo the run."""
        from harness.observer.test_lines import keep_test_lines

        suite = resource_dir(Resource.BEHAVIOUR_TESTS)
        try:
            keep_test_lines(coverage, store=runs.store(), suite=suite)
        except (OSError, HarnessError) as error:
            note = f"which test ran which lines cannot be kept: {error}"
            self._invocation.terminal.note(note)


@contextlib.contextmanager
def observing(
    invocation: Invocation,
    options: ObserveOptions | None,
    kernels: Sequence[Kernel],
    *,
    livepatches: Mapping[Path, Path | None] = _NO_LIVEPATCHES,
) -> Iterator[Watch | None]:
    """Give what observes the guests of a session, if that is asked for; report at the end.

    What was observed is reported after an error, too. Raises what `Covered` does.
    """
    if options is None or not options.observes:
        yield None
        return
    covered = Covered(invocation, options, kernels, livepatches=livepatches)
    is_whole = False
    try:
        yield covered.watch
        is_whole = True
    finally:
        covered.finish(partial=not is_whole)


def print_judged(terminal: Terminal, judged: Judged) -> None:
    """Print what the oracle has judged, and what it could not judge."""
    terminal.print(
        f"oracle       {judged.calls:,} calls judged, guests: {judged.guests}, transitions: "
        f"{judged.transitions:,}, violations: {judged.violations:,}"
    )
    if judged.lost:
        terminal.note(f"{judged.lost:,} events of {judged.events + judged.lost:,} are lost")


def print_coverage(terminal: Terminal, coverage: Coverage) -> None:
    """Print the table; before it what did not run, of the livepatch alone when it is much."""
    from harness.observer.coverage_text import never_run, one_way, table

    missing = len(coverage.lines()) - len(coverage.lines_run())
    shown = coverage
    if missing > _MOST_MISSING:
        own = tuple(file for file in coverage.files if file.name in coverage.own)
        shown = coverage.model_copy(update={"files": own})
    if shown.files:
        terminal.print("", *never_run(shown), *one_way(shown), "")
    terminal.print(*table(coverage))
    if missing > _MOST_MISSING:
        terminal.print(f"{missing} lines did not run: --html FILE shows them in the source")


def write_coverage(
    coverage: Coverage,
    options: ObserveOptions,
    *,
    partial: bool = False,
) -> None:
    """Write the files that the options ask for. Raises NoSpace, UsageError, HarnessError."""
    if options.coverage_file is not None:
        write_file(options.coverage_file, coverage.model_dump_json(indent=1) + "\n")
    if options.lcov is not None:
        from harness.observer.lcov import to_lcov

        write_file(options.lcov, to_lcov(coverage))
    if options.page is not None:
        from harness.observer.coverage_page import coverage_page

        title = f"Coverage of {', '.join(_parts(coverage))}"
        write_file(options.page, coverage_page(coverage, title=title, partial=partial))


def _parts(coverage: Coverage) -> list[str]:
    """Return the folders of the files, or the file where a folder has one."""
    folders: dict[str, list[str]] = {}
    for file in coverage.files:
        folders.setdefault(file.name.rpartition("/")[0], []).append(file.name)
    return [names[0] if len(names) == 1 else folder for folder, names in folders.items()]
