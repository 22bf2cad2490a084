// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_notlivepatch - a livepatch that is not marked as one.
 *
 * The same as klp_test_cmdline_a, but without MODULE_INFO(livepatch, "Y"). The
 * kernel refuses it with EINVAL.
 *
 * Parameter: replace (bool). See klp_cmdline_patch.inc.c.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "klp_cmdline_patch.inc.c"
