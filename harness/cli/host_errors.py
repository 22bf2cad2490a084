# SPDX-License-Identifier: GPL-2.0-only
"""Errors of the host's system calls that no code nearer to them has explained."""

from __future__ import annotations

import errno
import os

from harness.errors import HarnessError, NoSpace, is_of_guest

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
# What a file system, a limit or a lack of rights answers, whatever was done: no bug of the harness.
_OF_HOST = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EFBIG),
    *(errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.EBUSY, errno.ETXTBSY, errno.ENOLCK),
}
_HINTS = {
    errno.EMFILE: "raise the limit of open files: ulimit -n",
    errno.ENFILE: "the system has too many open files",
    errno.ENOMEM: "there is too little memory: --guests 1 needs less",
    errno.EAGAIN: "raise the limit of processes: ulimit -u, or the cgroup's pids.max",
    errno.EIO: "the disk may be failing; see the host's kernel log",
}
_DISK_HINT = (
    "`klp-harness doctor` looks at the folders of the harness; KLP_HARNESS_CACHE and "
    "KLP_HARNESS_RUNS move them, TMPDIR those of temporary files"
)


def as_host_failure(error: OSError) -> HarnessError | None:
    """Return an error of a system call as a failure of the host; None: it is something else.

    NoSpace for a full disk and an exhausted quota.
    """
    if error.errno is None or is_of_guest(error):
        return None
    about = f"{error.filename}: " if error.filename is not None else ""
    reason = f"{about}{os.strerror(error.errno)}"
    if error.errno in _NO_SPACE:
        return NoSpace(
            f"no space is left on the disk: {reason}",
            hint="`klp-harness kernel prune` removes kernels that are not in use",
        )
    if error.errno not in _OF_HOST:
        return None
    return HarnessError(f"the host refuses: {reason}", hint=_HINTS.get(error.errno, _DISK_HINT))
