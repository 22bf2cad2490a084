# SPDX-License-Identifier: GPL-2.0-only
"""What a guest is to its user: fresh, private, cut off from any network, and the same each way."""

from __future__ import annotations

import errno
import os
import pwd
import re
import signal
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError, ModuleRefused
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from harness.vm.guest.events import GuestEvents
from harness.vm.guest.session import Fresh, Session
from harness.vm.guest.snapshot import restored_guest
from harness.vm.guest.ssh import connect, reach

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Kernel

MODULE = "klp_test_cmdline_a"


@pytest.mark.slow(7)
@pytest.mark.parametrize("fresh", list(Fresh))
def test_both_ways_of_freshness_give_the_same(
    kernel: Kernel, klp_session: Session, sample_modules: Mapping[str, Path], fresh: Fresh
) -> None:
    """A restored guest and a booted one go through the same transition with the same result."""
    with klp_session.guest(kernel, name=f"fresh-{fresh}", fresh=fresh) as machine:
        livepatch = Livepatch(machine, modules=sample_modules)
        patch = livepatch.load(MODULE, wait=True)
        seen = [machine.read("/proc/cmdline")]
        assert Tasks(machine).states() == {PatchState.UNDEFINED}
        patch.disable()
        patch.unload()
        seen.append(machine.read("/proc/cmdline"))
        machine.check_splats()
    assert seen[0] == f"{MODULE}: this has been live patched\n"
    assert seen[1].startswith("console=ttyS0 ")


def test_guests_do_not_see_each_other(
    kernel: Kernel, klp_session: Session, sample_modules: Mapping[str, Path]
) -> None:
    """Two guests of one template share no memory: what one changes the other does not have."""
    with (
        klp_session.guest(kernel, name="one") as one,
        klp_session.guest(kernel, name="two") as two,
    ):
        Livepatch(one, modules=sample_modules).load(MODULE, wait=True)
        one.run(["touch", "/tmp/mark"])
        assert MODULE in one.read("/proc/cmdline")
        assert MODULE not in two.read("/proc/cmdline")
        with pytest.raises(FileNotFoundError):
            two.stat("/tmp/mark")
    with klp_session.guest(kernel, name="three") as three, pytest.raises(FileNotFoundError):
        three.stat("/tmp/mark")


def test_the_clock_is_fine_and_goes_on_without_interrupts(guest: Machine) -> None:
    """Timers of a nanosecond, of a clock that a CPU with its interrupts off does not stop."""
    resolutions = re.findall(r"\.resolution: *(.+)", guest.read("/proc/timer_list"))
    assert set(resolutions) == {"1 nsecs"}
    clock = guest.read("/sys/devices/system/clocksource/clocksource0/current_clocksource").strip()
    assert "jiffies" not in clock


@pytest.mark.slow(7)
@pytest.mark.smp(6)
def test_cpus_by_marker(guest: Machine) -> None:
    """A test that asks for six CPUs gets six."""
    assert guest.run(["nproc"]).stdout.strip() == "6"


def test_command_that_never_reads_its_input(guest: Machine) -> None:
    """Input beyond what the channel holds is dropped when its command ends, as in a pipe."""
    for command, code in (("true", 0), ("false", 1)):
        assert guest.run([command], stdin="x" * (8 << 20)).code == code
    assert guest.run(["wc", "-c"], stdin="x" * (8 << 20)).stdout.split() == [str(8 << 20)]


def test_guest_reaches_no_network(guest: Machine) -> None:
    """A guest reaches neither the host nor beyond, though it has a network card."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for address in ("10.0.2.2", "10.0.2.3"):
            ran = guest.run(["nc", "-w", "2", address, str(port)], stdin="hello\n")
            assert not ran.ok
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def test_ssh_listens_on_loopback_only(guest: Machine) -> None:
    """The port forwarded to the guest's SSH is bound to 127.0.0.1 and to nothing else."""
    port = guest.hypervisor.monitor.ssh_port(deadline=guest.scaled(5))
    with open("/proc/net/tcp", encoding="ascii") as table:  # noqa: PTH123
        bound = [line.split()[1] for line in table if line.split()[3] == "0A"]
    ours = [address for address in bound if int(address.split(":")[1], 16) == port]
    assert ours == [f"0100007F:{port:04X}"]


def ssh_connections(guest: Machine) -> int:
    """Return how many connections the guest has at its SSH port."""
    rows = [line.split() for line in guest.read("/proc/net/tcp").splitlines()[1:]]
    return sum(row[1].endswith(":0016") and row[3] == "01" for row in rows)


def said(guest: Machine) -> bytes:
    channel = guest.pipe(["echo", "hello"])
    channel.shutdown_write()
    return b"".join(iter(lambda: channel.recv(1 << 10), b""))


