# SPDX-License-Identifier: GPL-2.0-only
"""The kernel that holds all mutants of some files: made from the clean one, kept in the cache."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UsageError
from harness.observer.debug_objects import find_commands
from harness.tools.mutants.sweep.candidates import Candidate, Operator, Shape
from harness.tools.mutants.sweep.compiling import Compiler, that_compile
from harness.tools.mutants.sweep.hooks import FILES as HOOK_FILES
from harness.tools.mutants.sweep.hooks import hook_lines, of_hooks
from harness.tools.mutants.sweep.parse import candidates, parser, unread_lines
from harness.tools.mutants.sweep.schema import HOME, MOST, schema_files, schema_patch
from harness.tools.mutants.sweep.series import after_series, touched, touched_lines
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.patch_file import PatchFile

CORE = ("kernel/livepatch",)
"""What is mutated unless files are named."""

KIND = "mutant-switches"
PATCH = "mutant-switches.patch"
_FORMAT = 2
_LIST = "mutants.json"
_GENERATOR = (
    *("candidates", "compiling", "hooks", "masking", "operators", "parse", "schema", "series"),
)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A mutant that cannot be had on this kernel, and why."""

    name: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Mutants:
    """The mutants of a kernel's files, and the patch that puts all behind a switch.

    ``sources`` are the C files without them, by the kernel's names, and ``others`` what a series
    changes beside these. ``unread`` are the lines that the parser could not read.
    """

    key: str
    patch: Path
    mutants: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...]
    unread: Mapping[str, tuple[int, ...]]
    sources: Mapping[str, bytes]
    others: Mapping[str, str]


def sources_of(kernel: Kernel, files: Sequence[str]) -> dict[str, bytes]:
    """Return the C files of a kernel that are named, or lie in folders that are named.

    Raises UsageError for a name that it has no code of, and for a kernel without its sources.
    """
    root = kernel.build_dir.parent
    if not (root / HOME).is_file() or kernel.digest != kernel.module_digest:
        raise UsageError(
            f"kernel {kernel.describe()} comes without its sources: they cannot be mutated",
            hint="take a kernel that is built from source, as 6.1 is, without patches",
        )
    found: dict[str, bytes] = {}
    for command in find_commands(kernel, files):
        relative = command.relative_to(kernel.build_dir)
        name = str(relative.with_name(f"{command.name[1 : -len('.o.cmd')]}.c"))
        found[name] = (root / name).read_bytes()
    return dict(sorted(found.items()))


@dataclass(frozen=True, kw_only=True)
class _Files:
    """The files of which the mutants are made.

    ``clean`` are the kernel's own, ``mutated`` those to break, and ``all`` is what the kernel of
    mutants has in their place, HOME among them; None: a file that a series removes. ``lines`` are
    those that a series touches; None: all. ``hooks``: only what serves the core is mutated.
    """

    clean: Mapping[str, bytes]
    mutated: Mapping[str, bytes]
    all: Mapping[str, bytes | None]
    lines: Mapping[str, frozenset[int]] | None = None
    hooks: bool = False
    left_out: tuple[LeftOut, ...] = ()

    @property
    def sources(self) -> dict[str, bytes]:
        """The C files of `all` that can be mutated, and HOME."""
        return {
            name: text
            for name, text in self.all.items()
            if text is not None and (name in self.mutated or name == HOME)
        }

    @property
    def others(self) -> dict[str, str]:
        """The files of `all` that are not mutated."""
        return {
            name: text.decode(errors="surrogateescape")
            for name, text in self.all.items()
            if text is not None and name not in self.sources
        }

    def candidates(self) -> tuple[Candidate, ...]:
        """Return the mutants."""
        found = candidates(self.mutated)
        if self.hooks:
            return of_hooks(found, self.mutated)
        return found if self.lines is None else touched(found, self.mutated, self.lines)


def _files_of(
    kernel: Kernel, names: Sequence[str], series: Sequence[PatchFile], deadline: Deadline
) -> _Files:
    home = sources_of(kernel, (HOME,))
    if not series:
        sources = sources_of(kernel, names)
        return _Files(clean=sources | home, mutated=sources, all=sources | home)
    root = kernel.build_dir.parent
    after = after_series(root, series, deadline=deadline)
    clean = {name: (root / name).read_bytes() for name in after if (root / name).is_file()}
    built = {name for name in after if name.endswith(".c") and _is_built(kernel, name)}
    mutated = {name: text for name in sorted(built) if (text := after[name]) is not None}
    lines = {name: touched_lines(clean.get(name, b""), text) for name, text in mutated.items()}
    return _Files(clean=clean | home, mutated=mutated, all={**home, **after}, lines=lines)


