// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_state_2_again - another cumulative livepatch with version 2 of system state 1.
 *
 * Parameter: replace (bool), default on. See klp_state_patch.inc.c.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#define KLP_STATE_VERSION	2

#include "klp_state_patch.inc.c"

MODULE_INFO(livepatch, "Y");
