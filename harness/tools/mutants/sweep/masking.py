# SPDX-License-Identifier: GPL-2.0-only
"""Kernel C as a parser of plain C can read it. Pure.

The parser does not run the preprocessor. What a macro hides from it is overwritten, byte for byte,
so that each place in the parsed text is the same place in the source.
"""

from __future__ import annotations

import re

# A macro that is a loop: a body follows. The parser reads "while (a, b)".
_LOOP = re.compile(rb"\b(?!while_|do_)\w*for_each\w*\b(?=\s*\()")
# A type as an argument of a macro: container_of(p, struct klp_patch, kobj).
_TYPE_ARGUMENT = re.compile(rb"(?<=[,(])(\s*)(struct|union|enum)(?=\s+\w+\s*[,)])")
_ATTRIBUTE = re.compile(
    rb"\b(?:__init|__exit|notrace|noinline|noinstr|__weak|__always_inline|__sched|asmlinkage"
    rb"|__maybe_unused|__always_unused|__ref|__cold|__must_check|__visible|__noreturn|__user"
    rb"|__rcu|__percpu|__iomem)\b"
)
_DIRECTIVE = re.compile(rb"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", re.MULTILINE)
_LITERAL = re.compile(rb'//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'', re.DOTALL)
_WHILE = b"while"


def masked(source: bytes) -> bytes:
    """Return the source with blanks, or a loop of C, in the place of what is not plain C.

    It has the same length and the same lines. In comments and literals nothing is changed.
    """
    parts: list[bytes] = []
    at = 0
    text = _DIRECTIVE.sub(lambda match: _blank(match[0]), source)
    for literal in _LITERAL.finditer(text):
        parts += [_code(text[at : literal.start()]), literal[0]]
        at = literal.end()
    parts.append(_code(text[at:]))
    return b"".join(parts)


def loops(source: bytes) -> frozenset[int]:
    """Return where the masked source has a ``while`` in the place of a macro."""
    text = masked(source)
    return frozenset(
        match.start() for match in _LOOP.finditer(source) if text.startswith(_WHILE, match.start())
    )


def _code(text: bytes) -> bytes:
    text = _ATTRIBUTE.sub(lambda match: _blank(match[0]), text)
    text = _LOOP.sub(lambda match: _WHILE.ljust(len(match[0])), text)
    return _TYPE_ARGUMENT.sub(lambda match: _blank(match[0]), text)


def _blank(text: bytes) -> bytes:
    return bytes(sign if sign in b"\n" else 0x20 for sign in text)
