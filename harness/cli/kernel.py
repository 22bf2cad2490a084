# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness kernel: build, list and prune the kernels in the cache."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from harness.cli.guard import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import JsonFile, JunitFile, KernelConfig, Sha256
from harness.cli.prepare import KernelAsked, prepare_kernel
from harness.errors import ExitCode, UsageError
from harness.host.cache import Store
from harness.kernel.spec import DEFAULT_SERIES
from harness.report.results import CheckOutcome, KernelResult
from harness.resources import cache_root

if TYPE_CHECKING:
    from harness.kernel.stored import StoredKernel

app = typer.Typer(help="Build, list and prune kernels.", no_args_is_help=True)

_MIB = 1 << 20
