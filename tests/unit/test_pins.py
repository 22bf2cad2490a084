# SPDX-License-Identifier: GPL-2.0-only
"""What CI and the image take from elsewhere is named by commit or digest, which cannot be moved."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
IMAGE = re.compile(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}")
COMMIT = re.compile(r"[\w./-]+@[0-9a-f]{40}")


def bases() -> list[str]:
    """Return the images that the Containerfile is made from."""
    return re.findall(r"(?m)^FROM (\S+)", (ROOT / "Containerfile").read_text())


def of_workflow(path: Path) -> tuple[list[str], list[str]]:
    """Return the actions and the container images that a workflow names."""
    actions, images = [], []
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        container = job.get("container")
        if container:
            images.append(container["image"] if isinstance(container, dict) else container)
        images += [service["image"] for service in job.get("services", {}).values()]
        actions += [step["uses"] for step in job.get("steps", ()) if "uses" in step]
    return actions, images


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_named_by_commit(path: Path) -> None:
    """A tag can be moved to other code by whoever owns, or takes over, an action."""
    actions, images = of_workflow(path)
    assert actions
    assert [name for name in actions if not COMMIT.fullmatch(name)] == []
    assert [name for name in images if not IMAGE.fullmatch(name)] == []


def test_one_image_by_digest() -> None:
    """The image is made from one base, by digest, and CI runs in the same one."""
    assert len(bases()) == 2
    assert all(IMAGE.fullmatch(base) for base in bases())
    assert {*bases(), *(image for path in WORKFLOWS for image in of_workflow(path)[1])} == {
        bases()[0]
    }
