// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_notifier - a module notifier that refuses a module. No livepatch.
 *
 * The notifiers of a coming module run after livepatch has patched it
 * (kernel/module, prepare_coming_module()). The load of the refused module fails
 * with ENODEV.
 *
 * Parameter: refused, the name of the module; none when "" (the default).
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/string.h>

static char *refused = "";
module_param(refused, charp, 0644);
MODULE_PARM_DESC(refused, "Name of the module that is refused (default none)");

static int klp_notifier_call(struct notifier_block *nb, unsigned long state, void *data)
{
	struct module *mod = data;
	bool refuse;

	if (state != MODULE_STATE_COMING)
		return NOTIFY_DONE;
	kernel_param_lock(THIS_MODULE);
	refuse = sysfs_streq(mod->name, refused);
	kernel_param_unlock(THIS_MODULE);
	if (!refuse)
		return NOTIFY_DONE;
	pr_info("refuses %s\n", mod->name);
	return notifier_from_errno(-ENODEV);
}

static struct notifier_block klp_notifier = {
	.notifier_call = klp_notifier_call,
};

static int __init klp_test_notifier_init(void)
{
	return register_module_notifier(&klp_notifier);
}

static void __exit klp_test_notifier_exit(void)
{
	unregister_module_notifier(&klp_notifier);
}

module_init(klp_test_notifier_init);
module_exit(klp_test_notifier_exit);
MODULE_DESCRIPTION("Livepatch test: a module notifier that refuses a module");
MODULE_LICENSE("GPL");
