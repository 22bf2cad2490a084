// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_nmi - an NMI handler that calls klp_nmi_text(), "original".
 *
 * A reader of /sys/kernel/klp_nmi/self sends an NMI to its own CPU and sees what
 * klp_nmi_text() returned in the handler, which has interrupted that reader. A
 * reader of /sys/kernel/klp_nmi/hold does so in klp_nmi_hold(), after it has slept
 * there in gate 5.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/smp.h>
#include <linux/sysfs.h>

#include <asm/apic.h>
#include <asm/nmi.h>

#include "klp_compat.h"
#include "klp_gate.h"

#define KLP_NMI_GATE		5
#define KLP_NMI_NO_CPU		(-1)
#define KLP_NMI_POLLS		10000
#define KLP_NMI_POLL_US		100

static DEFINE_MUTEX(klp_nmi_mutex);		/* one NMI at a time */
static int klp_nmi_cpu = KLP_NMI_NO_CPU;	/* which CPU's NMI is ours */
static const char *klp_nmi_said;

static __klp_noipa const char *klp_nmi_text(void)
{
	return klp_opaque("original");
}

static int klp_nmi_handler(unsigned int type, struct pt_regs *regs)
{
	if (READ_ONCE(klp_nmi_cpu) != raw_smp_processor_id())
		return NMI_DONE;
	klp_nmi_said = klp_nmi_text();
	WRITE_ONCE(klp_nmi_cpu, KLP_NMI_NO_CPU);
	return NMI_HANDLED;
}

/* The handler has interrupted this task: it does not leave its CPU until then. */
static noinline const char *klp_nmi_send(void)
{
	const char *said = "no NMI";
	unsigned int i;
	int cpu;

	mutex_lock(&klp_nmi_mutex);
	cpu = get_cpu();
	WRITE_ONCE(klp_nmi_cpu, cpu);
	apic->send_IPI(cpu, NMI_VECTOR);
	for (i = 0; i < KLP_NMI_POLLS && READ_ONCE(klp_nmi_cpu) == cpu; i++)
		udelay(KLP_NMI_POLL_US);
	if (READ_ONCE(klp_nmi_cpu) == KLP_NMI_NO_CPU)
		said = klp_nmi_said;
	WRITE_ONCE(klp_nmi_cpu, KLP_NMI_NO_CPU);
	put_cpu();
	mutex_unlock(&klp_nmi_mutex);
	return said;
}

/* barrier(): a tail call would leave no stack frame. */
static __klp_noipa const char *klp_nmi_hold(void)
{
	const char *said;

	klp_gate_sleep(KLP_NMI_GATE);
	said = klp_nmi_send();
	barrier();
	return said;
}

static struct kobject *klp_nmi_kobj;

static ssize_t self_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", klp_nmi_send());
}

static struct kobj_attribute klp_self_attr = __ATTR_RO(self);

static ssize_t hold_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", klp_nmi_hold());
}

static struct kobj_attribute klp_hold_attr = __ATTR_RO(hold);

static struct attribute *klp_nmi_attrs[] = {
	&klp_self_attr.attr,
	&klp_hold_attr.attr,
	NULL
};

static const struct attribute_group klp_nmi_group = {
	.attrs = klp_nmi_attrs,
};

static int __init klp_target_nmi_init(void)
{
	int ret;

	ret = register_nmi_handler(NMI_LOCAL, klp_nmi_handler, 0, "klp_nmi");
	if (ret)
		return ret;
	klp_nmi_kobj = kobject_create_and_add("klp_nmi", kernel_kobj);
	if (!klp_nmi_kobj) {
		ret = -ENOMEM;
		goto err_handler;
	}
	ret = sysfs_create_group(klp_nmi_kobj, &klp_nmi_group);
	if (ret)
		goto err_kobj;
	return 0;

err_kobj:
	kobject_put(klp_nmi_kobj);
err_handler:
	unregister_nmi_handler(NMI_LOCAL, "klp_nmi");
	return ret;
}

static void __exit klp_target_nmi_exit(void)
{
	kobject_put(klp_nmi_kobj);
	unregister_nmi_handler(NMI_LOCAL, "klp_nmi");
}

module_init(klp_target_nmi_init);
module_exit(klp_target_nmi_exit);
MODULE_DESCRIPTION("Livepatch test target: a function that an NMI handler calls");
MODULE_LICENSE("GPL");
