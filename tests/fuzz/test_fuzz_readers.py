# SPDX-License-Identifier: GPL-2.0-only
"""Every reader of text from outside takes anything: it ends soon, and raises what it may.

`make check` takes the same inputs each time. KLP_FUZZ=soak takes others, and many more;
`python -m tests.fuzz --seconds N` is the quickest way to millions.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.deadline import Deadline
from harness.errors import KlpError
from harness.vm.guest.agent import AgentClient
from harness.vm.guest.events import GuestEvents
from tests.fuzz.hostile import shapes
from tests.fuzz.mutate import mutated
from tests.fuzz.reader import Target
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

SOAK = os.environ.get("KLP_FUZZ") == "soak"
settings.register_profile(
    "fuzz",
    max_examples=50_000 if SOAK else 120,
    derandomize=not SOAK,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
FUZZ = settings.get_profile("fuzz")
# A reader of linear cost takes less than a second of CPU time for this; one that takes the square
# of the size, hours.
LARGE_BYTES = 1 << 20
MOST_CPU_S = 20.0

SEEDS = st.integers(min_value=0, max_value=2**64)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_changed_samples(target: Target) -> None:
    """Good text that was damaged, cut off or mixed raises nothing but what the reader may raise."""
    samples = target.samples()

    @given(SEEDS)
    @FUZZ
    def check(seed: int) -> None:
        target.take(mutated(random.Random(seed), samples))

    check()


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_any_bytes(target: Target) -> None:
    """So do bytes that are no text at all."""

    @given(st.binary(max_size=400))
    @FUZZ
    def check(data: bytes) -> None:
        target.take(data)

    check()


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_samples_are_read(target: Target) -> None:
    """A sample as it is raises nothing: otherwise its changed forms would never reach far."""
    for sample in target.samples()[:20]:
        if target.name not in _REFUSED_SAMPLES:
            target.read(sample)


# Cut off at a size, or naming what is not there.
_REFUSED_SAMPLES = {"spec", "patch", "mutant", "version", "policy"}


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_cost_is_linear(target: Target) -> None:
    """A megabyte of any shape is read in little CPU time, however often it makes one look back."""
    for name, data in shapes(LARGE_BYTES if SOAK else LARGE_BYTES // 8, target.samples()):
        start_s = time.thread_time()
        target.take(data)
        spent_s = time.thread_time() - start_s
        assert spent_s < MOST_CPU_S, f"{target}, {name}: {spent_s:.1f} s"


class Talker:
    """A stream that delivers given bytes in pieces, and ends."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = deque(piece for piece in pieces if piece)
        self.begun = threading.Event()

    def receive(self) -> bytes:
        self.begun.wait(10)
        return self.pieces.popleft() if self.pieces else b""

    def send(self, data: bytes, deadline: Deadline) -> None:
        self.begun.set()

    def close(self) -> None:
        self.begun.set()


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_agent_client_survives_its_guest() -> None:
    """Whatever a guest's agent sends, a request ends with a reply or a failure of the harness."""
    target = next(each for each in TARGETS if each.name == "agent")
    samples = [
        *target.samples(),
        b'{"event":"ready"}\n{"event":"line","pid":3,"stream":"stdout","text":"x"}\n',
        b'{"event":"exit","pid":3,"code":0,"signal":null}\n{"id":1,"errno":0}\n',
    ]

    @given(SEEDS)
    @settings(FUZZ, max_examples=FUZZ.max_examples // 2)
    def check(seed: int) -> None:
        source = random.Random(seed)
        data = b"\n".join(mutated(source, samples) for _ in range(3)) + b"\n"
        cut = source.randrange(len(data))
        client = AgentClient(Talker([data[:cut], data[cut:]]), GuestEvents())
        try:
            client.call("hello", deadline=Deadline.after(20), between=lambda: None)
        except KlpError:
            pass
        finally:
            client.close()
        assert client.ended

    check()
