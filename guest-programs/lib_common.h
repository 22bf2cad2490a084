/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Small things that every program needs: time, numbers, whole reads and writes.
 */

#ifndef LIB_COMMON_H
#define LIB_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

long long clock_us(clockid_t clock);
long long now_us(void);		/* CLOCK_MONOTONIC */
struct timespec timespec_of_us(long long us);

/* Returns whether @text is a decimal number from 0 to @most, and sets @value. */
bool parse_number(const char *text, long long most, long long *value);

/* Writes everything, also to a non-blocking pipe; returns a negative errno. */
int write_all(int fd, const char *data, size_t len);

/* Reads a short file below @dirfd and terminates the text; returns a negative errno. */
int read_short(int dirfd, const char *path, char *data, size_t room);

#endif /* LIB_COMMON_H */
