// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_other_symbol - as klp_test_symbol, to be loaded beside that.
 *
 * The new function returns "klp_test_other_symbol". Parameters as there.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "klp_symbol_patch.inc.c"

MODULE_INFO(livepatch, "Y");
