# SPDX-License-Identifier: GPL-2.0-only
"""The table of rules, the document made from it, and the markers of the behaviour suite agree."""

from __future__ import annotations

import runpy
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.behaviours.rule_tests import find_rule_tests, marked
from harness.behaviours.table import Expected, Rule, load_table
from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

ROOT = Path(__file__).resolve().parents[2]
SUITE = ROOT / "tests" / "behaviours"
TABLE = load_table()
RULES = [rule.id for rule in TABLE.rule]


def disagreements(
    rules: Collection[str], pending: Collection[str], tests: Mapping[str, object]
) -> list[str]:
    """Return what table and markers do not agree on, each as a sentence."""
    return [
        *(f"{rule} has no test" for rule in rules if rule not in tests and rule not in pending),
        *(f"{rule} has a test: take it out of pending" for rule in pending if rule in tests),
        *(f"{rule} is pending and has no row" for rule in pending if rule not in rules),
        *(f"a test carries {rule}, which has no row" for rule in tests if rule not in rules),
    ]


def test_every_rule_has_a_test_and_every_test_a_rule() -> None:
    """In tests/behaviours/rules.toml; a test needs no entry there, a new rule does."""
    assert disagreements(RULES, TABLE.pending, find_rule_tests(SUITE)) == []


def test_the_document_is_made_from_the_table() -> None:
    """docs/behaviours.md is generated, and is generated anew after each change of the table."""
    text = (ROOT / "docs" / "behaviours.md").read_text()
    document = runpy.run_path(str(ROOT / ".ci" / "behaviours_document.py"))["document"]
    assert text == document(TABLE), (
        "run: .venv/bin/python .ci/behaviours_document.py docs/behaviours.md"
    )


def test_the_rules_are_in_order() -> None:
    """By section, and within one by number; the number of a rule that was refuted stays unused."""
    sections = [section.id for section in TABLE.section]
    assert len(RULES) == len(set(RULES))
    assert [rule.id for section in TABLE.section for rule in TABLE.rules_of(section)] == RULES
    assert sections == list(dict.fromkeys(rule.section for rule in TABLE.rule))
    for section in TABLE.section:
        numbers = [int(rule.id.partition("-")[2]) for rule in TABLE.rules_of(section)]
        assert numbers == sorted(set(numbers)), section.id
        assert numbers[0] == 1, section.id


def test_what_the_rows_name_is_known() -> None:
    """Series, mails and public suites of a row are those that the table explains."""
    series = {*TABLE.series, "all"}
    for rule in TABLE.rule:
        mails = [name for name in rule.source if not is_commit(name)]
        assert set(mails) <= set(TABLE.sources), rule.id
        assert set(rule.public) <= {"upstream", "SUSE", "kpatch", "Red Hat", "none"}, rule.id
        named = [name for expectation in rule.expect for name in expectation.series]
        assert set(named) <= series, rule.id
        assert len(named) == len(set(named)), rule.id


def is_commit(name: str) -> bool:
    return len(name) == 8 and set(name) <= set("0123456789abcdef")


def test_expectations_are_found_by_series() -> None:
    """A release of a series has what is expected of it; an option of the kernel can lift that."""
    rule = Rule.model_validate(
        {
            "id": "XX-01",
            "holds": "",
            "source": [],
            "public": [],
            "expect": [
                {"series": ["6.1"], "outcome": "not-applicable", "why": "it is old"},
                {"series": ["5.10"], "unless": "X", "outcome": "expected-failure", "why": "a bug"},
                {"series": ["7.2"], "only": "Y", "outcome": "expected-failure", "why": "a bug"},
            ],
        }
    )
    found = rule.expected("6.1.192")
    assert found is not None
    assert found.outcome is Expected.NOT_APPLICABLE
    assert rule.expected("6.1-rc3") == rule.expected("6.1") == found
    assert rule.expected("6.12.4") is None
    assert rule.expected("5.10.2") is not None
    assert rule.expected("5.10.2", lambda option: option == "X") is None
    assert rule.expected("5.10.2", lambda option: option != "X") is not None
    assert rule.expected("7.2.1") is None
    assert rule.expected("7.2.1", lambda option: option == "Y") is not None


def test_a_broken_table_is_the_installations_fault(tmp_path: Path) -> None:
    """No user is told to change what came with the package."""
    path = tmp_path / "table.toml"
    path.write_text("series = 1")
    with pytest.raises(HarnessError, match=r"table\.toml cannot be read"):
        load_table(path)


# -- each check finds what it looks for


@pytest.mark.parametrize(
    ("rules", "pending", "tests", "found"),
    [
        (["A", "B"], ["B"], ["A"], []),
        (["A"], [], [], ["A has no test"]),
        (["A"], ["A"], ["A"], ["A has a test: take it out of pending"]),
        ([], ["A"], [], ["A is pending and has no row"]),
        ([], [], ["A"], ["a test carries A, which has no row"]),
    ],
)
def test_a_disagreement_is_found(
    rules: list[str], pending: list[str], tests: list[str], found: list[str]
) -> None:
    """The check above finds each way in which table and tests can differ."""
    assert disagreements(rules, pending, dict.fromkeys(tests)) == found


def test_markers_are_found_in_all_places() -> None:
    """On the file, the class, the test, and on one of a test's parameters."""
    text = """
    import pytest
    pytestmark = [pytest.mark.behaviour("AA-01"), pytest.mark.slow]

    @pytest.mark.behaviour("BB-01", "BB-02")
    def test_one(): pass

    @pytest.mark.behaviour("CC-01")
    class TestTwo:
        @pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.behaviour("DD-01"))])
        def test_three(self, x): pass

    @pytest.mark.behaviour("EE-01")
    def helper(): pass
    """
    assert list(marked(textwrap.dedent(text))) == [
        ("AA-01", "test_one"),
        ("BB-01", "test_one"),
        ("BB-02", "test_one"),
        ("AA-01", "TestTwo::test_three"),
        ("CC-01", "TestTwo::test_three"),
        ("DD-01", "TestTwo::test_three"),
    ]


@pytest.mark.parametrize("text", ["def test(:", "@pytest.mark.behaviour(name)\ndef test_x(): pass"])
def test_markers_that_cannot_be_read_are_an_error(tmp_path: Path, text: str) -> None:
    """A rule without its tests is not shown as one that has none."""
    (tmp_path / "test_x.py").write_text(text)
    with pytest.raises(HarnessError, match=r"test_x\.py cannot be read"):
        find_rule_tests(tmp_path)
