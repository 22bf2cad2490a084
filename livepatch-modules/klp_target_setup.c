// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_setup - an __init function that a livepatch can patch.
 *
 * Its init calls klp_setup_text() and logs "init sees: TEXT". The text of the
 * function is freed when the init has returned. A livepatch that is loaded before
 * can patch the function, since it is done while the target is being loaded.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/module.h>

#include "klp_compat.h"

static const char *__init __klp_noipa klp_setup_text(void)
{
	return klp_opaque("original");
}

static int __init klp_target_setup_init(void)
{
	pr_info("init sees: %s\n", klp_setup_text());
	return 0;
}

static void __exit klp_target_setup_exit(void)
{
}

module_init(klp_target_setup_init);
module_exit(klp_target_setup_exit);
MODULE_DESCRIPTION("Livepatch test target: an __init function");
MODULE_LICENSE("GPL");
