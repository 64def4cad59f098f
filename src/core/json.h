/*
 * json.h
 *	  A JSON text (RFC 8259) as it is read: where the reader stands, and its steps.
 *
 * The text is valid UTF-8.  A step moves p behind what it read; false: the
 * status says why and where.  Nothing is allocated; nothing recurses.
 */
#ifndef MILLRACE_JSON_H
#define MILLRACE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/status.h"

#define MR_JSON_DEPTH 256		/* levels of nesting */

typedef struct mr_json
{
	const char *start;
	const char *p;
	const char *end;
	mr_status  *st;
} mr_json;

/* Not what was expected at p: always false. */
extern bool mr_json_syntax(mr_json *js, const char *expected) __attribute__((cold));

/*
 * The string at p: content as it stands, without the quotes, and whether it has
 * escapes.  Escapes are checked by mr_json_unescape().
 */
extern bool mr_json_string(mr_json *js, const char **content, size_t *len, bool *escaped);

/*
 * Copy a string's content, resolving escapes, to out (which holds len bytes);
 * out NULL: only check it.  The text is never longer than its escaped form.
 */
extern bool mr_json_unescape(mr_json *js, const char *p, size_t len, char *out, size_t *out_len);

/* The string at p, zero-terminated; cut to what out holds. */
extern bool mr_json_text(mr_json *js, char *out, size_t size);

extern bool mr_json_number(mr_json *js, double *out);
extern bool mr_json_bool(mr_json *js, bool *out);	/* null is false */

/* Is null at p?  Then it is passed over. */
extern bool mr_json_null(mr_json *js);

/* Pass over any value, checking it wholly: a bit per level. */
extern bool mr_json_skip(mr_json *js);

/* The opening bracket of an object or array. */
extern bool mr_json_open(mr_json *js, char bracket);

/*
 * Step to the next member of what opened with bracket, n being those before it:
 * 1: p is at it, 0: the end was passed, -1: neither.
 */
extern int	mr_json_next(mr_json *js, char bracket, int *n);

/* As mr_json_next() for an object: its key, cut to size, and p at the value. */
extern int	mr_json_key(mr_json *js, int *n, char *key, size_t size);

static inline void
mr_json_space(mr_json *js)
{
	while (js->p < js->end && (*js->p == ' ' || *js->p == '\n' || *js->p == '\t' || *js->p == '\r'))
		js->p++;
}

/* The character at p, after space; 0 at the end. */
static inline char
mr_json_peek(mr_json *js)
{
	mr_json_space(js);
	return js->p < js->end ? *js->p : '\0';
}

/* The word at p, if it is this one. */
static inline bool
mr_json_word(mr_json *js, const char *word, size_t len)
{
	if ((size_t) (js->end - js->p) < len || memcmp(js->p, word, len) != 0)
		return false;
	js->p += len;
	return true;
}

#endif							/* MILLRACE_JSON_H */
