# SPDX-License-Identifier: GPL-2.0-only
"""Sets a checkout up: system packages where it may, then the virtual environment.

`make` runs it as ``python3 -m harness.vm.host.bootstrap`` before every target; with ``--to-run``,
which `make demo` adds, what only tests and checks of the harness need is not installed yet. It runs
before any dependency is installed, so it and what it imports use the standard library alone.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from harness.deadline import Deadline, wait_until
from harness.errors import CommandFailed, ExitCode, HarnessError, KlpError, MissingTool, UsageError
from harness.vm.host.process import find_program, foreground, run
from harness.vm.host.tools import (
    Distribution,
    Family,
    Tool,
    explain_missing,
    missing_tools,
    packages_for,
    read_distribution,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FORMAT = 1
_STAMP = "klp-harness-stamp"
_CONSTRAINTS = "constraints.txt"
_ALL_EXTRAS = "[dev]"
_NO_EXTRAS = ""
_LOCK_WAIT_S = 900.0
_PIP_DEADLINE_S = 900.0
_VENV_DEADLINE_S = 120.0
# By their names among the tools: without them no environment is made.
_FOR_THE_VENV = frozenset({"python3 venv", "setpriv"})


def say(text: str, *, to_stderr: bool = False) -> None:
    """Print one line of progress, at once, also into a pipe."""
    stream = sys.stderr if to_stderr else sys.stdout
    stream.write(text + "\n")
    stream.flush()


def install_packages(
    distribution: Distribution,
    *,
    look: Callable[[Distribution], tuple[Tool, ...]] = missing_tools,
    is_root: bool | None = None,
    to_stderr: bool = False,
) -> None:
    """Install what the host lacks, on Debian and Ubuntu as root or with sudo.

    ``to_stderr``: what apt-get prints goes to standard error.

    Raises UsageError, which says what to install, where the harness may not do it itself, and
    HarnessError when apt-get fails.
    """
    missing = look(distribution)
    if not missing:
        return
    _, hint = explain_missing(missing, distribution)
    install = _apt_get(missing, distribution, is_root=is_root)
    packages = packages_for(missing, Family.DEBIAN)
    say(f"klp-harness: installing packages: {' '.join(packages)}", to_stderr=to_stderr)
    arguments = ["install", "--yes", "--quiet", "--no-install-recommends", *packages]
    if foreground([*install, *arguments], to_stderr=to_stderr) != 0:
        stale = "apt's package lists are missing or old: refreshing them"
        say(f"klp-harness: {stale}", to_stderr=to_stderr)
        if foreground([*install, "update", "--quiet"], to_stderr=to_stderr) != 0:
            raise HarnessError("`apt-get update` failed", hint="is the network up? " + hint)
        if foreground([*install, *arguments], to_stderr=to_stderr) != 0:
            raise HarnessError("`apt-get install` failed", hint=hint)
    still = look(distribution)
    if still:
        sentence, _ = explain_missing(still, distribution)
        raise HarnessError(
            f"after installing {' '.join(packages)}: {sentence}",
            hint="does another program of that name come first in PATH?",
        )


def _apt_get(
    missing: tuple[Tool, ...], distribution: Distribution, *, is_root: bool | None
) -> list[str]:
    """Return how apt-get is called here; raises UsageError where it may not be called."""
    root = os.geteuid() == 0 if is_root is None else is_root
    sudo = [] if root else _sudo()
    if distribution.family is not Family.DEBIAN or sudo is None:
        sentence, hint = explain_missing(missing, distribution)
        raise UsageError(sentence, hint=hint)
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    return [*sudo, *environment, "apt-get", "-o", "DPkg::Lock::Timeout=300"]


def _sudo() -> list[str] | None:
    """Return what to put before a command so that root runs it; None where there is no way."""
    try:
        sudo = find_program("sudo")
    except MissingTool:
        return None
    # Without a terminal sudo cannot ask for a password.
    if sys.stdin.isatty():
        return [sudo]
    try:
        run([sudo, "-n", "true"], deadline=Deadline.after(10.0))
    except CommandFailed:
        return None
    return [sudo, "-n"]


def make_venv(root: Path, *, to_run: bool = False) -> bool:
    """Make or repair ``root``/.venv with the package installed editable; return whether it did.

    ``to_run``: what the commands need is enough. An environment that has more is left as it is,
    and one that has no more is brought up to date when all is wanted. Every package gets the
    version that ``root``/constraints.txt names. The environment is made again from nothing when its
    interpreter or its place changed, or when an earlier run was killed before the end. When only
    the dependencies or their versions changed, pip brings it up to date in place. Raises
    HarnessError when pip fails.
    """
    venv = root / ".venv"
    extras = _NO_EXTRAS if to_run else _ALL_EXTRAS
    wanted = _stamp_text(root, extras)
    enough = {wanted, _stamp_text(root, _ALL_EXTRAS)}
    if _read_stamp(venv) in enough:
        return False
    with _locked(root):
        current = _read_stamp(venv)
        if current in enough:
            return False
        if current is None or not _same_place(current, wanted):
            how_long = "half a minute" if to_run else "a minute"
            say(f"klp-harness: making the virtual environment .venv (about {how_long})")
            _create(venv)
        else:
            say("klp-harness: bringing the virtual environment .venv up to date")
        # Without its stamp, an environment that is being changed counts as broken.
        _stamp_path(venv).unlink(missing_ok=True)
        _pip_install(root, venv, extras)
        temporary = _stamp_path(venv).with_suffix(".new")
        temporary.write_text(wanted)
        temporary.replace(_stamp_path(venv))
    return True


def _create(venv: Path) -> None:
    if venv.exists() or venv.is_symlink():
        # Renamed first, so that a kill meanwhile leaves no half of an environment in place.
        doomed = venv.with_name(".venv.old")
        shutil.rmtree(doomed, ignore_errors=True)
        venv.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    run([sys.executable, "-m", "venv", venv], deadline=Deadline.after(_VENV_DEADLINE_S))


def _pip_install(root: Path, venv: Path, extras: str) -> None:
    python = str(venv / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    if extras == _NO_EXTRAS:
        # A command imports a part of all that, and Python compiles what it imports.
        pip.append("--no-compile")
    try:
        run(
            [*pip, "--constraint", _CONSTRAINTS, "--editable", f".{extras}"],
            cwd=root,
            deadline=Deadline.after(_PIP_DEADLINE_S),
        )
    except CommandFailed as error:
        raise HarnessError(
            "pip could not install klp-harness and its dependencies into .venv",
            hint="is the network up, and does pip reach its package index?",
            details=error.details[-5:],
        ) from error


def _stamp_path(venv: Path) -> Path:
    return venv / _STAMP


def _stamp_text(root: Path, extras: str) -> str:
    """Return the stamp of an environment that is up to date: its place, interpreter, contents."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    relevant = {key: project.get(key) for key in ("build-system", "project")}
    relevant["tool.hatch"] = project.get("tool", {}).get("hatch")
    relevant["constraints"] = (root / _CONSTRAINTS).read_text()
    contents = hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()
    return f"{_FORMAT}\n{root.resolve()}\n{_base_python()} {sys.version}\n{contents}{extras}\n"


