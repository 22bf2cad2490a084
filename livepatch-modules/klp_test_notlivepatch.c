// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_notlivepatch - a livepatch that is not marked as one.
 *
 * The same as klp_test_cmdline_a but for MODULE_INFO(livepatch, "Y"). The kernel
 * refuses it: EINVAL.
 *
 * Serves LD-03, LD-06.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "klp_cmdline_patch.h"
