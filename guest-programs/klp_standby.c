// SPDX-License-Identifier: GPL-2.0-only
/*
 * Listens in place of a server, and starts the server before a client connects.
 *
 *	klp-standby [-p DEVICE] ADDRESS:PORT LOG SERVER [ARGUMENT]...
 *
 * SERVER serves one connection on its standard input and output, as from
 * inetd, and writes something as soon as it has started. Whenever no connection
 * is open, one started server is kept for the next client. So a saved guest has
 * a server that is ready, and its clones need not start one, which is most of
 * the work of a first connection under emulation.
 *
 * One client may come through DEVICE, a virtio port: it is there once it has
 * written something. When its server ends, or when the other end of the port is
 * closed, the port is closed for good.
 *
 * Once it listens, it forks to the background: the parent prints the process id
 * of the child and exits. The child writes a line to LOG when no connection is
 * open any more and the next server is ready.
 */

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib_common.h"

#define MAX_SESSIONS	16
#define BACKLOG		8
#define OTHER_END_MS	2000
#define USAGE_EXIT	2
#define EXEC_EXIT	127
#define IDLE_LINE	"<6>klp-standby: no connection to %s is open\n"

/* What one side has written and the other has not read yet. */
struct flow {
	int from;
	int to;
	bool ended;		/* end of file */
	bool passed_on;		/* shut down for the other side too */
	size_t begin;
	size_t end;
	char data[32768];
};

struct session {
	bool is_open;
	bool is_of_port;	/* its client is at the port, not a socket */
	struct flow up;		/* client to server */
	struct flow down;
};

static struct session sessions[MAX_SESSIONS];
static const char *place;	/* ADDRESS:PORT, as it was given */
static const char *log_path;
static char **server_argv;
static int spare = -1;		/* socket of the server that waits for a client */
static bool is_idle;		/* the log says that no connection is open */
static int port = -1;		/* the port, until it has a client */

/* Returns whether @text is ADDRESS:PORT, and sets @address. */
static bool parse_place(const char *text, struct sockaddr_in *address)
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

/* Returns the socket to it. */
static int start_server(void)
{
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		err(1, "socketpair");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		signal(SIGCHLD, SIG_DFL);
		signal(SIGPIPE, SIG_DFL);
		if (dup2(ends[1], STDIN_FILENO) < 0 || dup2(ends[1], STDOUT_FILENO) < 0)
			_exit(EXEC_EXIT);
		execvp(server_argv[0], server_argv);
		_exit(EXEC_EXIT);
	}
	close(ends[1]);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	return ends[0];
}

static int listen_at(const struct sockaddr_in *address)
{
	int yes = 1;
	int fd;

	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		err(1, "socket");
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) ||
	    bind(fd, (const struct sockaddr *)address, sizeof(*address)) || listen(fd, BACKLOG))
		err(1, "%s", place);
	return fd;
}

static struct session *free_session(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(sessions); i++)
		if (!sessions[i].is_open)
			return &sessions[i];
	return NULL;
}

static size_t open_sessions(void)
{
	size_t open = 0;

	for (size_t i = 0; i < ARRAY_SIZE(sessions); i++)
		open += sessions[i].is_open;
	return open;
}

static void begin_flow(struct flow *flow, int from, int to)
{
	flow->from = from;
	flow->to = to;
	flow->ended = false;
	flow->passed_on = false;
	flow->begin = 0;
	flow->end = 0;
}

/* The guest learns a moment after the port is there that somebody is at its other end. */
static void open_port(const char *path)
{
	struct pollfd polled = {};

	port = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (port < 0)
		err(1, "%s", path);
	polled.fd = port;
	for (int tries = 0; tries < OTHER_END_MS; tries++) {
		if (!poll(&polled, 1, 0))
			return;
		usleep(1000);
	}
}

static void begin_session(int client, bool is_of_port)
{
	struct session *session = free_session();
	int server = spare >= 0 ? spare : start_server();

	spare = -1;
	is_idle = false;
	begin_flow(&session->up, client, server);
	begin_flow(&session->down, server, client);
	session->is_open = true;
	session->is_of_port = is_of_port;
}

static void take_client(int listening)
{
	int client = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (client >= 0)
		begin_session(client, false);
}

static void look_at_port(short happened)
{
	if (happened & POLLHUP)
		close(port);
	else
		begin_session(port, true);
	port = -1;
}

