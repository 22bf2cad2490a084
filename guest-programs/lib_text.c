// SPDX-License-Identifier: GPL-2.0-only

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib_text.h"

#define TEXT_LEAST	4096

void text_reserve(struct text *text, size_t more)
{
	size_t room = text->room ? text->room : TEXT_LEAST;
	char *data;

	if (text->len + more <= text->room)
		return;
	while (room < text->len + more)
		room *= 2;
	data = realloc(text->data, room);
	if (!data) {
		fprintf(stderr, "out of memory for %zu bytes\n", room);
		exit(1);
	}
	text->data = data;
	text->room = room;
}

void text_put(struct text *text, const char *data, size_t len)
{
	if (!len)
		return;
	text_reserve(text, len);
	memcpy(text->data + text->len, data, len);
	text->len += len;
}

static void text_char(struct text *text, char c)
{
	text_put(text, &c, 1);
}

void text_drop(struct text *text, size_t len)
{
	text->len -= len;
	if (text->len)
		memmove(text->data, text->data + len, text->len);
}

void text_free(struct text *text)
{
	free(text->data);
	*text = (struct text){};
}

/* Adds a comma, unless this is the first in its bracket or line, or a value after its key. */
static void json_separate(struct text *json)
{
	if (json->len && !strchr("{[:\n", json->data[json->len - 1]))
		text_char(json, ',');
}

void json_begin(struct text *json, char bracket)
{
	json_separate(json);
	text_char(json, bracket);
}

void json_end(struct text *json, char bracket)
{
	text_char(json, bracket);
}

void json_end_line(struct text *json)
{
	text_put(json, "}\n", 2);
}

/* Returns the length of the UTF-8 sequence at @at, 0 when it is invalid (Unicode 15, table 3-7). */
static size_t utf8_length(const unsigned char *at, size_t left)
{
	unsigned char least = 0x80, most = 0xbf;
	size_t len, i;

	if (at[0] < 0x80)
		return 1;
	if (at[0] < 0xc2 || at[0] > 0xf4)
		return 0;
	len = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
	if (left < len)
		return 0;
	if (at[0] == 0xe0)
		least = 0xa0;
	else if (at[0] == 0xed)
		most = 0x9f;
	else if (at[0] == 0xf0)
		least = 0x90;
	else if (at[0] == 0xf4)
		most = 0x8f;
	if (at[1] < least || at[1] > most)
		return 0;
	for (i = 2; i < len; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

static bool json_is_plain(unsigned char c)
{
	return c >= ' ' && c < 0x80 && c != '"' && c != '\\';
}

/* The value of a JSON string: @len bytes, quoted. */
static void json_quote(struct text *json, const char *data, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *at = (const unsigned char *)data;
	size_t i = 0, plain;

	json_separate(json);
	text_char(json, '"');
	while (i < len) {
		plain = i;
		while (plain < len && json_is_plain(at[plain]))
			plain++;
		text_put(json, data + i, plain - i);
		i = plain;
		if (i == len)
			break;
		plain = at[i] >= 0x80 ? utf8_length(at + i, len - i) : 0;
		if (plain) {
			text_put(json, data + i, plain);
			i += plain;
			continue;
		}
		if (at[i] == '"' || at[i] == '\\') {
			char escape[] = { '\\', data[i] };

			text_put(json, escape, sizeof(escape));
		} else if (at[i] == '\n') {
			text_put(json, "\\n", 2);
		} else {
			char escape[] = { '\\', 'u', '0', '0', hex[at[i] >> 4], hex[at[i] & 15] };

			text_put(json, escape, sizeof(escape));
		}
		i++;
	}
	text_char(json, '"');
}

void json_key(struct text *json, const char *key)
{
	json_quote(json, key, strlen(key));
	text_char(json, ':');
}

/* With printf() a list of tasks would take twice as long. */
char *number_before(char *end, long long value)
{
	unsigned long long rest = value;

	if (value < 0)
		rest = -rest;
	do {
		*--end = '0' + rest % 10;
		rest /= 10;
	} while (rest);
	if (value < 0)
		*--end = '-';
	return end;
}

void json_number(struct text *json, long long value)
{
	char digits[24], *end = digits + sizeof(digits), *at = number_before(end, value);

	json_separate(json);
	text_put(json, at, end - at);
}

void json_add_number(struct text *json, const char *key, long long value)
{
	json_key(json, key);
	json_number(json, value);
}

void json_add_text(struct text *json, const char *key, const char *data, size_t len)
{
	json_key(json, key);
	json_quote(json, data, len);
}

void json_add_string(struct text *json, const char *key, const char *string)
{
	json_add_text(json, key, string, strlen(string));
}

void json_add_bool(struct text *json, const char *key, bool value)
{
	json_key(json, key);
	text_put(json, value ? "true" : "false", value ? 4 : 5);
}

void json_add_null(struct text *json, const char *key)
{
	json_key(json, key);
	text_put(json, "null", 4);
}
