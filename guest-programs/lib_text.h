/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A text buffer that grows, and JSON written into it. Bytes that are not valid
 * UTF-8 become \u00XX, so the output is valid JSON whatever a file or a name
 * contains.
 */

#ifndef LIB_TEXT_H
#define LIB_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct text {
	char *data;
	size_t len;
	size_t room;
};

/* Makes room for @more bytes after the end. Exits when there is no memory. */
void text_reserve(struct text *text, size_t more);
void text_put(struct text *text, const char *data, size_t len);
/* Removes @len bytes from the front. */
void text_drop(struct text *text, size_t len);
void text_free(struct text *text);

/* Commas are added where they are needed. */
void json_begin(struct text *json, char bracket);
void json_end(struct text *json, char bracket);
void json_end_line(struct text *json);
void json_key(struct text *json, const char *key);
void json_number(struct text *json, long long value);
void json_add_number(struct text *json, const char *key, long long value);
void json_add_text(struct text *json, const char *key, const char *data, size_t len);
void json_add_string(struct text *json, const char *key, const char *string);
void json_add_bool(struct text *json, const char *key, bool value);
void json_add_null(struct text *json, const char *key);

/* Writes a decimal number so that it ends before @end; returns where it begins. */
char *number_before(char *end, long long value);

#endif /* LIB_TEXT_H */
