# SPDX-License-Identifier: GPL-2.0-only
"""What a splat has, when it is reported, and the policy file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.klog.policy import POLICY_FILE, Category, default_policy, load_policy
from harness.klog.splats import SplatDetector, find_splats

DATA = Path(__file__).parent / "data" / "klog"
CUT_HERE = "------------[ cut here ]------------"
END_TRACE = "---[ end trace 0000000000000000 ]---"

RULE = """
[oops.{id}]
pattern = "x"
title = "x"
source = "x.c"
"""


def log_of(name: str) -> str:
    return (DATA / f"{name}.log").read_text(encoding="utf-8").partition("\n\n")[2]


def stamp(*texts: str, at_s: float = 1.0) -> str:
    return "".join(f"[{at_s + number * 1e-5:12.6f}] {text}\n" for number, text in enumerate(texts))


def test_reported_at_the_first_line() -> None:
    """A splat in whose middle the guest dies is reported: nothing waits for its end."""
    detector = SplatDetector()
    found = detector.feed(stamp("BUG: kernel NULL pointer dereference, address: 0"))
    assert [splat.title for splat in found] == ["NULL pointer dereference"]


def test_a_splat_grows_while_its_lines_come() -> None:
    """Title and text of a reported splat follow the stream."""
    detector = SplatDetector()
    (splat,) = detector.feed(stamp("kernel BUG at mm/slub.c:9!"))
    assert splat.title == "BUG at mm/slub.c"
    detector.feed(stamp("RIP: 0010:kfree+0x1/0x2", "---[ end trace 0 ]---", "something else"))
    assert splat.title == "BUG at mm/slub.c in kfree"
    assert splat.text.splitlines()[-1] == "---[ end trace 0 ]---"
    assert splat.first_line == "kernel BUG at mm/slub.c:9!"
    assert splat.us == 1_000_000


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("warn-with-text", CUT_HERE, END_TRACE),
        ("kobject-init-twice", None, " </TASK>"),
        ("kfence", "=" * 66, "=" * 66),
        ("unwinder", None, None),
        ("rss-counter", None, None),
        ("oops-6.12", None, "note: insmod[35] exited with irqs disabled"),
        ("slab-double-free", "=" * 77, None),
    ],
)
def test_extent(name: str, first: str | None, last: str | None) -> None:
    """A splat's text begins and ends where the kernel's report does."""
    splat = find_splats(log_of(name))[-1]
    lines = splat.text.splitlines()
    assert lines[0] == (first or splat.first_line)
    if last is not None:
        assert lines[-1] == last
    elif first is None:
        assert lines == [splat.first_line]


def test_what_stands_before_a_warning_belongs_to_it() -> None:
    """The text of a WARN() comes before its first line on kernels up to 6.18."""
    (splat,) = find_splats(log_of("warn-with-text"))
    assert splat.text.splitlines()[1:3] == ["badlab: 3 things are", "in disorder"]


def test_log_lines_after_a_splat_are_not_in_it() -> None:
    """What the kernel goes on to say is no part of the splat."""
    (splat,) = find_splats(log_of("oops-6.12"))
    assert "klp_target_mod: exit" not in splat.text


def test_a_pause_ends_a_splat_without_a_stack() -> None:
    """A report that has no stack does not swallow what is logged seconds later."""
    text = stamp("INFO: task x:1 blocked for more than 3 seconds.", "      Not tainted") + stamp(
        "module: fine", at_s=9.0
    )
    (splat,) = find_splats(text)
    assert "module: fine" not in splat.text


def test_programs_say_nothing_about_the_kernel() -> None:
    """A program may print what it likes on the console."""
    text = stamp("hello") + "BUG: kernel NULL pointer dereference, address: 0\n"
    assert find_splats(text) == []


def test_user_output_is_not_in_the_text() -> None:
    """A program's line between two of the kernel's is left out."""
    (splat,) = find_splats(log_of("in-the-middle-of-a-line"))
    assert "user:" not in splat.text
    assert "done 7" not in splat.text


def test_two_splats_in_a_row() -> None:
    """A second splat within the first one's lines is one of its own."""
    text = stamp(
        "BUG: kernel NULL pointer dereference, address: 0",
        "Oops: 0002 [#1] SMP",
        "WARNING: CPU: 1 PID: 1 at x.c:1 other_cpu+0x1/0x2",
        "---[ end trace 0 ]---",
    )
    assert [splat.category for splat in find_splats(text)] == [Category.OOPS, Category.WARNING]


