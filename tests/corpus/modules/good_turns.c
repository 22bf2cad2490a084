// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_turns - good: who sleeps in the function leaves it by itself.
 */

#define CORPUS_OBJECT	"corpus_short"

#include "corpus_turn_patch.h"

MODULE_DESCRIPTION("Livepatch corpus: a sleeper that leaves");
