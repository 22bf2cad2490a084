// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_slow - bad: a kthread leaves the function only every five minutes.
 */

#define CORPUS_OBJECT	"corpus_long"

#include "corpus_turn_patch.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a task that sleeps for minutes");
