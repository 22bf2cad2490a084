// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_callbacks_a - callbacks on vmlinux and on two modules, no functions.
 *
 * Parameters: replace, pre_patch_ret, pre_patch_ret_target. See
 * klp_callbacks_patch.h.
 *
 * Serves CB-01 to CB-08, CB-11, RP-06, LD-06, MO-03, MO-04.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "klp_callbacks_patch.h"

MODULE_INFO(livepatch, "Y");
