# SPDX-License-Identifier: GPL-2.0-only
"""Copy the documents to where ``make docs`` builds the site from: build/docs/source.

The documents link to each other and to sources by relative paths, as GitHub shows them. So the site
has the same layout: README.md and every file that can be reached from it by links are copied to
their own paths there. Zensical then checks each link to a page and to a heading; that the other
files exist is checked by tests/unit/test_docs.py.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "build" / "docs" / "source"
STYLE = ROOT / "docs" / "site.css"

_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.M | re.S)
_LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")


def reached_files(root: Path) -> set[Path]:
    """Return README.md and every file that its links lead to, directly or by other documents."""
    reached: set[Path] = set()
    pending = [root / "README.md"]
    while pending:
        path = pending.pop()
        if path in reached or not path.is_file() or not path.is_relative_to(root):
            continue
        reached.add(path)
        if path.suffix == ".md":
            links = _LINK.findall(_CODE.sub("", path.read_text(encoding="utf-8")))
            pending += [(path.parent / link).resolve() for link in links if "://" not in link]
    return reached


def main() -> None:
    """Make the copy anew."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for path in sorted(reached_files(ROOT) | {STYLE}):
        copy = SOURCE / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)


if __name__ == "__main__":
    main()
