// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_transform_world - changes the format of all data at once, by callbacks.
 *
 * The items of klp_target_store get milliseconds instead of seconds:
 *
 * 1. All functions that depend on the format are patched, also the one that only
 *    adds up. The new functions handle both formats and read one flag.
 * 2. While the transition runs, some tasks use old functions. So all data, and new
 *    items too, keep the old format, which both handle.
 * 3. post_patch runs when no task uses an old function any more: it stops the
 *    machine, converts all items and sets the flag. It holds the lock of the data,
 *    so that no task sleeps in the middle of them meanwhile.
 * 4. pre_unpatch runs before any task can use an old function again: it converts
 *    all items back in the same way.
 *
 * A conversion that fails is undone before the machine runs on. post_patch cannot
 * refuse the patch any more; all data keep the old format, which the new functions
 * handle, too. If enabling is reversed, post_patch has not run, and there is nothing
 * to undo. If disabling is reversed, post_patch runs again, and converts again. A
 * patch that is replaced atomically gets no pre_unpatch: the replacing one takes
 * over the format with the system state API.
 *
 * Parameter: fail_at, the number of the item at which the conversion fails, from
 * 1 on (default 0: none).
 *
 * klp_target_gate and klp_target_store have to be loaded first.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/stop_machine.h>

#include "klp_compat.h"
#include "klp_gate.h"
#include "klp_store.h"

static unsigned int fail_at;
module_param(fail_at, uint, 0644);
MODULE_PARM_DESC(fail_at, "Number of the item at which the conversion fails (default 0: none)");

static bool klp_in_ms;	/* the format of all items; protected by klp_store_lock */

static __klp_noipa void klp_world_put(struct klp_store_item *item, unsigned long ms)
{
	item->stored = klp_in_ms ? ms : ms / KLP_MS_PER_S;
}

static __klp_noipa unsigned long klp_world_get(struct klp_store_item *item)
{
	return klp_in_ms ? item->stored : item->stored * KLP_MS_PER_S;
}

static __klp_noipa unsigned long klp_world_sum(void)
{
	struct klp_store_item *item;
	unsigned long ms = 0;

	klp_gate_sleep(KLP_STORE_GATE);
	mutex_lock(&klp_store_lock);
	list_for_each_entry(item, &klp_store_items, list)
		ms += klp_world_get(item);
	mutex_unlock(&klp_store_lock);
	return ms;
}

/* Convert all items, or none. Runs while no other CPU does anything else. */
static int klp_world_convert(void *unused)
{
	struct klp_store_item *item;
	unsigned int number = 0;

	list_for_each_entry(item, &klp_store_items, list) {
		if (++number == fail_at)
			goto undo;
		item->stored *= KLP_MS_PER_S;
	}
	klp_in_ms = true;
	return 0;

undo:
	list_for_each_entry_continue_reverse(item, &klp_store_items, list)
		item->stored /= KLP_MS_PER_S;
	return -EINVAL;
}

static int klp_world_convert_back(void *unused)
{
	struct klp_store_item *item;

	if (!klp_in_ms)
		return 0;
	list_for_each_entry(item, &klp_store_items, list)
		item->stored /= KLP_MS_PER_S;
	klp_in_ms = false;
	return 0;
}

static void klp_world_post_patch(struct klp_object *obj)
{
	int ret;

	mutex_lock(&klp_store_lock);
	ret = stop_machine(klp_world_convert, NULL, NULL);
	mutex_unlock(&klp_store_lock);
	if (ret)
		pr_warn("item %u cannot be converted: all keep the old format\n", fail_at);
}

static void klp_world_pre_unpatch(struct klp_object *obj)
{
	mutex_lock(&klp_store_lock);
	stop_machine(klp_world_convert_back, NULL, NULL);
	mutex_unlock(&klp_store_lock);
}

static struct klp_func klp_world_funcs[] = {
	{
		.old_name = "klp_store_put",
		.new_func = klp_world_put,
	},
	{
		.old_name = "klp_store_get",
		.new_func = klp_world_get,
	},
	{
		.old_name = "klp_store_sum",
		.new_func = klp_world_sum,
	},
	{ }
};

static struct klp_object klp_world_objs[] = {
	{
		.name = "klp_target_store",
		.funcs = klp_world_funcs,
		.callbacks = {
			.post_patch = klp_world_post_patch,
			.pre_unpatch = klp_world_pre_unpatch,
		},
	},
	{ }
};

static struct klp_patch klp_world_patch = {
	.mod = THIS_MODULE,
	.objs = klp_world_objs,
};

static int __init klp_test_transform_world_init(void)
{
	return klp_enable_patch(&klp_world_patch);
}

static void __exit klp_test_transform_world_exit(void)
{
}

module_init(klp_test_transform_world_init);
module_exit(klp_test_transform_world_exit);
MODULE_DESCRIPTION("Livepatch test: callbacks convert all data at once");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
