// SPDX-License-Identifier: GPL-2.0-only

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent_files.h"
#include "agent_output.h"
#include "agent_pause.h"
#include "lib_common.h"

#define READ_LEAST	4096	/* a page, which a file of sysfs has at most */
#define READ_DEFAULT	(1024 * 1024)
#define READ_MAX	(64 * 1024 * 1024)
#define PERMISSIONS	07777
#define DIRECTORY_MODE	0755
#define FILE_MODE	0644

/* Appends a file's content; returns a negative errno. */
static int read_file(const char *path, size_t most, struct text *into, bool *truncated)
{
	size_t want, start = into->len;
	int ret = 0;
	ssize_t len;
	int fd;

	*truncated = false;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	for (;;) {
		/* Half of it is for the read that finds the end. */
		text_reserve(into, into->len ? READ_LEAST : 2 * READ_LEAST);
		want = most + 1 - (into->len - start);
		if (want > into->room - into->len)
			want = into->room - into->len;
		len = read(fd, into->data + into->len, want);
		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			ret = -errno;
		if (len <= 0)
			break;
		into->len += len;
		if (into->len - start > most) {
			into->len = start + most;
			*truncated = true;
			break;
		}
	}
	close(fd);
	return ret;
}

int job_read(const struct request *request, struct text *reply)
{
	long long most = READ_DEFAULT;
	struct text text = {};
	bool truncated;
	int error;

	if (request->argc > 1 && !parse_number(request->args[1].text, READ_MAX, &most))
		return output_invalid(reply, "MAX_BYTES is not a number up to 64 MiB");
	error = read_file(request->args[0].text, most, &text, &truncated);
	if (!error) {
		json_add_text(reply, "text", text.data, text.len);
		json_add_bool(reply, "truncated", truncated);
	}
	text_free(&text);
	return error;
}

