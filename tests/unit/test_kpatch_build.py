# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch made of a diff by kpatch-build, with a stand-in for it; and where that is found."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import (
    CommandTimeout,
    DownloadFailed,
    HarnessError,
    KernelBuildFailed,
    MissingTool,
    PatchDoesNotApply,
    UsageError,
)
from harness.tools.verify.from_diff import diff_tree, kpatch_build, kpatch_tools
from harness.tools.verify.from_diff.kpatch_build import KpatchJob
from harness.tools.verify.from_diff.kpatch_tools import Kpatch, failure, obtain_kpatch, stage
from harness.vm.host.process import run
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.debian import DebianArchive
from harness.vm.kernel.inventory import prune_kernels
from harness.vm.kernel.workspace import KPATCH_BUILD
from tests.unit.diffs import Make, make_kernel

if TYPE_CHECKING:
    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress

# Makes a module of what it is given; each run is a line of "runs" beside the tree.
STAND_IN = """#!/bin/bash
for word; do
    case "$word" in
    --output=*) out=${word#--output=} ;;
    --vmlinux=*) readelf -wi "${word#--vmlinux=}" >"$CACHEDIR/types" ;;
    --*) ;;
    *) diff=$word ;;
    esac
done
echo "$*" >>../runs
grep -q HANGS "$diff" && sleep 60
echo "Building original source"
if grep -q SAME "$diff"; then
    echo "vmlinux: something about it"
    echo "ERROR: no functional changes found. Check $CACHEDIR/build.log for more details." >&2
    exit 1
fi
echo "Building patched source"
if grep -q WRONG "$diff"; then
    echo "kernel/uptime.c:1:1: error: unknown type name 'WRONG'" >"$CACHEDIR/build.log"
    echo "ERROR: kpatch build failed. Check $CACHEDIR/build.log for more details." >&2
    exit 1
fi
cat "$diff" "$CACHEDIR/types" >"$out/livepatch-$(basename "$diff" .patch).ko"
"""
MAKEFILE = """
olddefconfig:
\t@true
modules_prepare:
\t@echo $@ >>../made
%.o: %.c
\tgcc -g -c -o $@ $<
"""


@pytest.fixture
def make(tmp_path: Path, store: Store, recorder: Progress, monkeypatch: pytest.MonkeyPatch) -> Make:
    """For a kernel without klp-build, whose sources have a type that kpatch-build asks for."""
    config = "CONFIG_DEBUG_KERNEL=y\nCONFIG_DEBUG_INFO_NONE=y\n"
    kernel = make_kernel(tmp_path, config=config)
    tree, build = kernel.build_dir.parent, kernel.build_dir
    (tree / "Makefile").write_text(MAKEFILE)
    (tree / "lib").mkdir()
    (tree / "lib/bug.c").write_text("struct bug_entry { int a[3]; } bug;\n")
    (build / "lib").mkdir()
    (build / "lib/bug.o").touch()
    (build / "Module.symvers").touch()
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    run(["gcc", "-o", build / "vmlinux", tmp_path / "main.c"], deadline=Deadline.after(60))
    script = tmp_path / "kpatch-build"
    script.write_text(STAND_IN)
    script.chmod(0o755)
    monkeypatch.setattr(KpatchJob, "needs", ())
    monkeypatch.setattr(diff_tree, "_ROOM_BYTES", 0)
    found = Kpatch(script=script, version="0.9")
    monkeypatch.setattr(kpatch_build, "obtain_kpatch", lambda *_, **__: found)
    kernel = replace(kernel, vmlinux=build / "vmlinux")
    return Make(tmp_path, kernel, store, recorder, trees=KPATCH_BUILD)


def runs(make: Make) -> list[str]:
    return (make.place / "runs").read_text().splitlines()


def test_the_module_is_made_once_with_the_types_that_vmlinux_lacks(make: Make) -> None:
    """kpatch-build asks the DWARF of vmlinux, and the kernel has none."""
    module = make("fixed")
    assert module.name == "livepatch-fix-up.ko"
    assert "+int fixed;" in module.read_text()
    assert "bug_entry" in module.read_text()
    assert make("fixed") == module
    assert len(runs(make)) == 1
    assert not (make.place / "state").exists()
    assert (module.parent / "build.log").is_file()


