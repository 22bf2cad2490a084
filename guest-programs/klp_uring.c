// SPDX-License-Identifier: GPL-2.0-only
/*
 * Has a user worker of io_uring enter a gate of /dev/klp_gate.
 *
 *	klp-uring N
 *
 * It submits one read at N * 4096, which a worker of the kernel has to make
 * (IOSQE_ASYNC): a thread of this process that never is in user mode. It prints
 * {"submitted":N}, and {"completed":R} with the result of the read, a number of
 * bytes or a negative errno. Then it waits for SIGTERM or the end of its input:
 * the worker stays for a while.
 */

#include <err.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib_common.h"
#include "lib_stop.h"
#include "lib_text.h"

#define GATES		8
#define GATE_SIZE	4096	/* the page size of x86_64 */
#define ENTRIES		1
#define SECOND_US	1000000
#define USAGE_EXIT	2

struct ring {
	struct io_uring_params params;
	int fd;
	char *submissions, *completions;
	struct io_uring_sqe *entries;
};

static void *map(int fd, size_t size, off_t offset)
{
	void *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

	if (area == MAP_FAILED)
		err(1, "mmap of the ring");
	return area;
}

static unsigned int *field(char *area, unsigned int offset)
{
	return (unsigned int *)(area + offset);
}

static void make_ring(struct ring *ring)
{
	struct io_uring_params *params = &ring->params;

	memset(params, 0, sizeof(*params));
	ring->fd = syscall(SYS_io_uring_setup, ENTRIES, params);
	if (ring->fd < 0)
		err(1, "io_uring_setup");
	ring->submissions = map(ring->fd, params->sq_off.array +
				params->sq_entries * sizeof(unsigned int), IORING_OFF_SQ_RING);
	ring->completions = map(ring->fd, params->cq_off.cqes +
				params->cq_entries * sizeof(struct io_uring_cqe),
				IORING_OFF_CQ_RING);
	ring->entries = map(ring->fd, params->sq_entries * sizeof(*ring->entries),
			    IORING_OFF_SQES);
}

static void submit_read(struct ring *ring, int file, char *data, size_t size, off_t offset)
{
	unsigned int *tail = field(ring->submissions, ring->params.sq_off.tail);
	struct io_uring_sqe *entry = ring->entries;

	memset(entry, 0, sizeof(*entry));
	entry->opcode = IORING_OP_READ;
	entry->flags = IOSQE_ASYNC;
	entry->fd = file;
	entry->addr = (unsigned long)data;
	entry->len = size;
	entry->off = offset;
	field(ring->submissions, ring->params.sq_off.array)[0] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring->fd, 1, 0, 0, NULL, 0) != 1)
		err(1, "io_uring_enter");
}

static int await_completion(struct ring *ring)
{
	struct io_uring_cqe *done;

	if (syscall(SYS_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		err(1, "io_uring_enter");
	done = (struct io_uring_cqe *)(ring->completions + ring->params.cq_off.cqes);
	return done->res;
}

static void print(const char *key, long long value)
{
	struct text json = {};

	json_begin(&json, '{');
	json_add_number(&json, key, value);
	json_end_line(&json);
	if (write_all(STDOUT_FILENO, json.data, json.len))
		exit(1);
	text_free(&json);
}

int main(int argc, char **argv)
{
	struct ring ring;
	long long gate;
	char data[64];
	int device;

	if (argc != 2 || !parse_number(argv[1], GATES - 1, &gate))
		errx(USAGE_EXIT, "usage: klp-uring N, N from 0 to %d", GATES - 1);
	device = open("/dev/klp_gate", O_RDWR | O_CLOEXEC);
	if (device < 0)
		err(1, "/dev/klp_gate");
	stop_prepare();
	make_ring(&ring);
	submit_read(&ring, device, data, sizeof(data), gate * GATE_SIZE);
	print("submitted", gate);
	print("completed", await_completion(&ring));
	while (!stop_wait(now_us() + SECOND_US))
		;
	return 0;
}
