# SPDX-License-Identifier: GPL-2.0-only
"""What execnet starts as a worker: it has the server fork the worker, which gets its streams.

It ends when the worker does, and the worker is killed when this process is: execnet, which knows
this process alone, may wait for it and kill it.
"""

import os
import signal
import socket
import sys

STREAMS = (0, 1, 2)


def main(place: str) -> None:
    """Ask the server at ``place``, the path of its socket, and wait for the worker's end."""
    # Ctrl-C is for the worker: this process ends after it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(place)
        socket.send_fds(server, [b"\0"], STREAMS)
        # The worker alone has them now, so that execnet sees when it closes them.
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        server.recv(1)


if __name__ == "__main__":
    main(sys.argv[1])
