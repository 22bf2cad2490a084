# SPDX-License-Identifier: GPL-2.0-only
"""Setting a checkout up: packages and the virtual environment, with doubles for apt and pip."""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from harness.deadline import Deadline, wait_until
from harness.errors import CommandFailed, HarnessError, UsageError
from harness.vm.host import bootstrap
from harness.vm.host.bootstrap import install_packages, make_venv
from harness.vm.host.tools import TOOLS, Distribution, Family, Tool

DEBIAN = Distribution(name="Debian 12", family=Family.DEBIAN)
FEDORA = Distribution(name="Fedora 40", family=Family.FEDORA)
BC = Tool(
    name="bc",
    purpose="computes",
    packages={Family.DEBIAN: "bc-deb", Family.FEDORA: "bc-rpm"},
    probe=lambda: None,
)
PYPROJECT = '[project]\nname = "x"\ndependencies = ["a"]\n[tool.ruff]\nline-length = 100\n'


class Host:
    """A host whose apt-get answers as told; what is missing is there once an install worked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: list[int]) -> None:
        self.commands: list[str] = []
        self._answers = answers
        self._installed = False
        monkeypatch.setattr(bootstrap, "foreground", self._foreground)

    def look(self, distribution: Distribution) -> tuple[Tool, ...]:
        return () if self._installed else (BC,)

    def _foreground(self, argv: list[str], *, to_stderr: bool = False) -> int:
        self.commands.append(" ".join(argv))
        answer = self._answers.pop(0)
        self._installed = answer == 0 and "install" in argv
        return answer


def test_nothing_missing_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that has everything is left alone."""
    host = Host(monkeypatch, [])
    install_packages(DEBIAN, look=lambda distribution: (), is_root=True)
    assert host.commands == []


def test_root_on_debian_installs_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One apt-get install and no update while apt's lists are good."""
    host = Host(monkeypatch, [0])
    install_packages(DEBIAN, look=host.look, is_root=True)
    (command,) = host.commands
    assert command.startswith("env DEBIAN_FRONTEND=noninteractive apt-get ")
    assert command.endswith(" install --yes --quiet --no-install-recommends bc-deb")


def test_stale_lists_are_refreshed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed installation is tried once more, after an update of apt's lists."""
    host = Host(monkeypatch, [100, 0, 0])
    install_packages(DEBIAN, look=host.look, is_root=True)
    assert ["update" in command for command in host.commands] == [False, True, False]