def test_a_second_oops_after_the_first_has_ended() -> None:
    """An oops that has no line of its own before the common one is not lost behind another."""
    text = stamp(
        "BUG: kernel NULL pointer dereference, address: 0",
        "Oops: 0002 [#1] SMP",
        "---[ end trace 0 ]---",
        "divide error: 0000 [#2] SMP",
        "---[ end trace 0 ]---",
    )
    assert [splat.title for splat in find_splats(text)] == [
        "NULL pointer dereference",
        "divide error",
    ]


@pytest.mark.parametrize(
    "between", [("Call Trace:", " f+0x1/0x2"), ("---[ end trace 0 ]---",)], ids=["stack", "end"]
)
def test_a_text_after_a_warnings_stack_is_another_splat(between: tuple[str, ...]) -> None:
    """What makes a warning more exact stands next to its first line, not behind its stack."""
    text = stamp(
        "WARNING: CPU: 1 PID: 1 at x.c:1 f+0x1/0x2",
        *between,
        "refcount_t: saturated; leaking memory.",
    )
    assert [splat.rule for splat in find_splats(text)] == ["warn", "refcount"]


def test_what_follows_a_panic_is_part_of_it() -> None:
    """What a dying kernel logs after a panic is no splat of its own."""
    text = stamp(
        "Kernel panic - not syncing: enough",
        "WARNING: CPU: 0 PID: 1 at kernel/smp.c:1 smp_call_function+0x1/0x2",
    )
    assert [splat.category for splat in find_splats(text)] == [Category.PANIC]


def test_a_splat_has_a_limit() -> None:
    """A report whose end never comes does not swallow the rest of the log."""
    text = stamp("Oops: 0002 [#1] SMP", *(f"line {number}" for number in range(1000)))
    (splat,) = find_splats(text)
    assert 100 < len(splat.text.splitlines()) < 500


def test_the_next_report_ends_one_without_an_end() -> None:
    """The line that announces a report is the next one's, with the text behind it."""
    text = stamp(
        "WARNING: CPU: 1 PID: 1 at x.c:1 f+0x1/0x2",
        CUT_HERE,
        "seven things",
        "WARNING: CPU: 1 PID: 1 at x.c:2 g+0x1/0x2",
    )
    first, second = find_splats(text)
    assert first.text == first.first_line
    assert second.text.splitlines()[:2] == [CUT_HERE, "seven things"]


def test_an_announcement_without_a_report() -> None:
    """A frame that nothing follows is not kept for a splat much later."""
    text = stamp(CUT_HERE, *(f"line {number}" for number in range(50)), "kernel BUG at x.c:1!")
    (splat,) = find_splats(text)
    assert splat.text == splat.first_line


HUNG = (
    "INFO: task cat:36 blocked for more than 120 seconds.",
    "task:cat             state:D stack:0     pid:36",
    "Call Trace:",
    " <TASK>",
    " schedule+0x33/0x70",
)


def test_exempt_by_its_stack() -> None:
    """A task that a test holds in a gate is not hung; the report has to be read to its stack."""
    text = stamp(*HUNG, " klp_gate_sleep+0x135/0x170 [klp_target_gate]", " </TASK>", "next")
    assert find_splats(text) == []


@pytest.mark.parametrize("end", [(" </TASK>",), ("next line",)], ids=["marker", "none"])
def test_held_back_only_until_its_stack_ends(end: tuple[str, ...]) -> None:
    """A hung task elsewhere is reported as soon as its stack is complete."""
    detector = SplatDetector()
    assert detector.feed(stamp(*HUNG)) == []
    found = detector.feed(stamp(*end))
    assert [splat.title for splat in found] == ["hung task cat"]
    assert detector.finish() == []


