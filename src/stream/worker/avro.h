/*
 * avro.h
 *	  Avro (specification 1.11): a schema parsed from its JSON, and its values.
 *
 * Our own decoder, in place of libavro: there (1.11) a single byte that claims a
 * negative length makes it ask for 2^64 bytes, what was read before a fault
 * leaks, and neither depth nor number of nested values is bounded.  Here bytes
 * go straight into columns, and depth, items and output have limits.
 */
#ifndef MILLRACE_STREAM_AVRO_H
#define MILLRACE_STREAM_AVRO_H

#include "stream/worker/decode.h"

#define KFK_AVRO_MAX_SCHEMA 1048576 /* bytes of a schema's text */

typedef enum avro_type
{
	AVRO_NULL,
	AVRO_BOOLEAN,
	AVRO_INT,
	AVRO_LONG,
	AVRO_FLOAT,
	AVRO_DOUBLE,
	AVRO_BYTES,
	AVRO_STRING,
	AVRO_RECORD,
	AVRO_ENUM,
	AVRO_ARRAY,
	AVRO_MAP,
	AVRO_UNION,
	AVRO_FIXED
} avro_type;

typedef enum avro_logical
{
	AVRO_PLAIN,
	AVRO_DECIMAL,
	AVRO_UUID,
	AVRO_DATE,
	AVRO_TIME_MILLIS,
	AVRO_TIME_MICROS,
	AVRO_TIMESTAMP_MILLIS,
	AVRO_TIMESTAMP_MICROS,
	AVRO_LOCAL_MILLIS,
	AVRO_LOCAL_MICROS,
	AVRO_DURATION
} avro_logical;

typedef struct avro_name
{
	const char *text;
	size_t		len;
} avro_name;

/* A type of a schema.  Types refer to each other by number, and may do so in a circle. */
typedef struct avro_node
{
	avro_type	type;
	avro_logical logical;
	int			scale;			/* of a decimal */
	size_t		size;			/* of a fixed */
	int			n;				/* fields, symbols or branches */
	int		   *of;				/* their types; of[0] that of an array's items or a map's values */
	avro_name  *names;			/* of fields and symbols */
	avro_name	name;			/* of the type itself, with its namespace */
} avro_node;

typedef struct kfk_avro
{
	avro_node  *nodes;
	int			root;
} kfk_avro;

/*
 * Parse a schema; it refers to the text, and both live as long as the arena's
 * memory.  NULL with the reason in fault (22023, or 53200) if it is none.
 */
extern const kfk_avro *kfk_avro_parse(const char *text, size_t len, kfk_arena *arena, kfk_fault *fault);

/*
 * One value of the schema from data into values[decoder->n_fields]: a record's
 * fields by their names, any other type as the field "value".
 */
extern bool kfk_avro_decode(const kfk_avro *schema, const kfk_decoder *decoder, const uint8_t *data, size_t len,
							kfk_value *values, kfk_fault *fault);

#define KFK_AVRO_HEADER 5

/* The schema's id in Confluent's wire format (a zero, four bytes of id); false if the message has another. */
static inline bool
kfk_avro_id(const void *data, size_t len, uint32_t *id)
{
	const uint8_t *b = data;

	if (len < KFK_AVRO_HEADER || b[0] != 0)
		return false;
	*id = (uint32_t) b[1] << 24 | (uint32_t) b[2] << 16 | (uint32_t) b[3] << 8 | b[4];
	return true;
}

#endif							/* MILLRACE_STREAM_AVRO_H */
