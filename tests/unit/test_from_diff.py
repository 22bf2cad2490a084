# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch made of a diff by klp-build, with a stand-in for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import (
    CommandTimeout,
    HarnessError,
    KernelBuildFailed,
    MissingTool,
    PatchDoesNotApply,
    UsageError,
)
from harness.tools.verify.from_diff import diff_tree
from harness.tools.verify.from_diff.klp_build import SCRIPT, KlpBuildJob, failure, stage
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.inventory import prune_kernels
from harness.vm.kernel.workspace import KLP_BUILD
from tests.unit.diffs import SOURCE, Make, make_kernel

if TYPE_CHECKING:
    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress

# Notes each run in klp-tmp/runs; its first build is complete when it was not killed before.
STAND_IN = """
set -e
[ -f .config ]
for word; do
    case "$word" in
    --output=*) out=${word#--output=} ;;
    *) diff=$word ;;
    esac
done
echo "Building original kernel"
mkdir -p klp-tmp/1-orig
echo "$*" >>klp-tmp/runs
grep -q HANGS "$diff" && sleep 60
touch klp-tmp/1-orig/.complete
if grep -q SAME "$diff"; then
    echo "error: klp-build: no changes detected" >&2
    exit 1
fi
echo "Building patch module: $out"
cat "$diff" kernel/uptime.c >"$out"
"""


@pytest.fixture
def make(tmp_path: Path, store: Store, recorder: Progress, monkeypatch: pytest.MonkeyPatch) -> Make:
    """For a kernel whose tree has a stand-in for klp-build, on a host that has all it needs."""
    monkeypatch.setattr(KlpBuildJob, "needs", ())
    monkeypatch.setattr(diff_tree, "_ROOM_BYTES", 0)
    kernel = make_kernel(tmp_path, config="CONFIG_KLP_BUILD=y\n")
    script = kernel.build_dir.parent / SCRIPT
    script.parent.mkdir(parents=True)
    script.write_text(STAND_IN)
    return Make(tmp_path, kernel, store, recorder, trees=KLP_BUILD)


def runs(make: Make) -> list[str]:
    return (make.place / "linux/klp-tmp/runs").read_text().splitlines()


def test_the_module_is_made_once_and_named_after_the_diff(make: Make) -> None:
    """The module is kept in the cache, with the log of its build."""
    module = make("fixed")
    assert module.name == "livepatch-fix-up.ko"
    assert "+int fixed;" in module.read_text()
    assert make("fixed") == module
    assert len(runs(make)) == 1
    assert (module.parent / "build.log").is_file()


def test_the_next_diff_needs_the_second_build_alone(make: Make) -> None:
    """The build of the kernel without a diff is used for each diff."""
    first = make("fixed")
    assert make("fixed_better") != first
    one, other = runs(make)
    assert "--short-circuit" not in one
    assert "--short-circuit=2" in other


def test_a_refused_diff(make: Make) -> None:
    """A refused diff leaves a tree that the next one can use."""
    with pytest.raises(UsageError, match=r"no livepatch of fix-up\.patch: no changes detected"):
        make("SAME")
    make("fixed")
    assert "--short-circuit=2" in runs(make)[1]


def test_after_one_that_was_killed_the_tree_is_made_again(make: Make) -> None:
    """A killed tool may have left the diff applied."""
    with pytest.raises(CommandTimeout):
        make("HANGS", seconds=3.0)
    make("fixed")
    assert len(runs(make)) == 1
    assert "--short-circuit" not in runs(make)[0]


def test_a_diff_that_does_not_apply(make: Make) -> None:
    """It is refused at once, and no tree is made."""
    with pytest.raises(PatchDoesNotApply):
        make("fixed", before="int down;")
    assert not (make.place / "linux").exists()


def test_the_sources_of_the_kernel_are_not_changed(make: Make) -> None:
    """The tool works on a copy that shares no file with them."""
    make("fixed")
    tree = make.kernel.build_dir.parent
    copy = make.place / "linux"
    assert (copy / SOURCE).stat().st_ino != (tree / SOURCE).stat().st_ino
    assert not (tree / "klp-tmp").exists()


def test_a_patched_kernel_is_patched_there_too(make: Make) -> None:
    """The sources beside a patched kernel's build are those of the clean one."""
    entry = make.folder / "patched"
    (entry / "patches").mkdir(parents=True)
    (entry / "patches/1-a.patch").write_text(
        f"--- a/{SOURCE}\n+++ b/{SOURCE}\n@@ -1 +1 @@\n-int up;\n+int broken;\n"
    )
    make.kernel = replace(make.kernel, digest="d2", image=entry / "bzImage")
    assert make("fixed", before="int broken;").read_text().endswith("int broken;\n")


def test_a_kernel_without_sources_and_one_that_is_not_configured_for_it(make: Make) -> None:
    """Neither can have a livepatch made of a diff, which the user is told."""
    config = make.kernel.build_dir / ".config"
    config.write_text("")
    configured = replace(make.kernel, config=KernelConfig.read(config))
    make.kernel, kept = configured, make.kernel
    with pytest.raises(UsageError, match="without CONFIG_KLP_BUILD"):
        make("fixed")
    make.kernel = replace(kept, build_dir=make.folder)
    with pytest.raises(UsageError, match="its sources are not here"):
        make("fixed")


def test_what_the_host_lacks_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the package to install."""
    needs = (("recountdiff", lambda: None, "patchutils"),)
    monkeypatch.setattr(KlpBuildJob, "needs", needs)
    with pytest.raises(MissingTool) as caught:
        make("fixed")
    assert "apt-get install patchutils" in str(caught.value)


def test_the_tree_is_pruned_with_its_kernel(make: Make) -> None:
    """When a kernel is pruned from the cache, so is its tree."""
    make("fixed")
    prune_kernels(make.store)
    assert not make.place.exists()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Building original kernel", "building original kernel"),
        ("Building patch module: /c/x.ko", "building patch module"),
        ("Diffing objects", "diffing objects"),
        ("error: klp-build: Building it", None),
        ("fs/proc/uptime.c:9: error: x", None),
    ],
)
def test_stages(line: str, shown: str | None) -> None:
    """Lines that say what the tool begins with are shown as progress; errors are not."""
    assert stage(line) == shown


@pytest.mark.parametrize(
    ("lines", "kind", "sentence"),
    [
        (
            ["fs/a.c:3:2: error: 'x' undeclared", "error: klp-build: patched kernel build failed"],
            KernelBuildFailed,
            "with fix.patch",
        ),
        (["error: klp-build: original kernel build failed"], KernelBuildFailed, "K does not build"),
        (["error: klp-build: /c/fix.patch did not apply"], PatchDoesNotApply, "does not apply"),
        (
            ["error: klp-build: fix.patch: unsupported patch to lib/a.c"],
            UsageError,
            "unsupported patch to lib/a.c",
        ),
        (
            [
                "vmlinux.o: error: objtool: f: not supported",
                "error: klp-build: objtool klp diff failed",
            ],
            UsageError,
            "f: not supported",
        ),
        (["error: klp-build: line 12: 'cp a b'"], UsageError, "line 12"),
        (
            ["error: klp-build: objtool not built with KLP support; install libxxhash-dev"],
            HarnessError,
            "libxxhash-dev",
        ),
        (["Killed"], UsageError, "did not say why"),
    ],
)
def test_kinds_of_failures(lines: list[str], kind: type[Exception], sentence: str) -> None:
    """The kind of an error says whether the diff, the kernel or the host is to blame."""
    error = failure("fix.patch", "K", lines, Path("log"))
    assert type(error) is kind
    assert sentence in str(error)
