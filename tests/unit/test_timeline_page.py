# SPDX-License-Identifier: GPL-2.0-only
"""The timeline as a page: what is drawn where, and that a browser shows it."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from harness.deadline import Deadline
from harness.errors import MissingTool
from harness.report.run_results import RunResult
from harness.report.timeline_layout import LABEL, PLOT, lay_out
from harness.report.timeline_page import holders, timeline_page, timeline_svg
from harness.vm.host.process import find_program, run

SVG = "{http://www.w3.org/2000/svg}"
BROWSER_S = 300


def task(
    tid: int, comm: str, *changes: tuple[float, int | None], kthread: bool = False
) -> dict[str, Any]:
    return {
        "tid": tid,
        "comm": comm,
        "kthread": kthread,
        "changes": [{"at_s": at_s, "state": state} for at_s, state in changes],
    }


def held(at_s: float, function: str | None = "klp_gate_wait") -> dict[str, Any]:
    why = "sleeping in a patched function" if function else "running"
    return {
        "at_s": at_s,
        "held": [{"tid": 87, "comm": "klp-gate", "why": why, "function": function}],
    }


def phase(direction: str, start_s: float, end_s: float | None) -> dict[str, Any]:
    return {
        "patch": "klp_test",
        "direction": direction,
        "start_s": start_s,
        "end_s": end_s,
        "switches": [],
    }


def result(**fields: Any) -> RunResult:
    """A transition of 10 s that a sleeper holds up, and that is reversed."""
    base: dict[str, Any] = {
        "id": "klp_test",
        "outcome": "passed",
        "seconds": 12.0,
        "module": "klp_test.ko",
        "functions": ("vmlinux:klp_gate_wait",),
        "phases": [phase("patching", 1.0, 6.0), phase("unpatching", 6.0, 11.0)],
        "marks": [
            {"at_s": 1.0, "what": "patching starts", "kind": "starts"},
            {"at_s": 4.0, "what": "fake signal to remaining tasks", "kind": "signal"},
            {"at_s": 6.0, "what": "reversed: unpatching", "kind": "reversed"},
            {"at_s": 9.0, "what": "forced", "kind": "force"},
            {"at_s": 11.0, "what": "unpatching complete", "kind": "complete"},
        ],
        "tasks": [
            task(1, "init", (0.0, -1), (1.0, 0), (2.0, 1), (6.5, 0), (11.0, -1), (12.0, -1)),
            task(87, "klp-gate", (0.0, -1), (1.0, 0), (11.0, -1), (12.0, -1)),
            *(
                task(10 + n, f"kworker/{n}", (0.0, -1), (1.0, 0), (2.0, 1), (6.5, 0), (11.0, -1))
                | {"kthread": True}
                for n in range(3)
            ),
            task(99, "quick", (3.0, 1), (4.0, None)),
        ],
        "callbacks": [
            {
                "at_s": 0.9,
                "patch": "klp_test",
                "phase": "pre_patch",
                "object": "vmlinux",
                "state": "-",
            }
        ],
        "attempts": [held(1.1), held(2.2), held(3.3)],
    }
    return RunResult.model_validate({**base, **fields})


def titles(node: ET.Element) -> list[str]:
    return ["".join(title.itertext()) for title in node.iter(f"{SVG}title")]


def parsed(found: RunResult | None = None, **options: Any) -> ET.Element:
    text = timeline_svg(found or result(), **options)
    assert text is not None
    return ET.fromstring(str(text))


def of_class(root: ET.Element, kind: str, name: str) -> list[ET.Element]:
    return [node for node in root.iter(f"{SVG}{name}") if kind in (node.get("class") or "").split()]


def test_spans_lie_in_proportion_to_time() -> None:
    """A state of twice the time is twice as wide, and all of them lie in the plot."""
    drawing = lay_out(result())
    assert drawing is not None
    rows = {row.label: row for row in drawing.rows}
    init = [span for span in rows["1 init"].spans if span.kind != "idle"]
    assert [span.kind for span in init] == ["unpatched", "patched", "unpatched"]
    seconds = [1.0, 4.5, 4.5]
    for span, length in zip(init, seconds, strict=True):
        assert span.width == pytest.approx(init[0].width * length, rel=0.01)
    for row in drawing.rows:
        for span in row.spans:
            assert LABEL <= span.x <= span.x + span.width <= LABEL + PLOT + 0.6


def test_the_blocker_comes_first_with_its_function() -> None:
    """The task that held the transition has the first row, with its function beside its marks."""
    drawing = lay_out(result())
    assert drawing is not None
    assert drawing.rows[0].label == "87 klp-gate"
    said = drawing.rows[0].held_in
    assert said is not None
    assert said.text == "in klp_gate_wait()"
    assert said.x > max(point.x for point in drawing.rows[0].points), "it covers a mark"
    assert len(drawing.rows[0].points) == 3
    assert "was not switched: in klp_gate_wait()" in drawing.rows[0].points[0].title


def test_kernel_threads_that_switched_alike_share_a_row() -> None:
    """Kernel threads that switched at the same times share a row by default."""
    shared, alone = lay_out(result()), lay_out(result(), alone=True)
    assert shared is not None
    assert alone is not None
    assert [row.label for row in shared.rows] == ["87 klp-gate", "1 init", "3 kernel threads"]
    assert len(alone.rows) == 5
    assert shared.passing == 1


def test_a_crowd_of_one_name_shares_a_row_when_it_is_large() -> None:
    """Two thousand tasks of one name make one row, not two thousand."""
    many = [
        task(200 + n, "sleeper", (0.0, -1), (1.0, 0), (2.0 + n / 1e5, 1), (11.0, -1))
        for n in range(2000)
    ]
    drawing = lay_out(result(tasks=many))
    assert drawing is not None
    assert [row.label for row in drawing.rows] == ["2000 \u00d7 sleeper"]


@pytest.mark.parametrize(
    ("kind", "sign", "title"),
    [
        ("reversed", "R", "6.00 s: reversed: unpatching"),
        ("signal", "S", "4.00 s: fake signal to remaining tasks"),
        ("force", "F", "9.00 s: forced"),
    ],
)
def test_a_mark_has_a_sign_and_a_title(kind: str, sign: str, title: str) -> None:
    """A reverse, a fake signal and a force have a sign, a title with the time, and a line."""
    root = parsed()
    (mark,) = of_class(root, kind, "g")
    assert mark.findtext(f"{SVG}text") == sign
    assert titles(mark) == [title]
    (line,) = (line for line in of_class(root, kind, "line") if titles(line) == [title])
    assert float(line.get("y2") or 0) > 100, "it crosses all rows"


def test_the_hatch_of_a_drawing_is_its_own() -> None:
    """Two drawings share a page, and one of them may be folded away with its patterns."""
    root = parsed(ident="x7")
    rects = of_class(root, "unpatched", "rect")
    assert {rect.get("fill") for rect in rects} == {"url(#x7-hatch)"}
    assert [node.get("id") for node in root.iter(f"{SVG}pattern")] == ["x7-hatch"]
    style = root.findtext(f".//{SVG}style") or ""
    assert "x7" not in style, "the styles of both drawings hold for both"


def test_attempts_and_callbacks_have_lanes() -> None:
    """Each attempt of the kernel and each callback is drawn."""
    root = parsed()
    assert len(of_class(root, "attempt", "g")) == 3
    (callback,) = of_class(root, "callback", "g")
    assert titles(callback) == ["0.90 s: klp_test: pre_patch vmlinux"]


def test_a_transition_without_end_is_drawn_to_the_end() -> None:
    """A transition that did not end reaches to the end of the recording."""
    marks = [{"at_s": 1.0, "what": "patching starts", "kind": "starts"}]
    drawing = lay_out(result(phases=[phase("patching", 1.0, None)], marks=marks, callbacks=[]))
    assert drawing is not None
    assert drawing.end_s == 12.0
    (leg,) = drawing.lanes[0].spans
    assert "did not end" in leg.title
    assert leg.x + leg.width == pytest.approx(LABEL + PLOT)


def test_without_a_recording_there_is_no_drawing() -> None:
    """An empty recording makes no drawing, and the page says so."""
    empty = result(tasks=[], marks=[], callbacks=[], phases=[], attempts=None)
    assert timeline_svg(empty) is None
    assert "Nothing was recorded" in timeline_page("x", {}, [empty])


def test_holders_are_told_with_where_and_how_often() -> None:
    """The table has each task that held the transition, where, and in how many attempts."""
    found = holders(result(attempts=[held(1.1, None), held(2.2), held(3.3)]))
    assert [(each.where, each.times_s) for each in found] == [
        ("in klp_gate_wait()", (2.2, 3.3)),
        ("running", (1.1,)),
    ]


def test_words_of_the_guest_cannot_become_markup() -> None:
    """A task's name with markup is shown as text."""
    evil = result(tasks=[task(7, "<b>&amp;", (0.0, -1), (1.0, 0), (2.0, 1), (3.0, -1))])
    page = timeline_page("<x>", {"kernel": "<y>"}, [evil])
    assert not {"<b>", "<x>", "<y>"} & set(re.findall(r"<[a-z]>", page))
    assert "7 &lt;b&gt;&amp;amp;" in page


