// SPDX-License-Identifier: GPL-2.0-only
/*
 * old_state - the older patch of the states: version 2.
 */

#define CORPUS_VERSION	2

#include "corpus_state.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: an older patch with a state");
