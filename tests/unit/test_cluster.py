# SPDX-License-Identifier: GPL-2.0-only
"""Jobs on a cluster: a scheduler and workers that are processes of their own, on loopback."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.cli.executors import ExecutorOptions
from harness.deadline import Deadline, wait_until
from harness.errors import CacheCorrupt, ExitCode, HarnessError, UsageError
from harness.tools.race.campaign import Campaign, Extent
from harness.tools.race.catalogue import CATALOGUE
from harness.tools.race.on_cluster import RemoteTrials
from harness.vm.cluster import artefacts, client
from harness.vm.cluster.client import Cluster, connected, most_on_one_host
from harness.vm.cluster.identity import Identity, digest_of_code, own_identity
from harness.vm.cluster.local import local
from harness.vm.cluster.worker import Answer, here_lacking, receive_here
from harness.vm.host.cache import Store
from tests.unit.dask_machines import (
    PATIENCE_S,
    ROOT,
    Machines,
    Waits,
    breaks,
    kills_its_worker,
    shows_odd,
    square,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.vm.kernel.kernel import Kernel

FIRST = CATALOGUE[0]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A scheduler and two workers, each with a cache of its own."""
    with ExitStack() as stack:
        machines = Machines(tmp_path_factory.mktemp("machines"), stack)
        machines.add_worker()
        machines.add_worker()
        yield machines


def test_a_killed_worker_costs_time_alone(there: Machines, tmp_path: Path) -> None:
    """A job whose worker is killed is done again by another, and each is answered once."""
    content = tmp_path / "kernel"
    content.write_bytes(os.urandom(3 << 20))
    digest = artefacts.digest_of(content)
    waits = Waits(tmp_path)
    with connected(there.address) as cluster:
        answers: list[int] = []

        def ask(number: int) -> None:
            answers.append(cluster.call(waits, number, {digest: content}).result)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        assert wait_until(lambda: len(waits.begun()) == 2, Deadline.after(PATIENCE_S))
        killed = there.kill(0)
        (tmp_path / "go").touch()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert sorted(answers) == list(range(6))
        (lost,) = [number for number, pid in waits.begun() if pid == killed]
        assert len([number for number, _ in waits.begun() if number == lost]) == 2
        for cache in there.caches:
            kept = artefacts.artefact_path(Store(cache), digest)
            assert kept.read_bytes() == content.read_bytes()
        assert len(cluster.threads()) == 1
    there.add_worker()


def test_workers_that_are_started_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """They listen on the loopback interface alone, and are gone with their context."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with local(1, 2) as cluster:
        (worker,) = cluster.threads()
        assert cluster.threads()[worker] == 2
        assert worker.startswith("tls://127.0.0.1:")
        assert cluster.address.startswith("tls://127.0.0.1:")
        assert cluster.call(square, 7, {}).result == 49
        address = cluster.address
    host, _, port = address.removeprefix("tls://").partition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5).close()


def test_an_error_on_a_worker_is_raised_here(there: Machines) -> None:
    """A job's error on a worker arrives as one sentence that names the worker."""
    with connected(there.address) as cluster:
        assert cluster.call(square, 7, {}).result == 49
        with pytest.raises(HarnessError, match=r"the worker tcp://.* failed: .*is not there"):
            cluster.call(breaks, 1, {})


def test_another_version_is_refused(there: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence for workers that run other code, before anything is done."""
    other = replace(own_identity(), code="0" * 64)
    monkeypatch.setattr(client, "own_identity", lambda: other)
    with (
        pytest.raises(UsageError, match=r"the worker tcp://\S+ runs another klp-harness"),
        connected(there.address),
    ):
        pass


def test_a_worker_of_another_version_that_comes_later(
    there: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that joins later is checked with its first job."""
    with connected(there.address) as cluster:
        other = replace(own_identity(), distributed="1.0")
        monkeypatch.setattr(client, "own_identity", lambda: other)
        with pytest.raises(UsageError, match=r"runs distributed \S+ instead of 1\.0"):
            cluster.call(square, 7, {})


def test_a_job_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    """Once may be the machine's fault; a job that loses worker after worker is at fault itself."""
    with ExitStack() as stack:
        machines = Machines(tmp_path, stack, allowed_failures=0)
        machines.add_worker()
        with (
            connected(machines.address) as cluster,
            pytest.raises(HarnessError, match="it lost 1 workers in turn"),
        ):
            cluster.call(kills_its_worker, 1, {})


def test_a_cluster_without_workers_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler without workers is an error after a while."""
    monkeypatch.setattr(client, "_NO_WORKER_S", 1.0)
    with ExitStack() as stack:
        machines = Machines(tmp_path, stack)
        with (
            pytest.raises(HarnessError, match=r"the cluster at tcp://\S+ has no workers"),
            connected(machines.address),
        ):
            pass


def test_nothing_listens_there() -> None:
    """A wrong port gives exit code 3 and the address, and no hang."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    done = CliRunner().invoke(app, ["race", "run", "fork", "--cluster", f"tcp://127.0.0.1:{port}"])
    assert done.exit_code == ExitCode.HARNESS
    assert f"no cluster answers at tcp://127.0.0.1:{port}" in done.stderr


@pytest.mark.parametrize("address", ["", "here", "http://x:1", "tcp://x", "tcp://x:port"])
def test_what_is_no_address(address: str) -> None:
    """A malformed address is wrong usage, not a connection error."""
    with pytest.raises(UsageError, match="is not the address of a cluster"), connected(address):
        pass


def test_one_place_at_a_time() -> None:
    """--workers and --cluster exclude each other."""
    with pytest.raises(UsageError, match="give one of them"):
        ExecutorOptions(workers=2, cluster="tcp://x:1")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("harness", "9.9", "klp-harness 9.9 instead of"),
        ("python", "3.99", "Python 3.99 instead of"),
        ("distributed", "1.2", "distributed 1.2 instead of"),
        ("code", "f" * 64, "of sources ffffffffffff instead of"),
    ],
)
def test_differences_have_words(field: str, value: str, words: str) -> None:
    """Each part that differs between two machines is named with both versions."""
    mine = Identity(harness="0.1", code="0" * 64, python="3.11", distributed="2024.5")
    assert mine.difference(mine) is None
    assert words in (mine.difference(replace(mine, **{field: value})) or "")


