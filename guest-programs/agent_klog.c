// SPDX-License-Identifier: GPL-2.0-only

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent_klog.h"
#include "agent_output.h"
#include "lib_common.h"

#define RECORD_MOST	16384	/* above CONSOLE_EXT_LOG_MAX of every kernel */
#define LEVEL_MASK	7

/* Shared with all children. If one dies while it reads, this stays busy: others open the file. */
static struct {
	int busy;
	long long next;		/* sequence number that the shared descriptor reads next */
} *shared;

int klog_share(void)
{
	static int fd = -1;

	if (shared)
		return fd;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		shared = NULL;
	else
		fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return fd;
}

static bool share_take(long long since)
{
	int free = 0;

	if (!shared || fcntl(KLOG_CHILD_FD, F_GETFD) < 0)
		return false;
	if (!__atomic_compare_exchange_n(&shared->busy, &free, 1, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		return false;
	if (shared->next <= since)
		return true;
	__atomic_store_n(&shared->busy, 0, __ATOMIC_RELEASE);
	return false;
}

static void share_return(long long next)
{
	shared->next = next;
	__atomic_store_n(&shared->busy, 0, __ATOMIC_RELEASE);
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Undoes the \xXX that the kernel writes for control characters, backslashes and non-ASCII. */
static size_t unescape(char *text, size_t len)
{
	size_t from = 0, to = 0;

	while (from < len) {
		if (len - from >= 4 && text[from] == '\\' && text[from + 1] == 'x' &&
		    hex_value(text[from + 2]) >= 0 && hex_value(text[from + 3]) >= 0) {
			text[to++] = hex_value(text[from + 2]) << 4 | hex_value(text[from + 3]);
			from += 4;
		} else {
			text[to++] = text[from++];
		}
	}
	return to;
}

/*
 * A record is "PREFIX,SEQUENCE,MICROSECONDS,FLAGS[,...];TEXT\n" and dictionary
 * lines, which begin with a blank. Returns the sequence number, and adds the
 * record to the reply when it is not older than @since.
 */
static long long add_record(struct text *reply, char *record, size_t len, long long since)
{
	long long prefix, seq, us;
	char *text, *end;

	record[len] = '\0';
	text = strchr(record, ';');
	prefix = strtoll(record, &end, 10);
	if (!text || *end != ',')
		return -1;
	seq = strtoll(end + 1, &end, 10);
	if (*end != ',')
		return -1;
	us = strtoll(end + 1, &end, 10);
	if (*end != ',' && *end != ';')
		return -1;
	if (seq < since)
		return seq;

	text++;
	end = strchr(text, '\n');
	len = unescape(text, end ? (size_t)(end - text) : strlen(text));
	json_begin(reply, '{');
	json_add_number(reply, "seq", seq);
	json_add_number(reply, "us", us);
	json_add_number(reply, "level", prefix & LEVEL_MASK);
	json_add_text(reply, "text", text, len);
	json_end(reply, '}');
	return seq;
}

int job_klog(const struct request *request, struct text *reply)
{
	long long since, next = 0, seq, wanted, lost = 0;
	static char record[RECORD_MOST];
	int fd = KLOG_CHILD_FD;
	int ret = 0;
	bool borrowed;
	ssize_t len;

	if (!parse_number(request->args[0].text, LLONG_MAX, &since))
		return output_invalid(reply, "SINCE_SEQ is no number");
	borrowed = share_take(since);
	if (borrowed) {
		next = shared->next;
	} else {
		fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			return -errno;
	}

	wanted = since;
	json_key(reply, "records");
	json_begin(reply, '[');
	for (;;) {
		len = read(fd, record, sizeof(record) - 1);
		/* EPIPE: records were overwritten; the next read returns the oldest one. */
		if (len < 0 && (errno == EPIPE || errno == EINTR))
			continue;
		if (len < 0 && errno != EAGAIN)
			ret = -errno;
		if (len <= 0)
			break;
		seq = add_record(reply, record, len, since);
		if (seq < 0) {
			ret = -EPROTO;
			break;
		}
		next = seq + 1;
		if (seq >= wanted) {
			lost += seq - wanted;
			wanted = next;
		}
	}
	json_end(reply, ']');
	if (borrowed)
		share_return(next);
	else
		close(fd);
	json_add_number(reply, "next", next);
	json_add_number(reply, "lost", lost);
	return ret;
}
