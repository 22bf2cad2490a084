// SPDX-License-Identifier: GPL-2.0-only
/*
 * corpus_nap - a kthread that sleeps in a function until it is woken.
 */

#define CORPUS_INSIDE_S		0
#define CORPUS_OUTSIDE_S	6
#define CORPUS_STATE		TASK_INTERRUPTIBLE

#include "corpus_turns.inc.c"
