// SPDX-License-Identifier: GPL-2.0-only
/*
 * Connects, and becomes a program that has the connection as its standard input
 * and output.
 *
 *	klp-line ADDRESS:PORT PROGRAM [ARGUMENT]...
 *
 * The address is one that QEMU answers itself, for a socket of the harness: no
 * other process of the host can connect there, so nothing has to be encrypted.
 */

#include <err.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib_place.h"

#define USAGE_EXIT	2

int main(int argc, char **argv)
{
	struct sockaddr_in address = {};
	int yes = 1;
	int fd;

	if (argc < 3 || !parse_place(argv[1], &address))
		errx(USAGE_EXIT, "usage: klp-line ADDRESS:PORT PROGRAM [ARGUMENT]...");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		err(1, "socket");
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)))
		err(1, "%s", argv[1]);
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)))
		err(1, "TCP_NODELAY");
	/* A shell has them ignored by what it starts in the background. */
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	setsid();
	if (dup2(fd, STDIN_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0)
		err(1, "dup2");
	execvp(argv[2], argv + 2);
	err(1, "%s", argv[2]);
}
