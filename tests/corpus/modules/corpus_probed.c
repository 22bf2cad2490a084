// SPDX-License-Identifier: GPL-2.0-only
/*
 * corpus_probed - a driver whose init calls a function that can be patched.
 */

#include <linux/errno.h>
#include <linux/module.h>

#include "corpus.h"

static __corpus_noipa int corpus_probe(int unit)
{
	return unit < 0 ? -EINVAL : 0;
}

static int __init corpus_probed_init(void)
{
	return corpus_probe(0);
}
module_init(corpus_probed_init);

static void __exit corpus_probed_exit(void)
{
}
module_exit(corpus_probed_exit);

MODULE_DESCRIPTION("Livepatch corpus: a driver with its device");
MODULE_LICENSE("GPL");
