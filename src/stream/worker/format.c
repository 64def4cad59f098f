/*
 * format.c
 *	  The table of formats, the two that need no parser, and what they share.
 */
#include "stream/worker/format.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "stream/worker/scalar.h"

void *
kfk_take(kfk_arena *arena, size_t bytes)
{
	char	   *taken;

	bytes = (bytes + 7) & ~(size_t) 7;
	if ((size_t) (arena->end - arena->next) < bytes)
	{
		size_t		piece = bytes > 65536 / 4 ? bytes : 65536;

		taken = arena->more(arena->arg, piece);
		if (taken == NULL)
			return NULL;
		/* A large value has a piece of its own; the current one goes on. */
		if (piece == bytes)
			return taken;
		arena->next = taken;
		arena->end = taken + piece;
	}
	taken = arena->next;
	arena->next += bytes;
	return taken;
}

bool
kfk_fail(kfk_fault *fault, const char *sqlstate, const char *fmt,...)
{
	va_list		args;
	size_t		n;

	snprintf(fault->sqlstate, sizeof(fault->sqlstate), "%s", sqlstate);
	va_start(args, fmt);
	vsnprintf(fault->message, sizeof(fault->message), fmt, args);
	va_end(args);

	/* A name may have been cut within a character. */
	n = strlen(fault->message);
	while (n > 0 && !mr_utf8(fault->message, n))
		fault->message[--n] = '\0';
	return false;
}

bool
kfk_fail_memory(kfk_fault *fault)
{
	return kfk_fail(fault, "53200", "out of memory while decoding a message");
}

int
kfk_find_field(const kfk_decoder *decoder, const char *key, size_t len, int guess)
{
	for (int i = 0; i < decoder->n_fields; i++)
	{
		const kfk_field *f;

		if (guess >= decoder->n_fields)
			guess = 0;
		f = &decoder->fields[guess];
		if (f->key_len == len && memcmp(f->key, key, len) == 0)
			return guess;
		guess++;
	}
	return -1;
}

void
kfk_text_value(kfk_kind kind, char *text, size_t len, kfk_value *value)
{
	kfk_number	number;
	bool		done = false;

	value->has_nulls = false;
	switch (kind)
	{
		case KFK_TEXT:
			done = true;
			break;
		case KFK_INT2:
		case KFK_INT4:
		case KFK_INT8:
			if (kfk_scan_number(text, text + len, &number) == text + len &&
				kfk_to_int8(&number, &value->v.integer) == KFK_ROUNDED)
				done = kind == KFK_INT8 || value->v.integer == (kind == KFK_INT4 ? (int32_t) value->v.integer : (int16_t) value->v.integer);
			break;
		case KFK_FLOAT4:
			done = kfk_scan_number(text, text + len, &number) == text + len && kfk_to_float4(&number, &value->v.float4) == KFK_ROUNDED;
			break;
		case KFK_FLOAT8:
			done = kfk_scan_number(text, text + len, &number) == text + len && kfk_to_float8(&number, &value->v.float8) == KFK_ROUNDED;
			break;
		case KFK_TIMESTAMPTZ:
			done = kfk_timestamp(text, len, &value->v.integer);
			break;
		default:
			break;
	}
	value->state = done ? KFK_SET : KFK_AS_TEXT;
	if (!done || kind == KFK_TEXT)
	{
		value->v.data = text;
		value->len = len;
	}
}

/* ---- text and bytes: the whole message is one value ---- */

/* The message in the arena, with room before it; NULL when memory is exhausted. */
static char *
copy_message(kfk_reader *reader)
{
	size_t		len = (size_t) (reader->end - reader->start);
	char	   *piece = kfk_take(reader->decoder->arena, KFK_TEXT_RESERVE + len + 1);

	if (piece == NULL)
		return NULL;
	memcpy(piece + KFK_TEXT_RESERVE, reader->start, len);
	piece[KFK_TEXT_RESERVE + len] = '\0';
	return piece + KFK_TEXT_RESERVE;
}

static kfk_step
text_next(kfk_reader *reader, kfk_value *values, kfk_fault *fault)
{
	size_t		len = (size_t) (reader->end - reader->start);
	char	   *text;

	if (reader->rows++ > 0)
		return KFK_DONE;
	if (!mr_utf8(reader->start, len))
	{
		(void) kfk_fail(fault, "22021", memchr(reader->start, 0, len) ? "the message contains a zero byte" : "the message is not valid UTF-8");
		return KFK_FAULT;
	}
	for (int i = 0; i < reader->decoder->n_fields; i++)
	{
		text = copy_message(reader);
		if (text == NULL)
		{
			(void) kfk_fail_memory(fault);
			return KFK_FAULT;
		}
		kfk_text_value(reader->decoder->fields[i].kind, text, len, &values[i]);
	}
	return KFK_ROW;
}

static kfk_step
bytes_next(kfk_reader *reader, kfk_value *values, kfk_fault *fault)
{
	if (reader->rows++ > 0)
		return KFK_DONE;
	for (int i = 0; i < reader->decoder->n_fields; i++)
	{
		values[i].v.data = copy_message(reader);
		if (values[i].v.data == NULL)
		{
			(void) kfk_fail_memory(fault);
			return KFK_FAULT;
		}
		values[i].state = KFK_SET;
		values[i].len = (size_t) (reader->end - reader->start);
	}
	return KFK_ROW;
}

static const kfk_format formats[] = {
	{"json", NULL, kfk_json_next},
	{"csv", NULL, kfk_csv_next},
	{"avro", NULL, kfk_avro_next},
	{"text", "value", text_next},
	{"bytes", "value", bytes_next},
};

const kfk_format *
kfk_find_format(const char *name)
{
	for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++)
		if (strcmp(formats[i].name, name) == 0)
			return &formats[i];
	return NULL;
}
