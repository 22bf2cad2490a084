// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_never_ends - bad: a kthread sleeps in the function for ever.
 */

#define CORPUS_OBJECT	"corpus_ever"

#include "corpus_turn_patch.h"

MODULE_DESCRIPTION("Livepatch corpus: a sleeper that stays");
