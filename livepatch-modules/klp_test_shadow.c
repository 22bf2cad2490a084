// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_shadow - exercises shadow variables from its init. No livepatch.
 *
 * Each step is checked here and logs "shadow STEP ok DETAIL" or "shadow STEP
 * FAILED DETAIL"; the last line is "shadow done steps=N failed=N". The module
 * loads in either case and leaves no shadow variable behind.
 *
 * Parameter: duplicate (bool, default on): includes the step alloc-duplicate, for
 * which the kernel by design raises a WARNING "Duplicate shadow variable".
 *
 * Parameter: churn, how often to allocate and free variables of KLP_LARGE bytes
 * after the steps, by each function, so that a leak shows in the number of objects
 * of their slab cache. "shadow churned N" says how often one was allocated.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/sched.h>

#include "klp_compat.h"

static bool duplicate = true;
module_param(duplicate, bool, 0444);
MODULE_PARM_DESC(duplicate, "Allocate a variable twice, which raises a WARNING (default on)");

static unsigned int churn;
module_param(churn, uint, 0444);
MODULE_PARM_DESC(churn, "How often to allocate and free large variables (default 0)");

#define KLP_LARGE	5000	/* in kmalloc-8k, which few others use */

#define KLP_ID_A	0x6b6c7041UL
#define KLP_ID_B	0x6b6c7042UL
#define KLP_OBJECTS	3
#define KLP_MANY	4200	/* more than klp_shadow_hash has buckets: some share one */

static char klp_many[KLP_MANY];
static int klp_objs[KLP_OBJECTS];	/* what the variables are attached to */

static unsigned int klp_steps, klp_failed;
static unsigned int klp_ctor_calls, klp_dtor_calls;
static unsigned int klp_dtor_per_obj[KLP_OBJECTS];
static void *klp_ctor_obj;

static __printf(3, 4) void klp_step(const char *name, bool ok, const char *fmt, ...)
{
	struct va_format vaf;
	va_list args;

	klp_steps++;
	if (!ok)
		klp_failed++;

	va_start(args, fmt);
	vaf.fmt = fmt;
	vaf.va = &args;
	pr_info("shadow %s %s %pV\n", name, ok ? "ok" : "FAILED", &vaf);
	va_end(args);
}

static int klp_ctor(void *obj, void *shadow_data, void *ctor_data)
{
	klp_ctor_calls++;
	klp_ctor_obj = obj;
	*(unsigned long *)shadow_data = *(unsigned long *)ctor_data;
	return 0;
}

static int klp_ctor_refuses(void *obj, void *shadow_data, void *ctor_data)
{
	klp_ctor_calls++;
	return -ENOMEM;
}

static void klp_dtor(void *obj, void *shadow_data)
{
	klp_dtor_calls++;
	klp_dtor_per_obj[(int *)obj - klp_objs]++;
}

static unsigned long *klp_alloc(int *obj, unsigned long id, unsigned long value)
{
	return klp_shadow_alloc(obj, id, sizeof(value), GFP_KERNEL, klp_ctor, &value);
}

static unsigned long *klp_get_or_alloc(int *obj, unsigned long id, unsigned long value)
{
	return klp_shadow_get_or_alloc(obj, id, sizeof(value), GFP_KERNEL, klp_ctor, &value);
}

/* Object 0 gets A and B, object 1 gets A: three variables with their own values. */
static void klp_shadow_allocate(void)
{
	unsigned long *first, *second, *other_id;

	klp_step("get-before-alloc", !klp_shadow_get(&klp_objs[0], KLP_ID_A), "expected nothing");

	first = klp_alloc(&klp_objs[0], KLP_ID_A, 100);
	klp_step("alloc", first && klp_ctor_calls == 1, "constructor calls=%u expected=1",
		 klp_ctor_calls);
	klp_step("ctor-object", klp_ctor_obj == &klp_objs[0], "constructor was given the object");
	klp_step("ctor-data", first && *first == 100, "value=%lu expected=100",
		 first ? *first : 0);
	klp_step("get", klp_shadow_get(&klp_objs[0], KLP_ID_A) == first, "expected the same");

	klp_step("get-other-object", !klp_shadow_get(&klp_objs[1], KLP_ID_A), "expected nothing");
	klp_step("get-other-id", !klp_shadow_get(&klp_objs[0], KLP_ID_B), "expected nothing");

	second = klp_alloc(&klp_objs[1], KLP_ID_A, 101);
	other_id = klp_alloc(&klp_objs[0], KLP_ID_B, 200);
	klp_step("alloc-several",
		 first && second && other_id && first != second && first != other_id &&
		 *first == 100 && *second == 101 && *other_id == 200,
		 "values=%lu,%lu,%lu expected=100,101,200", first ? *first : 0,
		 second ? *second : 0, other_id ? *other_id : 0);
}

