// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_nap - good: the task that sleeps in the function leaves it when the
 * fake signal wakes it.
 */

#define CORPUS_OBJECT	"corpus_nap"

#include "corpus_turn_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a sleeping task that is woken");
