# SPDX-License-Identifier: GPL-2.0-only
"""The functions that run on a worker of a cluster: called by name, with plain data."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed import get_worker

from harness.errors import HarnessError, UsageError
from harness.resources import cache_root
from harness.vm.cluster import artefacts
from harness.vm.cluster.identity import Identity, own_identity
from harness.vm.host.cache import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Job:
    """A function and its one argument; ``needs`` are the digests of files that it needs here."""

    function: Callable[[Any], Any]
    order: Any
    needs: tuple[str, ...]
    identity: Identity


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The result of a job on a worker; there is none yet while files are ``lacking`` there."""

    worker: str
    lacking: tuple[str, ...] = ()
    result: Any = None


def do_job(job: Job) -> Answer:
    """Do a job, or return the files that are lacking for it.

    Raises UsageError when this worker has another version, HarnessError for an OSError, and what
    the function raises.
    """
    worker = str(get_worker().address)
    difference = job.identity.difference(own_identity())
    if difference is not None:
        raise UsageError(f"the worker {worker} runs {difference}", hint=SAME_EVERYWHERE)
    lacking = here_lacking(job.needs)
    if lacking:
        return Answer(worker=worker, lacking=lacking)
    try:
        return Answer(worker=worker, result=job.function(job.order))
    except OSError as error:
        # At the other end an OSError means the connection.
        raise HarnessError(f"the worker {worker} failed: {error}") from error


def print_identity() -> Identity:
    """Return the versions of this worker."""
    return own_identity()


def here_lacking(digests: tuple[str, ...]) -> tuple[str, ...]:
    """Return the digests that this worker's cache does not have."""
    return artefacts.lacking(_store(cache_root()), digests)


def receive_here(digest: str, content: bytes) -> None:
    """Keep a file in this worker's cache; raises CacheCorrupt, NoSpace, HarnessError."""
    artefacts.receive(_store(cache_root()), digest, content)


@functools.cache
def _store(root: Path) -> Store:
    """Return the one store of this worker: files that it uses stay open while the process lives."""
    return Store(root)


SAME_EVERYWHERE = (
    "scheduler, workers and this machine need the same klp-harness, Python and distributed"
)
