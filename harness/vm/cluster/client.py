# SPDX-License-Identifier: GPL-2.0-only
"""A connection to a Dask cluster: sends jobs and returns their results.

A lost worker costs nothing but time: Dask's scheduler gives its jobs to others, and each job has
one result.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
import uuid
import warnings
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import distributed
from distributed.scheduler import KilledWorker

from harness.deadline import Deadline, wait_until
from harness.errors import HarnessError, KlpError, UsageError
from harness.log import LOGGER
from harness.vm.cluster.identity import own_identity
from harness.vm.cluster.worker import (
    SAME_EVERYWHERE,
    Answer,
    Job,
    do_job,
    here_lacking,
    print_identity,
    receive_here,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_PLAIN = ("tcp", "ws")
_ENCRYPTED = ("tls", "wss")
_CONNECT_S = 30.0
_TLS = (
    "distributed.comm.tls.ca-file, .client.cert and .client.key name the files; "
    "docs/cluster.md has an example"
)
_CLOSE_S = 20.0
_LOOK_S = 1.0
_NO_WORKER_S = 60.0
_TRIES_TO_SEND = 3


class Cluster:
    """A connection to a scheduler with workers of our own version. Several threads may use it."""

    def __init__(
        self,
        client: Any,
        *,
        look_s: float = _LOOK_S,
        no_worker_s: float = _NO_WORKER_S,
    ) -> None:
        self._client = client
        self._look_s = look_s
        self._no_worker_s = no_worker_s
        self._lock = threading.Lock()
        self._sending: dict[str, threading.Lock] = {}
        self._asked_s = 0.0
        self._without_since_s: float | None = None

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return str(self._client.scheduler.address)

    def threads(self) -> Mapping[str, int]:
        """Return the workers that are there now, each with the jobs that it does at a time."""
        with _explained(self.address):
            return {str(worker): int(count) for worker, count in self._client.nthreads().items()}

    def call(
        self, function: Callable[[Any], Any], order: object, needs: Mapping[str, Path]
    ) -> Answer:
        """Return a worker's answer to ``function(order)``, with its result.

        The function is sent by name, its order by value; ``needs`` are files by digest, which are
        sent to a worker that does not have them. Raises what the function raised there, and
        HarnessError when the scheduler is gone, no worker is left, or the job lost several workers.
        """
        job = Job(function=function, order=order, needs=tuple(needs), identity=own_identity())
        sent: Counter[str] = Counter()
        while True:
            answer = self._do(job)
            if not answer.lacking:
                return answer
            if sent[answer.worker] == _TRIES_TO_SEND:
                raise HarnessError(
                    f"the worker {answer.worker} does not keep the files that it is sent"
                )
            sent[answer.worker] += 1
            self._send(answer, needs)

    def on_each_worker(self, function: Callable[[], object]) -> None:
        """Call a function on each worker; a failure is only logged."""
        with contextlib.suppress(OSError, RuntimeError):
            for worker, answer in self._client.run(function, on_error="return").items():
                if isinstance(answer, BaseException):
                    LOGGER.info("%s on %s: %s", function.__name__, worker, answer)

    def check_versions(self) -> None:
        """Raise UsageError when the scheduler or a worker has other versions than this process."""
        with _explained(self.address):
            found = self._client.get_versions()
        mine = own_identity()
        parts = {"the scheduler": found["scheduler"]}
        parts |= {f"the worker {name}": facts for name, facts in found["workers"].items()}
        for part, facts in parts.items():
            packages = facts["packages"]
            python = ".".join(str(packages["python"]).split(".")[:2])
            its = replace(mine, python=python, distributed=str(packages["distributed"]))
            _refuse(part, mine.difference(its))
        with _explained(self.address):
            # Not before: a worker without klp-harness cannot even read this question.
            identities = dict(self._client.run(print_identity, on_error="return"))
        for worker, identity in identities.items():
            part = f"the worker {worker}"
            if isinstance(identity, ImportError | AttributeError):
                _refuse(part, f"no klp-harness {mine.harness} ({identity})")
            if isinstance(identity, BaseException):
                raise HarnessError(f"{part} does not answer: {identity}") from identity
            _refuse(part, mine.difference(identity))

    def _do(self, job: Job) -> Answer:
        with _explained(self.address):
            future = self._client.submit(
                do_job, job, key=f"klp-harness-{uuid.uuid4().hex}", pure=False
            )
            ended = threading.Event()
            future.add_done_callback(lambda _: ended.set())
            try:
                while not ended.wait(self._look_s):
                    self._require_workers()
                answer = future.result()
            finally:
                future.release()
        assert isinstance(answer, Answer)
        return answer

    def _require_workers(self) -> None:
        """Raise HarnessError when there has been no worker for some time: no job would end."""
        with self._lock:
            now_s = time.monotonic()
            if now_s - self._asked_s < self._look_s:
                return
            self._asked_s = now_s
            if self._client.nthreads():
                self._without_since_s = None
            elif self._without_since_s is None:
                self._without_since_s = now_s
            elif now_s - self._without_since_s > self._no_worker_s:
                raise _no_workers(self.address)

    def _send(self, answer: Answer, needs: Mapping[str, Path]) -> None:
        """Send a worker the files that it still lacks, one thread at a time."""
        worker = answer.worker
        with self._lock:
            sending = self._sending.setdefault(worker, threading.Lock())
        with sending:
            lacking = self._on(worker, here_lacking, answer.lacking)
            for digest in lacking or ():
                self._on(worker, receive_here, digest, needs[digest].read_bytes())

    def _on(self, worker: str, function: Callable[..., Any], *arguments: object) -> Any:
        """Return what a function on one worker returns; None for a worker that is gone."""
        with _explained(self.address):
            results = self._client.run(function, *arguments, workers=[worker], on_error="return")
        result = results.get(worker)
        if isinstance(result, KlpError):
            raise result
        if isinstance(result, OSError):
            # Its job goes to another worker, which then answers with the files that it lacks.
            LOGGER.info("the worker %s is gone: %s", worker, result)
            return None
        if isinstance(result, BaseException):
            raise HarnessError(f"the worker {worker} cannot receive files: {result}") from result
        return result


@contextlib.contextmanager
def connected(
    address: str,
    *,
    workers: int = 1,
    patience_s: float | None = None,
    security: distributed.Security | None = None,
) -> Iterator[Cluster]:
    """Connect to a scheduler, such as ``tls://10.0.0.1:8786``, that has workers of our version.

    Waits ``patience_s``, by default a minute, until it has so many workers. ``security`` has the
    certificates for TLS; by default they are those of Dask's configuration. Raises UsageError for a
    malformed address, for certificates that are missing, and for another version, HarnessError when
    nothing answers or no worker joins.
    """
    parts = urlsplit(address)
    port = _port(address)
    if parts.scheme not in (*_PLAIN, *_ENCRYPTED) or not parts.hostname or port is None:
        raise UsageError(
            f"{address} is not the address of a cluster", hint="an example: tls://scheduler:8786"
        )
    security = security or _configured(encrypted=parts.scheme in _ENCRYPTED)
    with _quiet():
        try:
            # Dask would try a port without a listener until its own deadline.
            with socket.create_connection((parts.hostname, port), timeout=_CONNECT_S):
                pass
            client = distributed.Client(
                address,
                timeout=_CONNECT_S,
                set_as_default=False,
                name="klp-harness",
                security=security,
            )
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            raise HarnessError(
                f"no cluster answers at {address}: {error}",
                hint="`dask scheduler` starts one; docs/cluster.md explains how",
            ) from error
        try:
            cluster = Cluster(client)
            _await_workers(cluster, workers, patience_s or _NO_WORKER_S)
            cluster.check_versions()
            yield cluster
        finally:
            with contextlib.suppress(OSError, TimeoutError, RuntimeError):
                client.close(timeout=_CLOSE_S)


def is_open_to_all(address: str) -> bool:
    """Whether a scheduler at this address asks nobody who comes for a certificate."""
    return urlsplit(address).scheme in _PLAIN


def _configured(*, encrypted: bool) -> distributed.Security:
    """Return the certificates that Dask's configuration names; raises UsageError without them."""
    try:
        security = distributed.Security()
        found = security.get_connection_args("client")["ssl_context"]
    except (OSError, ValueError) as error:
        # ssl.SSLError, of a file that is no certificate, is an OSError as well.
        raise UsageError(
            f"the certificates of Dask's configuration cannot be used: {error}", hint=_TLS
        ) from error
    if encrypted and found is None:
        raise UsageError("Dask's configuration names no certificates for TLS", hint=_TLS)
    return security


