// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_zeroes - memory that is zero below what livepatch allocates next. No livepatch.
 *
 * Allocates objects of the size of a klp_ops (kernel/livepatch/patch.h), all zero,
 * and frees every other one: the next klp_ops that is allocated on this CPU has
 * zeros below it. What is left is freed with the module.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ftrace.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>

#define KLP_ZEROES	1024

static void *klp_zeroes[KLP_ZEROES];

static void klp_zeroes_free(void)
{
	unsigned int i;

	for (i = 0; i < KLP_ZEROES; i++)
		kfree(klp_zeroes[i]);
}

static int __init klp_test_zeroes_init(void)
{
	size_t size = sizeof(struct ftrace_ops) + 2 * sizeof(struct list_head);
	unsigned int i;

	for (i = 0; i < KLP_ZEROES; i++) {
		klp_zeroes[i] = kzalloc(size, GFP_KERNEL);
		if (!klp_zeroes[i]) {
			klp_zeroes_free();
			return -ENOMEM;
		}
	}

	/* Below the first object of a page may be anything. */
	for (i = 0; i < KLP_ZEROES; i += 2) {
		if (offset_in_page(klp_zeroes[i]) < size)
			continue;
		kfree(klp_zeroes[i]);
		klp_zeroes[i] = NULL;
	}
	return 0;
}

static void __exit klp_test_zeroes_exit(void)
{
	klp_zeroes_free();
}

module_init(klp_test_zeroes_init);
module_exit(klp_test_zeroes_exit);
MODULE_DESCRIPTION("Livepatch test: zeros below the next klp_ops");
MODULE_LICENSE("GPL");
