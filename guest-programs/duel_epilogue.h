/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What there is when A and B have ended, and whether all of it can be taken back.
 */

#ifndef DUEL_EPILOGUE_H
#define DUEL_EPILOGUE_H

#include <stdbool.h>

/* Says that something is not as it has to be. */
void epilogue_complain(const char *what);

/*
 * Waits until no transition is open, or says which one does not end. @threads: and until no
 * thread has a patch state.
 */
void epilogue_settle(bool threads);

/* The same for transitions that nobody tests. */
void epilogue_end_transitions(void);

/* Writes what there is. */
void epilogue_describe(void);

/* Does what the orders want done now, disables and unloads everything. */
void epilogue_undo(void);

/* Unloads livepatches that have stayed because a transition was forced. */
void epilogue_release(void);

#endif /* DUEL_EPILOGUE_H */
