# SPDX-License-Identifier: GPL-2.0-only
"""All mutants of some files in one version of them, each behind a switch. Pure.

The switch is a variable of the kernel. While it is 0, each file does what the original does. Every
line of the original stays in its place, so that what the kernel prints names the same lines.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.tools.mutants.sweep.candidates import Candidate, Operator, Shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

HEADER = "kernel/livepatch/mutants.h"
HOME = "kernel/livepatch/core.c"
"""The file that defines the switch."""

RECORD = 0xFFFF_FFFF
"""The value of the switch with which the kernel records what is reached, and mutates nothing."""

ONLY = "KLP_MUTANT_ONLY"
"""The macro that makes one mutant the only one, decided when the file is compiled."""

# A literal, a comment, or what lies between words.
_PIECE = re.compile(
    r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?://[^\n]*|/\*.*?\*/|\s)+""", re.DOTALL
)

_HEADER_TEXT = """\
/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Written by klp-harness mutants sweep: which mutant is on.  Of each one is
 * noted whether it was reached (1), and whether it made a difference (2).
 */
#ifdef KLP_MUTANT_ONLY
#define klp_mutant_on(n, differs) ((n) == KLP_MUTANT_ONLY)
#else
extern unsigned int klp_mutant;
extern unsigned char klp_mutants_seen[];
#define KLP_MUTANTS_RECORD (~0u)
#define klp_mutant_on(n, differs) \\
(__builtin_expect(klp_mutant != 0, 0) && \\
(klp_mutant == (n) || klp_mutant == KLP_MUTANTS_RECORD) && \\
(klp_mutants_seen[n] |= (differs) ? 3 : 1, klp_mutant == (n)))
#endif
"""
# Two mutants are one hexadecimal digit of what is seen.
_HOME_TEXT = """\

#ifndef KLP_MUTANT_ONLY
#include <linux/moduleparam.h>

unsigned int klp_mutant;
unsigned char klp_mutants_seen[%(size)d];
module_param_named(mutant, klp_mutant, uint, 0644);

static int klp_mutants_seen_get(char *buffer, const struct kernel_param *kp)
{
\tint n, len = 0;

\tfor (n = 0; n < %(size)d; n += 2) {
\t\tint both = (klp_mutants_seen[n] & 3) | (klp_mutants_seen[n + 1] & 3) << 2;

\t\tbuffer[len++] = "0123456789abcdef"[both];
\t}
\tbuffer[len++] = '\\n';
\treturn len;
}

static const struct kernel_param_ops klp_mutants_seen_ops = {
\t.get = klp_mutants_seen_get,
};
module_param_cb(mutants_seen, &klp_mutants_seen_ops, NULL, 0444);
#endif
"""
MOST = 8000
"""How many mutants one kernel can hold: what is seen of them has to fit into a page."""


@dataclass
class _Site:
    """A place with its mutants, and the places inside of it."""

    start: int
    end: int
    expressions: list[Candidate] = field(default_factory=list)
    statements: list[Candidate] = field(default_factory=list)
    # Of a swap: what is done before the first statement, and where the second is left out.
    before: list[Candidate] = field(default_factory=list)
    left_out: list[Candidate] = field(default_factory=list)
    inner: list[_Site] = field(default_factory=list)


def schema_of(source: bytes, mutants: Iterable[Candidate]) -> str:
    """Return a file in which each of the mutants is behind a switch; they are all of this file."""
    chosen = tuple(mutants)
    text = source.decode(errors="surrogateescape")
    if not chosen:
        return text
    sites = _nested(_sites(chosen))
    body = _text(source, 0, len(source), sites)
    include = os.path.relpath(HEADER, Path(chosen[0].file).parent)
    head, newline, rest = body.partition("\n")
    if not head.startswith("//"):
        # No line to spare: __LINE__, which a warning shows, stays what it was all the same.
        return f'#include "{include}"\n#line 1\n{body}'
    return f'#include "{include}"{newline}{rest}'


def schema_files(sources: Mapping[str, bytes], mutants: Sequence[Candidate]) -> dict[str, str]:
    """Return the files of a kernel with all of these mutants: changed ones, and a header.

    ``sources`` has the kernel's files by name; HOME is one of them.
    """
    by_file: dict[str, list[Candidate]] = defaultdict(list)
    for mutant in mutants:
        by_file[mutant.file].append(mutant)
    files = {name: schema_of(sources[name], found) for name, found in by_file.items()}
    home = files.get(HOME, sources[HOME].decode(errors="surrogateescape"))
    if HOME not in by_file:
        home = f'#include "{Path(HEADER).name}"\n{home.partition(chr(10))[2]}'
    files[HOME] = home + _HOME_TEXT % {"size": seen_size(mutants)}
    files[HEADER] = _HEADER_TEXT
    return files