def test_the_digest_of_the_code_sees_code_alone(tmp_path: Path) -> None:
    """Data files and installed copies do not make two machines differ; sources do."""
    (tmp_path / "_data").mkdir()
    (tmp_path / "a.py").write_text("x = 1\n")
    before = digest_of_code(tmp_path)
    (tmp_path / "_data" / "b.py").write_text("y = 1\n")
    (tmp_path / "c.txt").write_text("z\n")
    assert digest_of_code(tmp_path) == before
    (tmp_path / "a.py").write_text("x = 2\n")
    assert digest_of_code(tmp_path) != before


def test_the_busiest_machine_counts() -> None:
    """Workers on one host share its CPUs, so their jobs are added up."""
    threads = {"tcp://10.0.0.1:1": 2, "tcp://10.0.0.1:2": 3, "tcp://10.0.0.2:1": 4}
    assert most_on_one_host(threads) == 5
    assert most_on_one_host({}) == 1


def test_content_is_known_by_its_digest(tmp_path: Path) -> None:
    """Content is kept only under its own digest, and not used when it is damaged."""
    store = Store(tmp_path / "cache")
    content = tmp_path / "file"
    content.write_bytes(b"kernel")
    digest = artefacts.digest_of(content)
    assert artefacts.lacking(store, [digest, digest]) == (digest,)
    with pytest.raises(CacheCorrupt, match="was expected"):
        artefacts.receive(store, digest, b"colonel")
    assert artefacts.lacking(store, [digest]) == (digest,)
    artefacts.receive(store, digest, b"kernel")
    assert artefacts.lacking(store, [digest]) == ()
    artefacts.artefact_path(store, digest).write_bytes(b"cut")
    assert artefacts.lacking(store, [digest]) == (digest,)


class Remote:
    """A cluster that answers at once, by a function of its own."""

    def threads(self) -> Mapping[str, int]:
        return {"tcp://10.0.0.1:1": 4}

    def call(self, function: object, order: Any, needs: Mapping[str, Path]) -> Answer:
        assert all(path.is_file() for path in needs.values())
        return Answer(worker="tcp://10.0.0.1:1", result=shows_odd(order))


class KnownKernel:
    digest = "47ff"
    version = "6.1.192"
    source = "linux-source-6.1"
    slowness = 1.0
    boot_args = ()
    boot_modules: tuple[Path, ...] = ()
    root_modules: tuple[Path, ...] = ()

    def __init__(self, image: Path) -> None:
        self.image = image


def test_hits_bring_their_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a guest elsewhere left lies here; a quiet trial leaves nothing."""
    file = tmp_path / "file"
    file.write_bytes(b"x")
    monkeypatch.setattr("harness.tools.race.on_cluster.build_base", lambda store, deadline: file)
    trials = RemoteTrials(
        cast("Cluster", Remote()),
        cast("Kernel", KnownKernel(file)),
        {"klp_x": file},
        store=Store(tmp_path / "cache"),
        accel="tcg",
        folder=tmp_path / "run",
    )
    campaign = Campaign([FIRST], Extent(seed=0, trials=4, go_on=True))
    assert sorted(trial.seed for trial in campaign.run(trials, guests=2)) == [0, 1, 2, 3]
    hits = campaign.found[FIRST.name].hits
    assert sorted(hit.seed for hit in hits) == [1, 3]
    for hit in hits:
        assert hit.shown is not None
        folder = hit.shown.artefacts
        assert folder == tmp_path / "run" / "guests" / f"{FIRST.name}-{hit.seed}"
        assert (folder / "console.log").read_bytes() == b"x"
        assert '"worker": "tcp://10.0.0.1:1"' in (folder / "trial.json").read_text()
    assert len(list((tmp_path / "run" / "guests").iterdir())) == 2
    assert trials.workers == {"tcp://10.0.0.1:1": 4}


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_worker_opens_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job looks up its files, and that must not use up a worker's descriptors."""
    monkeypatch.setenv("KLP_HARNESS_CACHE", str(tmp_path / "cache"))
    content = b"a module"
    digest = hashlib.sha256(content).hexdigest()
    receive_here(digest, content)
    assert here_lacking((digest,)) == ()
    before = _open_files()
    for _ in range(5):
        assert here_lacking((digest, "0" * 64)) == ("0" * 64,)
    assert _open_files() == before
