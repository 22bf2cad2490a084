# SPDX-License-Identifier: GPL-2.0-only
"""The flag `immediate`, which switched all tasks at once: gone (d0807da78e11)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from harness.errors import KernelBuildFailed

if TYPE_CHECKING:
    from pathlib import Path

    from harness.pytest_plugin.fixtures import BuildModule

SOURCE = """\
// SPDX-License-Identifier: GPL-2.0-only
#include <linux/livepatch.h>
#include <linux/module.h>

static struct klp_func funcs[] = {{ {{ .old_name = "f", .new_func = funcs{func} }}, {{ }} }};
static struct klp_object objs[] = {{ {{ .funcs = funcs }}, {{ }} }};
static struct klp_patch patch = {{ .mod = THIS_MODULE, .objs = objs{patch} }};

static int __init immediate_init(void)
{{
	return klp_enable_patch(&patch);
}}

module_init(immediate_init);
MODULE_DESCRIPTION("Livepatch test: the flag immediate");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
"""
FLAG = ", .immediate = true"


@pytest.mark.behaviour("CM-02")
def test_no_flag_skips_the_consistency_model(build_module: BuildModule, tmp_path: Path) -> None:
    """A module that sets it, of a patch or of a function, does not compile; without it, it does."""
    folder = tmp_path / "immediate"
    folder.mkdir()
    (folder / "Kbuild").write_text("obj-m := klp_immediate.o\n")
    source = folder / "klp_immediate.c"
    source.write_text(SOURCE.format(func="", patch=""))
    assert build_module(folder)
    for struct, given in (
        ("klp_patch", {"func": "", "patch": FLAG}),
        ("klp_func", {"func": FLAG, "patch": ""}),
    ):
        source.write_text(SOURCE.format(**given))
        with pytest.raises(KernelBuildFailed) as failed:
            build_module(folder)
        said = "\n".join((failed.value.message, *failed.value.details))
        by_gcc = rf"struct {struct}\W+ has no member named \W*immediate"
        by_clang = rf"'immediate' does not refer to any field in type 'struct {struct}'"
        assert re.search(f"{by_gcc}|{by_clang}", said), said
