# SPDX-License-Identifier: GPL-2.0-only
"""Starts the fork server of a run, for as long as the run's workers need it."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.pytest_plugin.fork_server import request
from harness.pytest_plugin.fork_server.server import serve_at
from harness.vm.host.forked import forked
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

# More than any host runs at a time.
_BACKLOG = 128


@contextlib.contextmanager
def fork_server() -> Iterator[str]:
    """Give the value of xdist's ``--tx`` for one worker, which a server forks.

    Workers are copies of this process as it is now: they have what it has imported, its
    environment, working directory and process group, so Ctrl-C reaches them. All are killed with
    the server when the context ends, or when this thread does. To be called while there are no
    other threads. Raises HarnessError when the host cannot start a process.
    """
    with (
        temporary_folder("workers") as folder,
        contextlib.ExitStack() as opened,
        socket.socket(socket.AF_UNIX) as listening,
    ):
        # By a descriptor of the folder: the path of a unix socket must not be long.
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, descriptor)
        place = f"/proc/{os.getpid()}/fd/{descriptor}/server"
        listening.bind(place)
        listening.listen(_BACKLOG)
        with forked(lambda: serve_at(listening)):
            # The server's alone: where that has ended, a request fails, and does not wait.
            listening.close()
            # Isolated and without site: it needs the standard library alone.
            words = [sys.executable, "-I", "-S", str(Path(request.__file__)), place]
            yield f"popen//python={shlex.join(words)}"
