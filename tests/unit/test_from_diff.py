# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch made of a diff: what klp-build is given, kept and blamed for, with a stand-in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import (
    CommandTimeout,
    HarnessError,
    KernelBuildFailed,
    MissingTool,
    PatchDoesNotApply,
    UsageError,
)
from harness.tools.verify.from_diff import diff_tree as difftree
from harness.tools.verify.from_diff import obtain as frompatch
from harness.tools.verify.from_diff.klp_build import failure, stage
from harness.tools.verify.from_diff.obtain import SCRIPT, obtain_from_patch
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.inventory import prune_kernels
from harness.vm.kernel.kernel import BUILD, Kernel
from harness.vm.kernel.workspace import KLP_BUILD as TREES

if TYPE_CHECKING:
    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress

SOURCE = "kernel/uptime.c"
# Tells each run in klp-tmp/runs; its first build is there when it has not been cut short.
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


@pytest.fixture(autouse=True)
def _host_has_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frompatch, "_NEEDS", ())
    monkeypatch.setattr(difftree, "_ROOM_BYTES", 0)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """A kernel whose tree has a stand-in for klp-build."""
    tree = tmp_path / "entry/linux"
    build = tree / BUILD
    (tree / SCRIPT).parent.mkdir(parents=True)
    (tree / SCRIPT).write_text(STAND_IN)
    (tree / "Makefile").touch()
    (tree / SOURCE).parent.mkdir()
    (tree / SOURCE).write_text("int up;\n")
    build.mkdir()
    (build / ".config").write_text("CONFIG_KLP_BUILD=y\n")
    return Kernel(
        spec="newest",
        version="7.2.13",
        digest="d1",
        config_digest="c1",
        compiler="gcc",
        source="sources",
        image=build / "bzImage",
        vmlinux=None,
        config=KernelConfig.read(build / ".config"),
        build_dir=build,
        cc="gcc",
        module_digest="d1",
    )


class Make:
    """Makes a livepatch of a diff that says ``word``."""

    def __init__(self, folder: Path, kernel: Kernel, store: Store, progress: Progress) -> None:
        self.folder, self.kernel, self.store, self.progress = folder, kernel, store, progress

    def __call__(self, word: str, *, before: str = "int up;", seconds: float = 30.0) -> Path:
        diff = self.folder / "fix-up.patch"
        diff.write_text(f"--- a/{SOURCE}\n+++ b/{SOURCE}\n@@ -1 +1 @@\n-{before}\n+int {word};\n")
        return obtain_from_patch(
            diff,
            self.kernel,
            store=self.store,
            deadline=Deadline.after(seconds),
            progress=self.progress,
        )

    def runs(self) -> list[str]:
        tree = self.store.root / TREES / self.kernel.digest / "linux"
        return (tree / "klp-tmp/runs").read_text().splitlines()


@pytest.fixture
def make(tmp_path: Path, kernel: Kernel, store: Store, recorder: Progress) -> Make:
    return Make(tmp_path, kernel, store, recorder)


def test_the_module_is_made_once_and_named_after_the_diff(make: Make) -> None:
    module = make("fixed")
    assert module.name == "livepatch-fix-up.ko"
    assert "+int fixed;" in module.read_text()
    assert make("fixed") == module
    assert len(make.runs()) == 1
    assert (module.parent / "build.log").is_file()


def test_the_next_diff_needs_the_second_build_alone(make: Make) -> None:
    first = make("fixed")
    assert make("fixed_better") != first
    one, other = make.runs()
    assert "--short-circuit" not in one
    assert "--short-circuit=2" in other


def test_a_refusal_is_said_in_its_own_words_and_costs_no_second_build(make: Make) -> None:
    with pytest.raises(UsageError, match=r"no livepatch of fix-up\.patch: no changes detected"):
        make("SAME")
    make("fixed")
    assert "--short-circuit=2" in make.runs()[1]


def test_after_one_that_was_killed_the_tree_is_made_anew(make: Make) -> None:
    with pytest.raises(CommandTimeout):
        make("HANGS", seconds=3.0)
    make("fixed")
    assert len(make.runs()) == 1
    assert "--short-circuit" not in make.runs()[0]


def test_a_diff_that_does_not_fit_is_refused_before_anything_is_built(make: Make) -> None:
    with pytest.raises(PatchDoesNotApply):
        make("fixed", before="int down;")
    assert not (make.store.root / TREES / "d1/linux").exists()


def test_the_sources_of_the_kernel_are_not_changed(make: Make) -> None:
    make("fixed")
    tree = make.kernel.build_dir.parent
    copy = make.store.root / TREES / "d1/linux"
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
    monkeypatch.setattr(frompatch, "_NEEDS", (("recountdiff", lambda: None, "patchutils"),))
    with pytest.raises(MissingTool) as caught:
        make("fixed")
    assert "apt-get install patchutils" in str(caught.value)


def test_the_tree_goes_with_its_kernel(make: Make) -> None:
    make("fixed")
    prune_kernels(make.store)
    assert not (make.store.root / TREES / "d1").exists()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Building original kernel", "building original kernel"),
        ("Building patch module: /c/x.ko", "building patch module"),
        ("Diffing objects", "diffing objects"),
        ("error: klp-build: Building it", None),
        ("fs/proc/uptime.c:9: error: x", None),
    ],
)
def test_stages(line: str, told: str | None) -> None:
    assert stage(line) == told


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
def test_a_failure_is_told_by_whose_fault_it_is(
    lines: list[str], kind: type[Exception], sentence: str
) -> None:
    error = failure("fix.patch", "K", lines, Path("log"))
    assert type(error) is kind
    assert sentence in str(error)
