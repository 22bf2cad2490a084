// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_bad_kernel - breaks the kernel as its parameter says. No livepatch.
 *
 * It shows that the harness tells these ends of a guest apart.
 *
 * Parameters:
 *	mode	panic		panic()
 *		oops		NULL dereference in the task that loads or triggers it
 *		warn		WARN_ON(1)
 *		hang		every CPU spins with interrupts off
 *		hang_one	this CPU spins with interrupts off
 *	at	init		while the module is loaded (default)
 *		trigger		when /sys/kernel/klp_bad/trigger is written
 *
 * Another mode or at is refused with EINVAL. "mode NAME" is logged first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bug.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "klp_compat.h"

static char *mode = "";
module_param(mode, charp, 0444);
MODULE_PARM_DESC(mode, "panic, oops, warn, hang or hang_one");

static char *at = "init";
module_param(at, charp, 0444);
MODULE_PARM_DESC(at, "init (default) or trigger");

static struct kobject *klp_bad_kobj;

static void klp_bad_panic(void)
{
	panic("%s: panic as asked for", KBUILD_MODNAME);
}

static void klp_bad_oops(void)
{
	int *nowhere = NULL;

	OPTIMIZER_HIDE_VAR(nowhere);
	WRITE_ONCE(*nowhere, 1);
}

static void klp_bad_warn(void)
{
	WARN_ON(1);
}

static void klp_bad_spin(void *unused)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}

static void klp_bad_hang(void)
{
	on_each_cpu(klp_bad_spin, NULL, 0);
}

static void klp_bad_hang_one(void)
{
	klp_bad_spin(NULL);
}

static const struct klp_bad_mode {
	const char *name;
	void (*run)(void);
} klp_bad_modes[] = {
	{ "panic", klp_bad_panic },
	{ "oops", klp_bad_oops },
	{ "warn", klp_bad_warn },
	{ "hang", klp_bad_hang },
	{ "hang_one", klp_bad_hang_one },
};

static const struct klp_bad_mode *klp_bad_chosen;

static void klp_bad_run(void)
{
	pr_info("mode %s\n", klp_bad_chosen->name);
	klp_bad_chosen->run();
}

static ssize_t trigger_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			     size_t count)
{
	klp_bad_run();
	return count;
}

static struct kobj_attribute klp_trigger_attr = __ATTR_WO(trigger);

static const struct klp_bad_mode *klp_bad_find(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(klp_bad_modes); i++)
		if (!strcmp(name, klp_bad_modes[i].name))
			return &klp_bad_modes[i];
	return NULL;
}

static int __init klp_bad_kernel_init(void)
{
	int ret;

	klp_bad_chosen = klp_bad_find(mode);
	if (!klp_bad_chosen) {
		pr_err("unknown mode \"%s\": panic, oops, warn, hang or hang_one\n", mode);
		return -EINVAL;
	}

	if (!strcmp(at, "init")) {
		klp_bad_run();
		return 0;
	}
	if (strcmp(at, "trigger")) {
		pr_err("unknown at \"%s\": init or trigger\n", at);
		return -EINVAL;
	}

	klp_bad_kobj = kobject_create_and_add("klp_bad", kernel_kobj);
	if (!klp_bad_kobj)
		return -ENOMEM;
	ret = sysfs_create_file(klp_bad_kobj, &klp_trigger_attr.attr);
	if (ret)
		kobject_put(klp_bad_kobj);
	return ret;
}

static void __exit klp_bad_kernel_exit(void)
{
	kobject_put(klp_bad_kobj);
}

module_init(klp_bad_kernel_init);
module_exit(klp_bad_kernel_exit);
MODULE_DESCRIPTION("Test: a kernel that panics, oopses, warns or hangs");
MODULE_LICENSE("GPL");
