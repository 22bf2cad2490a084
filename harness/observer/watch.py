# SPDX-License-Identifier: GPL-2.0-only
"""What a run observes of its guests: the plugin for each kernel, and what guests have left."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import HarnessError, KernelVerdict, KlpError, UsageError
from harness.observer.code_map import obtain_map
from harness.observer.consistency_points import obtain_points
from harness.observer.coverage import BOOT, OTHERS, make_coverage
from harness.observer.coverage_sums import joined
from harness.observer.debug_objects import DEFAULT_FILES
from harness.observer.judged import all_judged
from harness.observer.module_code import replaced_by
from harness.observer.module_lines import COUNTED, ModuleLines, read_ran
from harness.observer.module_lines import SUFFIX as RAN_SUFFIX
from harness.observer.module_map import address_of, module_map, sections_of
from harness.observer.oracle import EVENTS, Oracle
from harness.observer.plugin_build import obtain_plugin
from harness.observer.shared_file import Flag, SharedFile, make_head
from harness.resources import Resource, resource_dir
from harness.vm.guest.plugin import SUFFIX, Plugin
from harness.vm.host.accel import Accel
from harness.vm.kernel.kernel import Kernel
from harness.vm.kernel.module import obtain_modules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.observer.consistency_points import ConsistencyPoints
    from harness.observer.coverage import Coverage
    from harness.observer.judged import Judged
    from harness.vm.guest.machine import Machine
    from harness.vm.host.accel import AccelChoice
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Bootable

_PREPARE_S = 600.0
_TEST_SUFFIX = ".test"
_DIGEST = 16
# What is observed of a kernel and of livepatches: read once a process.
_KNOWN: dict[tuple[str, tuple[Path, ...]], ConsistencyPoints] = {}
_PLUGINS: dict[tuple[Watch, str], Plugin] = {}
_KNOWN_LOCK = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Counts what the code of some files of the kernel runs; the counters are below ``folder``.

    ``files`` are C files, or folders of them, as the kernel names them; none: nothing is counted.
    With ``oracle``, the guests report what `Oracle` judges: calls of functions in modules, and of
    those of the kernel that the samples or the ``livepatches`` replace. With ``files``, the lines
    of the livepatches are counted too; beside each is the folder of its sources, if it is known.
    Without ``clock``, events have an order and no time, and guests are a little faster.
    """

    folder: Path
    store: Store
    files: tuple[str, ...] = DEFAULT_FILES
    oracle: bool = False
    livepatches: tuple[tuple[Path, Path | None], ...] = ()
    clock: bool = True

    def __call__(self, kernel: Bootable) -> Plugin | None:
        """Return the plugin for guests of a kernel, as harness.vm.guest.plugin.PluginMaker does.

        Raises UsageError for a kernel without symbols or sources, and HarnessError when this
        machine cannot observe.
        """
        if not isinstance(kernel, Kernel):
            raise HarnessError("only a kernel that is on this machine can be observed")
        key = (self, kernel.digest)
        with _KNOWN_LOCK:
            known = _PLUGINS.get(key)
        if known is None:
            # Each guest asks.
            known = _PLUGINS[key] = self._plugin(kernel)
        return known

    def _plugin(self, kernel: Kernel) -> Plugin:
        deadline = Deadline.after(_PREPARE_S)
        built = obtain_plugin(self.store, deadline=deadline)
        ranges: tuple[tuple[int, int], ...] = ()
        if self.files:
            ranges = obtain_map(kernel, self.files, store=self.store, deadline=deadline).ranges
            ranges += COUNTED if self.livepatches else ()
        if self.oracle:
            points = self.points(kernel)
            head, size = make_head(
                ranges=ranges,
                points=points.points(),
                flags=Flag.MODULE_CALLS | (Flag.CLOCK if self.clock else Flag(0)) | built.flags,
                functions=tuple(points.functions()),
                events=EVENTS,
                return_thunk=points.return_thunk,
                hooks=points.hooks,
            )
        else:
            head, size = make_head(ranges=ranges)
        return Plugin(
            library=built.library, head=head, size=size, folder=self.folder_of(kernel.digest)
        )

    @property
    def _modules(self) -> tuple[Path, ...]:
        return tuple(module for module, _ in self.livepatches)

    def points(self, kernel: Kernel) -> ConsistencyPoints:
        """Return what the oracle observes of a kernel."""
        key = (kernel.digest, self._modules)
        with _KNOWN_LOCK:
            if key not in _KNOWN:
                _KNOWN[key] = self._points(kernel)
            return _KNOWN[key]

    def _points(self, kernel: Kernel) -> ConsistencyPoints:
        deadline = Deadline.after(_PREPARE_S)
        samples = obtain_modules(
            kernel, resource_dir(Resource.LIVEPATCH_MODULES), store=self.store, deadline=deadline
        )
        names = sorted(
            {
                version.function.name
                for path in (*samples.values(), *self._modules)
                for version in replaced_by(path)
                if version.function.object == "vmlinux"
            }
        )
        return obtain_points(kernel, names, store=self.store, deadline=deadline)

    @contextlib.contextmanager
    def watching(self, machine: Machine, kernel: Bootable, name: str) -> Iterator[None]:
        """Follow a guest while it is used, and judge it at the end, as GuestWatch says.

        Raises ConsistencyViolated and EventsLost when nothing else was raised. To a failure of the
        kernel, a violation is added.
        """
        observed = machine.hypervisor.observed
        name_test(observed, name)
        if observed is None or not isinstance(kernel, Kernel):
            yield
            return
        oracle = Oracle(machine, self.points(kernel)) if self.oracle else None
        with contextlib.ExitStack() as stack:
            if self.files and self._modules:
                lines = ModuleLines(machine, self._modules, machine.module_watch)
                stack.callback(lines.keep)
            yield from self._judging(oracle)

    @staticmethod
    def _judging(oracle: Oracle | None) -> Iterator[None]:
        if oracle is None:
            yield
            return
        try:
            yield
        except KernelVerdict as error:
            try:
                oracle.check()
            except KlpError as found:
                error.details = (*error.details, *f"the oracle: {found}".splitlines())
            raise
        oracle.check()

    def folder_of(self, digest: str) -> Path:
        """Return where the files of guests of a kernel are."""
        return self.folder / digest[:_DIGEST]

    def collect(self, kernel: Kernel) -> Coverage:
        """Return the coverage of all guests that the run has had with a kernel.

        What is missing is in its notes. Raises what calling this raises.
        """
        code = obtain_map(kernel, self.files, store=self.store, deadline=Deadline.after(_PREPARE_S))
        own = self.folder_of(kernel.digest)
        counters: dict[str, Counter[int]] = {}
        notes = []
        for path in sorted(own.glob(f"*{SUFFIX}")):
            try:
                counts = Counter(dict(SharedFile(path).counters()))
            except (HarnessError, OSError) as error:
                notes.append(f"what one guest ran is lost: {error}")
                continue
            if counts:
                counters.setdefault(_test_of(path), Counter()).update(counts)
        others = [
            len(list(path.glob(f"*{_TEST_SUFFIX}")))
            for path in (self.folder.iterdir() if self.folder.is_dir() else ())
            if path != own and path.is_dir()
        ]
        if sum(others):
            guests = "1 guest" if sum(others) == 1 else f"{sum(others)} guests"
            notes.append(f"{guests} with a kernel of another configuration: not counted")
        coverage = make_coverage(code, counters, kernel=kernel.describe(), notes=notes)
        for module, sources in self.livepatches:
            coverage = self._with_module(coverage, module, sources, own)
        return coverage

    def _with_module(
        self, coverage: Coverage, module: Path, sources: Path | None, own: Path
    ) -> Coverage:
        """Return a coverage that has the files of a module too, or a note why it has not."""
        try:
            code = module_map(module, sources)
        except UsageError as error:
            note = f"{error}. {error.hint}" if error.hint else str(error)
            return coverage.model_copy(update={"notes": (*coverage.notes, note)})
        sections = tuple(sections_of(module))
        counters: dict[str, Counter[int]] = {}
        for path in sorted(own.glob(f"*{RAN_SUFFIX}")):
            counts = counters.setdefault(_test_of(path), Counter())
            for (section, offset), times in read_ran(path).get(str(module), Counter()).items():
                counts[address_of(sections, section, offset)] += times
        return joined(coverage, make_coverage(code, counters, kernel=coverage.kernel))

    def judged(self) -> Judged:
        """Return what the oracle has judged in all guests of the run."""
        return all_judged(self.folder)

    def remove(self) -> None:
        """Remove the counters."""
        shutil.rmtree(self.folder, ignore_errors=True)


def name_test(observed: Path | None, test: str) -> None:
    """Record which test a guest is of, by the guest's shared file."""
    if observed is not None:
        observed.with_suffix(_TEST_SUFFIX).write_text(test)


def _test_of(path: Path) -> str:
    try:
        return path.with_suffix(_TEST_SUFFIX).read_text()
    except OSError:
        # The folder of a template is named by a digest, that of a test's guest by the test.
        return OTHERS if "-" in path.stem else BOOT


def require_translation(choice: AccelChoice, option: str) -> None:
    """Raise UsageError unless guests run translated: KVM has no plugins."""
    if choice.accel is not Accel.TCG:
        raise UsageError(
            f"{option} needs guests that QEMU translates: KVM has no plugins",
            hint="add --accel tcg",
        )
