# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness kernel: build, list and prune the kernels in the cache."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from harness.cli.guard import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import (
    DEFAULT_KERNEL,
    JsonFile,
    JunitFile,
    KernelConfig,
    KernelPatches,
    Sha256,
)
from harness.cli.prepare import KernelAsked, prepare_kernel
from harness.errors import ExitCode, UsageError
from harness.host.cache import Store
from harness.kernel.inventory import list_kernels, prune_kernels
from harness.report.results import CheckOutcome, KernelResult
from harness.resources import cache_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.kernel.inventory import CachedKernel

app = typer.Typer(help="Build, list and prune kernels.", no_args_is_help=True)

_DAY_S = 86400.0
_DEFAULT_AGE_DAYS = 30.0
_SHORT_DIGEST = 12


@app.command("build")
@guarded
def build(
    specs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SPEC",
            help="6.1, newest, a source tree, a tarball ...; one after the other. Default: "
            f"{DEFAULT_KERNEL}.",
            show_default=False,
        ),
    ] = None,
    kernel: Annotated[
        list[str] | None,
        typer.Option("--kernel", metavar="SPEC", help="The same, as other commands have it."),
    ] = None,
    kernel_config: KernelConfig = None,
    patch: KernelPatches = None,
    sha256: Sha256 = None,
    json_file: JsonFile = None,
    junit_file: JunitFile = None,
) -> int:
    """Build kernels, or find them in the cache, and tell where they are."""
    with Invocation("kernel build", json_file=json_file, junit_file=junit_file) as invocation:
        for spec in (*(specs or ()), *(kernel or ())) or (DEFAULT_KERNEL,):
            asked = KernelAsked(
                spec=spec, sha256=sha256, fragments=tuple(kernel_config or ()), patches=patch or ()
            )
            _build(invocation, asked)
    return invocation.exit_code


def _build(invocation: Invocation, asked: KernelAsked) -> None:
    start_s = time.monotonic()
    kernel = prepare_kernel(invocation, asked)
    seconds = time.monotonic() - start_s
    invocation.results.append(
        KernelResult(
            id=asked.spec,
            outcome=CheckOutcome.PASSED,
            seconds=seconds,
            version=kernel.version,
            digest=kernel.digest,
            image=str(kernel.image),
        )
    )
    invocation.terminal.print(
        f"version  {kernel.describe()}",
        f"digest   {kernel.digest}",
        f"image    {kernel.image}",
        f"seconds  {seconds:.1f}",
    )


@app.command("list")
@guarded
def list_(json_file: JsonFile = None) -> int:
    """List the kernels in the cache, the last used first."""
    with Invocation("kernel list", json_file=json_file) as invocation:
        kernels = list_kernels(Store(cache_root()))
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
        typer.Option(min=0, metavar="DAYS", help="Remove what was not used for so long (30)."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Remove all kernels, except those in use.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only name the kernels that would go.")
    ] = False,
    json_file: JsonFile = None,
) -> int:
    """Remove kernels that were not used for long, with their sources and modules."""
    if everything and older_than is not None:
        raise UsageError("--all and --older-than exclude each other")
    days = 0.0 if everything else _DEFAULT_AGE_DAYS if older_than is None else older_than
    with Invocation("kernel prune", json_file=json_file) as invocation:
        terminal = invocation.terminal
        store = Store(cache_root())
        kernels = list_kernels(store)
        old = [kernel for kernel in kernels if _age_s(kernel) >= days * _DAY_S]
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


def _age_s(kernel: CachedKernel) -> float:
    return time.time() - kernel.last_used_s


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
    return datetime.fromtimestamp(kernel.last_used_s, UTC)


def _table(kernels: Sequence[CachedKernel]) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0))
    for name, justify in (
        ("version", "left"),
        ("digest", "left"),
        ("built from", "left"),
        ("MiB", "right"),
        ("last used", "left"),
    ):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for kernel in kernels:
        table.add_row(
            kernel.version,
            kernel.digest[:_SHORT_DIGEST],
            kernel.source,
            f"{kernel.size_bytes / (1 << 20):.0f}",
            f"{_when(kernel).astimezone():%Y-%m-%d %H:%M}",
        )
    return table
