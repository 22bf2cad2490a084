// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_never_ends - bad: a kthread sleeps in the function forever.
 */

#define CORPUS_OBJECT	"corpus_ever"

#include "corpus_turn_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a task that sleeps forever");
