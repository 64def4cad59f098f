/*
 * avro_text.h
 *	  Avro values as text: JSON, or what a type's input function reads.
 */
#ifndef MILLRACE_STREAM_AVRO_TEXT_H
#define MILLRACE_STREAM_AVRO_TEXT_H

#include "stream/worker/avro.h"

/* A text that grows in an arena; KFK_TEXT_RESERVE bytes before it and one behind it are free. */
typedef struct avro_text
{
	kfk_arena  *arena;
	char	   *data;
	size_t		len;
	size_t		room;
	bool		failed;			/* no memory, or too_large; what was put since is lost */
	bool		too_large;
} avro_text;

extern bool avro_begin(avro_text *out, kfk_arena *arena);
extern void avro_put(avro_text *out, const char *data, size_t len);
extern void avro_put_key(avro_text *out, const char *name, size_t len, bool first);

/*
 * A single value; json: as JSON has it, texts in quotes.  Bytes become base64,
 * decimals numbers, dates and times ISO 8601.  False if there is no such text:
 * a decimal of too many digits, a time out of range.
 */
extern bool avro_put_bytes(avro_text *out, const avro_node *node, const uint8_t *data, size_t len, bool json);
extern bool avro_put_scalar(avro_text *out, const avro_node *node, int64_t integer, double real, bool json);

/* Microseconds since 2000-01-01 UTC of a long with this meaning; false if it has another or is out of PostgreSQL's range. */
extern bool avro_timestamp(avro_logical logical, int64_t value, int64_t *micros);

#endif							/* MILLRACE_STREAM_AVRO_TEXT_H */