def seen_size(mutants: Sequence[Candidate]) -> int:
    """Return how many mutants the record has places for; an even number."""
    highest = max((mutant.number for mutant in mutants), default=0)
    return (highest + 2) // 2 * 2


def read_seen(text: str) -> dict[int, bool]:
    """Return the mutants that were reached, and of each whether it ever made a difference."""
    found: dict[int, bool] = {}
    for place, digit in enumerate(text.strip()):
        both = int(digit, 16)
        for number, bits in ((2 * place, both & 3), (2 * place + 1, both >> 2)):
            if bits & 1:
                found[number] = bool(bits & 2)
    return found


def schema_patch(sources: Mapping[str, bytes], files: Mapping[str, str | None]) -> bytes:
    """Return the changed files as a patch of the kernel's sources; None: a file is removed."""
    parts: list[str] = []
    for name, new in sorted(files.items()):
        old = sources.get(name)
        before = old.decode(errors="surrogateescape") if old is not None else ""
        parts += difflib.unified_diff(
            before.splitlines(keepends=True),
            (new or "").splitlines(keepends=True),
            f"a/{name}" if old is not None else "/dev/null",
            f"b/{name}" if new is not None else "/dev/null",
        )
    return "".join(parts).encode(errors="surrogateescape")


def _sites(mutants: Sequence[Candidate]) -> list[_Site]:
    found: dict[tuple[int, int], _Site] = {}

    def at(start: int, end: int) -> _Site:
        return found.setdefault((start, end), _Site(start, end))

    for mutant in mutants:
        site = at(mutant.start, mutant.end)
        match mutant.shape:
            case Shape.EXPRESSION:
                site.expressions.append(mutant)
            case Shape.STATEMENT:
                site.statements.append(mutant)
            case Shape.SWAP:
                site.before.append(mutant)
                at(mutant.partner_start, mutant.partner_end).left_out.append(mutant)
    # An outer one comes before those that begin at the same place.
    return sorted(found.values(), key=lambda site: (site.start, -site.end))


def _nested(sites: Sequence[_Site]) -> list[_Site]:
    top: list[_Site] = []
    open_: list[_Site] = []
    for site in sites:
        while open_ and open_[-1].end <= site.start:
            open_.pop()
        if open_ and site.end > open_[-1].end:
            raise ValueError("two mutants overlap")
        (open_[-1].inner if open_ else top).append(site)
        open_.append(site)
    return top


def _text(source: bytes, start: int, end: int, sites: Sequence[_Site]) -> str:
    parts: list[str] = []
    at = start
    for site in sites:
        parts += [_decoded(source[at : site.start]), _switched(source, site)]
        at = site.end
    return "".join([*parts, _decoded(source[at:end])])


def _switched(source: bytes, site: _Site) -> str:
    text = _text(source, site.start, site.end, site.inner)
    for mutant in reversed(site.expressions):
        # A pointer as a condition and a truth value are of two types.
        new = "!!" if mutant.operator in (Operator.DROP_LEFT, Operator.DROP_RIGHT) else ""
        old = "!!" if mutant.operator is Operator.NEGATE_CONDITION else ""
        text = f"({_on(mutant)} ? {new}({flat(mutant.new)}) : {old}({text}))"
    if site.statements or site.before or site.left_out:
        text = _statement(source, site, text)
    return text


def _statement(source: bytes, site: _Site, text: str) -> str:
    """Return the statement in a block: left out, replaced, or as it is."""
    for mutant in reversed(site.statements):
        new = "" if mutant.new == ";" else f" {flat(mutant.new)} "
        text = f"if ({_on(mutant)}) {{{new}}} else {text}"
    for mutant in site.left_out:
        text = f"if ({_on(mutant)}) {{}} else {text}"
    for mutant in site.before:
        second = flat(_decoded(source[mutant.partner_start : mutant.partner_end]))
        text = f"if ({_on(mutant)}) {{ {second} }} {text}"
    return f"{{ {text} }}"


def _on(mutant: Candidate) -> str:
    differs = mutant.differs if mutant.differs == "1" else f"({flat(mutant.differs)})"
    return f"klp_mutant_on({mutant.number}, {differs})"


def flat(text: str) -> str:
    """Return C code in one line, without comments."""
    return _PIECE.sub(lambda match: match[1] or " ", text).strip()


def _decoded(text: bytes) -> str:
    return text.decode(errors="surrogateescape")
