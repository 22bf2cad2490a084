// SPDX-License-Identifier: GPL-2.0-only
/*
 * corpus_long - a kthread that is in a function for five minutes, and 4 seconds
 * elsewhere.
 */

#define CORPUS_INSIDE_S		300
#define CORPUS_OUTSIDE_S	4
#define CORPUS_STATE		TASK_IDLE

#include "corpus_turns.inc.c"
