// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_gate - patches three functions of klp_target_gate.
 *
 * Parameter: replace (bool). See klp_gate_patch.inc.c.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "klp_gate_patch.inc.c"

MODULE_INFO(livepatch, "Y");