def _await_workers(cluster: Cluster, count: int, patience_s: float) -> None:
    deadline = Deadline.after(patience_s)
    if not wait_until(lambda: len(cluster.threads()) >= count, deadline, interval_s=0.2):
        raise _no_workers(cluster.address)


def _no_workers(address: str) -> HarnessError:
    return HarnessError(
        f"the cluster at {address} has no workers", hint=f"on each machine: dask worker {address}"
    )


def _refuse(part: str, difference: str | None) -> None:
    if difference is not None:
        raise UsageError(f"{part} runs {difference}", hint=SAME_EVERYWHERE)


@contextlib.contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turn errors between this process and the scheduler into HarnessError."""
    try:
        yield
    except KilledWorker as error:
        raise HarnessError(
            f"a job was given up: it lost {error.allowed_failures + 1} workers in turn",
            hint="see the logs of the workers, and whether their machines ran out of memory",
        ) from error
    except (OSError, distributed.client.FutureCancelledError) as error:
        raise HarnessError(f"the cluster at {address} is gone: {error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's own messages, which are for its developers, from the terminal."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _port(address: str) -> int | None:
    try:
        return urlsplit(address).port
    except ValueError:
        return None


def most_on_one_host(threads: Mapping[str, int]) -> int:
    """Return how many jobs the busiest machine does at a time, by its workers' addresses."""
    hosts: dict[str, int] = {}
    for worker, count in threads.items():
        host = urlsplit(worker).hostname or worker
        hosts[host] = hosts.get(host, 0) + count
    return max(hosts.values(), default=1)
