// SPDX-License-Identifier: GPL-2.0-only
/*
 * A request line is "ID VERB ARGUMENT ...", where an argument has every byte
 * outside [A-Za-z0-9._~/-] as %XX, and an empty one is a lone "%".
 */

#include <stdio.h>
#include <string.h>

#include "agent_request.h"

#define ID_DIGITS	18	/* any such number fits a long long */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == '~' || c == '/' || c == '-';
}

static const char *decode(struct argument *argument, char *field, size_t len)
{
	char *to = field;
	size_t i = 0;

	argument->text = field;
	if (len == 1 && *field == '%')
		i = len;
	while (i < len) {
		if (is_plain(field[i])) {
			*to++ = field[i++];
			continue;
		}
		if (field[i] != '%')
			return "a byte that has to be percent-encoded is not";
		if (len - i < 3 || hex_digit(field[i + 1]) < 0 || hex_digit(field[i + 2]) < 0)
			return "a percent sign without two hexadecimal digits";
		*to++ = hex_digit(field[i + 1]) << 4 | hex_digit(field[i + 2]);
		i += 3;
	}
	/* At the latest where the blank was. */
	*to = '\0';
	argument->len = to - field;
	return NULL;
}

/* Returns what is wrong, or NULL and where the verb begins. */
static const char *read_id(const char *line, size_t len, long long *id, size_t *verb)
{
	size_t i;

	*id = 0;
	for (i = 0; i < len && line[i] >= '0' && line[i] <= '9'; i++) {
		if (i == ID_DIGITS) {
			*id = 0;
			return "the number of the request is too long";
		}
		*id = *id * 10 + line[i] - '0';
	}
	if (!i || (i < len && line[i] != ' ')) {
		*id = 0;
		return "the line does not begin with a number and a blank";
	}
	*verb = i < len ? i + 1 : len;
	return NULL;
}

bool request_peek(const char *line, size_t len, long long *id, const char **verb, size_t *verb_len)
{
	const char *blank;
	size_t from;

	if (read_id(line, len, id, &from))
		return false;
	*verb = line + from;
	blank = memchr(*verb, ' ', len - from);
	*verb_len = blank ? (size_t)(blank - *verb) : len - from;
	return true;
}

const char *request_parse(struct request *request, char *line, size_t len)
{
	const char *wrong;
	char *blank;
	size_t i;

	request->verb = "";
	request->argc = 0;
	wrong = read_id(line, len, &request->id, &i);
	if (wrong)
		return wrong;
	line += i;
	len -= i;

	blank = memchr(line, ' ', len);
	i = blank ? (size_t)(blank - line) : len;
	if (!i)
		return "no verb";
	if (memchr(line, '\0', i))
		return "a zero byte in the verb";
	line[i] = '\0';
	request->verb = line;
	while (blank) {
		line += i + 1;
		len -= i + 1;
		blank = memchr(line, ' ', len);
		i = blank ? (size_t)(blank - line) : len;
		if (!i)
			return "an empty field: an empty argument is written as %";
		if (request->argc == AGENT_ARGS_MAX)
			return "too many arguments";
		wrong = decode(&request->args[request->argc++], line, i);
		if (wrong)
			return wrong;
	}
	return NULL;
}

const char *request_check(const struct request *request, const struct verb *verb)
{
	static char wrong[128];
	unsigned int i;

	if (request->argc < verb->least || request->argc > verb->most) {
		snprintf(wrong, sizeof(wrong), "wrong number of arguments: %s", verb->usage);
		return wrong;
	}
	for (i = 0; i < request->argc; i++)
		if ((int)i != verb->binary && strlen(request->args[i].text) != request->args[i].len)
			return "a zero byte in an argument";
	return NULL;
}
