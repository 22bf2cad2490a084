// SPDX-License-Identifier: GPL-2.0-only
/*
 * corpus_target - a module that most patches of the corpus patch.
 *
 * /sys/kernel/corpus/ has
 *
 *	text	what corpus_text() returns: "original"
 *	pair	42, after corpus_encode() and corpus_decode()
 *	limit	the number written last, limited to 100 by corpus_limit()
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "corpus.h"

static struct kobject *corpus_kobj;
static int corpus_number;

static __corpus_noipa const char *corpus_text(int *number)
{
	return "original";
}

static __corpus_noipa int corpus_encode(int number)
{
	return number ^ 0x5a;
}

static __corpus_noipa int corpus_decode(int number)
{
	return number ^ 0x5a;
}

static __corpus_noipa int corpus_limit(int number)
{
	return min(number, 100);
}

static ssize_t text_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", corpus_text(&corpus_number));
}

static struct kobj_attribute corpus_text_attr = __ATTR_RO(text);

static ssize_t pair_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", corpus_decode(corpus_encode(42)));
}

static struct kobj_attribute corpus_pair_attr = __ATTR_RO(pair);

static ssize_t limit_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", corpus_number);
}

static ssize_t limit_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			   size_t count)
{
	int number;
	int ret;

	ret = kstrtoint(buf, 0, &number);
	if (ret)
		return ret;
	corpus_number = corpus_limit(number);
	return count;
}

static struct kobj_attribute corpus_limit_attr = __ATTR_RW(limit);

static struct attribute *corpus_attrs[] = {
	&corpus_text_attr.attr,
	&corpus_pair_attr.attr,
	&corpus_limit_attr.attr,
	NULL
};

static const struct attribute_group corpus_group = {
	.attrs = corpus_attrs,
};

static int __init corpus_target_init(void)
{
	int ret;

	corpus_kobj = kobject_create_and_add("corpus", kernel_kobj);
	if (!corpus_kobj)
		return -ENOMEM;
	ret = sysfs_create_group(corpus_kobj, &corpus_group);
	if (ret)
		kobject_put(corpus_kobj);
	return ret;
}
module_init(corpus_target_init);

static void __exit corpus_target_exit(void)
{
	kobject_put(corpus_kobj);
}
module_exit(corpus_target_exit);

MODULE_DESCRIPTION("Livepatch corpus: the target of most patches");
MODULE_LICENSE("GPL");
