// SPDX-License-Identifier: GPL-2.0-only
/*
 * The code of a livepatch that changes the format of data when they are used.
 *
 * The items of klp_target_store get a duration in milliseconds. An item has no
 * room for it, so it is in a shadow variable of the item:
 *
 * 1. The new functions handle both formats. An item with a shadow variable is in
 *    the new format, without one in the old. No search for the items is needed.
 * 2. While the transition runs, some tasks use old functions, which ignore
 *    shadow variables. So none is allocated, not for new items either.
 * 3. post_patch runs when no task uses an old function any more, and sets a flag.
 *    From then on a new function converts each item that it uses.
 * 4. When the allocation fails the item keeps the old format, which is valid.
 * 5. pre_unpatch runs before any task can use an old function again: it clears
 *    the flag and converts back the items that have a shadow variable.
 * 6. The function that frees an item frees its shadow variable.
 *
 * A patch that atomically replaces this one finds the shadow variables: they
 * belong to the items, not to a patch. It must use the same id and format.
 *
 * Parameters:
 *	replace		the patch replaces all others
 *	convert		post_patch sets the flag (default on)
 *	converted	how many items it has converted, or made in the new format
 *	reverted	how many items it has converted back
 */

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "klp_compat.h"
#include "klp_gate.h"
#include "klp_store.h"

#define KLP_ITEM_MS	0x6b6c706dUL	/* id of the shadow variable: unsigned long, ms */

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "Replace all other patches (default off)");

static bool convert = true;
module_param(convert, bool, 0444);
MODULE_PARM_DESC(convert, "Convert items once the patch is enabled (default on)");

static unsigned int converted;
module_param(converted, uint, 0444);
MODULE_PARM_DESC(converted, "How many items were converted");

static unsigned int reverted;
module_param(reverted, uint, 0444);
MODULE_PARM_DESC(reverted, "How many items were converted back");

static bool klp_converting;	/* protected by klp_store_lock */

static int klp_item_ctor(void *item, void *shadow_data, void *ctor_data)
{
	*(unsigned long *)shadow_data = *(unsigned long *)ctor_data;
	converted++;
	return 0;
}

static void klp_item_dtor(void *obj, void *shadow_data)
{
	struct klp_store_item *item = obj;

	item->stored = *(unsigned long *)shadow_data / KLP_MS_PER_S;
	reverted++;
}

/* Returns the item's milliseconds; NULL when it has the old format and keeps it. */
static unsigned long *klp_item_ms(struct klp_store_item *item)
{
	unsigned long ms = item->stored * KLP_MS_PER_S;

	if (!klp_converting)
		return klp_shadow_get(item, KLP_ITEM_MS);
	return klp_shadow_get_or_alloc(item, KLP_ITEM_MS, sizeof(ms), GFP_KERNEL, klp_item_ctor,
				       &ms);
}

static __klp_noipa void klp_access_put(struct klp_store_item *item, unsigned long ms)
{
	unsigned long *item_ms = klp_item_ms(item);

	if (item_ms)
		*item_ms = ms;
	else
		item->stored = ms / KLP_MS_PER_S;
}

static __klp_noipa unsigned long klp_access_get(struct klp_store_item *item)
{
	unsigned long *item_ms = klp_item_ms(item);

	return item_ms ? *item_ms : item->stored * KLP_MS_PER_S;
}

static __klp_noipa unsigned long klp_access_sum(void)
{
	struct klp_store_item *item;
	unsigned long ms = 0;

	klp_gate_sleep(KLP_STORE_GATE);
	mutex_lock(&klp_store_lock);
	list_for_each_entry(item, &klp_store_items, list)
		ms += klp_access_get(item);
	mutex_unlock(&klp_store_lock);
	return ms;
}

static __klp_noipa void klp_access_forget(struct klp_store_item *item)
{
	klp_shadow_free(item, KLP_ITEM_MS, NULL);
	list_del(&item->list);
	kfree(item);
}

static void klp_access_post_patch(struct klp_object *obj)
{
	mutex_lock(&klp_store_lock);
	klp_converting = convert;
	mutex_unlock(&klp_store_lock);
}

static void klp_access_pre_unpatch(struct klp_object *obj)
{
	mutex_lock(&klp_store_lock);
	klp_converting = false;
	klp_shadow_free_all(KLP_ITEM_MS, klp_item_dtor);
	mutex_unlock(&klp_store_lock);
}

static struct klp_func klp_access_funcs[] = {
	{
		.old_name = "klp_store_put",
		.new_func = klp_access_put,
	},
	{
		.old_name = "klp_store_get",
		.new_func = klp_access_get,
	},
	{
		.old_name = "klp_store_sum",
		.new_func = klp_access_sum,
	},
	{
		.old_name = "klp_store_forget",
		.new_func = klp_access_forget,
	},
	{ }
};

static struct klp_object klp_access_objs[] = {
	{
		.name = "klp_target_store",
		.funcs = klp_access_funcs,
		.callbacks = {
			.post_patch = klp_access_post_patch,
			.pre_unpatch = klp_access_pre_unpatch,
		},
	},
	{ }
};

static struct klp_patch klp_access_patch = {
	.mod = THIS_MODULE,
	.objs = klp_access_objs,
};

static int __init klp_access_init(void)
{
	klp_access_patch.replace = replace;
	return klp_enable_patch(&klp_access_patch);
}

static void __exit klp_access_exit(void)
{
}

module_init(klp_access_init);
module_exit(klp_access_exit);
MODULE_DESCRIPTION("Livepatch test: data are converted when they are used");
MODULE_LICENSE("GPL");
