# SPDX-License-Identifier: GPL-2.0-only
"""However a test ends, its guest's log is looked at: each way to end, in a pytest of its own."""

from __future__ import annotations

import contextlib
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import GuestPanic, KernelSplat, KlpError, LostConnection, LostGuest
from harness.pytest_plugin import fixtures
from harness.tools.suite.pytest_results import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest

@pytest.fixture(scope="session")
def kernel():
    return pytest.scripted.kernel

@pytest.fixture(scope="session")
def klp_session():
    return pytest.scripted
"""
WARNING = "WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2"
PLAIN = "def test_it(guest):\n    guest.warn()\n"


class ScriptedMachine:
    """A guest that prints what a test wants, and whose log is checked as that of a real one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.splats: list[str] = []
        self.declared: list[re.Pattern[str]] = []
        self.looks = 0
        self.fate: KlpError | None = None
        self.hypervisor: Any = SimpleNamespace(
            unexpected_splats=self._undeclared,
            observed=None,
            console=SimpleNamespace(tail=lambda _lines: tuple(self.splats)),
        )

    def warn(self, text: str = WARNING) -> None:
        self.splats.append(text)

    def panic(self) -> None:
        self.fate = GuestPanic("the guest panicked: it had to", artefacts=self.folder)

    def lose(self, kind: str = "LostGuest") -> None:
        self.fate = {"LostGuest": LostGuest, "LostConnection": LostConnection}[kind]("it is gone")

    def ask(self) -> None:
        """Stand for any request: it raises the guest's fate, or its splat."""
        if self.fate is not None:
            raise self.fate
        if self._undeclared():
            raise KernelSplat(f"splat in the kernel log: {self._undeclared()[0]}")

    def expect_splat(self, pattern: str) -> None:
        self.declared.append(re.compile(pattern))

    def check_splats(self) -> None:
        self.looks += 1
        self.ask()
        unmet = [each for each in self.declared if not any(map(each.search, self.splats))]
        if unmet:
            raise KernelSplat("the splat that was expected did not come")

    def _undeclared(self) -> list[str]:
        return [s for s in self.splats if not any(each.search(s) for each in self.declared)]


class ScriptedSession:
    """Makes such guests; ``made`` are all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keeper = None
        self.made: list[ScriptedMachine] = []
        self.kernel = SimpleNamespace(
            describe=lambda: "6.1", digest="d", config_digest="c", compiler="gcc"
        )

    @contextlib.contextmanager
    def guest(self, _kernel: object, **_: object) -> Iterator[ScriptedMachine]:
        folder = self.folder / f"guest-{len(self.made)}"
        folder.mkdir()
        self.made.append(ScriptedMachine(folder))
        yield self.made[-1]


class Ran:
    """A run of tests: what the command that started it would report."""

    def __init__(self, collector: Collector, session: ScriptedSession, output: str) -> None:
        self.outcomes = [result.outcome.value for result in collector.results()]
        self.details = [result.detail or "" for result in collector.results()]
        self.code = collector.exit_code(0)
        self.session = session
        self.output = output


@pytest.fixture
def ran(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A function that runs a test file, of which the guests are scripted."""
    session = ScriptedSession(tmp_path)
    monkeypatch.setattr(pytest, "scripted", session, raising=False)
    monkeypatch.setattr(
        fixtures, "choose", lambda _: SimpleNamespace(accel="tcg", reason="scripted")
    )
    pytester.makeconftest(CONFTEST)

    def run(text: str, *options: str) -> Ran:
        pytester.makepyfile(f"import pytest\n{text}")
        collector = Collector()
        done = pytester.runpytest_inprocess(
            "-p", "no:xdist", "-p", "no:cacheprovider", *options, plugins=[collector]
        )
        return Ran(collector, session, done.stdout.str())

    return run


