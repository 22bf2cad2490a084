// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_target_fg - patches klp_target_f() and klp_target_g() of klp_target_mod.
 *
 * Parameter: replace (bool). See klp_target_patch.inc.c.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#define KLP_PATCH_G

#include "klp_target_patch.inc.c"

MODULE_DESCRIPTION("Livepatch test: functions f and g of klp_target_mod");
MODULE_INFO(livepatch, "Y");
