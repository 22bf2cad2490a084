// SPDX-License-Identifier: GPL-2.0-only
/*
 * corpus_short - a kthread that is in a function for 3 seconds of 7.
 */

#define CORPUS_INSIDE_S		3
#define CORPUS_OUTSIDE_S	4
#define CORPUS_STATE		TASK_IDLE

#include "corpus_turns.inc.c"
