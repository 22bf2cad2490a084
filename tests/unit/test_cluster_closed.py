# SPDX-License-Identifier: GPL-2.0-only
"""Nobody else can use the workers that are started here, and TLS to those elsewhere."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import dask
import distributed
import psutil
import pytest
from distributed import Security
from distributed.comm.core import CommClosedError, connect

from harness.cli.executors import ExecutorOptions, open_cluster
from harness.errors import UsageError
from harness.report.terminal import Terminal
from harness.vm.cluster.client import connected, is_open_to_all
from harness.vm.cluster.local import local
from tests.unit.dask_machines import ROOT, Machines, square

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.vm.cluster.client import Cluster

_SOON_S = 10.0


def listening() -> set[tuple[str, int]]:
    """Return the addresses at which this process and all below it listen, of every family."""
    found = set()
    for process in (me := psutil.Process(), *me.children(recursive=True)):
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                found.add((connection.laddr.ip, connection.laddr.port))
    return found


def ports_of(cluster: Cluster) -> set[tuple[str, int]]:
    """Return the addresses that a cluster itself names."""
    addresses = (cluster.address, *cluster.threads())
    return {(str(urlsplit(one).hostname), urlsplit(one).port or 0) for one in addresses}


@pytest.fixture(scope="module")
def here() -> Iterator[Cluster]:
    """A scheduler and two workers, as ``--workers 2`` starts them."""
    with pytest.MonkeyPatch.context() as patch:
        # The jobs of these tests are imported by their module's name.
        patch.setenv("PYTHONPATH", str(ROOT))
        with local(2, 1) as cluster:
            yield cluster


def test_one_port_each_on_loopback(here: Cluster) -> None:
    """Nothing listens but the scheduler and the workers themselves: no HTTP, no other interface."""
    assert here.call(square, 7, {}).result == 49
    assert listening() == ports_of(here)
    assert {host for host, _ in listening()} == {"127.0.0.1"}
    assert len(listening()) == 3


def test_who_has_no_certificate_is_refused(here: Cluster) -> None:
    """Dask's own protocol, in plain or with a certificate of somebody else, reaches nothing."""

    async def ask(address: str, security: Security | None) -> None:
        options = security.get_connection_args("client") if security else {}
        comm = await connect(address, timeout=_SOON_S, **options)
        await comm.write({"op": "identity", "reply": True})
        await comm.read()

    for host, port in ports_of(here):
        with pytest.raises((OSError, CommClosedError)):
            asyncio.run(ask(f"tcp://{host}:{port}", None))
        with pytest.raises((OSError, CommClosedError)):
            asyncio.run(ask(f"tls://{host}:{port}", Security.temporary()))


def test_a_client_of_another_user_is_refused(here: Cluster) -> None:
    """A whole client, as another user would start it, is not let in by the scheduler."""
    address = here.address.replace("tls://", "tcp://")
    with pytest.raises(OSError, match=r"(?i)timed out|closed|failed"):
        distributed.Client(address, timeout=3, set_as_default=False)


def test_plain_bytes_get_no_answer(here: Cluster) -> None:
    """What speaks HTTP to a port gets no page, and no header of Dask's."""
    for host, port in ports_of(here):
        with socket.create_connection((host, port), timeout=_SOON_S) as peer:
            peer.sendall(b"GET /json/identity.json HTTP/1.0\r\n\r\n")
            peer.settimeout(_SOON_S)
            answer = b""
            with suppress(ConnectionResetError):
                answer = peer.recv(4096)
        # A TLS alert at most: record type 21.
        assert answer[:1] in (b"", b"\x15")


def test_no_key_is_seen(here: Cluster) -> None:
    """The key of a run is in no command line, no environment and no file of its folder."""
    children = psutil.Process().children(recursive=True)
    assert children
    for process in children:
        words = " ".join([*process.cmdline(), *process.environ().values()])
        assert "PRIVATE KEY" not in words
        for file in process.open_files():
            with open(file.path, "rb") as content:  # noqa: PTH123
                assert b"PRIVATE KEY" not in content.read()


def _write(folder: Path) -> dict[str, str]:
    """Write a certificate and its key, and return Dask's configuration for them."""
    security = Security.temporary()
    certificate, key = folder / "cluster.crt", folder / "cluster.key"
    certificate.write_text(str(security.tls_ca_file))
    key.write_text(str(security.tls_client_key))
    tls = {"ca-file": certificate}
    for role in ("client", "scheduler", "worker"):
        tls |= {f"{role}.cert": certificate, f"{role}.key": key}
    return {f"distributed.comm.tls.{name}": str(path) for name, path in tls.items()}


def test_a_cluster_with_tls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The certificates that Dask's configuration names are used, and no warning is printed."""
    configured = _write(tmp_path)
    environment = {
        f"DASK_{name.replace('.', '__').replace('-', '_').upper()}": path
        for name, path in configured.items()
    }
    with ExitStack() as stack:
        machines = Machines(tmp_path, stack, scheme="tls", more=environment)
        machines.add_worker()
        with dask.config.set(configured):
            asked = ExecutorOptions(cluster=machines.address)
            cluster = stack.enter_context(open_cluster(asked, Terminal(), guests=1))
            assert cluster is not None
            assert cluster.call(square, 7, {}).result == 49
        assert "can run code" not in capsys.readouterr().err


def test_a_cluster_without_tls_is_named_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plain cluster is used, and one line says who else can use it."""
    with ExitStack() as stack:
        machines = Machines(tmp_path, stack)
        machines.add_worker()
        asked = ExecutorOptions(cluster=machines.address)
        stack.enter_context(open_cluster(asked, Terminal(), guests=1))
        assert "everybody who can reach the scheduler can run code" in " ".join(
            capsys.readouterr().err.split()
        )


@pytest.mark.parametrize("address", ["tls://127.0.0.1:1", "wss://127.0.0.1:1"])
def test_tls_without_certificates_is_wrong_usage(address: str) -> None:
    """No certificates, and files that are missing or no certificates: exit code 2, and where."""
    with pytest.raises(UsageError, match="names no certificates for TLS"), connected(address):
        pass


def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is missing, or is no certificate, is the user's to mend."""
    configured = _write(tmp_path)
    with (
        dask.config.set({**configured, "distributed.comm.tls.client.key": str(tmp_path / "none")}),
        pytest.raises(UsageError, match=r"cannot be used: .*No such file"),
        connected("tls://127.0.0.1:1"),
    ):
        pass
    (tmp_path / "cluster.key").write_text("no key")
    with (
        dask.config.set(configured),
        pytest.raises(UsageError, match="cannot be used"),
        connected("tls://127.0.0.1:1"),
    ):
        pass


def test_which_addresses_are_open_to_all() -> None:
    """The schemes without TLS are those that the note is for."""
    assert [is_open_to_all(f"{scheme}://x:1") for scheme in ("tcp", "ws", "tls", "wss")] == [
        *(True, True, False, False)
    ]
