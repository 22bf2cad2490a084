# SPDX-License-Identifier: GPL-2.0-only
"""The corpus of patch modules is whole: sources, list, manifest and check scripts agree."""

from __future__ import annotations

import re

from benchmarks.module_mutation.subjects import read_manifest
from tests.corpus.cases import CHECKS, MODULES, Judgement, read_corpus

LINE = re.compile(r"^obj-m \+= (\w+)\.o$", re.MULTILINE)
LEAST = 12
PREFIXES = tuple(f"{judgement.value}_" for judgement in Judgement)


def test_each_patch_module_has_an_entry() -> None:
    """Sources, Kbuild and corpus.toml list the same patch modules."""
    listed = set(LINE.findall((MODULES / "Kbuild").read_text()))
    sources = {path.stem for path in MODULES.glob("*.c") if not path.name.endswith(".inc.c")}
    entries = read_corpus()
    judged = {name for name, entry in entries.items() if entry.made_of is None}
    assert listed == sources
    assert judged == {name for name in sources if name.startswith(PREFIXES)}


def test_verdicts() -> None:
    """A module's verdict is that of its name, and each bad one has the codes that are to blame."""
    for name, entry in read_corpus().items():
        assert name.startswith(entry.verdict.value)
        assert bool(entry.codes) is (entry.verdict in (Judgement.BAD, Judgement.WARNED)), name


def test_the_sample() -> None:
    """There are enough good and bad modules, and some of each kind in the sample."""
    entries = read_corpus().values()
    for judgement in (Judgement.GOOD, Judgement.BAD):
        assert sum(entry.verdict is judgement for entry in entries) >= LEAST
        assert any(entry.sample and entry.verdict is judgement for entry in entries)


def test_files_of_entries() -> None:
    """The targets, older patches and scripts that an entry names exist."""
    sources = {path.stem for path in MODULES.glob("*.c") if not path.name.endswith(".inc.c")}
    for name, entry in read_corpus().items():
        own = {module for module in (*entry.targets, *entry.replaces) if "klp_" not in module}
        assert own <= sources, name
        assert entry.check is None or (CHECKS / entry.check).is_file(), name


def test_each_check_script_is_used() -> None:
    """No script is left over."""
    used = {entry.check for entry in read_corpus().values()}
    used |= {entry.check for entry in read_manifest().values()}
    assert {path.name for path in CHECKS.iterdir()} <= used