def test_the_next_diff_has_the_tree_as_it_is(make: Make) -> None:
    """The tree is prepared once for a kernel."""
    make("fixed")
    make("fixed_better")
    assert len(runs(make)) == 2
    assert (make.place / "made").read_text().splitlines() == ["modules_prepare"]


def test_only_the_folders_of_c_files_are_built(make: Make) -> None:
    """Of anything else, or with modules, the whole kernel is."""
    make("fixed")
    assert "--target=modules_prepare --target=kernel/ " in runs(make)[0]
    header = make.kernel.build_dir.parent / "kernel/up.h"
    shutil.copyfile(header.with_name("uptime.c"), header)
    shutil.copyfile(header, make.place / "linux/kernel/up.h")
    make("fixed", source="kernel/up.h")
    assert "--target" not in runs(make)[1]
    (make.kernel.build_dir / "lib/some.ko").touch()
    make("fixed_again")
    assert "--target" not in runs(make)[2]


def test_the_configuration_differs_in_debug_information_alone(make: Make) -> None:
    """Debug information changes no code; a tree that differs in more is refused."""
    make("fixed")
    config = KernelConfig.read(make.place / "linux/.config")
    assert config.enabled("DEBUG_INFO")
    makefile = make.kernel.build_dir.parent / "Makefile"
    makefile.write_text(MAKEFILE.replace("@true", "@echo CONFIG_OTHER=y >>.config"))
    (make.place / "ready").unlink()
    with pytest.raises(HarnessError, match="with debug information alone") as caught:
        make("fixed_better")
    assert "CONFIG_OTHER" in caught.value.details


def test_a_kernel_with_debug_information(make: Make) -> None:
    """Its own vmlinux has the types, so nothing is added."""
    config = make.kernel.build_dir / ".config"
    config.write_text("CONFIG_DEBUG_KERNEL=y\nCONFIG_DEBUG_INFO=y\n")
    make.kernel = replace(make.kernel, config=KernelConfig.read(config))
    assert "bug_entry" not in make("fixed").read_text()


def test_a_refused_diff(make: Make) -> None:
    """A refused diff leaves the tree ready; what the compiler says of one is shown."""
    with pytest.raises(UsageError, match=r"no livepatch of fix-up\.patch: no functional changes"):
        make("SAME")
    assert (make.place / "ready").exists()
    with pytest.raises(KernelBuildFailed, match=r"with fix-up\.patch") as caught:
        make("WRONG")
    assert "unknown type name 'WRONG'" in str(caught.value)


def test_after_one_that_was_killed_the_tree_is_made_again(make: Make) -> None:
    """A killed tool may have left the diff applied."""
    with pytest.raises(CommandTimeout):
        make("HANGS", seconds=8.0)
    assert not (make.place / "ready").exists()
    make("fixed")
    assert (make.place / "made").read_text().splitlines() == ["modules_prepare"] * 2


