/*
 * format.h
 *	  The formats a message may have, each a struct with its function.
 *
 * A format reads a message row by row: most messages are one, a CSV message may
 * have many lines, a JSON message may be an array.  Pure: memory from the
 * decoder's arena only, nothing kept but in the reader.  A format of yours: its
 * next() in a file of its own, its struct in the table of format.c.
 */
#ifndef MILLRACE_STREAM_FORMAT_H
#define MILLRACE_STREAM_FORMAT_H

#include "stream/worker/decode.h"

typedef enum kfk_step
{
	KFK_ROW,					/* values are those of the next row */
	KFK_DONE,					/* there is none */
	KFK_FAULT					/* the message is none of the format, see the fault */
} kfk_step;

/* How far a message has been read; begin with kfk_read(). */
typedef struct kfk_reader
{
	const kfk_decoder *decoder;
	const char *start;
	const char *p;				/* not yet read */
	const char *end;
	int			rows;			/* handed out */
	bool		in_array;		/* json: the rows are elements of one */
	const int  *positions;		/* csv: field at each place of a line */
	int			n_positions;
} kfk_reader;

typedef struct kfk_format
{
	const char *name;
	const char *whole;			/* not NULL: a message is one value, that of the field with this key */
	kfk_step	(*next) (kfk_reader *reader, kfk_value *values, kfk_fault *fault);
} kfk_format;

/* NULL if there is none of this name. */
extern const kfk_format *kfk_find_format(const char *name);

static inline kfk_reader
kfk_read(const kfk_decoder *decoder, const char *data, size_t len)
{
	return (kfk_reader) {decoder, data, data, data + len, 0, false, decoder->positions, decoder->n_positions};
}

/* The formats' functions; see kfk_format. */
extern kfk_step kfk_json_next(kfk_reader *reader, kfk_value *values, kfk_fault *fault);
extern kfk_step kfk_csv_next(kfk_reader *reader, kfk_value *values, kfk_fault *fault);
extern kfk_step kfk_avro_next(kfk_reader *reader, kfk_value *values, kfk_fault *fault);

/* Does a message of this format begin with the id of an Avro schema? */
static inline bool
kfk_avro_format(const kfk_format *format)
{
	return format->next == kfk_avro_next;
}

/* Set the fault; always false.  The message is cut to valid UTF-8. */
extern bool kfk_fail(kfk_fault *fault, const char *sqlstate, const char *fmt,...) __attribute__((format(printf, 3, 4), cold));
extern bool kfk_fail_memory(kfk_fault *fault) __attribute__((cold));

/* Length of a name as printed in a fault. */
static inline int
kfk_shown(size_t len)
{
	return len < 80 ? (int) len : 80;
}

/* Index of the field with this key, looking at guess first; -1 if none. */
extern int	kfk_find_field(const kfk_decoder *decoder, const char *key, size_t len, int guess);

/*
 * Text (valid UTF-8, zero-terminated, KFK_TEXT_RESERVE bytes free before it) as
 * a value of this kind: decoded here if it is plain, else left to the type.
 */
extern void kfk_text_value(kfk_kind kind, char *text, size_t len, kfk_value *value);

#endif							/* MILLRACE_STREAM_FORMAT_H */
