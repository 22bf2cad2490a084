// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_cmdline_a - patches cmdline_proc_show() of vmlinux.
 *
 * Parameter: replace (bool). See klp_cmdline_patch.h.
 *
 * Serves RP-01, RP-07 to RP-10, RP-12, ST-01, ST-04, SY-01, SY-04, SY-05, SY-06,
 * LD-04 to LD-06, LD-08, TR-23, TR-24, FT-01, FT-02.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "klp_cmdline_patch.h"

MODULE_INFO(livepatch, "Y");
