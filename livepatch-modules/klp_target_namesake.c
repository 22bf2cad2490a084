// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_namesake - has a function of the name of one of klp_target_mod.
 *
 * It logs "klp_target_f() returned namesake" when it is unloaded. A livepatch of
 * klp_target_mod must neither patch it nor be kept from finding the right one.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/module.h>

#include "klp_compat.h"

static __klp_noipa const char *klp_target_f(void)
{
	return klp_opaque("namesake");
}

static int __init klp_target_namesake_init(void)
{
	return 0;
}

static void __exit klp_target_namesake_exit(void)
{
	pr_info("klp_target_f() returned %s\n", klp_target_f());
}

module_init(klp_target_namesake_init);
module_exit(klp_target_namesake_exit);
MODULE_DESCRIPTION("Livepatch test target: a function of the same name in another module");
MODULE_LICENSE("GPL");
