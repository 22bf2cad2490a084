// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_callbacks_b - callbacks on vmlinux and on two modules; patches no function.
 *
 * Parameters: replace, pre_patch_ret, pre_patch_ret_target. See
 * klp_callbacks_patch.inc.c.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "klp_callbacks_patch.inc.c"

MODULE_INFO(livepatch, "Y");
