# SPDX-License-Identifier: GPL-2.0-only
"""Changed samples: what a bad disk, a cut-off transfer or an ill-willed guest makes of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

# Values that have broken readers: of numbers, of nesting, of encodings, of lines.
TOKENS = (
    *(
        b"",
        b"\0",
        b"\n",
        b"\r\n",
        b"\r",
        b" ",
        b"\t",
        b"\x1b[2J",
        b"\xff\xfe",
        b"\x80",
        b"\xed\xa0\x80",
    ),
    *(
        b"\\ud800",
        b'"',
        b"'",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b"(",
        b")",
        b":",
        b",",
        b"=",
        b"#",
        b"%",
    ),
    *(b"null", b"true", b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"-1", b"0x1", b"1.5"),
    *(b"9" * 20, b"9" * 5000, b"1" + b"0" * 400, "٣".encode(), "²".encode(), "\u2028".encode()),
    *(b"[" * 2000, b'{"a":' * 2000, b"a" * 3000, b" " * 3000, b"\\" * 500, b"((((a*)*)*)*)"),
    *(b"..", b"/", b"//", b"~", b"~nobody-of-this-name/x", b"http://[", b"://", b"deb:", b"build:"),
    *(
        b"[    1.000000] ",
        b"Call Trace:",
        b"------------[ cut here ]------------",
        b"BUG: ",
        b"</TASK>",
    ),
    *(
        b"CONFIG_",
        b"is not set",
        b"--- a/x",
        b"+++ b/x",
        b"@@ -1,9 +1,9 @@",
        b"@@ -1,99999999999 +1 @@",
    ),
)


def mutated(random: random.Random, samples: Sequence[bytes]) -> bytes:
    """Return a sample with some changes; rarely bytes of no sample at all."""
    data = bytearray(random.choice(samples))
    if random.random() < 0.02:
        data = bytearray(random.randbytes(random.randrange(300)))
    for _ in range(1 + int(random.expovariate(0.5))):
        start = random.randrange(len(data) + 1)
        end = min(len(data), start + int(random.expovariate(0.1)))
        match random.randrange(7):
            case 0:
                del data[start:end]
            case 1:
                data[start:start] = random.choice(TOKENS)
            case 2:
                data[start:end] = random.choice(TOKENS)
            case 3:
                data[start:start] = data[start:end] * random.randrange(1, 4)
            case 4:
                if start < len(data):
                    data[start] ^= 1 << random.randrange(8)
            case 5:
                del data[start:]
            case _:
                other = random.choice(samples)
                data[start:end] = other[start : start + random.randrange(200)]
    return bytes(data)
