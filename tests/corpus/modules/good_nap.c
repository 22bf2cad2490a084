// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_nap - good: who sleeps in the function leaves it when the fake
 * signal wakes it, after 15 rounds.
 */

#define CORPUS_OBJECT	"corpus_nap"

#include "corpus_turn_patch.h"

MODULE_DESCRIPTION("Livepatch corpus: a sleeper that is woken");
