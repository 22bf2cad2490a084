// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_store - data whose format livepatches change.
 *
 * A list of durations. They are written and shown in milliseconds but stored in
 * seconds, which drops the rest: that is what the patches fix.
 * /sys/kernel/klp_store/ has
 *
 *	add	write a duration in ms: adds an item
 *	items	the durations in ms, as klp_store_get() returns them
 *	stored	the values that the items have; no patch changes how this is shown
 *	sum	their sum in ms, from klp_store_sum(), which first sleeps in gate 0
 *	clear	write anything: removes all items
 *
 * klp_target_gate has to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "klp_compat.h"
#include "klp_gate.h"
#include "klp_store.h"

struct mutex klp_store_lock = __MUTEX_INITIALIZER(klp_store_lock);	/* see klp_store.h */
EXPORT_SYMBOL_GPL(klp_store_lock);

struct list_head klp_store_items = LIST_HEAD_INIT(klp_store_items);
EXPORT_SYMBOL_GPL(klp_store_items);

static struct kobject *klp_store_kobj;

static __klp_noipa void klp_store_put(struct klp_store_item *item, unsigned long ms)
{
	item->stored = ms / KLP_MS_PER_S;
}

static __klp_noipa unsigned long klp_store_get(struct klp_store_item *item)
{
	return item->stored * KLP_MS_PER_S;
}

static __klp_noipa unsigned long klp_store_sum(void)
{
	struct klp_store_item *item;
	unsigned long seconds = 0;

	klp_gate_sleep(KLP_STORE_GATE);
	mutex_lock(&klp_store_lock);
	list_for_each_entry(item, &klp_store_items, list)
		seconds += item->stored;
	mutex_unlock(&klp_store_lock);
	return seconds * KLP_MS_PER_S;
}

static __klp_noipa void klp_store_forget(struct klp_store_item *item)
{
	list_del(&item->list);
	kfree(item);
}

static void klp_store_forget_all(void)
{
	struct klp_store_item *item, *next;

	mutex_lock(&klp_store_lock);
	list_for_each_entry_safe(item, next, &klp_store_items, list)
		klp_store_forget(item);
	mutex_unlock(&klp_store_lock);
}

static ssize_t add_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			 size_t count)
{
	struct klp_store_item *item;
	unsigned long ms;
	int ret;

	ret = kstrtoul(buf, 0, &ms);
	if (ret)
		return ret;
	item = kzalloc(sizeof(*item), GFP_KERNEL);
	if (!item)
		return -ENOMEM;

	mutex_lock(&klp_store_lock);
	klp_store_put(item, ms);
	list_add_tail(&item->list, &klp_store_items);
	mutex_unlock(&klp_store_lock);
	return count;
}

static struct kobj_attribute klp_add_attr = __ATTR_WO(add);

static ssize_t items_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct klp_store_item *item;
	int len = 0;

	mutex_lock(&klp_store_lock);
	list_for_each_entry(item, &klp_store_items, list)
		len += sysfs_emit_at(buf, len, "%lu\n", klp_store_get(item));
	mutex_unlock(&klp_store_lock);
	return len;
}

static struct kobj_attribute klp_items_attr = __ATTR_RO(items);

static ssize_t stored_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct klp_store_item *item;
	int len = 0;

	mutex_lock(&klp_store_lock);
	list_for_each_entry(item, &klp_store_items, list)
		len += sysfs_emit_at(buf, len, "%lu\n", item->stored);
	mutex_unlock(&klp_store_lock);
	return len;
}

static struct kobj_attribute klp_stored_attr = __ATTR_RO(stored);

static ssize_t sum_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%lu\n", klp_store_sum());
}

static struct kobj_attribute klp_sum_attr = __ATTR_RO(sum);

static ssize_t clear_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			   size_t count)
{
	klp_store_forget_all();
	return count;
}

static struct kobj_attribute klp_clear_attr = __ATTR_WO(clear);

static struct attribute *klp_store_attrs[] = {
	&klp_add_attr.attr,
	&klp_items_attr.attr,
	&klp_stored_attr.attr,
	&klp_sum_attr.attr,
	&klp_clear_attr.attr,
	NULL
};

static const struct attribute_group klp_store_group = {
	.attrs = klp_store_attrs,
};

static int __init klp_target_store_init(void)
{
	int ret;

	klp_store_kobj = kobject_create_and_add("klp_store", kernel_kobj);
	if (!klp_store_kobj)
		return -ENOMEM;
	ret = sysfs_create_group(klp_store_kobj, &klp_store_group);
	if (ret)
		kobject_put(klp_store_kobj);
	return ret;
}

static void __exit klp_target_store_exit(void)
{
	kobject_put(klp_store_kobj);
	klp_store_forget_all();
}

module_init(klp_target_store_init);
module_exit(klp_target_store_exit);
MODULE_DESCRIPTION("Livepatch test target: a list of durations");
MODULE_LICENSE("GPL");
