// SPDX-License-Identifier: GPL-2.0-only
/*
 * bad_state - bad: its state is older than that of the patch that it is to
 * replace, old_state, and the kernel refuses it.
 */

#define CORPUS_VERSION	1

#include "corpus_state.h"

MODULE_DESCRIPTION("Livepatch corpus: a state of a wrong version");