def _files_of_hooks(kernel: Kernel) -> _Files:
    home = sources_of(kernel, (HOME,))
    root = kernel.build_dir.parent
    there = {name: (root / name).read_bytes() for name in HOOK_FILES if (root / name).is_file()}
    lines = hook_lines(there)
    mutated = {name: there[name] for name in lines if _is_built(kernel, name)}
    # As kernel/sched/idle.c, which kernel/sched/build_policy.c includes.
    parts = {name: there[name] for name in lines if name not in mutated}
    return _Files(
        clean=mutated | home,
        mutated=mutated,
        all=mutated | home,
        hooks=True,
        left_out=tuple(
            LeftOut(name=each.name, why=f"{each.file} is compiled as a part of another file")
            for each in of_hooks(candidates(parts), parts)
        ),
    )


def _is_built(kernel: Kernel, name: str) -> bool:
    try:
        return bool(find_commands(kernel, (name,)))
    except UsageError:
        return False


def obtain_mutants(
    kernel: Kernel,
    names: Sequence[str],
    *,
    series: Sequence[PatchFile] = (),
    hooks: bool = False,
    store: Store,
    deadline: Deadline,
) -> Mutants:
    """Return the mutants of a kernel's files, made now or taken from the cache.

    With a ``series``, they are those of the lines that it touches, in a kernel with it; with
    ``hooks``, those of the core's hooks elsewhere, whatever the names.
    Raises UsageError as `sources_of` does, MissingTool without the parser, HarnessError, and
    PatchDoesNotApply.
    """
    # A missing parser is reported whether or not there is an entry in the cache.
    reader = parser()
    files = _files_of_hooks(kernel) if hooks else _files_of(kernel, names, series, deadline)
    key = _key(kernel, files, series, hooks=hooks)

    def fill(folder: Path) -> None:
        found = files.candidates()
        if len(found) > MOST:
            raise UsageError(
                f"these files have {len(found)} mutants; one kernel can hold {MOST}",
                hint="name fewer with --file",
            )
        if not found:
            where = "the lines that the series touches" if series else ", ".join(files.mutated)
            raise UsageError(f"there is nothing to mutate in {where}")
        with temporary_folder("mutants") as work:
            compiler = Compiler(kernel=kernel, folder=work, deadline=deadline)
            compiler.write(files.others)
            compiled = that_compile(found, files.sources, compiler)
        made = {
            **dict.fromkeys(name for name, text in files.all.items() if text is None),
            **files.others,
            **{name: text.decode(errors="surrogateescape") for name, text in files.sources.items()},
            **schema_files(files.sources, compiled.mutants),
        }
        (folder / PATCH).write_bytes(schema_patch(files.clean, made))
        text = {
            "mutants": [asdict(each) for each in compiled.mutants],
            "left_out": [
                *({"name": each.name, "why": why} for each, why in compiled.left_out),
                *(asdict(each) for each in files.left_out),
            ],
            "unread": {
                name: unread_lines(source, reader) for name, source in files.mutated.items()
            },
        }
        (folder / _LIST).write_text(json.dumps(text, indent=1))

    entry = store.obtain(KIND, key, fill, deadline=deadline)
    try:
        text = json.loads((entry / _LIST).read_text())
    except (OSError, ValueError) as error:
        raise HarnessError(f"the list of mutants in {entry} cannot be read: {error}") from error
    return Mutants(
        key=key,
        patch=entry / PATCH,
        mutants=tuple(_candidate(each) for each in text["mutants"]),
        left_out=tuple(LeftOut(**each) for each in text["left_out"]),
        unread={name: tuple(lines) for name, lines in text["unread"].items() if lines},
        sources=files.sources,
        others=files.others,
    )


def _candidate(fields: dict[str, object]) -> Candidate:
    fields["operator"] = Operator(str(fields["operator"]))
    fields["shape"] = Shape(str(fields["shape"]))
    return Candidate(**fields)  # type: ignore[arg-type]


def _key(kernel: Kernel, files: _Files, series: Sequence[PatchFile], *, hooks: bool) -> str:
    """Return a digest of all that decides which mutants there are."""
    here = Path(__file__).parent
    parts = [
        _FORMAT,
        kernel.digest,
        sorted(files.mutated),
        [patch.digest for patch in series],
        *(["hooks"] if hooks else []),
        {name: hashlib.sha256(text).hexdigest() for name, text in sorted(files.clean.items())},
        {
            name: hashlib.sha256((here / f"{name}.py").read_bytes()).hexdigest()
            for name in _GENERATOR
        },
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
