# SPDX-License-Identifier: GPL-2.0-only
"""Makes the sources of livepatches of one function, to be loaded one above the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DEEPEST = 15
FOLDER = "klp-stacked"
FUNCTION = "klp_pair_g"

_SOURCE = """\
// SPDX-License-Identifier: GPL-2.0-only
#include <linux/livepatch.h>
#include <linux/module.h>

/* As klp_pair.h of klp_target_pair has it. */
struct klp_pair {
	int pause;
	const char *f;
	const char *g;
};

static noinline void NAME_g(struct klp_pair *pair)
{
	pair->g = "patched";
}

static struct klp_func funcs[] = {
	{
		.old_name = "klp_pair_g",
		.new_func = NAME_g,
	},
	{ }
};

static struct klp_object objs[] = {
	{
		.name = "klp_target_pair",
		.funcs = funcs,
	},
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init NAME_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit NAME_exit(void)
{
}

module_init(NAME_init);
module_exit(NAME_exit);
MODULE_DESCRIPTION("A livepatch of klp_pair_g() of klp_target_pair");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
"""


def module_at(depth: int) -> str:
    """Return the name of the livepatch that is loaded as the first, the second, and so on."""
    return f"klp_stacked_{depth:02}"


def new_function_at(depth: int) -> str:
    """Return the name of the function by which that livepatch replaces FUNCTION."""
    return f"{module_at(depth)}_g"


def write_sources(folder: Path) -> Path:
    """Write the sources of all of them below a folder; return theirs."""
    sources = folder / FOLDER
    sources.mkdir()
    names = [module_at(depth) for depth in range(1, DEEPEST + 1)]
    for name in names:
        (sources / f"{name}.c").write_text(_SOURCE.replace("NAME", name))
    (sources / "Kbuild").write_text("".join(f"obj-m += {name}.o\n" for name in names))
    return sources
