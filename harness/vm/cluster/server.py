# SPDX-License-Identifier: GPL-2.0-only
"""A scheduler or a worker as a process of its own, for `harness.vm.cluster.local`.

Dask's own commands open an HTTP port on all interfaces, also with ``--no-dashboard``
(``ServerNode.start_http_server`` in distributed/node.py has no way to open none). These processes
open one port each, on the loopback interface, and it speaks TLS with the keys of this run alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

from distributed import Scheduler, Security, Worker

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class ServerOrder:
    """What one process is to be; it arrives on standard input, so that no key is ever in a file.

    ``certificate`` and ``key`` are PEM texts. A scheduler writes its address to the file ``note``;
    a worker has a ``scheduler``, its own ``folder``, and does ``threads`` jobs at a time.
    """

    certificate: str
    key: str
    note: str = ""
    scheduler: str = ""
    folder: str = ""
    threads: int = 1

    def to_json(self) -> str:
        """Return the text that `main` reads."""
        return json.dumps(asdict(self))


def security_of(certificate: str, key: str) -> Security:
    """Return what a process needs to talk to those that have the same key, and to no other."""
    return Security(
        require_encryption=True,
        tls_ca_file=certificate,
        **{
            f"tls_{role}_{part}": text
            for role in ("client", "scheduler", "worker")
            for part, text in (("cert", certificate), ("key", key))
        },
    )


class _NoHttp:
    """Opens no HTTP port, where Dask would open one with or without a dashboard."""

    def start_http_server(self, *_arguments: Any, **_options: Any) -> None:
        """Start nothing."""


class _Scheduler(_NoHttp, Scheduler):
    pass


class _Worker(_NoHttp, Worker):
    pass


def _server(order: ServerOrder) -> Scheduler | Worker:
    security = security_of(order.certificate, order.key)
    if not order.scheduler:
        return _Scheduler(
            host=LOOPBACK,
            port=0,
            protocol="tls",
            security=security,
            dashboard=False,
            scheduler_file=order.note,
        )
    return _Worker(
        order.scheduler,
        host=LOOPBACK,
        protocol="tls",
        security=security,
        dashboard=False,
        nthreads=order.threads,
        # Guests are outside of what Dask counts.
        memory_limit=0,
        local_directory=order.folder,
    )


async def _serve(order: ServerOrder) -> None:
    server = _server(order)
    await server
    await server.finished()  # type: ignore[no-untyped-call]


def main() -> None:
    """Read an order from standard input, and serve until the scheduler ends or a signal comes."""
    asyncio.run(_serve(ServerOrder(**json.load(sys.stdin))))


if __name__ == "__main__":
    main()
