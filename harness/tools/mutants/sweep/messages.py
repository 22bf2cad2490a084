# SPDX-License-Identifier: GPL-2.0-only
"""What a sweep and its workers say to each other, a line of JSON each."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from harness.report.base import CheckOutcome


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Job(_Message):
    """Tests to run with a mutant on, in this order; unless ``go_on``, up to the first failure.

    ``at_boot``: it is on from the start of the kernel, for which its guests boot.
    """

    number: int
    tests: tuple[str, ...]
    go_on: bool = False
    at_boot: bool = False


class Ran(_Message):
    """How a test ended. ``ended_by``: the class of the error, where it was one of the harness's.

    ``cpu_s`` is the CPU time of its guests on the host, in seconds, and
    ``switch_s`` how long it took to set their switch. ``seen`` is what they have recorded, as the
    kernel writes it.
    """

    kind: Literal["ran"] = "ran"
    test: str
    outcome: CheckOutcome
    seconds: float
    rules: tuple[str, ...] = ()
    reason: str = ""
    ended_by: str | None = None
    cpu_s: float = 0.0
    switch_s: float = 0.0
    seen: tuple[str, ...] = ()


class Ready(_Message):
    """A worker has collected the tests; ``failed`` is why it has not."""

    kind: Literal["ready"] = "ready"
    tests: tuple[str, ...] = ()
    failed: str | None = None


class Done(_Message):
    """A worker has done a job."""

    kind: Literal["done"] = "done"
