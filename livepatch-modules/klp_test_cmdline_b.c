// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_cmdline_b - patches cmdline_proc_show() of vmlinux.
 *
 * Parameter: replace (bool). See klp_cmdline_patch.h.
 *
 * Serves RP-01, RP-09, RP-10, RP-12, ST-01, ST-04, SY-04, LD-04, LD-08, TR-24.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "klp_cmdline_patch.h"

MODULE_INFO(livepatch, "Y");