def test_after_one_that_was_interrupted_the_tree_is_made_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool was killed with the harness, and may have left the diff applied."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    make("fixed")
    with monkeypatch.context() as patched:
        patched.setattr(kpatch_build, "failure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make("SAME")
    assert not (make.place / "ready").exists()


def test_a_diff_that_does_not_apply(make: Make) -> None:
    """It is refused at once, and no tree is made."""
    with pytest.raises(PatchDoesNotApply):
        make("fixed", source="kernel/none.c")
    assert not (make.place / "linux").exists()


def test_the_tree_is_pruned_with_its_kernel(make: Make) -> None:
    """When a kernel is pruned from the cache, so is its tree."""
    make("fixed")
    prune_kernels(make.store)
    assert not make.place.exists()


# -- where it comes from --------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Debian's archive with a small kpatch; the list has what was fetched."""
    sources = tmp_path / "kpatch-0.9/kpatch-build"
    sources.mkdir(parents=True)
    (sources / "kpatch-build").write_text("#!/bin/bash\nVERSION=0.9.11\n")
    (sources / "Makefile").write_text("all:\n\ttouch create-diff-object\n")
    fetched: list[str] = []

    def download(_: object, name: str, folder: Path, **__: object) -> Path:
        fetched.append(name)
        tarball = folder / "kpatch.orig.tar.gz"
        run(
            ["tar", "-czf", tarball, "-C", tmp_path, "kpatch-0.9"],
            deadline=Deadline.after(60),
        )
        return tarball

    monkeypatch.setattr(DebianArchive, "download_source", download)
    monkeypatch.setattr(kpatch_tools, "header", lambda _: lambda: "gelf.h")
    monkeypatch.setattr(kpatch_tools, "program", lambda _: lambda: None)
    return fetched


def test_it_is_fetched_and_built_once(archive: list[str], store: Store, recorder: Progress) -> None:
    """Where none is installed, Debian's is built and kept in the cache."""
    found = [obtain_kpatch(store, deadline=Deadline.after(60), progress=recorder) for _ in "ab"]
    assert found[0] == found[1]
    assert found[0].version == "0.9.11"
    assert (found[0].script.parent / "create-diff-object").is_file()
    assert archive == ["kpatch"]


def test_an_installed_tool(
    archive: list[str], store: Store, recorder: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed kpatch-build is used, and nothing is fetched."""
    monkeypatch.setattr(kpatch_tools, "program", lambda _: lambda: "/usr/bin/kpatch-build")
    monkeypatch.setattr(kpatch_tools, "program_version", lambda _: "0.9.10")
    found = obtain_kpatch(store, deadline=Deadline.after(60), progress=recorder)
    assert found == Kpatch(script=Path("/usr/bin/kpatch-build"), version="0.9.10")
    assert archive == []


def test_what_it_cannot_be_built_without_is_named(
    archive: list[str], store: Store, recorder: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the package to install."""
    monkeypatch.setattr(kpatch_tools, "header", lambda _: lambda: None)
    with pytest.raises(MissingTool, match=r"gelf\.h") as caught:
        obtain_kpatch(store, deadline=Deadline.after(60), progress=recorder)
    assert "libelf-dev" in str(caught.value)


def test_sources_without_it_are_refused(
    archive: list[str], store: Store, recorder: Progress, tmp_path: Path
) -> None:
    """A source package without the tool is a failed download."""
    (tmp_path / "kpatch-0.9/kpatch-build/kpatch-build").unlink()
    with pytest.raises(DownloadFailed, match="have no kpatch-build"):
        obtain_kpatch(store, deadline=Deadline.after(60), progress=recorder)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Building original source", "building original source"),
        ("Building patch module: livepatch-fix.ko", "building patch module: livepatch-fix.ko"),
        ("ERROR: Building it", None),
        ("fs/proc/cmdline.o: changed function: f", None),
    ],
)
def test_stages(line: str, shown: str | None) -> None:
    """Lines that say what the tool begins with are shown as progress; errors are not."""
    assert stage(line) == shown


@pytest.mark.parametrize(
    ("lines", "kind", "sentence"),
    [
        (
            ["Building original source", "ERROR: kpatch build failed. Check L for more details."],
            KernelBuildFailed,
            "K does not build",
        ),
        (["ERROR: /c/fix.patch file failed to apply."], PatchDoesNotApply, "does not apply"),
        (
            ["ERROR: fix.patch: unsupported patch to lib/: lib/a.c", "ERROR: Unsupported changes"],
            UsageError,
            "unsupported patch to lib/",
        ),
        (
            ["a.o: unsupported section change(s)", "ERROR: 1 error(s) encountered."],
            UsageError,
            "a.o: unsupported section change(s)",
        ),
        (["Killed"], UsageError, "did not say why"),
    ],
)
def test_kinds_of_failures(lines: list[str], kind: type[Exception], sentence: str) -> None:
    """The kind of an error says whether the diff, the kernel or the host is to blame."""
    error = failure("fix.patch", "K", lines, ["a.c:1: error: x"], Path("log"))
    assert type(error) is kind
    assert sentence in str(error)
