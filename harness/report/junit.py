# SPDX-License-Identifier: GPL-2.0-only
"""Reports as JUnit XML, which CI systems read."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from harness.report.base import CiOutcome, Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from harness.report.base import BaseReport, ResultBase

# Characters that XML 1.0 cannot carry, not even escaped; consoles are full of them.
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(report: BaseReport) -> str:
    """Return a report as a JUnit document with one test case for each result."""
    cases = [_case(result, report.command) for result in report.results]
    if report.error is not None or report.partial:
        # Also beside results that failed: nobody may take a part of a run for all of it.
        case = _element("command", report.command, 0.0)
        kind = "failure" if report.outcome is Outcome.FAILED else "error"
        details = report.error.details if report.error is not None else ()
        message = report.error.message if report.error is not None else "results are missing"
        _child(case, kind, message, "\n".join(details))
        cases.append(case)
    kinds = Counter(part.tag for case in cases for part in case)
    suite = ET.Element(
        "testsuite",
        name=f"klp-harness {report.command}",
        tests=str(len(cases)),
        failures=str(kinds["failure"]),
        errors=str(kinds["error"]),
        skipped=str(kinds["skipped"]),
        time=f"{report.seconds:.3f}",
    )
    suite.append(_properties(report))
    suite.extend(cases)
    root = ET.Element("testsuites", name="klp-harness")
    root.append(suite)
    ET.indent(root)
    # Declared by hand: ElementTree would name the locale's encoding, and the file is UTF-8.
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def mark_partial(path: Path, why: str) -> str | None:
    """Return pytest's own JUnit document with a test case that says that results are missing.

    None when there is no such document: pytest had not begun to write it.
    """
    try:
        root = ET.parse(path).getroot()  # noqa: S314 - this process has written it
    except (OSError, ET.ParseError):
        return None
    suite = root if root.tag == "testsuite" else root.find("testsuite")
    if suite is None:
        return None
    case = _element("command", "test", 0.0)
    _child(case, "error", why, "")
    suite.append(case)
    for name in ("tests", "errors"):
        suite.set(name, str(int(suite.get(name, "0")) + 1))
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _properties(report: BaseReport) -> ET.Element:
    facts = {"harness": report.harness, "host": report.host.system}
    if report.partial:
        facts["partial"] = "true"
    if report.kernel is not None:
        facts |= {
            "kernel": f"{report.kernel.version} ({report.kernel.source})",
            "config_digest": report.kernel.config_digest,
            "compiler": report.kernel.compiler,
        }
    if report.accelerator is not None:
        facts["accelerator"] = f"{report.accelerator} ({report.accelerator_reason})"
    properties = ET.Element("properties")
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=name, value=_plain(value))
    return properties


def _case(result: ResultBase, command: str) -> ET.Element:
    case = _element(result.id, command, result.seconds)
    message, text = result.words()
    match result.ci_outcome:
        case CiOutcome.FAILED:
            _child(case, "failure", message or result.outcome.value, text)
        case CiOutcome.ERROR:
            _child(case, "error", message, text)
        case CiOutcome.SKIPPED | CiOutcome.EXCUSED:
            _child(case, "skipped", message or result.outcome.value, "")
        case CiOutcome.PASSED:
            pass
    return case


def _element(name: str, command: str, seconds: float) -> ET.Element:
    return ET.Element(
        "testcase",
        classname=f"klp-harness.{command.replace(' ', '.')}",
        name=_plain(name),
        time=f"{seconds:.3f}",
    )


def _child(case: ET.Element, kind: str, message: str, text: str) -> None:
    ET.SubElement(case, kind, message=_plain(message)).text = _plain(text)


def _plain(text: str) -> str:
    return _NOT_XML.sub("?", text)
