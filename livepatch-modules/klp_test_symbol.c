// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_symbol - patches the functions that its parameters name.
 *
 * The new function is for const char *fn(void), the prototype of the text
 * functions of klp_target_mod, klp_target_twins and klp_target_notrace; it
 * returns "klp_test_symbol". It must not be called in place of another function:
 * name one only where the kernel is expected to refuse it.
 *
 * Parameters:
 *	object			module to be patched, "" for vmlinux
 *	function, sympos	the function, and its position among those of that
 *				name (0: the only one)
 *	function2, sympos2	another function, placed before it; none when ""
 *	replace			the patch replaces all others
 *
 * An object that is not loaded, and one called "vmlinux", is waited for: the patch
 * loads and nothing is patched.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "klp_symbol_patch.inc.c"

MODULE_INFO(livepatch, "Y");
