# SPDX-License-Identifier: GPL-2.0-only
"""The corpus of patch modules is whole: sources, list, manifest and check scripts agree."""

from __future__ import annotations

import re

from benchmarks.module_mutation.subjects import read_manifest
from tests.corpus.cases import CHECKS, MODULES, Judgement, read_corpus

LINE = re.compile(r"^obj-m \+= (\w+)\.o$", re.MULTILINE)
LEAST = 12


def test_each_patch_module_has_its_verdict() -> None:
    listed = set(LINE.findall((MODULES / "Kbuild").read_text()))
    sources = {path.stem for path in MODULES.glob("*.c") if not path.name.endswith(".inc.c")}
    entries = read_corpus()
    judged = {name for name, entry in entries.items() if entry.made_of is None}
    assert listed == sources
    assert judged == {name for name in sources if name.startswith(("good_", "bad_"))}


def test_the_verdict_is_that_of_the_name_and_bad_ones_have_a_reason() -> None:
    for name, entry in read_corpus().items():
        assert name.startswith(entry.verdict.value)
        assert bool(entry.codes) is (entry.verdict is Judgement.BAD), name


def test_there_are_enough_of_both_and_some_of_both_in_the_sample() -> None:
    entries = read_corpus().values()
    for judgement in Judgement:
        assert sum(entry.verdict is judgement for entry in entries) >= LEAST
        assert any(entry.sample and entry.verdict is judgement for entry in entries)


def test_what_entries_name_is_there() -> None:
    sources = {path.stem for path in MODULES.glob("*.c") if not path.name.endswith(".inc.c")}
    for name, entry in read_corpus().items():
        own = {module for module in (*entry.targets, *entry.replaces) if "klp_" not in module}
        assert own <= sources, name
        assert entry.check is None or (CHECKS / entry.check).is_file(), name


def test_each_check_script_is_used() -> None:
    used = {entry.check for entry in read_corpus().values()}
    used |= {entry.check for entry in read_manifest().values()}
    assert {path.name for path in CHECKS.iterdir()} <= used
