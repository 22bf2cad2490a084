# SPDX-License-Identifier: GPL-2.0-only
"""Forks a worker for each request, in a copy of the command's process.

That has imported what workers need: pytest, and the package of the plugin, which this module is in.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import inspect
import os
import platform
import signal
import socket
import sys
import threading

from execnet import gateway_base

from harness.behaviours.table import load_table
from harness.errors import HarnessError
from harness.klog.policy import default_policy
from harness.log import be_silent
from harness.pytest_plugin.fork_server.request import STREAMS
from harness.vm.host.process import die_with_parent
from harness.vm.kernel.toolchain import find_toolchain


def next_worker(listening: socket.socket) -> socket.socket:
    """Fork a worker for each request; return only in a worker: the connection to who requested it.

    The server ends when it is killed, and with it every worker.
    """
    server = os.getpid()
    # Nobody waits for workers here.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listening.accept()
        _, streams, _, _ = socket.recv_fds(connection, 1, len(STREAMS))
        if len(streams) == len(STREAMS) and os.fork() == 0:
            die_with_parent(server)
            listening.close()
            for stream, own in zip(streams, STREAMS, strict=True):
                os.dup2(stream, own)
                os.close(stream)
            return connection
        connection.close()
        for stream in streams:
            os.close(stream)


def serve(connection: socket.socket) -> None:
    """Be the worker that execnet wants: read from standard input what to run, and run it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # `forked` has blocked it, for the server.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with, args=(connection,), name="request", daemon=True).start()
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.argv = ["-c"]
    text: str = ast.literal_eval(sys.stdin.readline())
    # The text of the module that is imported here comes before what is to be done with it.
    rest = text.removeprefix(inspect.getsource(gateway_base))
    exec(compile(rest, "<execnet>", "exec"), dict(vars(gateway_base)))  # noqa: S102


def _end_with(connection: socket.socket) -> None:
    """End this process at once when the process that has requested it is gone."""
    connection.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


def _look_up() -> None:
    """Look up what each worker would else look up for itself; all of it is kept in memory."""
    # xdist and pytest run uname(1) for it, whoever looks for built modules gcc and ld.
    platform.platform()
    # What cannot be had is an error of the test that needs it.
    for look in (find_toolchain, default_policy, load_table):
        with contextlib.suppress(HarnessError):
            look()


def serve_at(listening: socket.socket) -> None:
    """Serve requests at that socket; returns in each worker alone, at its end.

    The log is silent in workers, as for a library: what they report goes through pytest.
    """
    be_silent()
    _look_up()
    # A worker's collector must not touch, and so copy, what is there now.
    gc.freeze()
    serve(next_worker(listening))