def test_ssh_takes_the_line_of_its_own_first(guest: Machine) -> None:
    """The first connection is none of TCP; the next one is, since the line is there once."""
    assert said(guest) == b"hello\n"
    assert ssh_connections(guest) == 0
    assert guest.end_ssh()
    assert said(guest) == b"hello\n"
    assert ssh_connections(guest) == 1


def test_a_template_in_which_ssh_was_used(
    kernel: Kernel, klp_session: Session, guest: Machine
) -> None:
    """In its guests the line is used up, and the first connection is one of TCP."""
    scale, deadline = guest.time_scale, guest.scaled(60)

    def change(machine: Machine) -> None:
        machine.ssh()

    with klp_session.changed(kernel, change, name="with-ssh") as saved:
        clone = klp_session.clone(kernel, saved, name="of-that")
        with restored_guest(clone, guest.keys, time_scale=scale, deadline=deadline) as machine:
            assert said(machine) == b"hello\n"
            assert ssh_connections(machine) == 1


def servers(guest: Machine) -> list[str]:
    """Return the process ids of all SSH servers of the guest."""
    return guest.run(["pidof", "dropbear"]).stdout.split()


def test_ssh_from_the_template(kernel: Kernel, klp_session: Session) -> None:
    """Each of its guests has the template's connection: the same server, and none of TCP.

    Another process finds the template with its connection; once that has ended there is TCP.
    """
    found = []
    with Session(klp_session.folder, klp_session.settings, klp_session.store) as another:
        for session in (klp_session, klp_session, another):
            with session.guest(kernel, name="ssh", ssh=True) as machine:
                before = servers(machine)
                machine.ssh()
                assert servers(machine) == before
                assert said(machine) == b"hello\n"
                assert ssh_connections(machine) == 0
                assert machine.end_ssh()
                assert said(machine) == b"hello\n"
                assert ssh_connections(machine) == 1
                found.append(before)
    assert found == [found[0]] * 3
    assert len(found[0]) == 1


def test_another_host_key_is_refused(guest: Machine) -> None:
    """A host key that is not this run's ends the connection: harness error, not a verdict."""
    keys = guest.keys
    other = replace(keys, host_public=keys.client_public)
    port = guest.hypervisor.monitor.ssh_port(deadline=guest.scaled(5))
    reached = reach(port, guest.scaled(5))
    with pytest.raises(HarnessError, match="host key"):
        connect(reached, other, events=GuestEvents(), deadline=guest.scaled(10))


def test_files_of_a_run_are_private(guest: Machine, klp_session: Session) -> None:
    """Nobody but the user can look into a run's folder, where keys and consoles lie."""
    folder = klp_session.folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "client_key").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "initrd").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("content", "number"),
    [(b"no module", errno.ENOEXEC), (b"", errno.EINVAL), (None, errno.ENOEXEC)],
    ids=["text", "empty", "truncated"],
)
def test_kernel_refuses_what_is_no_module(
    guest: Machine,
    sample_modules: Mapping[str, Path],
    tmp_path: Path,
    content: bytes | None,
    number: int,
) -> None:
    """The guest layer sends any file; the kernel's own refusal comes back with its errno."""
    path = tmp_path / "klp_broken.ko"
    whole = sample_modules[MODULE].read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ModuleRefused) as refused:
        guest.insmod(guest.upload(path))
    assert refused.value.errno == number


def test_file_errors_are_the_guests(guest: Machine) -> None:
    """File operations raise OSError with the errno that the guest's kernel gave."""
    with pytest.raises(FileNotFoundError, match="/nowhere"):
        guest.read("/nowhere")
    with pytest.raises(IsADirectoryError):
        guest.read("/proc")
    with pytest.raises(OSError, match="/proc/version") as raised:
        guest.write("/proc/version", "x")
    assert raised.value.errno == errno.EIO


def test_a_file_that_is_too_large_is_not_read_in_part(guest: Machine) -> None:
    """A test that looks for something in it would not find what comes later."""
    guest.run(["dd", "if=/dev/zero", "of=/tmp/large", "bs=1024", "count=1024"])
    assert len(guest.read("/tmp/large")) == 1 << 20
    guest.run(["sh", "-c", "echo >>/tmp/large"])
    with pytest.raises(HarnessError, match="/tmp/large in the guest has more than 1 MiB"):
        guest.read("/tmp/large")


def test_output_larger_than_any_buffer(guest: Machine) -> None:
    """Both outputs of a command are drained together, beyond SSH's window of 2 MiB."""
    script = "dd if=/dev/zero bs=4096 count=700; dd if=/dev/zero bs=4096 count=700 >&2"
    ran = guest.run(["sh", "-c", script], deadline=guest.scaled(60))
    assert ran.ok
    assert len(ran.stdout) == 700 * 4096
    assert ran.stderr.count("\0") == 700 * 4096


