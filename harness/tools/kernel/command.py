# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness kernel: build, list and prune the kernels in the cache."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from harness.cli.exits import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import KernelOptions, KernelsOptions, ResultFiles
from harness.cli.prepare import prepare_kernel
from harness.errors import ExitCode, UsageError
from harness.report.base import CheckOutcome
from harness.resources import cache_root
from harness.tools.kernel.results import ConfigChange, KernelResult
from harness.vm.guest import runs
from harness.vm.kernel.build import DEFAULT_SPEC
from harness.vm.kernel.inventory import doubtful_ages, list_kernels, prune_kernels
from harness.vm.kernel.whole_config import read_changes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.vm.kernel.inventory import CachedKernel
    from harness.vm.kernel.whole_config import Change

app = typer.Typer(help="Build, list and prune kernels.", no_args_is_help=True)

_DAY_S = 86400.0
_DEFAULT_AGE_DAYS = 30.0
_SHORT_DIGEST = 12
_SHOWN_CHANGES = 60
_LAST_S = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


@app.command("build")
@guarded
def build(
    named: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="SPEC",
            help="6.1, newest, a source tree, a tarball ...; one after the other. Default: "
            f"{DEFAULT_SPEC}.",
            show_default=False,
        ),
    ] = (),
    *,
    kernels: KernelsOptions,
    files: ResultFiles,
) -> int:
    """Build the kernels that tests are to run on, and show where they are.

    A kernel that is in the cache is not built again.
    """
    with Invocation("kernel build", files) as invocation:
        wanted = replace(kernels, specs=(*named, *kernels.specs))
        for kernel in wanted.each():
            _build(invocation, kernel)
    return invocation.exit_code


def _build(invocation: Invocation, options: KernelOptions) -> None:
    start_s = time.monotonic()
    kernel = prepare_kernel(invocation, options)
    seconds = time.monotonic() - start_s
    whole = options.config
    changes = read_changes(kernel.build_dir.parent.parent) if whole is not None else ()
    invocation.results.append(
        KernelResult(
            id=options.spec,
            outcome=CheckOutcome.PASSED,
            seconds=seconds,
            version=kernel.version,
            digest=kernel.digest,
            image=str(kernel.image),
            config_changes=tuple(ConfigChange(**asdict(change)) for change in changes),
        )
    )
    invocation.terminal.print(
        f"version  {kernel.describe()}",
        f"digest   {kernel.digest}",
        f"image    {kernel.image}",
        f"seconds  {seconds:.1f}",
    )
    if whole is not None and changes:
        _print_changes(invocation, whole, changes)


def _print_changes(invocation: Invocation, config: Path, changes: Sequence[Change]) -> None:
    """Print what a build has otherwise than the file of --config, the reasons that matter first.

    Options that the sources lack, and those that follow from others, are many and are counted.
    """
    counts = Counter(change.reason for change in changes)
    table = Table(box=None, padding=(0, 3, 0, 0))
    for name in ("option", config.name, "built", "because"):
        table.add_column(name, overflow="fold")
    for change in changes:
        if counts[change.reason] <= _SHOWN_CHANGES:
            table.add_row(change.symbol, change.wanted, change.got, change.reason)
    invocation.terminal.print(table)
    for reason, count in counts.items():
        if count > _SHOWN_CHANGES:
            invocation.terminal.print(f"{count} more options differ: {reason}")


@app.command("list")
@guarded
def list_(files: ResultFiles) -> int:
    """List the kernels in the cache, the last used first."""
    with Invocation("kernel list", files) as invocation:
        kernels = list_kernels(runs.store())
        invocation.results += [_result(kernel) for kernel in kernels]
        if kernels:
            invocation.terminal.print(_table(kernels))
        else:
            invocation.terminal.print(f"no kernels in {cache_root()}")
    return invocation.exit_code


@app.command("prune")
@guarded
def prune(
    older_than: Annotated[
        float | None,
        typer.Option(min=0, metavar="DAYS", help="Remove what was not used for so many days (30)."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Remove all kernels, except those in use.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only name the kernels that would be removed.")
    ] = False,
    *,
    files: ResultFiles,
) -> int:
    """Remove kernels that were not used for long, to free disk space.

    Their sources and modules are removed with them; a kernel that a process uses is kept.
    """
    if everything and older_than is not None:
        raise UsageError("--all and --older-than exclude each other")
    days = 0.0 if everything else _DEFAULT_AGE_DAYS if older_than is None else older_than
    with Invocation("kernel prune", files) as invocation:
        terminal = invocation.terminal
        store = runs.store()
        kernels = list_kernels(store)
        old = [kernel for kernel in kernels if kernel.age_s >= days * _DAY_S]
        doubt = doubtful_ages(store, days * _DAY_S)
        if doubt is not None:
            terminal.print(f"nothing was removed: {doubt}")
            terminal.print("`klp-harness kernel prune --all` removes all of them")
            return ExitCode.HELD
        if dry_run:
            for kernel in old:
                terminal.print(f"would remove {_describe(kernel)}")
            if not old:
                terminal.print("nothing to remove")
            invocation.results += [_result(kernel) for kernel in old]
            return ExitCode.HELD
        pruned = prune_kernels(store, unused_for_s=days * _DAY_S)
        left = {kernel.digest for kernel in list_kernels(store)}
        invocation.results += [_result(kernel) for kernel in kernels if kernel.digest not in left]
        for name in pruned.removed:
            terminal.print(f"removed {name}")
        for name in pruned.in_use:
            terminal.print(f"kept {name}: a running process uses it")
        terminal.print(f"freed {pruned.freed_bytes / (1 << 30):.1f} GiB")
    return invocation.exit_code


def _describe(kernel: CachedKernel) -> str:
    size = f"{kernel.size_bytes / (1 << 20):.0f} MiB"
    return f"kernel {kernel.version} ({kernel.digest[:_SHORT_DIGEST]}), {size}"


def _result(kernel: CachedKernel) -> KernelResult:
    return KernelResult(
        id=kernel.digest,
        outcome=CheckOutcome.PASSED,
        seconds=0.0,
        version=kernel.version,
        digest=kernel.digest,
        size_mib=round(kernel.size_bytes / (1 << 20), 1),
        last_used=_when(kernel).isoformat(),
    )


def _when(kernel: CachedKernel) -> datetime:
    # A damaged file system may have any time; datetime ends with the year 9999.
    return datetime.fromtimestamp(min(max(kernel.last_used_s, 0.0), _LAST_S), UTC)


def _table(kernels: Sequence[CachedKernel]) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0))
    for name in ("version", "digest", "built from", "MiB", "last used"):
        justify: Literal["left", "right"] = "right" if name == "MiB" else "left"
        table.add_column(name, justify=justify, overflow="fold")
    for kernel in kernels:
        table.add_row(
            kernel.version,
            kernel.digest[:_SHORT_DIGEST],
            kernel.source,
            f"{kernel.size_bytes / (1 << 20):.0f}",
            f"{_when(kernel).astimezone():%Y-%m-%d %H:%M}",
        )
    return table
