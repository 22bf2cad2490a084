# SPDX-License-Identifier: GPL-2.0-only
"""What counts as a splat, as data: policy.toml beside this file has rules and exemptions."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

POLICY_FILE = Path(__file__).with_name("policy.toml")


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
    KMEMLEAK = "kmemleak"
    UBSAN = "ubsan"
    REFCOUNT = "refcount"
    LIST = "list"
    MEMORY = "memory"
    UNWINDER = "unwinder"
    SYSFS = "sysfs"
    KOBJECT = "kobject"


class Extent(StrEnum):
    """How far a splat goes: which of the following lines belong to it."""

    TRACE = "trace"  # to "---[ end trace", and the registers that an oops repeats after it
    FRAME = "frame"  # to a line of equals signs
    STACK = "stack"  # to the end of the stack that follows
    LINE = "line"  # the line itself, and a stack when it follows at once


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A line that begins a splat, and the splat's title made from what the pattern's groups hold.

    ``absorbs`` names rules whose lines are part of this splat, "*" all; ``refines`` names rules
    whose splat becomes one of this rule when such a line follows. ``fault`` adds where the CPU was.
    """

    id: str
    category: Category
    pattern: re.Pattern[str]
    title: str
    extent: Extent
    source: str
    absorbs: frozenset[str] = frozenset()
    refines: frozenset[str] = frozenset()
    fault: bool = False


@dataclass(frozen=True, kw_only=True)
class Exemption:
    """A splat that is none: of rule ``rule``, and with a line that matches. Why, and says who."""

    rule: str
    pattern: re.Pattern[str]
    reason: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Rules in the order they are tried, and exceptions."""

    deny: tuple[Rule, ...]
    allow: tuple[Exemption, ...]
    any_of: re.Pattern[str]


@cache
def default_policy() -> Policy:
    """Return the policy that the package ships."""
    return load_policy(POLICY_FILE)


def load_policy(*paths: Path) -> Policy:
    """Return the policy of these files, one list after the other.

    Raises HarnessError for an entry that is not complete or wrong: an exception without a reason
    and a source is none.
    """
    deny: list[Rule] = []
    allow: list[Exemption] = []
    for path in paths:
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
            deny += [_rule(entry) for entry in data.get("deny", ())]
            allow += [_exemption(entry) for entry in data.get("allow", ())]
        except (tomllib.TOMLDecodeError, re.error, KeyError, ValueError, TypeError) as error:
            raise HarnessError(f"{path}: {type(error).__name__}: {error}") from error
    known = {rule.id for rule in deny}
    named = {name for rule in deny for name in rule.absorbs | rule.refines}
    unknown = sorted((named | {exempt.rule for exempt in allow}) - known - {"*"})
    if unknown or len(known) != len(deny):
        raise HarnessError(f"{paths[-1]}: unknown or repeated rules: {', '.join(unknown)}")
    return Policy(deny=tuple(deny), allow=tuple(allow), any_of=_any_of(deny))


def _any_of(rules: list[Rule]) -> re.Pattern[str]:
    """Return one expression for all rules, so that an innocent line costs one match."""
    unnamed = (re.sub(r"\(\?P<\w+>", "(?:", rule.pattern.pattern) for rule in rules)
    return re.compile("|".join(f"(?:{pattern})" for pattern in unnamed) or r"(?!)")


def _rule(entry: dict[str, Any]) -> Rule:
    return Rule(
        id=_text(entry, "id"),
        category=Category(entry["category"]),
        pattern=re.compile(_text(entry, "pattern")),
        title=_text(entry, "title"),
        extent=Extent(entry["extent"]),
        source=_text(entry, "source"),
        absorbs=frozenset(entry.get("absorbs", ())),
        refines=frozenset(entry.get("refines", ())),
        fault=bool(entry.get("fault", False)),
    )


def _exemption(entry: dict[str, Any]) -> Exemption:
    return Exemption(
        rule=_text(entry, "rule"),
        pattern=re.compile(_text(entry, "pattern")),
        reason=_text(entry, "reason"),
        source=_text(entry, "source"),
    )


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} has to be a text")
    return value