def test_arguments_arrive_as_they_are(guest: Machine) -> None:
    """Arguments with spaces, quotes and shell characters reach the program unchanged."""
    arguments = ["a b", "it's", '"', "$HOME", "*", ";", "", "ü"]
    ran = guest.run(["printf", "%s\\n", *arguments])
    assert ran.stdout.splitlines() == arguments


def test_command_killed_by_a_signal(guest: Machine) -> None:
    """A command that a signal ended has no exit code of 0, and the guest goes on."""
    assert guest.run(["sh", "-c", "kill -9 $$"]).code == -signal.SIGKILL
    assert guest.run(["true"]).ok


def test_output_of_a_command(guest: Machine) -> None:
    """Both outputs are as they were written, also a last line without its newline."""
    ran = guest.run(["sh", "-c", r"printf 'a\n\nb'; echo oh >&2"])
    assert (ran.stdout, ran.stderr) == ("a\n\nb", "oh\n")


def test_command_that_is_not_there(guest: Machine) -> None:
    """It ends as in a shell."""
    ran = guest.run(["no-such-command"])
    assert (ran.code, ran.stderr) == (127, "no-such-command: not found\n")
    assert guest.run(["/proc/version"]).code == 126


def test_what_was_started_goes_on_without_its_user(kernel: Kernel, klp_session: Session) -> None:
    """The agent stays when its port is closed, and takes what its programs say."""
    script = "while [ ! -e /tmp/go ]; do usleep 10000; done; yes | head -c 4194304; touch /tmp/said"
    with klp_session.guest(kernel, name="left") as machine:
        machine.spawn("sh", "-c", script)
        machine.disconnect()
        wait = "touch /tmp/go; while [ ! -e /tmp/said ]; do usleep 10000; done; echo done"
        channel = machine.pipe(["sh", "-c", wait])
        channel.settimeout(machine.scaled(30).remaining_s)
        assert channel.recv(1 << 10) == b"done\n"


def test_wait_looks_when_the_kernel_logs_something(guest: Machine) -> None:
    """However long its interval is."""
    limit, an_hour = "/proc/sys/kernel/threads-max", str(3600 * 1000)
    guest.write(limit, "20000\n")
    words = ("poll-file", limit, "equals", "20001", an_hour, an_hour)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(guest.request, *words, deadline=guest.scaled(30))
        assert guest.run(["sh", "-c", f"echo 20001 >{limit}; echo done >/dev/kmsg"]).ok
        assert waiting.result()["text"] == "20001"


def test_spawned_program_speaks_in_lines(guest: Machine) -> None:
    """A spawned program's lines, input, exit code and signals go both ways."""
    deadline = guest.scaled(10)
    cat = guest.spawn("cat")
    cat.write_line("one")
    assert cat.next_line(deadline) == "one"
    cat.close_stdin()
    assert cat.wait(deadline) == 0
    with pytest.raises(EOFError):
        cat.next_line(deadline)
    sleeper = guest.spawn("sleep", "1000")
    sleeper.signal(9)
    assert sleeper.wait(deadline) == -9
    with pytest.raises(FileNotFoundError):
        guest.spawn("klp-no-such-program")


def test_kernel_release_is_the_kernels(guest: Machine, kernel: Kernel) -> None:
    """The guest runs the kernel that the run's header names."""
    assert guest.run(["uname", "-r"]).stdout.strip() == kernel.version
    assert re.match(r"\d+\.\d+", kernel.version)


def test_stall_detectors_wait_as_long_as_deadlines(guest: Machine) -> None:
    """A busy host, on which deadlines are longer, is no stall of the kernel's."""
    parameters = "/sys/module/rcupdate/parameters"
    stall_s = min(300, round(21 * guest.time_scale))
    assert int(guest.read(f"{parameters}/rcu_cpu_stall_timeout")) == stall_s
    thresh_s = min(60, round(10 * guest.time_scale))
    assert int(guest.read("/proc/sys/kernel/watchdog_thresh")) == thresh_s


@pytest.mark.parametrize("fresh", list(Fresh))
def test_qemu_has_no_rights_of_root(kernel: Kernel, klp_session: Session, fresh: Fresh) -> None:
    """Where root runs the harness, QEMU runs as nobody, without a capability, and dies with us."""
    if os.geteuid() != 0:
        pytest.skip("this user has no rights to give up")
    with klp_session.guest(kernel, name=f"rights-{fresh}", fresh=fresh) as machine:
        status = Path(f"/proc/{machine.hypervisor.pid}/status").read_text(encoding="ascii")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert machine.run(["true"]).ok
    nobody = str(pwd.getpwnam("nobody").pw_uid)
    assert fields["Uid"].split() == [nobody] * 4
    assert {int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert "0" not in fields["Groups"].split()