def test_a_page_needs_nothing_else() -> None:
    """The page loads nothing and has no scripts."""
    page = timeline_page("x", {}, [result()])
    names = set(re.findall(r"https?://[^\"' <]+", page))
    assert names == {"http://www.w3.org/2000/svg"}
    assert "<script" not in page


class _Elements(HTMLParser):
    """Counts start tags with a class, as ``tag.class``."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for word in (dict(attrs).get("class") or "").split():
            self.found.append(f"{tag}.{word}")


def browser() -> str:
    """Return a Chromium, by its path; in CI a machine without one fails the test."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        try:
            return find_program(name)
        except MissingTool:
            continue
    words = "no Chromium here to open the page in (as root: apt-get install chromium)"
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)


def test_a_browser_shows_it(tmp_path: Path) -> None:
    """What headless Chromium makes of the page has its rows and marks, and draws them."""
    page = tmp_path / "timeline.html"
    page.write_text(timeline_page("x", {"kernel": "6.1"}, [result()]), encoding="utf-8")
    picture = tmp_path / "timeline.png"
    # As root it has no sandbox of its own; the page is ours.
    words = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    dumped = run(
        [*words, profile, "--dump-dom", page.as_uri()], deadline=Deadline.after(BROWSER_S)
    ).stdout
    elements = _Elements()
    elements.feed(dumped)
    # The drawing, and the one with every task.
    assert elements.found.count("g.row") == 3 + 5
    for sign in ("reversed", "signal", "force", "callback"):
        assert elements.found.count(f"g.{sign}") == 2, sign
    assert elements.found.count("g.attempt") == 2 * 3
    run(
        [*words, profile, f"--screenshot={picture}", "--window-size=1300,900", page.as_uri()],
        deadline=Deadline.after(BROWSER_S),
    )
    assert picture.stat().st_size > 20_000, "the picture is empty"
