/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * While hog is set, this task has CPU 0, and A does not. What the kernel itself does on
 * that CPU still goes on: its threads have a higher priority.
 */

#ifndef DUEL_HOG_H
#define DUEL_HOG_H

/* Never returns. */
void hog_be(void);

#endif /* DUEL_HOG_H */
