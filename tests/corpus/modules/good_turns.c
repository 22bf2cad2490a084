// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_turns - good: the task that sleeps in the function leaves it by itself.
 */

#define CORPUS_OBJECT	"corpus_short"

#include "corpus_turn_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a task that sleeps for seconds");
