# SPDX-License-Identifier: GPL-2.0-only
"""Workers of xdist that are forked: what they have imported, how they end, and with whom."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.deadline import Deadline, wait_until
from harness.vm.host.process import run

ROOT = Path(__file__).resolve().parents[2]
# Runs pytest on the tests in a file, with two workers that are forked.
RUN = """\
import signal
import sys
import pytest
from harness.pytest_plugin.fork_server.client import fork_server
from harness.report.terminal import Terminal, log_to

# A shell without job control starts what is in the background with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

log_to(Terminal(), verbose=True)
print("begin")
with fork_server() as worker:
    status = pytest.main([
        "-q", "-p", "no:cacheprovider", f"--rootdir={sys.argv[2]}",
        "-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning",
        f"--tx=2*{worker}", "--dist=load", sys.argv[1],
    ])
print("status", int(status))
"""


def soon() -> Deadline:
    return Deadline.after(300)


def written(folder: Path, tests: str) -> list[str]:
    """Return the command that runs these tests."""
    file = folder / "test_it.py"
    file.write_text("import os, signal, sys, time\nfrom pathlib import Path\n\n" + tests)
    return [sys.executable, "-c", RUN, str(file), str(folder)]


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def pids_in(folder: Path, name: str, number: int) -> list[int]:
    """Return the numbers that so many workers have written, once they have."""

    def known() -> list[int]:
        return [int(text) for path in folder.glob(f"{name}-*") if (text := path.read_text())]

    assert wait_until(lambda: len(known()) == number, soon())
    return known()


def test_workers_have_imported_what_they_need(tmp_path: Path) -> None:
    """Each worker's own start imports neither pytest nor the plugin: they were there before it."""
    tests = (
        "def test_parents():\n"
        "    server = Path(f'/proc/{os.getppid()}')\n"
        "    words = (server / 'cmdline').read_bytes()\n"
        "    above = (server / 'stat').read_text().rpartition(')')[2].split()[1]\n"
        "    # The command, its copy that is the server, and the server's, this worker.\n"
        "    assert b'fork_server()' in words\n"
        "    assert Path('/proc', above, 'cmdline').read_bytes() == words\n"
        "    assert Path('/proc/self/cmdline').read_bytes() == words\n"
        "    # A library that comes with the harness is in the server's memory.\n"
        "    assert 'cryptography' in Path(f'/proc/{os.getppid()}/maps').read_text()\n"
        "    assert {'harness.pytest_plugin.fixtures', 'cryptography'} <= set(sys.modules)\n\n"
        "def test_looked_up():\n"
        "    from harness.behaviours import table\n"
        "    from harness.klog.policy import default_policy\n"
        "    from harness.vm.kernel import toolchain\n"
        "    for known in (table._read, default_policy, toolchain._first_line_of):\n"
        "        assert known.cache_info().currsize\n\n"
        "def test_log():\n"
        "    from harness.log import LOGGER\n"
        "    assert [type(each).__name__ for each in LOGGER.handlers] == ['NullHandler']\n"
        "    assert (LOGGER.level, LOGGER.propagate) == (0, True)\n\n"
        "def test_streams():\n"
        "    assert os.read(0, 1) == b''\n"
        "    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
        "    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL\n"
    )
    done = run(written(tmp_path, tests), deadline=soon(), cwd=ROOT)
    assert "4 passed" in done.stdout
    # What was written before the copies were made is there once.
    assert done.stdout.startswith("begin\n")
    assert done.stdout.count("begin") == 1
    assert done.stdout.endswith("status 0\n")
    assert done.stderr == ""


def test_failures_are_explained_as_ever(tmp_path: Path) -> None:
    """What is compared in a test file is shown: test files are rewritten in forked workers too."""
    done = run(
        written(tmp_path, "def test_it():\n    x = 41\n    assert x == 42\n"),
        deadline=soon(),
        cwd=ROOT,
    )
    assert "assert 41 == 42" in done.stdout
    assert done.stdout.endswith("status 1\n")