static void klp_shadow_allocate_again(void)
{
	unsigned long *first = klp_shadow_get(&klp_objs[0], KLP_ID_A);
	unsigned long *data;

	klp_ctor_calls = 0;
	if (duplicate) {
		data = klp_alloc(&klp_objs[0], KLP_ID_A, 999);
		klp_step("alloc-duplicate", !data && !klp_ctor_calls,
			 "expected nothing, constructor calls=%u expected=0", klp_ctor_calls);
	}

	data = klp_get_or_alloc(&klp_objs[0], KLP_ID_A, 999);
	klp_step("get-or-alloc-existing",
		 first && data == first && *data == 100 && !klp_ctor_calls,
		 "value=%lu expected=100 constructor calls=%u expected=0", data ? *data : 0,
		 klp_ctor_calls);

	data = klp_get_or_alloc(&klp_objs[2], KLP_ID_A, 102);
	klp_step("get-or-alloc-new", data && *data == 102 && klp_ctor_calls == 1,
		 "value=%lu expected=102 constructor calls=%u expected=1", data ? *data : 0,
		 klp_ctor_calls);

	data = klp_shadow_alloc(&klp_objs[1], KLP_ID_B, sizeof(*data), GFP_KERNEL, NULL, NULL);
	klp_step("alloc-without-ctor", data && !*data, "value=%lu expected=0", data ? *data : 1);
	klp_shadow_free(&klp_objs[1], KLP_ID_B, NULL);
	klp_step("free-without-dtor", !klp_shadow_get(&klp_objs[1], KLP_ID_B), "expected nothing");
}

static void klp_shadow_refuse(void)
{
	void *data;

	klp_ctor_calls = 0;
	data = klp_shadow_alloc(&klp_objs[2], KLP_ID_B, sizeof(long), GFP_KERNEL,
				klp_ctor_refuses, NULL);
	klp_step("ctor-refuses-alloc", !data && klp_ctor_calls == 1,
		 "expected nothing, constructor calls=%u expected=1", klp_ctor_calls);

	data = klp_shadow_get_or_alloc(&klp_objs[2], KLP_ID_B, sizeof(long), GFP_KERNEL,
				       klp_ctor_refuses, NULL);
	klp_step("ctor-refuses-get-or-alloc", !data && klp_ctor_calls == 2,
		 "expected nothing, constructor calls=%u expected=2", klp_ctor_calls);

	klp_step("get-after-refusal", !klp_shadow_get(&klp_objs[2], KLP_ID_B), "expected nothing");
}

static void klp_shadow_release(void)
{
	unsigned long *other_id;

	klp_shadow_free(&klp_objs[0], KLP_ID_A, klp_dtor);
	klp_step("free", klp_dtor_calls == 1 && klp_dtor_per_obj[0] == 1,
		 "destructor calls=%u of the object=%u expected=1,1", klp_dtor_calls,
		 klp_dtor_per_obj[0]);
	klp_step("get-after-free", !klp_shadow_get(&klp_objs[0], KLP_ID_A), "expected nothing");
	klp_step("free-leaves-others",
		 klp_shadow_get(&klp_objs[1], KLP_ID_A) && klp_shadow_get(&klp_objs[2], KLP_ID_A) &&
		 klp_shadow_get(&klp_objs[0], KLP_ID_B), "other objects and the other id stay");

	klp_shadow_free(&klp_objs[0], KLP_ID_A, klp_dtor);
	klp_step("free-again", klp_dtor_calls == 1, "destructor calls=%u expected=1",
		 klp_dtor_calls);

	klp_shadow_free_all(KLP_ID_A, klp_dtor);
	klp_step("free-all",
		 klp_dtor_calls == 3 && klp_dtor_per_obj[0] == 1 && klp_dtor_per_obj[1] == 1 &&
		 klp_dtor_per_obj[2] == 1,
		 "destructor calls=%u,%u,%u expected=1,1,1", klp_dtor_per_obj[0],
		 klp_dtor_per_obj[1], klp_dtor_per_obj[2]);
	klp_step("get-after-free-all",
		 !klp_shadow_get(&klp_objs[1], KLP_ID_A) && !klp_shadow_get(&klp_objs[2], KLP_ID_A),
		 "expected nothing");

	other_id = klp_shadow_get(&klp_objs[0], KLP_ID_B);
	klp_step("free-all-leaves-other-id", other_id && *other_id == 200,
		 "value=%lu expected=200", other_id ? *other_id : 0);

	klp_shadow_free_all(KLP_ID_B, klp_dtor);
	klp_step("free-all-last", klp_dtor_calls == 4 && !klp_shadow_get(&klp_objs[0], KLP_ID_B),
		 "destructor calls=%u expected=4", klp_dtor_calls);
}