/* Copies as much as possible without blocking. */
static void move(struct flow *flow)
{
	ssize_t done;

	if (flow->begin == flow->end && !flow->ended) {
		done = read(flow->from, flow->data, sizeof(flow->data));
		if (done > 0) {
			flow->begin = 0;
			flow->end = done;
		} else if (!done || (errno != EAGAIN && errno != EINTR)) {
			flow->ended = true;
		}
	}
	if (flow->begin < flow->end) {
		done = write(flow->to, flow->data + flow->begin, flow->end - flow->begin);
		if (done > 0) {
			flow->begin += done;
		} else if (errno != EAGAIN && errno != EINTR) {
			flow->begin = flow->end;
			flow->ended = true;
		}
	}
	if (flow->ended && flow->begin == flow->end && !flow->passed_on) {
		shutdown(flow->to, SHUT_WR);
		flow->passed_on = true;
	}
}

/* Its client is at the port, of which the other end was closed: it takes no output any more. */
static bool is_abandoned(const struct session *session, const struct pollfd *polled)
{
	return session->is_of_port && ((polled[0].revents | polled[3].revents) & POLLHUP);
}

/* The session ends when the server has, and all its output has been passed on. */
static void serve(struct session *session, const struct pollfd *polled)
{
	move(&session->up);
	move(&session->down);
	if (!session->down.passed_on && !is_abandoned(session, polled))
		return;
	close(session->up.from);
	close(session->down.from);
	session->is_open = false;
}

static void log_idle(void)
{
	int log = open(log_path, O_WRONLY | O_APPEND | O_CLOEXEC);
	char line[128];

	if (log < 0)
		return;
	/* Not dprintf(3), which seeks first: /dev/kmsg refuses that. */
	snprintf(line, sizeof(line), IDLE_LINE, place);
	write_all(log, line, strlen(line));
	close(log);
}

static void keep_spare(void)
{
	ssize_t len;
	char byte;

	if (is_idle || open_sessions())
		return;
	if (spare < 0)
		spare = start_server();
	len = recv(spare, &byte, 1, MSG_PEEK);
	if (len < 0)
		return;
	is_idle = true;
	if (len) {
		log_idle();
	} else {
		/* It has exited; the next client gets another. */
		close(spare);
		spare = -1;
	}
}

static void watch(struct pollfd *polled, const struct flow *flow)
{
	bool is_empty = flow->begin == flow->end;

	polled[0].fd = is_empty && !flow->ended ? flow->from : -1;
	polled[0].events = POLLIN;
	polled[1].fd = is_empty ? -1 : flow->to;
	polled[1].events = POLLOUT;
}

/* The parent exits once the child has printed its process id and closed all it inherited. */
static void go_to_background(void)
{
	int detached[2];
	char byte;
	pid_t pid;
	int null;

	if (pipe2(detached, O_CLOEXEC))
		err(1, "pipe");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	close(detached[!!pid]);
	if (pid) {
		while (read(detached[0], &byte, 1) < 0 && errno == EINTR)
			;
		exit(0);
	}
	setsid();
	dprintf(STDOUT_FILENO, "%d\n", getpid());
	null = open("/dev/null", O_RDWR);
	if (null < 0)
		err(1, "/dev/null");
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	if (null > STDERR_FILENO)
		close(null);
	close(detached[1]);
}

int main(int argc, char **argv)
{
	struct pollfd polled[3 + MAX_SESSIONS * 4];
	struct sockaddr_in address = {};
	const char *port_path = NULL;
	int listening;

	if (argc > 2 && !strcmp(argv[1], "-p")) {
		port_path = argv[2];
		argc -= 2;
		argv += 2;
	}
	if (argc < 4 || !parse_place(argv[1], &address))
		errx(USAGE_EXIT,
		     "usage: klp-standby [-p DEVICE] ADDRESS:PORT LOG SERVER [ARGUMENT]...");
	place = argv[1];
	log_path = argv[2];
	server_argv = argv + 3;
	listening = listen_at(&address);
	if (port_path)
		open_port(port_path);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	go_to_background();
	for (;;) {
		keep_spare();
		polled[0].fd = free_session() ? listening : -1;
		polled[0].events = POLLIN;
		polled[1].fd = is_idle ? -1 : spare;
		polled[1].events = POLLIN;
		polled[2].fd = free_session() ? port : -1;
		polled[2].events = POLLIN;
		for (size_t i = 0; i < MAX_SESSIONS; i++) {
			struct pollfd *at = &polled[3 + i * 4];

			for (int j = 0; j < 4; j++)
				at[j].fd = -1;
			if (!sessions[i].is_open)
				continue;
			watch(at, &sessions[i].up);
			watch(at + 2, &sessions[i].down);
		}
		if (poll(polled, ARRAY_SIZE(polled), -1) < 0)
			continue;
		if (polled[0].revents)
			take_client(listening);
		/* The client above may have taken the last session. */
		if (polled[2].revents && free_session())
			look_at_port(polled[2].revents);
		for (size_t i = 0; i < MAX_SESSIONS; i++)
			if (sessions[i].is_open)
				serve(&sessions[i], &polled[3 + i * 4]);
	}
}
