# SPDX-License-Identifier: GPL-2.0-only
"""Proposals on the live-patching list, for the day on which a kernel has one of them.

Whether it does, a module shows that uses it: where the structure lacks the member, it does not
compile, and the test does not apply.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from harness.errors import KernelBuildFailed
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from harness.pytest_plugin.fixtures import BuildModule
    from tests.behaviours.conftest import Guestview

MODULE = """\
// SPDX-License-Identifier: GPL-2.0-only
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/livepatch.h>
#include <linux/module.h>
{code}
static struct klp_patch patch = {{ .mod = THIS_MODULE, .objs = objs, {members} }};

static int __init proposal_init(void)
{{
	return klp_enable_patch(&patch);
}}

static void __exit proposal_exit(void)
{{
}}

module_init(proposal_init);
module_exit(proposal_exit);
MODULE_DESCRIPTION("Livepatch test: a proposal");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
"""

TEXT = """
static const char *text(void)
{{
	return KBUILD_MODNAME;
}}

static struct klp_func funcs[] = {{ {{ .old_name = "{function}", .new_func = text }}, {{ }} }};
static struct klp_object objs[] = {{ {{ .name = "klp_target_mod", .funcs = funcs }}, {{ }} }};
"""

STATE = """
static int pre_patch(struct klp_patch *patch, struct klp_state *state)
{
	pr_info("state pre_patch %lu\\n", state->id);
	return 0;
}

static void post_patch(struct klp_patch *patch, struct klp_state *state)
{
	pr_info("state post_patch %lu\\n", state->id);
}

static void pre_unpatch(struct klp_patch *patch, struct klp_state *state)
{
	pr_info("state pre_unpatch %lu\\n", state->id);
}

static void post_unpatch(struct klp_patch *patch, struct klp_state *state)
{
	pr_info("state post_unpatch %lu\\n", state->id);
}

static struct klp_state states[] = {
	{
		.id = 1,
		.callbacks = {
			.pre_patch = pre_patch,
			.post_patch = post_patch,
			.pre_unpatch = pre_unpatch,
			.post_unpatch = post_unpatch,
		},
	},
	{ }
};
static struct klp_func funcs[] = { { } };
static struct klp_object objs[] = { { .funcs = funcs }, { } };
"""


@pytest.mark.behaviour("RP-15")
def test_replace_sets(
    livepatch: Livepatch, view: Guestview, build_module: BuildModule, tmp_path: Path
) -> None:
    """A patch replaces those of its own replace set, and no other (proposed on 13 May 2026)."""
    modules = _built(
        build_module,
        tmp_path,
        "replace_set",
        {
            name: MODULE.format(
                code=TEXT.format(function=function), members=f".replace_set = {number}"
            )
            for name, function, number in (
                ("klp_set_1", "klp_target_f", 1),
                ("klp_set_2", "klp_target_g", 2),
                ("klp_set_1_again", "klp_target_f", 1),
            )
        },
    )
    livepatch.load_target("klp_target_mod")
    first = livepatch.load(modules["klp_set_1"], wait=True)
    other = livepatch.load(modules["klp_set_2"], wait=True)
    assert (view.target("f"), view.target("g")) == (first.name, other.name)
    second = livepatch.load(modules["klp_set_1_again"], wait=True)
    first.wait_gone()
    assert (view.target("f"), view.target("g")) == (second.name, other.name)
    assert {patch.name for patch in livepatch.patches()} == {second.name, other.name}
    assert other.enabled


@pytest.mark.behaviour("RP-16")
def test_callbacks_of_states(
    livepatch: Livepatch, kernel_log: KernelLog, build_module: BuildModule, tmp_path: Path
) -> None:
    """A state's callbacks run when the state comes and when it goes (proposed on 15 January 2025).

    They do not run when a patch is replaced by one that has the state as well.
    """
    source = MODULE.format(code=STATE, members=".states = states, .replace = true")
    names = ("klp_state_old", "klp_state_new")
    modules = _built(build_module, tmp_path, "callbacks", dict.fromkeys(names, source))
    old = livepatch.load(modules[names[0]], wait=True)
    assert _called(kernel_log) == [
        f"{old.name}: state {name} 1" for name in ("pre_patch", "post_patch")
    ]
    kernel_log.mark()
    new = livepatch.load(modules[names[1]], wait=True)
    old.wait_gone()
    assert _called(kernel_log) == []
    new.disable()
    new.unload()
    assert _called(kernel_log) == [
        f"{new.name}: state {name} 1" for name in ("pre_unpatch", "post_unpatch")
    ]


def _built(
    build_module: BuildModule, folder: Path, member: str, sources: Mapping[str, str]
) -> Mapping[str, Path]:
    """Return the modules, by name. Skips the test where a structure lacks the member."""
    (folder / "Kbuild").write_text("".join(f"obj-m += {name}.o\n" for name in sources))
    for name, source in sources.items():
        (folder / f"{name}.c").write_text(source)
    try:
        return build_module(folder)
    except KernelBuildFailed as failed:
        said = "\n".join((failed.message, *failed.details))
        by_gcc, by_clang = (
            rf"no member named \W*{member}\b",
            rf"'{member}' does not refer to any field",
        )
        if re.search(f"{by_gcc}|{by_clang}", said):
            pytest.skip(f"the kernel's livepatches have no `{member}`")
        raise


def _called(kernel_log: KernelLog) -> Iterable[str]:
    return [record.text.strip() for record in kernel_log.matching(": state p")]
