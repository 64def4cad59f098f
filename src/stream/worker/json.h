/*
 * json.h
 *	  A JSON message as it is read: core/json.h, with the decoder's memory and faults.
 *
 * The message is valid UTF-8.  A step moves in.p behind what it read; false: the
 * fault says why.
 */
#ifndef MILLRACE_STREAM_JSON_H
#define MILLRACE_STREAM_JSON_H

#include "core/json.h"
#include "stream/worker/format.h"
#include "stream/worker/scalar.h"

typedef struct kfk_json
{
	mr_json		in;				/* its status is set while a step of core/json.h runs */
	const kfk_decoder *decoder;
	kfk_fault  *fault;
} kfk_json;

/* As in core/json.h. */
extern bool kfk_json_syntax(kfk_json *ps, const char *expected) __attribute__((cold));
extern bool kfk_json_scan(kfk_json *ps, const char **content, size_t *len, bool *escaped);
extern bool kfk_json_unescape(kfk_json *ps, const char *p, size_t len, char *out, size_t *out_len);
extern bool kfk_json_skip(kfk_json *ps);

/* The string at p as zero-terminated text in the arena, reserve bytes in. */
extern bool kfk_json_string(kfk_json *ps, size_t reserve, char **data, size_t *len);

/* Any value as it stands in the message, zero-terminated in the arena. */
extern bool kfk_json_raw(kfk_json *ps, size_t reserve, char **data, size_t *len);

#endif							/* MILLRACE_STREAM_JSON_H */
