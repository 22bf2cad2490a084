// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_state - good: it takes over the state of old_state.
 */

#define CORPUS_VERSION	3

#include "corpus_state.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a state is taken over");
