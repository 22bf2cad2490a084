// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_direct - a function that has a direct call of ftrace, as BPF has them.
 *
 * /sys/kernel/klp_direct/ has
 *
 *	text		what klp_direct_text() returns
 *	call		write "first" or "second": a call of that trampoline comes first
 *			in klp_direct_text(), in place of the other; "none": no more
 *	first, second	how often each trampoline has run
 *	asked		how often ftrace has asked whether the call can share the
 *			function with a livepatch; kernels before 6.0 do not ask
 *
 * Parameters:
 *	again	the next question is answered with -EAGAIN
 *	shares	the kernel asks
 *
 * checkpatch: ignore AVOID_EXTERNS: the trampolines are in assembly
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/ftrace.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/linkage.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "klp_compat.h"

static bool again;
module_param(again, bool, 0644);
MODULE_PARM_DESC(again, "The next question is answered with -EAGAIN");

/* Kbuild finds out which functions the kernel has. */
#if defined(KLP_DIRECT_OPS) || defined(KLP_DIRECT_MULTI)
# define KLP_DIRECT_SHARES	true
#else
# define KLP_DIRECT_SHARES	false
#endif

static bool shares = KLP_DIRECT_SHARES;
module_param(shares, bool, 0444);
MODULE_PARM_DESC(shares, "The kernel asks whether a call can share its function");

static unsigned int klp_first, klp_second, klp_asked;
static DEFINE_MUTEX(klp_direct_lock);	/* protects the call below */
static unsigned long klp_direct_addr;	/* of its trampoline, or 0 */

void klp_direct_hit_first(void);
void klp_direct_hit_second(void);

void klp_direct_hit_first(void)
{
	WRITE_ONCE(klp_first, READ_ONCE(klp_first) + 1);
}

void klp_direct_hit_second(void)
{
	WRITE_ONCE(klp_second, READ_ONCE(klp_second) + 1);
}

extern void klp_direct_first(void);
extern void klp_direct_second(void);

/* The function has no arguments: there is no register to be saved. */
#define KLP_TRAMPOLINE(name)				\
	asm("	.pushsection .text, \"ax\", @progbits\n"	\
	    "	.balign 16\n"				\
	    "	.type klp_direct_" #name ", @function\n"	\
	    "	.globl klp_direct_" #name "\n"		\
	    "klp_direct_" #name ":\n"			\
	    KLP_ENDBR					\
	    "	pushq %rbp\n"				\
	    "	movq %rsp, %rbp\n"			\
	    "	call klp_direct_hit_" #name "\n"	\
	    "	leave\n"				\
	    ASM_RET					\
	    "	.size klp_direct_" #name ", .-klp_direct_" #name "\n"	\
	    "	.popsection\n")

KLP_TRAMPOLINE(first);
KLP_TRAMPOLINE(second);

static __klp_noipa const char *klp_direct_text(void)
{
	return klp_opaque("original");
}

#if defined(KLP_DIRECT_OPS) || defined(KLP_DIRECT_MULTI)

static struct ftrace_ops klp_direct_ops;

/* Kernels differ in further arguments, which are not looked at. */
static int klp_direct_share(struct ftrace_ops *ops)
{
	klp_asked++;
	if (!again)
		return 0;
	again = false;
	return -EAGAIN;
}

static int klp_direct_register(unsigned long addr)
{
	int ret;

	/* After a failure nothing may be left but the function. */
	klp_direct_ops.func = NULL;
	klp_direct_ops.trampoline = 0;
	klp_direct_ops.ops_func = (void *)klp_direct_share;
	ret = ftrace_set_filter_ip(&klp_direct_ops, (unsigned long)klp_direct_text, 0, 1);
	if (ret)
		return ret;
#ifdef KLP_DIRECT_MULTI
	return register_ftrace_direct_multi(&klp_direct_ops, addr);
#else
	return register_ftrace_direct(&klp_direct_ops, addr);
#endif
}

static int klp_direct_modify(unsigned long old, unsigned long addr)
{
#ifdef KLP_DIRECT_MULTI
	return modify_ftrace_direct_multi(&klp_direct_ops, addr);
#else
	return modify_ftrace_direct(&klp_direct_ops, addr);
#endif
}

static int klp_direct_unregister(unsigned long addr)
{
#ifdef KLP_DIRECT_MULTI
	return unregister_ftrace_direct_multi(&klp_direct_ops, addr);
#else
	return unregister_ftrace_direct(&klp_direct_ops, addr, false);
#endif
}

#else

static int klp_direct_register(unsigned long addr)
{
	return register_ftrace_direct((unsigned long)klp_direct_text, addr);
}

static int klp_direct_modify(unsigned long old, unsigned long addr)
{
	return modify_ftrace_direct((unsigned long)klp_direct_text, old, addr);
}

static int klp_direct_unregister(unsigned long addr)
{
	return unregister_ftrace_direct((unsigned long)klp_direct_text, addr);
}

#endif

static int klp_direct_set(unsigned long addr)
{
	int ret;

	mutex_lock(&klp_direct_lock);
	if (addr == klp_direct_addr)
		ret = 0;
	else if (!addr)
		ret = klp_direct_unregister(klp_direct_addr);
	else if (klp_direct_addr)
		ret = klp_direct_modify(klp_direct_addr, addr);
	else
		ret = klp_direct_register(addr);
	if (!ret)
		klp_direct_addr = addr;
	mutex_unlock(&klp_direct_lock);
	return ret;
}

static ssize_t call_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			  size_t count)
{
	int ret = -EINVAL;

	if (sysfs_streq(buf, "first"))
		ret = klp_direct_set((unsigned long)klp_direct_first);
	else if (sysfs_streq(buf, "second"))
		ret = klp_direct_set((unsigned long)klp_direct_second);
	else if (sysfs_streq(buf, "none"))
		ret = klp_direct_set(0);
	return ret ?: count;
}

static struct kobj_attribute klp_call_attr = __ATTR_WO(call);

static ssize_t text_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", klp_direct_text());
}

static struct kobj_attribute klp_text_attr = __ATTR_RO(text);

static ssize_t first_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(klp_first));
}

static struct kobj_attribute klp_first_attr = __ATTR_RO(first);

static ssize_t second_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(klp_second));
}

static struct kobj_attribute klp_second_attr = __ATTR_RO(second);

static ssize_t asked_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(klp_asked));
}

static struct kobj_attribute klp_asked_attr = __ATTR_RO(asked);

static struct attribute *klp_direct_attrs[] = {
	&klp_call_attr.attr,
	&klp_text_attr.attr,
	&klp_first_attr.attr,
	&klp_second_attr.attr,
	&klp_asked_attr.attr,
	NULL
};

static const struct attribute_group klp_direct_group = {
	.attrs = klp_direct_attrs,
};

static struct kobject *klp_direct_kobj;

static int __init klp_target_direct_init(void)
{
	int ret;

	klp_direct_kobj = kobject_create_and_add("klp_direct", kernel_kobj);
	if (!klp_direct_kobj)
		return -ENOMEM;
	ret = sysfs_create_group(klp_direct_kobj, &klp_direct_group);
	if (ret)
		kobject_put(klp_direct_kobj);
	return ret;
}

static void __exit klp_target_direct_exit(void)
{
	kobject_put(klp_direct_kobj);
	klp_direct_set(0);
}

module_init(klp_target_direct_init);
module_exit(klp_target_direct_exit);
MODULE_DESCRIPTION("Livepatch test target: a direct call of ftrace");
MODULE_LICENSE("GPL");
