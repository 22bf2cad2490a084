// SPDX-License-Identifier: GPL-2.0-only
/*
 * corpus_ever - a kthread that sleeps in a function forever.
 */

#define CORPUS_INSIDE_S		0
#define CORPUS_OUTSIDE_S	4
#define CORPUS_STATE		TASK_IDLE

#include "corpus_turns.inc.c"