/* Neither creates a file nor writes twice: the reply is the kernel's result of this one write. */
int job_write(const struct request *request, struct text *reply)
{
	const struct argument *text = &request->args[1];
	ssize_t len;
	int ret = 0;
	int fd;

	fd = open(request->args[0].text, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	len = write(fd, text->text, text->len);
	if (len < 0) {
		ret = -errno;
	} else if ((size_t)len < text->len) {
		json_add_string(reply, "error", "only a part was written");
		ret = -EIO;
	}
	if (len >= 0)
		json_add_number(reply, "written", len);
	if (close(fd) < 0 && !ret)
		ret = -errno;
	return ret;
}

/* Makes the directories above @path; returns a negative errno. */
static int make_directories(char *path)
{
	char *slash;

	for (slash = path; (slash = strchr(slash + 1, '/'));) {
		*slash = '\0';
		if (mkdir(path, DIRECTORY_MODE) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return 0;
}

int job_create(const struct request *request, struct text *reply)
{
	const struct argument *text = &request->args[1];
	char *path = request->args[0].text;
	int ret;
	int fd;

	ret = make_directories(path);
	if (ret)
		return ret;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, FILE_MODE);
	if (fd < 0)
		return -errno;
	ret = write_all(fd, text->text, text->len);
	if (close(fd) < 0 && !ret)
		ret = -errno;
	if (!ret)
		json_add_number(reply, "written", text->len);
	return ret;
}

static const char *type_of(mode_t mode)
{
	if (S_ISDIR(mode))
		return "dir";
	if (S_ISREG(mode))
		return "file";
	return S_ISLNK(mode) ? "link" : "other";
}

int job_list(const struct request *request, struct text *reply)
{
	struct dirent *entry;
	struct stat status;
	int ret;
	DIR *dir;

	dir = opendir(request->args[0].text);
	if (!dir)
		return -errno;
	json_key(reply, "entries");
	json_begin(reply, '[');
	while (errno = 0, (entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		/* It may have been removed meanwhile. */
		if (fstatat(dirfd(dir), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		json_begin(reply, '{');
		json_add_string(reply, "name", entry->d_name);
		json_add_string(reply, "type", type_of(status.st_mode));
		json_add_number(reply, "mode", status.st_mode & PERMISSIONS);
		json_end(reply, '}');
	}
	ret = -errno;
	json_end(reply, ']');
	closedir(dir);
	return ret;
}

int job_stat(const struct request *request, struct text *reply)
{
	struct stat status;

	if (lstat(request->args[0].text, &status) < 0)
		return -errno;
	json_add_string(reply, "type", type_of(status.st_mode));
	json_add_number(reply, "mode", status.st_mode & PERMISSIONS);
	json_add_number(reply, "size", status.st_size);
	return 0;
}

int job_stack(const struct request *request, struct text *reply)
{
	struct text text = {};
	bool truncated;
	char path[64];
	long long tid;
	int error;

	if (!parse_number(request->args[0].text, INT_MAX, &tid))
		return output_invalid(reply, "TID is not a number");
	snprintf(path, sizeof(path), "/proc/%lld/stack", tid);
	error = read_file(path, READ_DEFAULT, &text, &truncated);
	if (!error)
		json_add_text(reply, "text", text.data, text.len);
	text_free(&text);
	return error;
}

enum poll_op { OP_EQUALS, OP_DIFFERS, OP_CONTAINS, OP_ABSENT, OP_PRESENT, OPS };

static const char * const op_names[OPS] = {
	[OP_EQUALS] = "equals",
	[OP_DIFFERS] = "differs",
	[OP_CONTAINS] = "contains",
	[OP_ABSENT] = "absent",
	[OP_PRESENT] = "present",
};

/* A file that is being removed: sysfs says ENODEV, /proc says ESRCH. */
static bool is_absence(int error)
{
	return error == -ENOENT || error == -ENODEV || error == -ESRCH || error == -ENOTDIR;
}

/* Checks once. Returns a negative errno when waiting is of no use; absence is not an error. */
static int poll_once(const char *path, enum poll_op op, bool *present, struct text *text)
{
	struct stat status;
	bool truncated;
	int error;

	text->len = 0;
	if (op == OP_ABSENT || op == OP_PRESENT) {
		error = stat(path, &status) < 0 ? -errno : 0;
	} else {
		error = read_file(path, READ_DEFAULT, text, &truncated);
		if (text->len && text->data[text->len - 1] == '\n')
			text->len--;
	}
	*present = !error;
	return is_absence(error) ? 0 : error;
}

static bool poll_met(enum poll_op op, const struct argument *value, bool present,
		     const struct text *text)
{
	bool equal = present && text->len == value->len &&
		     !memcmp(text->data ? text->data : "", value->text, value->len);

	switch (op) {
	case OP_EQUALS:
		return equal;
	case OP_DIFFERS:
		return !equal;
	case OP_CONTAINS:
		return present && memmem(text->data ? text->data : "", text->len, value->text,
					 value->len);
	case OP_ABSENT:
		return !present;
	default:
		return present;
	}
}

int job_poll_file(const struct request *request, struct text *reply)
{
	const char *path = request->args[0].text;
	long long timeout_ms, interval_ms;
	struct text text = {};
	struct pause pause;
	enum poll_op op;
	bool present;
	bool met;
	int error;

	for (op = 0; op < OPS; op++)
		if (!strcmp(request->args[1].text, op_names[op]))
			break;
	if (op == OPS)
		return output_invalid(reply, "OP is unknown; see guest-programs/README.md");
	if (!parse_number(request->args[3].text, AGENT_POLL_MAX_MS, &timeout_ms))
		return output_invalid(reply, "TIMEOUT_MS is not a number up to a week");
	if (!parse_number(request->args[4].text, AGENT_POLL_MAX_MS, &interval_ms) || !interval_ms)
		return output_invalid(reply, "INTERVAL_MS is not a number from 1 up to a week");

	pause = pause_begin(timeout_ms, interval_ms);
	for (;;) {
		error = poll_once(path, op, &present, &text);
		if (error) {
			text_free(&text);
			return error;
		}
		met = poll_met(op, &request->args[2], present, &text);
		if (met || pause_over(&pause))
			break;
		pause_wait(&pause);
	}
	if (present && op != OP_PRESENT && op != OP_ABSENT)
		json_add_text(reply, "text", text.data, text.len);
	else
		json_add_null(reply, "text");
	json_add_number(reply, "waited_ms", pause_waited_ms(&pause));
	text_free(&text);
	return met ? 0 : -ETIMEDOUT;
}

int job_insmod(const struct request *request, struct text *reply)
{
	int fd = open(request->args[0].text, O_RDONLY | O_CLOEXEC);
	int ret = 0;

	(void)reply;
	if (fd < 0)
		return -errno;
	if (syscall(SYS_finit_module, fd, request->args[1].text, 0) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

int job_rmmod(const struct request *request, struct text *reply)
{
	(void)reply;
	return syscall(SYS_delete_module, request->args[0].text, O_NONBLOCK) < 0 ? -errno : 0;
}
