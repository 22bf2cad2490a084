# SPDX-License-Identifier: GPL-2.0-only
"""Texts from guests and file systems, made such that every writer and terminal can take them.

A name in Linux is bytes: Python has those that are not UTF-8 as lone surrogates (PEP 383), which no
encoder takes. Control characters move a terminal's cursor, and XML cannot have them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

Value = TypeVar("Value")

_SURROGATE = re.compile("[\ud800-\udfff]")
# Control characters but tab and newline, and those that turn the direction of a text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def writable(text: str) -> str:
    r"""Return a text that can be encoded: a byte that is not UTF-8 is \\xNN, as Python shows it."""
    return _SURROGATE.sub(_shown, text)


def printable(text: str) -> str:
    """Return a writable text of which no character does anything to a terminal but tab, newline."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", writable(text))


def all_writable(value: object) -> object:
    """Return a value with all texts in it writable; containers are gone through."""
    if isinstance(value, str):
        # A member of an enum is one of ours.
        return writable(value) if type(value) is str else value
    if isinstance(value, tuple | list):
        return type(value)(all_writable(each) for each in value)
    if isinstance(value, dict):
        return writable_fields(value)
    return value


def writable_fields(fields: Mapping[object, object]) -> dict[object, object]:
    """Return a mapping with all texts in it writable."""
    return {all_writable(name): all_writable(value) for name, value in fields.items()}


def _shown(found: re.Match[str]) -> str:
    number = ord(found[0])
    # PEP 383 has the bytes 0x80 to 0xff there.
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"
