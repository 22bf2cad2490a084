// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_transform_access_2 - changes the format of data when they are used.
 *
 * The same as klp_test_transform_access_1 under another name, to replace it.
 *
 * Parameters: replace, convert, converted, reverted. See klp_access_patch.inc.c.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "klp_access_patch.inc.c"

MODULE_INFO(livepatch, "Y");
