# SPDX-License-Identifier: GPL-2.0-only
"""The lines to a guest that QEMU has from its start on: to the agent, and to SSH's server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import LostConnection
from harness.vm.guest.agent_line import AgentLine
from harness.vm.guest.port_line import PortLine
from harness.vm.guest.qemu import AGENT_PORT_ID, SSH_PORT_ID
from harness.vm.guest.serial_line import SerialLine
from harness.vm.guest.ssh_exchange import KeptExchange, RepeatedExchange

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from harness.vm.guest.ssh_exchange import ExchangeLine, SshExchange


class Lines:
    """Both ends of them, made before QEMU starts. A guest that is recorded has no line for SSH."""

    def __init__(self, folder: Path, *, recorded: bool) -> None:
        self.agent: AgentLine | SerialLine
        self._ssh: PortLine | None
        self._ports: dict[str, PortLine]
        self._all: tuple[PortLine | SerialLine, ...]
        self._exchange: ExchangeLine | None = None
        if recorded:
            self.agent, self._ssh, self._ports = SerialLine(folder / "agent"), None, {}
            self._all = (self.agent,)
        else:
            self.agent, self._ssh = AgentLine(), PortLine()
            self._ports = {AGENT_PORT_ID: self.agent, SSH_PORT_ID: self._ssh}
            self._all = (self.agent, self._ssh)

    @property
    def ssh_fd(self) -> int | None:
        """The descriptor of QEMU's end of SSH's line, until QEMU has started."""
        return None if self._ssh is None else self._ssh.fd

    def keep_exchange(self) -> KeptExchange:
        """Let whoever takes SSH's line keep the exchange there, in what is returned.

        Raises LostConnection when the guest has closed the line.
        """
        if self._ssh is None:
            raise LostConnection("the guest has closed the line to its SSH server")
        self._exchange = kept = KeptExchange(self._ssh.ours)
        return kept

    def repeat_exchange(self, exchange: SshExchange) -> None:
        """Say that SSH's server has already had that exchange."""
        assert self._ssh is not None
        self._exchange = RepeatedExchange(self._ssh.ours, exchange)

    def take_ssh(self) -> socket.socket | ExchangeLine | None:
        """Return the connection to SSH's server, which is there for one client, and once."""
        taken, self._ssh = self._ssh, None
        return None if taken is None else self._exchange or taken.ours

    def started(self) -> None:
        """Close QEMU's ends here: QEMU has them."""
        for line in self._all:
            line.started()

    def end(self, port: str) -> None:
        """End the line to the virtio port with that id: it was closed in the guest."""
        self._ports[port].end()
        if port == SSH_PORT_ID:
            self._ssh = None

    def remove(self) -> None:
        """Close both ends, once nobody reads any more."""
        for line in self._all:
            line.remove()
