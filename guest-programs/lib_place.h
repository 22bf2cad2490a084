/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Addresses of the guest's network as a command line has them: ADDRESS:PORT.
 */

#ifndef LIB_PLACE_H
#define LIB_PLACE_H

#include <netinet/in.h>
#include <stdbool.h>

/* Returns whether @text is an IPv4 address and a port, and sets @address. */
bool parse_place(const char *text, struct sockaddr_in *address);

#endif /* LIB_PLACE_H */
