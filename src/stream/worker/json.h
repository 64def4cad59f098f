/*
 * json.h
 *	  A JSON message as it is read: where the reader stands, and its steps.
 *
 * The message is valid UTF-8.  A step moves p behind what it read; false: the
 * fault says why.
 */
#ifndef MILLRACE_STREAM_JSON_H
#define MILLRACE_STREAM_JSON_H

#include <string.h>

#include "stream/worker/format.h"
#include "stream/worker/scalar.h"

typedef struct kfk_json
{
	const kfk_decoder *decoder;
	const char *start;
	const char *p;
	const char *end;
	kfk_fault  *fault;
} kfk_json;

/* Not what was expected at p: always false. */
extern bool kfk_json_syntax(kfk_json *ps, const char *expected) __attribute__((cold));

/*
 * The string at p (which is its opening quote): content as it stands, without
 * the quotes, and whether it has escapes.  Escapes are checked by
 * kfk_json_unescape().
 */
extern bool kfk_json_scan(kfk_json *ps, const char **content, size_t *len, bool *escaped);

/*
 * Copy a string's content, resolving escapes, to out (which holds len bytes);
 * out NULL: only check it.  The text is never longer than its escaped form.
 */
extern bool kfk_json_unescape(kfk_json *ps, const char *p, size_t len, char *out, size_t *out_len);

/* The string at p as zero-terminated text in the arena, reserve bytes in. */
extern bool kfk_json_string(kfk_json *ps, size_t reserve, char **data, size_t *len);

/* Pass over any value, checking it wholly: a bit per level, no recursion. */
extern bool kfk_json_skip(kfk_json *ps);

/* Any value as it stands in the message, zero-terminated in the arena. */
extern bool kfk_json_raw(kfk_json *ps, size_t reserve, char **data, size_t *len);

static inline void
kfk_json_space(kfk_json *ps)
{
	while (ps->p < ps->end && (*ps->p == ' ' || *ps->p == '\n' || *ps->p == '\t' || *ps->p == '\r'))
		ps->p++;
}

/* The word at p, if it is this one. */
static inline bool
kfk_json_word(kfk_json *ps, const char *text, size_t len)
{
	if ((size_t) (ps->end - ps->p) < len || memcmp(ps->p, text, len) != 0)
		return false;
	ps->p += len;
	return true;
}

#endif							/* MILLRACE_STREAM_JSON_H */
