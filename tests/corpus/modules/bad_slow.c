// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_slow - bad: a kthread leaves the function every five minutes.
 */

#define CORPUS_OBJECT	"corpus_long"

#include "corpus_turn_patch.h"

MODULE_DESCRIPTION("Livepatch corpus: a sleeper that stays long");
