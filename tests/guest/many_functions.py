# SPDX-License-Identifier: GPL-2.0-only
"""Makes the sources of a cumulative livepatch of many functions, and of the module it patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TARGET = "many_target"
PATCH = "klp_many"

_HEAD = """\
// SPDX-License-Identifier: GPL-2.0-only
#include <linux/livepatch.h>
#include <linux/module.h>
"""
_TARGET_FUNCTION = """
__attribute__((__noipa__)) int many_{n}(int x);
__attribute__((__noipa__)) int many_{n}(int x)
{{
	return x + {n};
}}
"""
_TARGET_END = """
static int total;

static int total_get(char *buffer, const struct kernel_param *kp)
{
	int x = 0;

CALLS	return sprintf(buffer, "%d\\n", x);
}

static const struct kernel_param_ops total_ops = { .get = total_get };
module_param_cb(total, &total_ops, &total, 0444);

static int __init many_init(void)
{
	return 0;
}
module_init(many_init);

static void __exit many_exit(void)
{
}
module_exit(many_exit);

MODULE_DESCRIPTION("a module of many functions");
MODULE_LICENSE("GPL");
"""
_PATCH_FUNCTION = """
static __attribute__((__noipa__)) int new_{n}(int x)
{{
	return x - {n};
}}
"""
_PATCH_END = """
static struct klp_object objs[] = {
	{ .name = "TARGET", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.replace = true,
};

static int __init klp_many_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_many_init);

static void __exit klp_many_exit(void)
{
}
module_exit(klp_many_exit);

MODULE_DESCRIPTION("a livepatch of many functions");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
"""


def write_sources(folder: Path, functions: int) -> Path:
    """Write both modules for so many functions; return the folder."""
    numbers = range(functions)
    calls = "".join(f"\tx += many_{n}(x & 1);\n" for n in numbers)
    entries = "".join(f'\t{{ .old_name = "many_{n}", .new_func = new_{n} }},\n' for n in numbers)
    target = _HEAD + "".join(_TARGET_FUNCTION.format(n=n) for n in numbers)
    target += _TARGET_END.replace("CALLS", calls)
    patch = _HEAD + "".join(_PATCH_FUNCTION.format(n=n) for n in numbers)
    patch += f"\nstatic struct klp_func funcs[] = {{\n{entries}\t{{ }}\n}};\n"
    patch += _PATCH_END.replace("TARGET", TARGET)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{TARGET}.c").write_text(target)
    (folder / f"{PATCH}.c").write_text(patch)
    (folder / "Kbuild").write_text(f"obj-m += {TARGET}.o\nobj-m += {PATCH}.o\n")
    return folder