def test_held_back_at_the_end_of_the_stream() -> None:
    """What is still held back when the guest is gone is reported."""
    detector = SplatDetector()
    detector.feed(stamp(*HUNG))
    assert [splat.title for splat in detector.finish()] == ["hung task cat"]


def test_every_exemption_has_its_reason_and_its_source() -> None:
    """The shipped policy loads; each exemption is of a rule that exists."""
    policy = default_policy()
    assert len({rule.id for rule in policy.rules}) == len(policy.rules) > 30
    for exemption in policy.exempt:
        assert exemption.reason.endswith(".")
        assert exemption.source


def every_first_line() -> dict[str, str]:
    """Return the first line of each recorded splat, with the rule that found it."""
    return {
        splat.first_line: splat.rule
        for path in sorted(DATA.glob("*.log"))
        for splat in find_splats(path.read_text(encoding="utf-8").partition("\n\n")[2])
    }


def test_every_rule_has_a_recorded_log() -> None:
    """A rule without a log that it finds something in is not proved."""
    assert {rule.id for rule in default_policy().rules} == set(every_first_line().values())


@pytest.mark.parametrize("line", every_first_line())
def test_no_rule_is_a_word_in_a_sentence(line: str) -> None:
    """Words mislead: the same text after other words is no splat."""
    assert find_splats(stamp(line))
    assert find_splats(stamp(f"good_module: about the text '{line}'")) == []


PATTERN = "[oops.a]\ntitle = 'x'\nsource = 'y'\npattern = '{pattern}'\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('[[exempt]]\nrule = "warn"\npattern = "x"\nsource = "y"\n', "reason"),
        ('[[exempt]]\nrule = "warn"\npattern = "x"\nsource = "y"\nreason = " "\n', "reason"),
        ('[[exempt]]\nrule = "nosuch"\npattern = "x"\nsource = "y"\nreason = "z."\n', "nosuch"),
        ('[odd.a]\npattern = "x"\n', "odd"),
        ('[oops.a]\ntitle = "x"\nsource = "y"\npattern = "("\n', "pattern"),
        ("[[exempt\n", "Expected"),
        (RULE.format(id="warn"), "repeated"),
        (PATTERN.format(pattern="a{99999999999}"), "repetition"),
        # Each is a whole expression by itself, and means another thing among all of them.
        (PATTERN.format(pattern=r"(a|b)\1"), "must do without"),
        (PATTERN.format(pattern="(?P<a>a|b)(?P=a)"), "must do without"),
        (PATTERN.format(pattern="(a)?(?(1)b|c)"), "must do without"),
        (PATTERN.format(pattern="(?i)Oops"), "must do without"),
        ('[[exempt]]\nrule = 7\npattern = "x"\nsource = "y"\nreason = "z."\n', "rule"),
    ],
)
def test_a_wrong_policy_is_refused(tmp_path: Path, change: str, message: str) -> None:
    """An exemption without a reason, an unknown rule or category: refused, not left out."""
    path = tmp_path / "more.toml"
    path.write_text(change, encoding="utf-8")
    with pytest.raises(HarnessError, match=message):
        load_policy(POLICY_FILE, path)


def test_more_exemptions_by_another_file(tmp_path: Path) -> None:
    """A user's own file adds exemptions to the shipped rules."""
    path = tmp_path / "mine.toml"
    path.write_text(
        '[[exempt]]\nrule = "warn"\npattern = "badlab_init"\nreason = "It is made to warn."\n'
        'source = "badlab.c"\n',
        encoding="utf-8",
    )
    policy = load_policy(POLICY_FILE, path)
    assert find_splats(log_of("warn"), policy) == []
    assert len(find_splats(log_of("warn-in-module"), policy)) == 1


def test_one_expression_knows_every_rule() -> None:
    """The quick test for a line knows whatever the rules know."""
    policy = default_policy()
    for path in DATA.glob("*.log"):
        for line in re.sub(r"(?m)^\[.*?\] ", "", path.read_text(encoding="utf-8")).splitlines():
            by_rules = any(rule.pattern.match(line) for rule in policy.rules)
            assert bool(policy.any_of.match(line)) == by_rules
