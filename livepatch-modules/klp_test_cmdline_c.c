// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_cmdline_c - patches cmdline_proc_show() of vmlinux.
 *
 * Parameter: replace (bool). See klp_cmdline_patch.inc.c.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "klp_cmdline_patch.inc.c"

MODULE_INFO(livepatch, "Y");
