# SPDX-License-Identifier: GPL-2.0-only
"""An SSH server for tests without a guest: paramiko's own."""

from __future__ import annotations

import threading

import paramiko

EXIT_CODE = 7


class Server(paramiko.ServerInterface):
    """Takes any key, and runs any command: it says the command, and its exit code after that."""

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, command), daemon=True).start()
        return True

    @staticmethod
    def _run(channel: paramiko.Channel, command: bytes) -> None:
        # The client ends its input once it knows that the command has started.
        while channel.recv(1):
            pass
        channel.sendall(command)
        channel.shutdown_write()
        channel.send_exit_status(EXIT_CODE)
        channel.close()
