// SPDX-License-Identifier: GPL-2.0-only
/*
 * corpus_nodev - the driver of a device that no guest has: its init says so.
 */

#include <linux/errno.h>
#include <linux/module.h>

#include "corpus.h"

static __corpus_noipa int corpus_probe(int unit)
{
	return unit < 0 ? -EINVAL : -ENODEV;
}

static int __init corpus_nodev_init(void)
{
	return corpus_probe(0);
}
module_init(corpus_nodev_init);

static void __exit corpus_nodev_exit(void)
{
}
module_exit(corpus_nodev_exit);

MODULE_DESCRIPTION("Livepatch corpus: a driver without its device");
MODULE_LICENSE("GPL");
