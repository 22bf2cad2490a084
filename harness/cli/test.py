# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness test: the behaviour suite on a kernel, in as many guests as the machine overlaps."""

from __future__ import annotations

import importlib.metadata
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pytest
import typer

from harness.behaviours.history import History
from harness.cli.collect import Collector
from harness.cli.guard import Terminated, guarded
from harness.cli.invocation import Invocation, kernel_facts
from harness.cli.modules import ModuleFinder
from harness.cli.options import (
    DEFAULT_KERNEL,
    AccelAsked,
    AccelOption,
    JsonFile,
    JunitFile,
    KernelConfig,
    KernelPatches,
    KernelSpecs,
    Sha256,
    Smp,
)
from harness.cli.prepare import KernelAsked, describe_accel, prepare_accel, prepare_kernel
from harness.errors import UsageError
from harness.host.capacity import default_guests, measure_host
from harness.resources import Resource, resource_dir, results_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.results import TestResult

_PLUGIN = "harness.pytest_plugin"
# pytest options whose value is the next word, which then is not a path.
_TAKES_VALUE = frozenset(
    {"-k", "-m", "-p", "-o", "-c", "-r", "-W", "-n", "--durations", "--maxfail", "--tb", "--fresh"}
)


@guarded
def run_tests(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PYTEST_ARG", help="Handed to pytest: test files, -k, -x, --fresh=boot."
        ),
    ] = None,
    kernel: KernelSpecs = None,
    kernel_config: KernelConfig = None,
    patch: KernelPatches = None,
    sha256: Sha256 = None,
    accel: AccelOption = AccelAsked.AUTO,
    smp: Smp = 2,
    guests: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Guests at a time; default: what the host can take."),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="In a checkout: also the harness's own tests (tests/)."),
    ] = False,
    json_file: JsonFile = None,
    junit_file: JunitFile = None,
) -> int:
    """Run the behaviour suite: every rule on a fresh guest.

    What is not an option of this command goes to pytest as it is.
    """
    words = list(arguments or ())
    with Invocation("test", json_file=json_file) as invocation:
        terminal = invocation.terminal
        folder = resource_dir(Resource.BEHAVIOUR_TESTS)
        paths = _test_paths(words, folder, everything=everything)
        choice = prepare_accel(invocation, accel)
        number = guests or default_guests(measure_host(), choice.accel)
        specs = kernel or [DEFAULT_KERNEL]
        for spec in specs:
            asked = KernelAsked(
                spec=spec, sha256=sha256, fragments=tuple(kernel_config or ()), patches=patch or ()
            )
            made = prepare_kernel(invocation, asked)
            # Built here, with progress, so that every worker finds them in the cache.
            built = ModuleFinder(terminal, made).samples
            terminal.print(f"kernel       {made.describe()}, {len(built)} sample modules")
        terminal.print(f"accelerator  {describe_accel(choice)}", f"guests       {number} at a time")
        argv = [
            *_plugins(),
            # This command is the plugin's own package: it is imported, and needs no rewriting.
            *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"),
            *("-n", str(number), "--dist", "worksteal"),
            *(f"--kernel={spec}" for spec in specs),
            *(f"--kernel-config={name}" for name in kernel_config or ()),
            *(f"--patch={path.absolute()}" for path in patch or ()),
            *([f"--sha256={sha256}"] if sha256 is not None else []),
            f"--accel={accel.value}",
            f"--smp={smp}",
            *([f"--junit-xml={junit_file}"] if junit_file is not None else []),
            *_configuration(folder),
            *words,
            *paths,
        ]
        collector = Collector()
        status = pytest.main(argv, plugins=[collector])
        results = collector.results()
        invocation.results += results
        _record(invocation, results, folder)
        if collector.interrupt is not None:
            # pytest has caught it and ended its workers; go on as if it had not.
            raise Terminated if isinstance(collector.interrupt, Terminated) else KeyboardInterrupt
        invocation.exit_code = collector.exit_code(int(status))
        return invocation.exit_code


def _record(invocation: Invocation, results: Sequence[TestResult], folder: Path) -> None:
    """Keep the results for `klp-harness behaviours`; what cannot be kept does not undo the run."""
    history = History(folder=results_root(), suite=folder)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        history.record(results, [kernel_facts(made) for made in invocation.kernels], at=now)
    except OSError as error:
        invocation.terminal.note(f"the results cannot be recorded: {error}")


def _plugins() -> list[str]:
    """Return what loads our plugin where it is not installed with its entry point."""
    installed = importlib.metadata.entry_points(group="pytest11", name="klp_harness")
    return [] if installed else ["-p", _PLUGIN]


def _configuration(folder: Path) -> list[str]:
    """Return what a checkout's pyproject.toml says, for an installed suite, which has none."""
    if _checkout(folder) is not None:
        return []
    return [
        f"--rootdir={folder}",
        *("-o", "addopts=", "-o", "xfail_strict=true"),
        *("-p", "no:cacheprovider", "--import-mode=importlib", "--strict-markers"),
    ]


def _checkout(folder: Path) -> Path | None:
    root = folder.parent.parent
    return root if (root / "pyproject.toml").is_file() else None


def _test_paths(words: Sequence[str], folder: Path, *, everything: bool) -> list[str]:
    """Return the paths to run beside those among the words: none when the words have some."""
    if everything:
        root = _checkout(folder)
        if root is None:
            raise UsageError(
                "--all needs a checkout: the harness's own tests are not installed with it"
            )
        return [str(root / "tests")]
    return [] if _names_tests(words, folder) else [str(folder)]


def _names_tests(words: Sequence[str], folder: Path) -> bool:
    """Tell whether some word is a test or a path; raises UsageError for one that is missing."""
    found = False
    for before, word in zip(("", *words), words, strict=False):
        if word.startswith("-") or before in _TAKES_VALUE:
            continue
        path = Path(word.partition("::")[0])
        if not path.exists():
            raise UsageError(
                f"there is no test file {path}", hint=f"the behaviour suite is in {folder}"
            )
        found = True
    return found