/* Frees every other variable of all objects; how many are there that should not, or are not. */
static unsigned int klp_shadow_free_some(void)
{
	unsigned int wrong = 0;
	unsigned long i;

	for (i = 0; i < KLP_MANY; i += 2)
		klp_shadow_free(&klp_many[i], KLP_ID_A, NULL);
	for (i = 0; i < KLP_MANY; i++)
		wrong += !klp_shadow_get(&klp_many[i], KLP_ID_A) != !(i % 2);
	return wrong;
}

/* Objects that share a bucket still have their own variables. */
static void klp_shadow_many(void)
{
	unsigned int wrong = 0;
	unsigned long i, *data;

	for (i = 0; i < KLP_MANY; i++) {
		data = klp_shadow_get_or_alloc(&klp_many[i], KLP_ID_A, sizeof(i), GFP_KERNEL,
					       klp_ctor, &i);
		wrong += !data || *data != i;
	}
	for (i = 0; i < KLP_MANY; i++) {
		data = klp_shadow_get(&klp_many[i], KLP_ID_A);
		wrong += !data || *data != i;
	}
	wrong += klp_shadow_free_some();
	klp_shadow_free_all(KLP_ID_A, NULL);
	/* Nobody has a variable now: no bucket has one. */
	klp_shadow_free(&klp_many[0], KLP_ID_A, NULL);
	for (i = 0; i < KLP_MANY; i++)
		wrong += !!klp_shadow_get(&klp_many[i], KLP_ID_A);
	klp_step("crowd", !wrong, "%u objects, wrong=%u expected=0", KLP_MANY, wrong);
}

/* Each round allocates four times, twice by each function; two constructors fail. */
static void klp_shadow_churn(void)
{
	unsigned long value = 1;
	unsigned int round;

	for (round = 0; round < churn; round++) {
		klp_shadow_alloc(&klp_objs[0], KLP_ID_A, KLP_LARGE, GFP_KERNEL, klp_ctor_refuses,
				 NULL);
		klp_shadow_get_or_alloc(&klp_objs[0], KLP_ID_A, KLP_LARGE, GFP_KERNEL,
					klp_ctor_refuses, NULL);
		klp_shadow_alloc(&klp_objs[0], KLP_ID_A, KLP_LARGE, GFP_KERNEL, klp_ctor, &value);
		klp_shadow_free(&klp_objs[0], KLP_ID_A, NULL);
		klp_shadow_get_or_alloc(&klp_objs[1], KLP_ID_B, KLP_LARGE, GFP_KERNEL, klp_ctor,
					&value);
		klp_shadow_free_all(KLP_ID_B, NULL);
		/* Memory is freed by RCU, which needs the CPU. */
		cond_resched();
	}
	pr_info("shadow churned %u\n", 4 * churn);
}

static int __init klp_test_shadow_init(void)
{
	klp_shadow_allocate();
	klp_shadow_allocate_again();
	klp_shadow_refuse();
	klp_shadow_release();
	klp_shadow_many();
	pr_info("shadow done steps=%u failed=%u\n", klp_steps, klp_failed);
	if (churn)
		klp_shadow_churn();

	/* A failed step may have left variables that point into this module. */
	klp_shadow_free_all(KLP_ID_A, NULL);
	klp_shadow_free_all(KLP_ID_B, NULL);
	return 0;
}

static void __exit klp_test_shadow_exit(void)
{
}

module_init(klp_test_shadow_init);
module_exit(klp_test_shadow_exit);
MODULE_DESCRIPTION("Livepatch test: shadow variables, each step checked");
MODULE_LICENSE("GPL");
