# SPDX-License-Identifier: GPL-2.0-only
"""What a mutant is: a place in a source file, and what stands there instead. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum


class Operator(StrEnum):
    """What is broken, by the names that ``--operator`` takes."""

    DELETE_CALL = "delete-call"
    DELETE_ASSIGNMENT = "delete-assignment"
    NEGATE_CONDITION = "negate-condition"
    DROP_LEFT = "drop-left"
    DROP_RIGHT = "drop-right"
    DROP_NOT = "drop-not"
    BOUNDARY = "boundary"
    EQUALITY = "equality"
    OFF_BY_ONE = "off-by-one"
    ERROR_TO_ZERO = "error-to-zero"
    ZERO_TO_ERROR = "zero-to-error"
    RESULT_LOST = "result-lost"
    CONSTANT = "constant"
    SWAP = "swap"
    JUMP = "jump"
    LIST_END = "list-end"
    DELETE_ENTRY = "delete-entry"


MEANINGS = {
    Operator.DELETE_CALL: "a call as a statement is left out",
    Operator.DELETE_ASSIGNMENT: "an assignment is left out",
    Operator.NEGATE_CONDITION: "a condition is negated",
    Operator.DROP_LEFT: "the left side of && or || is dropped",
    Operator.DROP_RIGHT: "the right side of && or || is dropped",
    Operator.DROP_NOT: "a ! is dropped",
    Operator.BOUNDARY: "< becomes <=, > becomes >=, and the reverse",
    Operator.EQUALITY: "== becomes !=, and the reverse",
    Operator.OFF_BY_ONE: "a number is one more, or + becomes -, and the reverse",
    Operator.ERROR_TO_ZERO: "an error code becomes 0",
    Operator.ZERO_TO_ERROR: "0 is returned as -EINVAL",
    Operator.RESULT_LOST: "a value that is returned becomes 0 or NULL",
    Operator.CONSTANT: "true becomes false, KLP_PATCHED KLP_UNPATCHED, and the like",
    Operator.SWAP: "two statements that follow each other are swapped",
    Operator.JUMP: "break, continue, goto or return is left out, or break becomes continue",
    Operator.LIST_END: "the head of a list becomes its tail, and the reverse",
    Operator.DELETE_ENTRY: "an entry or a member of a livepatch's tables is left out",
}


class Shape(StrEnum):
    """How a switch is put around a mutant."""

    EXPRESSION = "expression"
    STATEMENT = "statement"
    SWAP = "swap"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A mutant as the generator found it: the bytes from ``start`` to ``end`` become ``new``.

    ``number`` is what the switch is set to. ``differs`` is a condition in C, without side effects,
    that holds when the mutated code has another value or effect than the original at this moment;
    ``1`` when that cannot be asked. ``partner_end`` is where the second of two swapped statements
    ends. ``init``: the code runs while the kernel boots.
    """

    number: int
    name: str
    file: str
    function: str
    operator: Operator
    shape: Shape
    line: int
    start: int
    end: int
    new: str
    differs: str = "1"
    partner_start: int = 0
    partner_end: int = 0
    init: bool = False

    def apply(self, source: bytes) -> bytes:
        """Return the source as somebody would have written this mutant alone."""
        if self.shape is Shape.SWAP:
            first = source[self.start : self.end]
            second = source[self.partner_start : self.partner_end]
            between = source[self.end : self.partner_start]
            return source[: self.start] + second + between + first + source[self.partner_end :]
        end = self.end
        if self.operator is Operator.DELETE_ENTRY:
            # The comma goes with it.
            rest = source[end:]
            end += len(rest) - len(rest.lstrip()) + 1 if rest.lstrip().startswith(b",") else 0
        return source[: self.start] + self.new.encode() + source[end:]

    def diff(self, source: bytes) -> str:
        """Return the mutant as a unified diff, with three lines of context."""
        before, after = (
            text.decode(errors="replace").splitlines(keepends=True)
            for text in (source, self.apply(source))
        )
        return "".join(difflib.unified_diff(before, after, f"a/{self.file}", f"b/{self.file}", n=3))
