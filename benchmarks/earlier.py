# SPDX-License-Identifier: GPL-2.0-only
"""Figures of earlier runs on the same kind of machine: kept one run a line, and compared with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from harness.resources import runs_root

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.figures import Figure

_CPUINFO = Path("/proc/cpuinfo")


def record_path() -> Path:
    """Return the file of all runs on this machine, beside the folder with the logs of guests."""
    return runs_root().parent / "bench.jsonl"


def machine_kind(*, cores: float, accel: str, kernel: str) -> str:
    """Return what decides whether figures can be compared: processor, cores, accelerator, kernel.

    ``kernel`` is its release: what differs between two builds of one may be what is measured.
    """
    return f"{processor(_CPUINFO.read_text(errors='replace'))}, {cores:g} cores, {accel}, {kernel}"


def processor(cpuinfo: str) -> str:
    """Return the name of the processor in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "a processor without a name"


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The latest value of each figure on one kind of machine, and the day of its run.

    ``unread`` says what of the file cannot be read; it is empty when all can.
    """

    values: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    unread: str = ""

    def since(self, figure: Figure) -> str:
        """Return in words what the figure was; nothing when it was not measured before."""
        if figure.id not in self.values:
            return ""
        value, day = self.values[figure.id]
        change = f" ({figure.value / value - 1:+.1%} now)" if value else ""
        return f"; it was {value:.3g} on {day}{change}"


def read_earlier(path: Path, kind: str) -> Earlier:
    """Return the latest figures of a kind of machine; none without a file."""
    values: dict[str, tuple[float, str]] = {}
    damaged = 0
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return Earlier()
    except OSError as error:
        return Earlier(unread=str(error))
    for line in lines:
        try:
            run = json.loads(line)
            if run["machine"] == kind:
                day = str(run["at"])[:10]
                values |= {name: (float(value), day) for name, value in run["figures"].items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            damaged += 1
    unread = f"{path} has damaged lines: {damaged}" if damaged else ""
    return Earlier(values=values, unread=unread)


def keep(path: Path, kind: str, figures: Mapping[str, float]) -> None:
    """Add the figures of a run that ends now as one line. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"at": at, "machine": kind, "figures": dict(figures)}, sort_keys=True)
    with FileLock(path.with_suffix(".lock")):
        text = path.read_bytes() if path.exists() else b""
        # A line that was cut off, by a full disk for example, must not take this one with it.
        start = "" if not text or text.endswith(b"\n") else "\n"
        with path.open("a") as file:
            file.write(f"{start}{line}\n")
