// SPDX-License-Identifier: GPL-2.0-only

#include "lib_place.h"

#include <arpa/inet.h>
#include <string.h>

#include "lib_common.h"

bool parse_place(const char *text, struct sockaddr_in *address)
{
	const char *colon = strchr(text, ':');
	char host[INET_ADDRSTRLEN];
	long long port;

	if (!colon || (size_t)(colon - text) >= sizeof(host))
		return false;
	memcpy(host, text, colon - text);
	host[colon - text] = '\0';
	if (inet_pton(AF_INET, host, &address->sin_addr) != 1)
		return false;
	if (!parse_number(colon + 1, 65535, &port))
		return false;
	address->sin_family = AF_INET;
	address->sin_port = htons(port);
	return true;
}
