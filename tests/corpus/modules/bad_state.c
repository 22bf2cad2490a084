// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_state - bad: the version of its state is older than that of old_state,
 * which it replaces; the kernel refuses it.
 */

#define CORPUS_VERSION	1

#include "corpus_state.inc.c"

MODULE_DESCRIPTION("Livepatch corpus: a state of a wrong version");
