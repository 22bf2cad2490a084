# SPDX-License-Identifier: GPL-2.0-only
"""The options that run some of the mutants instead of all."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from harness.errors import UsageError

_SEEDS = 1 << 31

SampleSize = Annotated[
    int | None,
    typer.Option("--sample", min=1, metavar="N", help="Run N of the mutants, chosen by --seed."),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="S", help="Which ones --sample takes; default: random, and printed."
    ),
]


def check_sample(size: int | None, seed: int | None) -> None:
    """Raise UsageError for a seed that chooses nothing."""
    if seed is not None and size is None:
        raise UsageError("--seed chooses what --sample takes", hint="add --sample N")


def drawn_seed(seed: int | None) -> int:
    """Return the seed that was given, or a random one."""
    return secrets.randbelow(_SEEDS) if seed is None else seed
