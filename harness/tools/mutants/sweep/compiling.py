# SPDX-License-Identifier: GPL-2.0-only
"""Files of the kernel compiled with mutants: which do not compile, and which change no code."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import CommandFailed, HarnessError
from harness.observer.debug_objects import compile_words, find_commands
from harness.tools.mutants.sweep.schema import HEADER, ONLY, schema_files
from harness.vm.host.process import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.deadline import Deadline
    from harness.tools.mutants.sweep.candidates import Candidate
    from harness.vm.kernel.kernel import Kernel

_COMPILE_S = 120.0
_NUMBER = re.compile(r"klp_mutants_seen\[(\d+)\] \|=")
_MESSAGE = re.compile(r"error: (.*)")


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """Compiles files of a kernel as Kbuild did, from texts of our own in ``folder``.

    Nothing is written to the kernel's own folders.
    """

    kernel: Kernel
    folder: Path
    deadline: Deadline

    def write(self, files: Mapping[str, str]) -> None:
        """Put texts in the place of files, by the kernel's names."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, errors="surrogateescape")

    def complaint(self, file: str) -> str | None:
        """Return what the compiler says against a file in the folder; None when it compiles."""
        try:
            self._run(file, ("-fsyntax-only",))
        except CommandFailed as error:
            found = [match[1] for line in error.details if (match := _MESSAGE.search(line))]
            return found[0] if found else "it does not compile"
        return None

    def preprocessed(self, file: str) -> str:
        """Return what the preprocessor makes of a file in the folder. Raises HarnessError."""
        try:
            return self._run(file, ("-E", "-P"))
        except CommandFailed as error:
            raise HarnessError(f"{file} cannot be preprocessed", details=error.details) from error

    def digest(self, file: str, number: int) -> str | None:
        """Return a digest of the object in which that mutant alone is on, 0 for none.

        None: it cannot be compiled so, or needs options that the compiler did not get.
        """
        made = self.folder / f"{number}.o"
        try:
            self._run(file, (f"-D{ONLY}={number}", "-c", "-o", str(made)))
            return hashlib.sha256(made.read_bytes()).hexdigest()
        except CommandFailed:
            return None
        finally:
            made.unlink(missing_ok=True)

    def _run(self, file: str, more: Sequence[str]) -> str:
        (command,) = find_commands(self.kernel, (file,))
        words = compile_words(command) or []
        # The last three name what is made, and of what; the header's file is the folder's.
        at = words.index("-c")
        kept = [word for word in words[:at] if not word.startswith("-Wp,-MMD")]
        home = f"../{Path(file).parent}"
        done = run(
            [kept[0], *self._own_headers(), *kept[1:], "-iquote", home, *more, self.folder / file],
            cwd=self.kernel.build_dir,
            deadline=self.deadline.within(_COMPILE_S),
        )
        return done.stdout

    def _own_headers(self) -> list[str]:
        """Return the options with which headers in the folder come before the kernel's."""
        folders = [self.folder / name for name in ("include", "arch/x86/include")]
        return [f"-I{folder}" for folder in folders if folder.is_dir()]


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """The mutants that compile, and what the compiler or the configuration has against others."""

    mutants: tuple[Candidate, ...]
    left_out: tuple[tuple[Candidate, str], ...]


def that_compile(
    mutants: Sequence[Candidate], sources: Mapping[str, bytes], compiler: Compiler
) -> Compiled:
    """Return the mutants that compile behind a switch, and those that do not, with the reason.

    All are compiled at once; only where that fails is each of a file tried by itself.
    Raises HarnessError when a file does not compile even without those that do not.
    """
    kept: list[Candidate] = []
    left_out: list[tuple[Candidate, str]] = []
    for file in sources:
        good, bad = _of_file([each for each in mutants if each.file == file], sources, compiler)
        kept += good
        left_out += bad
    return Compiled(
        mutants=tuple(sorted(kept, key=lambda each: each.number)), left_out=tuple(left_out)
    )


def _of_file(
    mutants: Sequence[Candidate], sources: Mapping[str, bytes], compiler: Compiler
) -> tuple[list[Candidate], list[tuple[Candidate, str]]]:
    good = list(mutants)
    bad: list[tuple[Candidate, str]] = []
    if not good:
        return good, bad
    file = good[0].file
    if _complaint(good, sources, compiler) is not None:
        good, bad = _apart(good, sources, compiler)
        complaint = _complaint(good, sources, compiler)
        if complaint is not None:
            raise HarnessError(
                f"{file} does not compile with its mutants: {complaint}",
                hint="leave the file out with --file, and report this",
            )
    built = {int(number) for number in _NUMBER.findall(compiler.preprocessed(file))}
    bad += [(each, "not in this configuration") for each in good if each.number not in built]
    return [each for each in good if each.number in built], bad


def _apart(
    mutants: Sequence[Candidate], sources: Mapping[str, bytes], compiler: Compiler
) -> tuple[list[Candidate], list[tuple[Candidate, str]]]:
    """Halve the mutants until those that do not compile are known."""
    complaint = _complaint(mutants, sources, compiler)
    if complaint is None:
        return list(mutants), []
    if len(mutants) == 1:
        return [], [(mutants[0], complaint)]
    middle = len(mutants) // 2
    good, bad = _apart(mutants[:middle], sources, compiler)
    more_good, more_bad = _apart(mutants[middle:], sources, compiler)
    return good + more_good, bad + more_bad


def _complaint(
    mutants: Sequence[Candidate], sources: Mapping[str, bytes], compiler: Compiler
) -> str | None:
    if not mutants:
        return None
    files = schema_files(sources, mutants)
    file = mutants[0].file
    compiler.write({name: files[name] for name in (file, HEADER)})
    return compiler.complaint(file)
