# SPDX-License-Identifier: GPL-2.0-only
"""Large inputs of shapes on which a reader that looks back takes the square of their size."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECES = {
    "one line": b"a",
    "blanks": b" ",
    "brackets": b"[",
    "open braces": b'{"a":',
    "quotes": b'"',
    "backslashes": b"\\",
    "digits": b"9",
    "empty lines": b"\n",
    "short lines": b"x y\n",
    "colons": b"a: ",
    "time stamps": b"[    1.000000] ",
    "stamps and words": b"[    1.000000] BUG: ",
    "equals": b"=\n",
    "options": b"CONFIG_A=y\n",
    "diffs": b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n",
    "indented": b" config A\n",
    "objects": b'{"t_us":1}\n',
    "errors": b"error: a\n",
    "addresses": b"127.0.0.1 TCP[HOST_FORWARD] 1 ",
}


def shapes(size: int, samples: list[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield names of shapes, and inputs of about that size."""
    for name, piece in _PIECES.items():
        yield name, piece * (size // len(piece))
    for number, sample in enumerate(samples[:3]):
        yield f"sample {number}", sample * (size // max(len(sample), 1))
        # Without line ends: one line, of what is a line.
        flat = sample.replace(b"\n", b" ")
        yield f"flat sample {number}", flat * (size // max(len(flat), 1))
