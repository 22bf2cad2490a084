# SPDX-License-Identifier: GPL-2.0-only
"""Which lines of a kernel log are a splat: the rules and exemptions of policy.toml."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Sequence

POLICY_FILE = Path(__file__).with_name("policy.toml")

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
# What tomllib, pydantic and re raise for what they cannot take.
_WRONG = (OSError, ValueError, TypeError, AttributeError, RecursionError, OverflowError)
# References to groups, and flags for the whole expression.
_NOT_ALONE = re.compile(r"(?<!\\)(?:\\\\)*(\\[1-9]|\(\?P=|\(\?\(|\(\?[aiLmsux]+\))")
_STRICT = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Category(StrEnum):
    """Kinds of splats."""

    PANIC = "panic"
    OOPS = "oops"
    WARNING = "warning"
    LOCKUP = "lockup"
    RCU_STALL = "rcu stall"
    HUNG_TASK = "hung task"
    LOCKDEP = "lockdep"
    ATOMIC = "atomic"
    KASAN = "kasan"
    KCSAN = "kcsan"
    KMEMLEAK = "kmemleak"
    UBSAN = "ubsan"
    REFCOUNT = "refcount"
    LIST = "list"
    MEMORY = "memory"
    UNWINDER = "unwinder"
    SYSFS = "sysfs"
    KOBJECT = "kobject"


class Extent(StrEnum):
    """Which of the following lines belong to a splat."""

    TRACE = "trace"  # to "---[ end trace", and the registers that an oops repeats after it
    FRAME = "frame"  # to a line of equals signs
    STACK = "stack"  # to the end of the stack that follows
    LINE = "line"  # the line itself, and a stack when it follows at once


class Rule(BaseModel):
    """A line that begins a splat, and the splat's title, made of what the pattern's groups match.

    ``absorbs`` and ``refines`` name other rules; policy.toml says what the fields mean.
    """

    model_config = _STRICT

    id: str
    category: Category
    pattern: re.Pattern[str]
    title: Text
    extent: Extent = Extent.STACK
    source: Text
    absorbs: frozenset[str] = frozenset()
    refines: frozenset[str] = frozenset()
    fault: bool = False


class Exemption(BaseModel):
    """A splat of ``rule`` in which a line matches is no failure, for this reason."""

    model_config = _STRICT

    rule: str
    pattern: re.Pattern[str]
    reason: Text
    source: Text


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The rules, in the order in which they are tried, and the exemptions.

    ``any_of`` matches what any rule matches, so that most lines cost one match.
    """

    rules: tuple[Rule, ...]
    exempt: tuple[Exemption, ...]
    any_of: re.Pattern[str]


@cache
def default_policy() -> Policy:
    """Return the policy of the package."""
    return load_policy(POLICY_FILE)


def load_policy(*paths: Path) -> Policy:
    """Return the policy of these files together.

    Raises HarnessError for an entry that is incomplete or wrong, for example an exemption without
    a reason, and for a rule that is unknown or there twice.
    """
    rules: list[Rule] = []
    exempt: list[Exemption] = []
    for path in paths:
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
            exempt += [Exemption(**entry) for entry in data.pop("exempt", ())]
            rules += [
                Rule(id=name, category=Category(category), **entry)
                for category, entries in data.items()
                for name, entry in entries.items()
            ]
        except _WRONG as error:
            raise HarnessError(f"{path}: {error}") from error
    known = {rule.id for rule in rules}
    named = {name for rule in rules for name in rule.absorbs | rule.refines}
    unknown = sorted((named | {each.rule for each in exempt}) - known - {"*"})
    if unknown or len(known) != len(rules):
        raise HarnessError(f"{paths[-1]}: unknown or repeated rules: {', '.join(unknown)}")
    try:
        any_of = _any_of(rules)
    except ValueError as error:
        raise HarnessError(f"{paths[-1]}: {error}") from error
    return Policy(rules=tuple(rules), exempt=tuple(exempt), any_of=any_of)


def _any_of(rules: Sequence[Rule]) -> re.Pattern[str]:
    """Return a pattern for what any rule matches; raises ValueError for one that cannot be in it.

    A reference would mean a group of another rule there, and flags would hold for all rules.
    """
    patterns = []
    for rule in rules:
        text = rule.pattern.pattern
        if wrong := _NOT_ALONE.search(text):
            raise ValueError(f"the pattern of {rule.id} must do without {wrong[1]}")
        patterns.append("(?:" + re.sub(r"\(\?P<\w+>", "(?:", text) + ")")
    try:
        return re.compile("|".join(patterns) or r"(?!)")
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"its patterns do not go together: {error}") from error