@pytest.mark.parametrize("answers", [[100, 100], [100, 0, 100]])
def test_apt_that_fails_is_a_failure_of_the_host(
    answers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An apt that fails ends the setup with exit code 3, never half done."""
    host = Host(monkeypatch, answers)
    with pytest.raises(HarnessError, match="apt-get"):
        install_packages(DEBIAN, look=host.look, is_root=True)


def test_installed_and_still_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that does not bring the tool is reported, not installed again and again."""
    Host(monkeypatch, [0])
    with pytest.raises(HarnessError, match="after installing bc-deb: Debian 12 lacks bc"):
        install_packages(DEBIAN, look=lambda distribution: (BC,), is_root=True)


def test_without_root_and_sudo_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who may not install gets the command to give to root."""
    host = Host(monkeypatch, [])
    monkeypatch.setattr(bootstrap, "_sudo", lambda: None)
    with pytest.raises(UsageError) as caught:
        install_packages(DEBIAN, look=host.look, is_root=False)
    assert caught.value.exit_code == 2
    assert caught.value.hint == "as root: apt-get install bc-deb"
    assert host.commands == []


def test_sudo_is_used_by_others_than_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with sudo need not type anything."""
    host = Host(monkeypatch, [0])
    monkeypatch.setattr(bootstrap, "_sudo", lambda: ["sudo", "-n"])
    install_packages(DEBIAN, look=host.look, is_root=False)
    assert host.commands[0].startswith("sudo -n env ")


def test_elsewhere_it_only_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """On other distributions than Debian's nothing is installed by itself."""
    host = Host(monkeypatch, [])
    with pytest.raises(UsageError) as caught:
        install_packages(FEDORA, look=host.look, is_root=True)
    assert caught.value.hint == "as root: dnf install bc-rpm"
    assert host.commands == []


class Checkout:
    """A folder with a pyproject.toml; making an environment and pip only leave marks in it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.calls: list[str] = []
        self.pip_arguments: list[str] = []
        self.pip_fails = False
        (root / "pyproject.toml").write_text(PYPROJECT)
        (root / "constraints.txt").write_text("a==1\n")
        monkeypatch.setattr(bootstrap, "run", self._run)

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    def _run(self, argv: list[object], **options: object) -> None:
        words = [str(word) for word in argv]
        if "venv" in words:
            self.calls.append("venv")
            (Path(words[-1]) / "bin").mkdir(parents=True)
            (Path(words[-1]) / "bin" / "python").symlink_to(sys.executable)
        else:
            self.calls.append("pip")
            self.pip_arguments = words
            if self.pip_fails:
                raise CommandFailed("pip", details=("no network",))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    root = tmp_path / "a folder with spaces"
    root.mkdir()
    return Checkout(root, monkeypatch)


def test_first_run_makes_and_second_reuses(checkout: Checkout) -> None:
    """Only the first make pays for the environment."""
    assert make_venv(checkout.root)
    assert not make_venv(checkout.root)
    assert checkout.calls == ["venv", "pip"]


def test_the_demo_installs_what_it_runs_with(checkout: Checkout) -> None:
    """The first minute of a newcomer is not spent on linters; what is there is kept."""
    assert make_venv(checkout.root, to_run=True)
    assert checkout.pip_arguments[-1] == "."
    assert "--no-compile" in checkout.pip_arguments
    assert not make_venv(checkout.root, to_run=True)
    assert make_venv(checkout.root)
    assert checkout.pip_arguments[-1] == ".[dev]"
    assert "--no-compile" not in checkout.pip_arguments
    assert not make_venv(checkout.root, to_run=True)
    assert checkout.calls == ["venv", "pip", "pip"]


def test_changed_dependencies_bring_it_up_to_date_in_place(checkout: Checkout) -> None:
    """A new dependency needs pip, and no new environment."""
    make_venv(checkout.root)
    (checkout.root / "pyproject.toml").write_text(PYPROJECT.replace('"a"', '"a", "b"'))
    assert make_venv(checkout.root)
    assert checkout.calls == ["venv", "pip", "pip"]


def test_versions_are_those_of_the_constraints_file(checkout: Checkout) -> None:
    """All checkouts run the same ruff, mypy and pytest; a renewed file brings other versions."""
    make_venv(checkout.root)
    named = checkout.pip_arguments.index("--constraint") + 1
    assert checkout.pip_arguments[named] == "constraints.txt"
    (checkout.root / "constraints.txt").write_text("a==2\n")
    assert make_venv(checkout.root)
    assert checkout.calls == ["venv", "pip", "pip"]


def test_a_change_that_installs_nothing_changes_nothing(checkout: Checkout) -> None:
    """Editing a tool's settings in pyproject.toml does not run pip."""
    make_venv(checkout.root)
    (checkout.root / "pyproject.toml").write_text(PYPROJECT.replace("100", "99"))
    assert not make_venv(checkout.root)


def test_a_touched_file_changes_nothing(checkout: Checkout) -> None:
    """git checkout renews time stamps; only the content counts."""
    make_venv(checkout.root)
    os.utime(checkout.root / "pyproject.toml", (1, 1))
    assert not make_venv(checkout.root)


def test_a_half_made_environment_is_made_again(checkout: Checkout) -> None:
    """A run that was killed left no stamp."""
    (checkout.venv / "bin").mkdir(parents=True)
    (checkout.venv / "bin" / "half-made").touch()
    assert make_venv(checkout.root)
    assert checkout.calls == ["venv", "pip"]
    assert not (checkout.venv / "bin" / "half-made").exists()


def test_failed_pip_leaves_it_broken_for_the_next_run(checkout: Checkout) -> None:
    """An environment that pip left half done is never taken for a good one."""
    make_venv(checkout.root)
    (checkout.root / "pyproject.toml").write_text(PYPROJECT.replace('"a"', '"b"'))
    checkout.pip_fails = True
    with pytest.raises(HarnessError, match="pip could not install") as caught:
        make_venv(checkout.root)
    assert caught.value.details == ("no network",)
    checkout.pip_fails = False
    assert make_venv(checkout.root)
    assert checkout.calls == ["venv", "pip", "pip", "venv", "pip"]


def test_a_vanished_interpreter_makes_it_again(checkout: Checkout) -> None:
    """An upgrade that removes the host's Python is noticed."""
    make_venv(checkout.root)
    (checkout.venv / "bin" / "python").unlink()
    (checkout.venv / "bin" / "python").symlink_to("/no/such/python")
    assert make_venv(checkout.root)
    assert checkout.calls.count("venv") == 2


def test_another_interpreter_makes_it_again(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment belongs to one version of Python."""
    make_venv(checkout.root)
    monkeypatch.setattr(sys, "version", "3.99.0")
    assert make_venv(checkout.root)
    assert checkout.calls.count("venv") == 2


def test_a_moved_checkout_makes_it_again(checkout: Checkout, tmp_path: Path) -> None:
    """The scripts of a virtual environment name its place in their first line."""
    make_venv(checkout.root)
    moved = tmp_path / "moved"
    checkout.root.rename(moved)
    assert make_venv(moved)
    assert checkout.calls.count("venv") == 2


def test_two_at_once_make_it_once(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """make -j, or two terminals: the second waits, and then finds all done."""
    said: list[str] = []
    monkeypatch.setattr(bootstrap, "say", said.append)
    folder = os.open(checkout.root, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.append(make_venv(checkout.root))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    assert wait_until(lambda: len(said) == 2, Deadline.after(30))
    assert all("waiting for another make" in line for line in said)
    os.close(folder)
    for thread in threads:
        thread.join(30)
    assert sorted(results) == [False, True]
    assert checkout.calls == ["venv", "pip"]


class Setup:
    """A host that lacks a tool, with an apt-get and a pip whose steps are noted as they end."""

    def __init__(self, checkout: Checkout, monkeypatch: pytest.MonkeyPatch, lacks: Tool) -> None:
        self.order: list[str] = []
        self.venv_made = threading.Event()
        self._checkout = checkout
        self._missing: tuple[Tool, ...] = (lacks,)
        self.apt_waits = True
        run = checkout._run

        def pip(argv: list[object], **options: object) -> None:
            try:
                run(argv, **options)
                self.order.append(checkout.calls[-1])
            finally:
                if checkout.calls[-1] == "pip":
                    self.venv_made.set()

        def apt(argv: list[str], *, to_stderr: bool = False) -> int:
            if self.apt_waits:
                assert self.venv_made.wait(30)
            self._missing = ()
            self.checkout_pip_works()
            self.order.append("apt")
            return 0

        monkeypatch.setattr(bootstrap, "run", pip)
        monkeypatch.setattr(bootstrap, "foreground", apt)
        monkeypatch.setattr(bootstrap, "read_distribution", lambda: DEBIAN)
        monkeypatch.setattr(bootstrap, "_sudo", list)
        look = self.look
        monkeypatch.setattr(bootstrap, "missing_tools", look)
        defaults = install_packages.__kwdefaults__
        assert defaults is not None
        monkeypatch.setitem(defaults, "look", look)

    def look(self, distribution: Distribution) -> tuple[Tool, ...]:
        return self._missing

    def checkout_pip_works(self) -> None:
        self._checkout.pip_fails = False


def test_packages_and_the_environment_at_a_time(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fresh machine does not wait for apt and pip in turn: this apt ends only after pip."""
    host = Setup(checkout, monkeypatch, BC)
    bootstrap.set_up(checkout.root, to_run=True)
    assert host.order == ["venv", "pip", "apt"]
    assert not make_venv(checkout.root, to_run=True)


@pytest.mark.parametrize("name", ["python3 venv", "setpriv"])
def test_what_the_environment_needs_is_installed_first(
    name: str, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the venv module, or what starts children, there is nothing to do meanwhile."""
    assert name in {tool.name for tool in TOOLS}
    host = Setup(checkout, monkeypatch, replace(BC, name=name))
    host.apt_waits = False
    bootstrap.set_up(checkout.root)
    assert host.order == ["apt", "venv", "pip"]


def test_pip_that_fails_while_packages_come_is_tried_again(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dependency that has no wheel needs the compiler that apt-get was installing."""
    host = Setup(checkout, monkeypatch, BC)
    checkout.pip_fails = True
    bootstrap.set_up(checkout.root)
    assert host.order == ["venv", "apt", "venv", "pip"]


def test_pip_that_fails_twice_is_a_failure(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second attempt is the one that is reported."""
    host = Setup(checkout, monkeypatch, BC)
    host.checkout_pip_works = lambda: None  # type: ignore[method-assign]
    checkout.pip_fails = True
    with pytest.raises(HarnessError, match="pip could not install"):
        bootstrap.set_up(checkout.root)
    assert checkout.calls.count("pip") == 2


def test_where_nothing_may_be_installed_no_environment_is_begun(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has to install packages first hears so at once, not after a minute of pip."""
    host = Setup(checkout, monkeypatch, BC)
    monkeypatch.setattr(bootstrap, "read_distribution", lambda: FEDORA)
    with pytest.raises(UsageError, match="Fedora 40 lacks bc"):
        bootstrap.set_up(checkout.root)
    assert host.order == checkout.calls == []