def test_a_worker_that_crashes_is_replaced(tmp_path: Path) -> None:
    """Its test has failed, and the others run in a new worker."""
    tests = (
        "def test_crash():\n    os.kill(os.getpid(), signal.SIGKILL)\n\n"
        "def test_a():\n    pass\n\n"
        "def test_b():\n    pass\n"
    )
    done = run(written(tmp_path, tests), deadline=soon(), cwd=ROOT)
    assert "crashed while running 'test_it.py::test_crash'" in done.stdout
    assert "1 failed, 2 passed" in done.stdout


HANGS = (
    "def note():\n"
    "    folder = Path(__file__).parent\n"
    "    (folder / f'worker-{os.getpid()}').write_text(str(os.getpid()))\n"
    "    (folder / f'server-{os.getpid()}').write_text(str(os.getppid()))\n"
    "    time.sleep(600)\n\n"
    "def test_a():\n    note()\n\n"
    "def test_b():\n    note()\n"
)


@pytest.mark.parametrize("whom", ["this", "server"])
def test_nothing_is_left_when_somebody_is_killed(whom: str, tmp_path: Path) -> None:
    """kill -9 of the process that runs pytest, or of the server, ends every worker."""
    with subprocess.Popen(
        written(tmp_path, HANGS), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as parent:
        try:
            workers = pids_in(tmp_path, "worker", 2)
            (parent_of_workers, _) = pids_in(tmp_path, "server", 2)
            os.kill(parent.pid if whom == "this" else parent_of_workers, signal.SIGKILL)
            assert wait_until(
                lambda: not any(is_running(pid) for pid in (*workers, parent_of_workers)), soon()
            )
            # Without a server there are no more workers: pytest ends, and does not wait for them.
            parent.wait(300)
        finally:
            parent.kill()


def test_a_worker_ends_with_what_requested_it(tmp_path: Path) -> None:
    """execnet kills the process that it has started: the worker must not stay behind."""
    with subprocess.Popen(
        written(tmp_path, HANGS), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as parent:
        try:
            workers = pids_in(tmp_path, "worker", 2)
            requests = [
                pid
                for pid in children_of(parent.pid)
                if b"fork_server/request.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
            ]
            assert len(requests) == 2
            os.kill(requests[0], signal.SIGKILL)
            assert wait_until(lambda: sum(map(is_running, workers)) == 1, soon())
        finally:
            parent.kill()


def test_the_folder_for_temporary_files_may_have_a_long_name(tmp_path: Path) -> None:
    """The path of a unix socket has room for 107 bytes."""
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    env = {**os.environ, "TMPDIR": str(folder)}
    done = run(written(tmp_path, "def test_it():\n    pass\n"), deadline=soon(), cwd=ROOT, env=env)
    assert done.stdout.endswith("status 0\n")


def test_an_interrupt_reaches_the_workers(tmp_path: Path) -> None:
    """Ctrl-C goes to the process group: a worker that sleeps in a test is woken, and ends."""
    # A worker that is known is in the block that notes the interrupt.
    tests = HANGS.replace(
        "    time.sleep(600)\n\n",
        "    time.sleep(600)\n\n"
        "def noted():\n"
        "    try:\n"
        "        note()\n"
        "    except KeyboardInterrupt:\n"
        "        name = f'interrupted-{os.getpid()}'\n"
        "        Path(__file__).with_name(name).write_text(str(os.getpid()))\n"
        "        raise\n\n",
    ).replace("():\n    note()\n", "():\n    noted()\n")
    with subprocess.Popen(
        written(tmp_path, tests), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
    ) as parent:
        try:
            workers = pids_in(tmp_path, "worker", 2)
            os.killpg(parent.pid, signal.SIGINT)
            assert sorted(pids_in(tmp_path, "interrupted", 2)) == sorted(workers)
            parent.wait(300)
            assert not any(is_running(pid) for pid in workers)
        finally:
            parent.kill()


def children_of(pid: int) -> list[int]:
    text = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(word) for word in text.split()]
