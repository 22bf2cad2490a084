// SPDX-License-Identifier: GPL-2.0-only
/* What the generator of mutants reads, in the ways in which the kernel writes it. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stddef.h>

#define __init
#define notrace
#define for_each_number(pos)	for (pos = numbers; pos < numbers + 5; pos++)
#define list_for_each_entry(pos, head, member) \
	for (pos = (head); pos < (head) + 4; pos++)
#define list_for_each_entry_reverse(pos, head, member) \
	for (pos = (head) + 3; pos >= (head); pos--)
#define list_add(value, list)		printf("head %d\n", value)
#define list_add_tail(value, list)	printf("tail %d\n", value)
#define take(pointer, type, member)	((pointer)->member + (int)sizeof(type))
#define lockdep_assert_held(lock)	do { } while (0)
#define pr_notice(...)			printf(__VA_ARGS__)

enum { KLP_UNDEFINED = -1, KLP_UNPATCHED, KLP_PATCHED };

struct thing {
	int value;
	bool on;
};

static int numbers[8] = { 3, 1, 4, 1, 5, 9, 2, 6 };
static struct thing things[4] = { { 1, true }, { 2, false }, { 3, true }, { 4, true } };
static int lock;

static int check(int x)
{
	if (x < 0)
		return -EINVAL;
	return 0;
}

static notrace bool both(int a, int b)
{
	return a && !b;
}

static bool either(int a, int b)
{
	if (a > 2 || b > 2)
		return true;
	return false;
}

static struct thing *find(int value)
{
	struct thing *thing;

	list_for_each_entry(thing, things, value) {
		if (!thing->on)
			continue;
		if (thing->value >= value)
			return thing;
	}
	return NULL;
}

static int __init start(int x)
{
	struct thing *thing;
	int *number, sum = 0, ret = 0;

	lockdep_assert_held(&lock);
	ret = check(x);
	if (ret)
		goto out;

	for_each_number(number) {
		if (*number == 4)
			break;
		sum += *number;
	}
	for_each_number(number)
		sum++;

	thing = find(x);
	if (thing)
		sum += take(thing, struct thing, value);
	else
		pr_notice("nothing of %d\n", x + 1);

	list_add(sum, &lock);
	list_add_tail(sum, &lock);
	switch (x) {
	case 1:
		sum = sum - 2;
		break;
	case 2:
#ifdef UNKNOWN
		sum = 7;
#endif
		sum = sum * 2 +
#ifndef UNKNOWN
			1 +
#endif
			3;
		break;
	default:
		break;
	}
	lock = 5;
	sum += lock;
	ret = sum;
out:
	printf("out %d\n", ret);
	return ret;
}

static void end(int state)
{
	int target = KLP_PATCHED;

	if (state == KLP_UNDEFINED)
		return;
	target = state == target ? KLP_UNPATCHED : KLP_PATCHED;
	printf("%d\n", target);
}
