// SPDX-License-Identifier: GPL-2.0-only
/*
 * good_state - good: it takes the state of old_state over.
 */

#define CORPUS_VERSION	3

#include "corpus_state.h"

MODULE_DESCRIPTION("Livepatch corpus: a state is handed over");
