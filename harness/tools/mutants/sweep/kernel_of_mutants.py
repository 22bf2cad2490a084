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
from harness.tools.mutants.sweep.parse import candidates, parser, unread_lines
from harness.tools.mutants.sweep.schema import HOME, MOST, schema_files, schema_patch
from harness.vm.host.files import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel

CORE = ("kernel/livepatch",)
"""What is mutated unless files are named."""

KIND = "mutant-switches"
PATCH = "mutant-switches.patch"
_FORMAT = 1
_LIST = "mutants.json"
_GENERATOR = ("candidates", "compiling", "masking", "operators", "parse", "schema")


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A mutant that cannot be had on this kernel, and why."""

    name: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Mutants:
    """The mutants of a kernel's files, and the patch that puts all behind a switch.

    ``sources`` are the files as they are, by the kernel's names; ``unread`` are the lines that the
    parser could not read.
    """

    key: str
    patch: Path
    mutants: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...]
    unread: Mapping[str, tuple[int, ...]]
    sources: Mapping[str, bytes]


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


def obtain_mutants(
    kernel: Kernel, files: Sequence[str], *, store: Store, deadline: Deadline
) -> Mutants:
    """Return the mutants of a kernel's files, made now or taken from the cache.

    Raises UsageError as `sources_of` does, MissingTool without the parser, HarnessError.
    """
    # A missing parser is reported whether or not there is an entry in the cache.
    reader = parser()
    sources = sources_of(kernel, files)
    with_home = sources | sources_of(kernel, (HOME,))
    key = _key(kernel, tuple(sources), with_home)

    def fill(folder: Path) -> None:
        found = candidates(sources)
        if len(found) > MOST:
            raise UsageError(
                f"these files have {len(found)} mutants; one kernel can hold {MOST}",
                hint="name fewer with --file",
            )
        if not found:
            raise UsageError(f"nothing can be mutated in {', '.join(sources)}")
        with temporary_folder("klp-mutants-") as work:
            compiler = Compiler(kernel=kernel, folder=work, deadline=deadline)
            compiled = that_compile(found, sources | with_home, compiler)
        made = schema_files(with_home, compiled.mutants)
        (folder / PATCH).write_bytes(schema_patch(with_home, made))
        text = {
            "mutants": [asdict(each) for each in compiled.mutants],
            "left_out": [{"name": each.name, "why": why} for each, why in compiled.left_out],
            "unread": {name: unread_lines(source, reader) for name, source in sources.items()},
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
        sources=with_home,
    )


def _candidate(fields: dict[str, object]) -> Candidate:
    fields["operator"] = Operator(str(fields["operator"]))
    fields["shape"] = Shape(str(fields["shape"]))
    return Candidate(**fields)  # type: ignore[arg-type]


def _key(kernel: Kernel, mutated: Sequence[str], sources: Mapping[str, bytes]) -> str:
    """Return a digest of all that decides which mutants there are."""
    here = Path(__file__).parent
    parts = [
        _FORMAT,
        kernel.digest,
        sorted(mutated),
        {name: hashlib.sha256(text).hexdigest() for name, text in sorted(sources.items())},
        {
            name: hashlib.sha256((here / f"{name}.py").read_bytes()).hexdigest()
            for name in _GENERATOR
        },
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
