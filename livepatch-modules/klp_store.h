/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The data of klp_target_store, for the patches that convert them.
 */

#ifndef KLP_STORE_H
#define KLP_STORE_H

#include <linux/list.h>
#include <linux/mutex.h>

#define KLP_STORE_GATE		0	/* where klp_store_sum() sleeps */
#define KLP_MS_PER_S		1000

/* One duration. The original functions store whole seconds, and drop the rest. */
struct klp_store_item {
	struct list_head list;
	unsigned long stored;
};

/* Held by the callers of all functions that take an item, and while items are converted. */
extern struct mutex klp_store_lock;
extern struct list_head klp_store_items;

#endif /* KLP_STORE_H */
