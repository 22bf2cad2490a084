# SPDX-License-Identifier: GPL-2.0-only
"""A file from a web server, whole or not at all."""

from __future__ import annotations

import errno
import http.client
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from harness.errors import DownloadFailed
from harness.inputs import shown

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.kernel.progress import Progress

_READ_TIMEOUT_S = 30.0
_BLOCK = 1 << 20


def fetch(
    url: str,
    file: Path,
    deadline: Deadline,
    progress: Progress,
    *,
    at_most: int | None = None,
) -> None:
    """Write what an http or https URL has to a file; ``at_most`` is in bytes.

    Raises DownloadFailed, and OSError when the disk is full.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "klp-harness"})  # noqa: S310
    try:
        with (
            # The callers let http and https through and nothing else.
            urllib.request.urlopen(request, timeout=_READ_TIMEOUT_S) as answer,  # noqa: S310
            file.open("wb") as out,
        ):
            said = str(answer.headers.get("Content-Length") or 0)
            length = int(said) if said.isdecimal() else 0
            done = 0
            while block := answer.read(_BLOCK):
                out.write(block)
                done += len(block)
                progress.count(done >> 20, max(done, length) >> 20 if length else None, "MiB")
                if at_most is not None and done > at_most:
                    raise DownloadFailed(f"{url} has more than {at_most >> 20} MiB: no such file")
                if deadline.expired:
                    raise DownloadFailed(f"{url} was not fetched in time")
    except urllib.error.HTTPError as error:
        raise DownloadFailed(f"{url}: the server answers {error.code} {error.reason}") from error
    # http.client raises exceptions of its own for what is no HTTP, urllib a ValueError for what is
    # no address, and a redirection may lead to either.
    except (OSError, http.client.HTTPException, ValueError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = getattr(error, "reason", error)
        raise DownloadFailed(f"{url} cannot be fetched: {shown(reason)}") from error
    if length and done != length:
        raise DownloadFailed(f"{url} ended after {done} of {length} bytes")