def _base_python() -> Path:
    # Run from inside an environment, sys.executable is that environment's; the base stays.
    return Path(sys.base_prefix).resolve()


def _same_place(current: str, wanted: str) -> bool:
    return current.splitlines()[:-1] == wanted.splitlines()[:-1]


def _read_stamp(venv: Path) -> str | None:
    """Return the stamp of a complete environment whose interpreter is still there, else None."""
    if not os.access(venv / "bin" / "python", os.X_OK):
        return None
    try:
        return _stamp_path(venv).read_text()
    except (OSError, UnicodeDecodeError):
        return None


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold a lock on the checkout's folder, without a lock file; it ends with this process."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _try_lock(folder):
            say("klp-harness: waiting for another make that sets this checkout up")
            deadline = Deadline.after(_LOCK_WAIT_S)
            if not wait_until(lambda: _try_lock(folder), deadline, interval_s=0.2):
                raise HarnessError(
                    f"another make has been setting {root} up for {_LOCK_WAIT_S:.0f} s",
                    hint="end that one and run make again",
                )
        yield
    finally:
        os.close(folder)


def _try_lock(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def set_up(root: Path, *, to_run: bool = False) -> None:
    """Install what the host lacks and make ``root``/.venv, at the same time where that is possible.

    apt-get stays in the foreground's process group, so Ctrl-C ends both. Raises what
    `install_packages` and `make_venv` raise.
    """
    distribution = read_distribution()
    missing = missing_tools(distribution)
    if missing and _FOR_THE_VENV.isdisjoint(tool.name for tool in missing):
        _apt_get(missing, distribution, is_root=None)
        with ThreadPoolExecutor(1, thread_name_prefix="packages") as pool:
            installed = pool.submit(install_packages, distribution)
            # A package without a wheel wants a compiler, which may just be installed: again below.
            with contextlib.suppress(HarnessError):
                make_venv(root, to_run=to_run)
            installed.result()
    else:
        install_packages(distribution)
    make_venv(root, to_run=to_run)


def main() -> int:
    """Set the checkout in the current folder up; return the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m harness.vm.host.bootstrap")
    parser.add_argument("--to-run", action="store_true", help="what the commands need, no more")
    to_run: bool = parser.parse_args().to_run
    root = Path.cwd()
    try:
        set_up(root, to_run=to_run)
    except KlpError as error:
        sys.stderr.write(f"klp-harness: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return ExitCode.HELD


if __name__ == "__main__":
    sys.exit(main())
