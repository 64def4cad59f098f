/*
 * decode.h
 *	  What a message's decoder is told and gives: typed column values.  Knows no
 *	  PostgreSQL.  The formats are in format.h, JSON is decode.c.
 *
 * The caller lists the fields it wants (key and kind) and gets one value
 * per field.  Scalars of the fixed kinds come ready; whatever is better left to
 * a type's own input function comes as text.  Memory comes from an arena that
 * the caller empties between batches; texts and arrays leave room for
 * PostgreSQL's headers before their first byte, so that no copy is needed.
 */
#ifndef MILLRACE_STREAM_DECODE_H
#define MILLRACE_STREAM_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/utf8.h"

#define KFK_TEXT_RESERVE 4		/* bytes free before text and bytea data: a varlena header */
#define KFK_ARRAY_RESERVE 24	/* before array elements: the header of a one-dimensional array */
#define KFK_MAX_DEPTH 256		/* nesting of a message */

typedef enum kfk_kind
{
	KFK_TEXT,					/* any type through its input function; text itself */
	KFK_INT2,
	KFK_INT4,
	KFK_INT8,
	KFK_FLOAT4,
	KFK_FLOAT8,
	KFK_BOOL,
	KFK_TIMESTAMPTZ,			/* microseconds since 2000-01-01 UTC */
	KFK_BYTEA,					/* from base64 */
	KFK_JSON,					/* the value as it stands in the message */
	KFK_FLOAT4_ARRAY,
	KFK_FLOAT8_ARRAY,
	KFK_INT4_ARRAY,
	KFK_INT8_ARRAY,
	KFK_TEXT_ARRAY				/* elements as slices, for text[] and every other array type */
} kfk_kind;

typedef enum kfk_state
{
	KFK_ABSENT,					/* no such key in the message */
	KFK_NULL,					/* JSON null */
	KFK_SET,					/* of the field's kind */
	KFK_AS_TEXT					/* data is text for the type's input function */
} kfk_state;

typedef struct kfk_slice
{
	const char *data;			/* NULL: a null element; else zero-terminated */
	size_t		len;
} kfk_slice;

typedef struct kfk_value
{
	kfk_state	state;
	bool		has_nulls;		/* of a numeric array: see nulls */
	size_t		len;			/* bytes, or elements of an array */
	union
	{
		bool		boolean;
		int64_t		integer;
		float		float4;
		double		float8;
		char	   *data;		/* text (zero-terminated), bytes or elements; KFK_..._RESERVE bytes before it are free */
		kfk_slice  *slices;		/* KFK_TEXT_ARRAY */
	}			v;
	bool	   *nulls;			/* which elements are null, if has_nulls */
} kfk_value;

typedef struct kfk_field
{
	const char *key;
	size_t		key_len;
	kfk_kind	kind;
} kfk_field;

/* Memory in big pieces; more() returns NULL when there is none. */
typedef struct kfk_arena
{
	char	   *next;
	char	   *end;
	void	   *(*more) (void *arg, size_t bytes);
	void	   *arg;
} kfk_arena;

/* 8-byte aligned, not zeroed; NULL when memory is exhausted. */
extern void *kfk_take(kfk_arena *arena, size_t bytes);

/* Why a message is no row. */
typedef struct kfk_fault
{
	char		sqlstate[6];
	char		message[256];	/* valid UTF-8 */
} kfk_fault;

/* What a format may be told. */
typedef struct kfk_format_options
{
	bool		array_rows;		/* json: an array of objects is as many rows */
	bool		header;			/* csv: the first line of a message names its fields */
	char		delimiter;		/* csv */
	char		quote;			/* csv; '\0': there are no quotes */
	const char *null_text;		/* csv: NULL, where it stands without quotes */
	size_t		null_len;
} kfk_format_options;

typedef struct kfk_decoder
{
	const kfk_field *fields;
	int			n_fields;
	bool		refuse_unknown; /* a key that is no field is a fault */
	kfk_arena  *arena;
	const kfk_format_options *options;
	const int  *positions;		/* csv without header: the field at each place of a line, -1: none */
	int			n_positions;
	bool		whole;			/* avro: the value is the first field, whatever it holds */
	const struct kfk_avro *(*schema) (void *arg, uint32_t id);	/* avro: the schema of this id, or NULL */
	void	   *schema_arg;
} kfk_decoder;

/*
 * A format decodes a row into values[n_fields], or says in the fault why there
 * is none; values are undefined then.  A JSON key that occurs twice counts with
 * its last value, as in jsonb.  SQLSTATEs: 22P02 syntax or a value of the wrong
 * kind, 22P04 syntax of CSV, 22021 not UTF-8, 22P05 \u0000, 22003 number out of
 * range, 22023 unknown key, 54001 nested too deeply, 53200 out of memory (no
 * fault of the message), 42704 an Avro schema that is not known (nor that),
 * 54000 what a few bytes claim to hold.
 */

/* CRC-32C (Castagnoli) of data, going on from crc (0 at first). */
extern uint32_t kfk_crc32c(uint32_t crc, const void *data, size_t len);

#endif							/* MILLRACE_STREAM_DECODE_H */
