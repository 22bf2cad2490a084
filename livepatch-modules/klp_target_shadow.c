// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_shadow - one shadow variable that user space allocates and frees. No livepatch.
 *
 * A write to /sys/kernel/klp_shadow/variable calls, for the same object and id:
 *
 *	get		klp_shadow_get_or_alloc()
 *	alloc		klp_shadow_alloc(); EEXIST when there is one
 *	free		klp_shadow_free()
 *	free_all	klp_shadow_free_all()
 *
 * A read returns "constructors=N destructors=N live=N": how often each ran, and
 * whether there is a variable now. The first is the sum of the other two.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "klp_compat.h"

#define KLP_ID		0x6b6c7053UL

static int klp_shadow_obj;	/* what the variable is attached to */
static atomic_t klp_constructors = ATOMIC_INIT(0);
static atomic_t klp_destructors = ATOMIC_INIT(0);

static int klp_shadow_ctor(void *obj, void *shadow_data, void *ctor_data)
{
	atomic_inc(&klp_constructors);
	return 0;
}

static void klp_shadow_dtor(void *obj, void *shadow_data)
{
	atomic_inc(&klp_destructors);
}

static int klp_shadow_do(const char *verb)
{
	if (sysfs_streq(verb, "get"))
		return klp_shadow_get_or_alloc(&klp_shadow_obj, KLP_ID, sizeof(long), GFP_KERNEL,
					       klp_shadow_ctor, NULL) ? 0 : -ENOMEM;
	if (sysfs_streq(verb, "alloc"))
		return klp_shadow_alloc(&klp_shadow_obj, KLP_ID, sizeof(long), GFP_KERNEL,
					klp_shadow_ctor, NULL) ? 0 : -EEXIST;
	if (sysfs_streq(verb, "free"))
		klp_shadow_free(&klp_shadow_obj, KLP_ID, klp_shadow_dtor);
	else if (sysfs_streq(verb, "free_all"))
		klp_shadow_free_all(KLP_ID, klp_shadow_dtor);
	else
		return -EINVAL;
	return 0;
}

static ssize_t variable_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "constructors=%d destructors=%d live=%d\n",
			  atomic_read(&klp_constructors), atomic_read(&klp_destructors),
			  !!klp_shadow_get(&klp_shadow_obj, KLP_ID));
}

static ssize_t variable_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			      size_t len)
{
	int ret = klp_shadow_do(buf);

	return ret ?: len;
}

static struct kobj_attribute klp_variable = __ATTR_RW_MODE(variable, 0600);

static struct kobject *klp_shadow_kobj;

static int __init klp_target_shadow_init(void)
{
	int ret;

	klp_shadow_kobj = kobject_create_and_add("klp_shadow", kernel_kobj);
	if (!klp_shadow_kobj)
		return -ENOMEM;
	ret = sysfs_create_file(klp_shadow_kobj, &klp_variable.attr);
	if (ret)
		kobject_put(klp_shadow_kobj);
	return ret;
}

static void __exit klp_target_shadow_exit(void)
{
	kobject_put(klp_shadow_kobj);
	klp_shadow_free_all(KLP_ID, NULL);
}

module_init(klp_target_shadow_init);
module_exit(klp_target_shadow_exit);
MODULE_DESCRIPTION("Livepatch test target: a shadow variable that user space allocates and frees");
MODULE_LICENSE("GPL");
