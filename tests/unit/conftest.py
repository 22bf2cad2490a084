# SPDX-License-Identifier: GPL-2.0-only
"""A kernel source tree that builds in milliseconds, and a cache of its own for each test."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.log import LOGGER
from harness.vm.host.cache import Store
from tests.unit.speaking_agent import Agent, build, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """A command that ran in this process leaves its log handler, and the stream of it is closed."""
    handlers, level, propagate = LOGGER.handlers[:], LOGGER.level, LOGGER.propagate
    yield
    LOGGER.handlers[:], LOGGER.propagate = handlers, propagate
    LOGGER.setLevel(level)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty cache."""
    return Store(tmp_path / "cache")


@pytest.fixture
def soon() -> Deadline:
    """A deadline that a test meets easily, and that ends it when something hangs."""
    return Deadline.after(60)


@pytest.fixture
def fake_tree(tmp_path: Path) -> Path:
    """A copy of the fake kernel tree; a file ``broken`` in it makes its build fail."""
    return Path(shutil.copytree(DATA / "fake-kernel", tmp_path / "fake-kernel"))


@pytest.fixture
def guest_fragment(tmp_path: Path) -> Path:
    """A fragment with what every guest needs, all of which the fake tree knows."""
    from harness.vm.kernel.requirements import GUEST_NEEDS

    path = tmp_path / "guest.config"
    path.write_text("".join(f"CONFIG_{name}=y\n" for name in GUEST_NEEDS))
    return path


class Recorder:
    """A Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.counts: list[tuple[int, int | None, str]] = []

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def count(self, done: int, total: int | None, what: str) -> None:
        self.counts.append((done, total, what))


@pytest.fixture
def recorder() -> Recorder:
    """A Progress to look into."""
    return Recorder()


@pytest.fixture
def in_child(tmp_path: Path) -> Callable[[Callable[[], object]], int]:
    """Run a function in a forked process and return its pid; the test waits for it.

    Temporary files that it leaves, because it is killed, go with those of the test.
    """

    def start(work: Callable[[], object]) -> int:
        pid = os.fork()
        if pid == 0:
            code = 1
            tempfile.tempdir = str(tmp_path)
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        return pid

    return start


@pytest.fixture(scope="session")
def agent_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest agent, built once for all tests of a run."""
    folder = tmp_path_factory.getbasetemp() / "guest-programs"
    build(folder, "klp-agent")
    return folder / "klp-agent"


@pytest.fixture
def agent(agent_program: Path) -> Iterator[Agent]:
    """A guest agent that runs on the host."""
    with started(agent_program) as agent:
        yield agent


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A file whose reader blocks in the kernel until somebody writes."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An empty file, whose name needs quoting in a request."""
    path = tmp_path / "a file, 100%"
    path.write_bytes(b"")
    return path
