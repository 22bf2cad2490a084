# SPDX-License-Identifier: GPL-2.0-only
"""What the host refuses is neither a bug of the harness nor a verdict on a kernel."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from harness.cli.host_errors import as_host_failure
from harness.errors import HarnessError, KernelBuildFailed, NoSpace, UsageError
from harness.vm.guest.agent import check_reply
from harness.vm.kernel.make_log import build_failure
from harness.vm.kernel.tree import unreadable


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_space(number: int) -> None:
    """A quota that is used up is a full disk, too."""
    failure = as_host_failure(OSError(number, os.strerror(number), "/a/file"))
    assert isinstance(failure, NoSpace)
    assert "/a/file" in failure.message


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.ENOTDIR, errno.EIO, errno.EMFILE, errno.EAGAIN, errno.EROFS]
)
def test_refusals_are_the_hosts(number: int) -> None:
    """Rights, limits and a disk that fails are no bugs of the harness."""
    failure = as_host_failure(OSError(number, os.strerror(number), "/a/file"))
    assert type(failure) is HarnessError
    assert failure.hint


def test_a_bug_stays_a_bug() -> None:
    """A file that the harness expected and that is not there was its own mistake."""
    assert as_host_failure(FileNotFoundError(errno.ENOENT, "gone", "/a/file")) is None
    assert as_host_failure(OSError("without a number")) is None


def test_what_the_guest_refuses_is_not_the_hosts() -> None:
    """EACCES of a file in the guest must not read as EACCES of one on the host."""
    with pytest.raises(OSError, match="denied") as refused:
        check_reply({"id": 1, "errno": errno.EACCES, "error": "denied"}, "/sys/a")
    assert as_host_failure(refused.value) is None


@pytest.mark.parametrize(
    "line",
    [
        "make[2]: fork: Resource temporarily unavailable",
        "fixdep: error opening file: kernel/.fork.o.d: Too many open files",
        "/usr/bin/ld: final link failed: Input/output error",
        "cc1: error: cannot open 'x.o' for writing: Read-only file system",
        "as: out.o: Stale file handle.",
    ],
)
def test_a_build_that_the_host_ends_is_no_verdict(line: str, tmp_path: Path) -> None:
    """What only the host can answer to make or the compiler says nothing about the sources."""
    lines = ["  CC      kernel/fork.o", line, "make: *** [Makefile:1: all] Error 2"]
    failure = build_failure("a kernel", lines, tmp_path / "log")
    assert type(failure) is HarnessError
    assert line.strip() in failure.details


@pytest.mark.parametrize(
    "line",
    [
        "kernel/fork.c:3:1: error: expected ';' before 'Input'",
        'kernel/a.c:3:9: error: #error "Input/output error" is no option',
        "kernel/a.c:7:2: error: 'Too many open files' undeclared",
    ],
)
def test_a_build_that_the_sources_end_is_one(line: str, tmp_path: Path) -> None:
    """The same words in the sources do not excuse them."""
    failure = build_failure("a kernel", [line, "make: *** [x] Error 1"], tmp_path / "log")
    assert isinstance(failure, KernelBuildFailed)


def test_an_unreadable_folder_is_not_left_out() -> None:
    """os.walk() leaves it out, and what is built without it fails as if the sources were wrong."""
    with pytest.raises(UsageError, match="/a cannot be read"):
        unreadable(PermissionError(errno.EACCES, "denied", "/a"))
    with pytest.raises(HarnessError, match="/a cannot be read") as failed:
        unreadable(OSError(errno.EIO, "broken", "/a"))
    assert not isinstance(failed.value, UsageError)