ENDINGS = {
    "returns": "pass",
    "skips": "pytest.skip('not today')",
    "xfails": "pytest.xfail('known')",
    "fails": "pytest.fail('no')",
    "asserts": "assert False",
    "raises": "raise OSError('no such file')",
    "times-out": "raise TimeoutError('too late')",
    "exits": "raise SystemExit(0)",
    "refused": "from harness.errors import ModuleRefused; raise ModuleRefused('m', 16)",
    "loses-connection": "from harness.errors import LostConnection; raise LostConnection('gone')",
    "misused": "from harness.errors import UsageError; raise UsageError('wrong')",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize(
    "mark",
    [
        "",
        "@pytest.mark.xfail",
        "@pytest.mark.xfail(strict=False)",
        "@pytest.mark.xfail(raises=(AssertionError, OSError))",
        "@pytest.mark.xfail(strict=True, raises=__import__('harness').errors.KernelVerdict)",
    ],
    ids=["plain", "strict", "lax", "other", "verdict"],
)
def test_a_splat_fails_a_test_however_it_ends(ran: Any, ending: str, mark: str) -> None:
    """Also one that is marked as an expected failure: its splat is not what was expected."""
    done = ran(f"{mark}\ndef test_it(guest):\n    guest.warn()\n    {ending}\n")
    assert done.outcomes == ["failed"]
    assert done.code == 1
    assert f"KernelSplat: splat in the kernel log: {WARNING}" in done.details[0]


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_a_clean_log_changes_no_ending(ran: Any, ending: str) -> None:
    """The look at the log is no ending of its own."""
    alone = ran(f"def test_it(guest):\n    {ending}\n")
    without = ran(f"def test_it():\n    {ending}\n")
    assert alone.outcomes == without.outcomes
    assert alone.code == without.code
    assert alone.session.made[0].looks >= 1


def test_a_splat_while_the_test_waits(ran: Any) -> None:
    """One that a request raises is no expected failure either."""
    done = ran("@pytest.mark.xfail\ndef test_it(guest):\n    guest.warn()\n    guest.ask()\n")
    assert done.outcomes == ["failed"]


def test_a_panic_is_no_expected_failure(ran: Any) -> None:
    """The guest's death is reported, and once: not again when fixtures end."""
    done = ran("@pytest.mark.xfail\ndef test_it(guest):\n    guest.panic()\n    assert False\n")
    assert done.outcomes == ["failed"]
    assert "GuestPanic" in done.details[0]
    assert "1 failed" in done.output
    assert "error" not in done.output.splitlines()[-1]


def test_a_splat_that_is_the_expectation(ran: Any) -> None:
    """A mark that names the class of the splat, and a declared splat, are as the test says."""
    named = "@pytest.mark.xfail(strict=True, raises=__import__('harness').errors.KernelSplat)\n"
    assert ran(f"{named}{PLAIN}").outcomes == ["expected-failure"]
    declared = "@pytest.mark.expect_splat('WARNING')\n"
    assert ran(f"{declared}{PLAIN}    pytest.skip('later')\n").outcomes == ["skipped"]


def test_a_race_that_is_the_expectation(ran: Any) -> None:
    """As FO-06 and FT-06: the reproducer has recognised its own splat in the log."""
    done = ran(
        "from harness.errors import KernelVerdict, RaceShown\n"
        "@pytest.mark.xfail(strict=True, raises=(AssertionError, KernelVerdict))\n"
        f"{PLAIN}    raise RaceShown('as known')\n"
    )
    assert done.outcomes == ["expected-failure"]


def test_what_an_early_end_did_not_come_to(ran: Any) -> None:
    """A declared splat is missed only where the test went to its end."""
    declared = "@pytest.mark.expect_splat('oops')\n"
    assert ran(f"{declared}def test_it(guest): pytest.skip('no')\n").outcomes == ["skipped"]
    done = ran(f"{declared}def test_it(guest): pass\n")
    assert done.outcomes == ["failed"]
    assert "did not come" in done.details[0]


@pytest.mark.parametrize("ending", ["pytest.skip('no')", "pytest.xfail('no')", "assert 0"])
def test_a_splat_in_the_setup_of_a_fixture(ran: Any, ending: str) -> None:
    """A fixture that skips after it has made the guest complain skips nothing."""
    done = ran(
        f"@pytest.fixture\ndef made(guest):\n    guest.warn()\n    {ending}\n"
        "def test_it(made): pass\n"
    )
    assert done.outcomes == ["failed"]
    assert done.code == 1


@pytest.mark.parametrize("mark", ["", "@pytest.mark.xfail", "@pytest.mark.xfail(strict=False)"])
@pytest.mark.parametrize("ending", ["pass", "pytest.skip('no')", "raise OSError('x')"])
def test_a_splat_in_the_teardown_of_a_fixture(ran: Any, mark: str, ending: str) -> None:
    """What fixtures do with the guest after the test is part of it, also where they fail."""
    done = ran(
        f"@pytest.fixture\ndef made(guest):\n    yield\n    guest.warn()\n    {ending}\n"
        f"{mark}\ndef test_it(made): pass\n"
    )
    assert "failed" in done.outcomes
    assert done.code == 1


def test_one_splat_is_reported_once(ran: Any) -> None:
    """A test that failed by its splat has no error of its teardown beside that."""
    done = ran(PLAIN)
    assert done.output.splitlines()[-1].count("1 failed") == 1
    assert "error" not in done.output.splitlines()[-1]


def test_a_second_splat_after_the_first(ran: Any) -> None:
    """A teardown that adds a splat is an error of its own."""
    done = ran(
        "@pytest.fixture\ndef made(guest):\n    yield\n    guest.warn('BUG: another')\n"
        "def test_it(made, guest):\n    guest.warn()\n"
    )
    assert "1 failed, 1 error" in done.output.splitlines()[-1]


@pytest.mark.parametrize("kind", ["LostGuest", "LostConnection"])
@pytest.mark.parametrize("ending", ["pass", "pytest.skip('no')", "pytest.xfail('no')", "assert 0"])
@pytest.mark.parametrize("mark", ["", "@pytest.mark.xfail(strict=False)"])
def test_a_log_that_cannot_be_read_is_not_clean(
    ran: Any, kind: str, ending: str, mark: str
) -> None:
    """What was not seen is never passed or skipped: it is the harness's failure."""
    done = ran(f"{mark}\ndef test_it(guest):\n    guest.lose('{kind}')\n    {ending}\n")
    assert done.outcomes == ["error"]
    assert done.code == 3


def test_a_lost_guest_in_two_teardowns_is_no_verdict(ran: Any) -> None:
    """pytest makes a group of what several fixtures raise: its members say whose fault it is."""
    done = ran(
        "from harness.errors import LostGuest\n"
        "@pytest.fixture\ndef made(guest):\n    yield\n    guest.lose()\n    guest.ask()\n"
        "@pytest.fixture\ndef more(made, guest):\n    yield\n    raise LostGuest('gone too')\n"
        "def test_it(more): pass\n"
    )
    assert done.outcomes == ["error"]
    assert done.code == 3


def test_a_skip_of_unittest(ran: Any) -> None:
    """pytest keeps a skip of unittest aside, and would put it in the place of the splat."""
    done = ran(
        "import unittest\n"
        "class Test(unittest.TestCase):\n"
        "    @pytest.fixture(autouse=True)\n    def take(self, guest): self.guest = guest\n"
        "    def test_it(self):\n        self.guest.warn()\n        self.skipTest('no')\n"
    )
    assert done.outcomes == ["failed"]
    assert done.code == 1
