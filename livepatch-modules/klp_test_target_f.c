// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_target_f - patches klp_target_f() of klp_target_mod, and only that.
 *
 * When it replaces klp_test_target_fg, klp_target_g() gets its original body
 * back.
 *
 * Parameter: replace (bool). See klp_target_patch.inc.c.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "klp_target_patch.inc.c"

MODULE_DESCRIPTION("Livepatch test: function f of klp_target_mod");
MODULE_INFO(livepatch, "Y");
