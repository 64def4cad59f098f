/*
 * avro.c
 *	  Avro values into column values.  See avro.h.
 *
 * Bounds: values nest to KFK_MAX_DEPTH; every value costs a step, of which a
 * message has a million and 64 a byte, so that types that take no bytes (arrays
 * of null, records of nothing) cannot keep us busy; JSON made of a value ends at
 * MAX_TEXT.  What a column does not want is passed over without a copy.
 */
#include "stream/worker/avro.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream/worker/avro_text.h"
#include "stream/worker/format.h"

#define STEPS 1000000
#define STEPS_PER_BYTE 64

typedef struct decoding
{
	const kfk_avro *schema;
	const kfk_decoder *decoder;
	const uint8_t *p;
	const uint8_t *end;
	kfk_fault  *fault;
	int64_t		steps;			/* left */
	int			depth;			/* left */
} decoding;

static bool __attribute__((cold))
fail_end(decoding *d)
{
	return kfk_fail(d->fault, "22P02", "invalid Avro: the message ends within a value");
}

static bool __attribute__((cold))
fail_steps(decoding *d)
{
	return kfk_fail(d->fault, "54000", "invalid Avro: the message claims to hold more than its bytes can");
}

/* ---- what values are made of ---- */

/* A zigzag varint of at most 64 bits. */
static bool
read_long(decoding *d, int64_t *out)
{
	uint64_t	bits = 0;

	for (int shift = 0; shift < 64; shift += 7)
	{
		uint8_t		b;

		if (d->p >= d->end)
			return fail_end(d);
		b = *d->p++;
		if (shift == 63 && b > 1)
			break;
		bits |= (uint64_t) (b & 0x7f) << shift;
		if (b < 0x80)
		{
			*out = (int64_t) (bits >> 1) ^ -(int64_t) (bits & 1);
			return true;
		}
	}
	return kfk_fail(d->fault, "22P02", "invalid Avro: a number of more than 64 bits");
}

/* The bytes of a bytes, string or fixed. */
static bool
read_bytes(decoding *d, const avro_node *node, const uint8_t **data, size_t *len)
{
	int64_t		n = (int64_t) node->size;

	if (node->type != AVRO_FIXED && !read_long(d, &n))
		return false;
	if (n < 0 || n > d->end - d->p)
		return fail_end(d);
	*data = d->p;
	*len = (size_t) n;
	d->p += n;
	if (node->type == AVRO_STRING && !mr_utf8((const char *) *data, *len))
		return kfk_fail(d->fault, "22021", memchr(*data, 0, *len) ? "a string of the message contains a zero byte" : "a string of the message is not valid UTF-8");
	return true;
}

/* Items of the next block of an array or map; 0: it ends. */
static bool
read_block(decoding *d, int64_t *n)
{
	int64_t		bytes;

	if (!read_long(d, n))
		return false;
	if (*n < 0)
	{
		/* Followed by the block's size, which only who skips it blindly needs. */
		if (*n == INT64_MIN)
			return fail_steps(d);
		*n = -*n;
		if (!read_long(d, &bytes))
			return false;
	}
	return *n <= d->steps ? true : fail_steps(d);
}

/* The node at hand: through unions to the branch taken. */
static bool
resolve(decoding *d, int *type)
{
	while (d->schema->nodes[*type].type == AVRO_UNION)
	{
		const avro_node *u = &d->schema->nodes[*type];
		int64_t		branch;

		if (--d->steps < 0)
			return fail_steps(d);
		if (!read_long(d, &branch))
			return false;
		if (branch < 0 || branch >= u->n)
			return kfk_fail(d->fault, "22P02", "invalid Avro: branch %" PRId64 " of a union of %d", branch, u->n);
		*type = u->of[branch];
	}
	return true;
}

/* Into a value, and out of it. */
static bool
enter(decoding *d)
{
	if (--d->steps < 0)
		return fail_steps(d);
	if (--d->depth < 0)
		return kfk_fail(d->fault, "54001", "the message is nested more than %d levels deep", KFK_MAX_DEPTH);
	return true;
}

static bool
read_fixed_size(decoding *d, void *out, size_t n)
{
	if ((size_t) (d->end - d->p) < n)
		return fail_end(d);
	memcpy(out, d->p, n);		/* little-endian, as the machines we run on */
	d->p += n;
	return true;
}

/* A boolean, number or enum symbol that is not null: integer, or real for floats. */
static bool
read_scalar(decoding *d, const avro_node *node, int64_t *integer, double *real)
{
	uint8_t		b = 0;
	float		f = 0;

	switch (node->type)
	{
		case AVRO_BOOLEAN:
			if (!read_fixed_size(d, &b, 1))
				return false;
			*integer = b;
			return b <= 1 ? true : kfk_fail(d->fault, "22P02", "invalid Avro: a boolean of %d", b);
		case AVRO_FLOAT:
			if (!read_fixed_size(d, &f, 4))
				return false;
			*real = (double) f;
			return true;
		case AVRO_DOUBLE:
			return read_fixed_size(d, real, 8);
		default:
			if (!read_long(d, integer))
				return false;
			if (node->type == AVRO_ENUM && (*integer < 0 || *integer >= node->n))
				return kfk_fail(d->fault, "22P02", "invalid Avro: symbol %" PRId64 " of enum \"%.*s\", which has %d", *integer,
								kfk_shown(node->name.len), node->name.text, node->n);
			if (node->type == AVRO_INT && (*integer < INT32_MIN || *integer > INT32_MAX))
				return kfk_fail(d->fault, "22003", "invalid Avro: an int of %" PRId64, *integer);
			return true;
	}
}

/* ---- values nobody wants, and values as text ---- */

/* Pass over a value (out NULL), or write it as JSON. */
static bool
walk(decoding *d, int type, avro_text *out)
{
	const avro_node *node;
	const uint8_t *data;
	size_t		len;
	int64_t		integer;
	double		real = 0;
	int64_t		n;
	bool		first = true;

	if (!resolve(d, &type) || !enter(d))
		return false;
	node = &d->schema->nodes[type];
	switch (node->type)
	{
		case AVRO_NULL:
			if (out)
				avro_put(out, "null", 4);
			break;
		case AVRO_RECORD:
			if (out)
				avro_put(out, "{", 1);
			for (int i = 0; i < node->n; i++)
			{
				if (out)
					avro_put_key(out, node->names[i].text, node->names[i].len, i == 0);
				if (!walk(d, node->of[i], out))
					return false;
			}
			if (out)
				avro_put(out, "}", 1);
			break;
		case AVRO_ARRAY:
		case AVRO_MAP:
			if (out)
				avro_put(out, node->type == AVRO_ARRAY ? "[" : "{", 1);
			for (;;)
			{
				if (!read_block(d, &n))
					return false;
				if (n == 0)
					break;
				for (; n > 0; n--, first = false)
				{
					static const avro_node key = {.type = AVRO_STRING};

					if (node->type == AVRO_MAP)
					{
						if (!read_bytes(d, &key, &data, &len))
							return false;
						if (out)
							avro_put_key(out, (const char *) data, len, first);
					}
					else if (out && !first)
						avro_put(out, ",", 1);
					if (!walk(d, node->of[0], out))
						return false;
				}
			}
			if (out)
				avro_put(out, node->type == AVRO_ARRAY ? "]" : "}", 1);
			break;
		case AVRO_BYTES:
		case AVRO_STRING:
		case AVRO_FIXED:
			if (!read_bytes(d, node, &data, &len))
				return false;
			if (out && !avro_put_bytes(out, node, data, len, true))
				return kfk_fail(d->fault, "54000", "a decimal of %zu bytes is too large", len);
			break;
		default:
			if (!read_scalar(d, node, &integer, &real))
				return false;
			if (out && !avro_put_scalar(out, node, integer, real, true))
				return kfk_fail(d->fault, "22008", "a date or time of the message is out of range");
			break;
	}
	d->depth++;
	if (out && out->failed)
		return out->too_large ? kfk_fail(d->fault, "54000", "a value of the message is too large as JSON") : kfk_fail_memory(d->fault);
	return true;
}

/* The text that out holds, as a value. */
static void
set_text(avro_text *out, kfk_kind kind, kfk_value *value)
{
	out->data[out->len] = '\0';
	value->v.data = out->data;
	value->len = out->len;
	value->state = kind == KFK_TEXT ? KFK_SET : KFK_AS_TEXT;
}

/* A value that has no shorter way, as text for the type: single values as they are, the others as JSON. */
static bool
read_as_text(decoding *d, int type, kfk_kind kind, kfk_value *value)
{
	const avro_node *node = &d->schema->nodes[type];
	avro_text	out;
	const uint8_t *data;
	size_t		len;
	int64_t		integer = 0;
	double		real = 0;
	bool		json = kind == KFK_JSON || node->type == AVRO_RECORD || node->type == AVRO_ARRAY || node->type == AVRO_MAP;

	if (!avro_begin(&out, d->decoder->arena))
		return kfk_fail_memory(d->fault);
	if (json)
	{
		if (!walk(d, type, &out))
			return false;
	}
	else if (node->type == AVRO_BYTES || node->type == AVRO_STRING || node->type == AVRO_FIXED)
	{
		if (!read_bytes(d, node, &data, &len))
			return false;
		if (!avro_put_bytes(&out, node, data, len, false))
			return kfk_fail(d->fault, "54000", "a decimal of %zu bytes is too large", len);
	}
	else
	{
		if (!read_scalar(d, node, &integer, &real))
			return false;
		if (!avro_put_scalar(&out, node, integer, real, false))
			return kfk_fail(d->fault, "22008", "a date or time of the message is out of range");
	}
	if (out.failed)
		return out.too_large ? kfk_fail(d->fault, "54000", "a value of the message is too large as text") : kfk_fail_memory(d->fault);
	set_text(&out, kind, value);
	return true;
}

/* ---- values for columns ---- */

static bool __attribute__((cold))
fail_range(decoding *d, const kfk_field *field)
{
	return kfk_fail(d->fault, "22003", "value of \"%.*s\" is out of range", kfk_shown(field->key_len), field->key);
}

/* A number as an element of a numeric array. */
static bool
put_number(decoding *d, const kfk_field *field, const avro_node *node, char *at)
{
	int64_t		integer = 0;
	double		real = 0;
	bool		floating = node->type == AVRO_FLOAT || node->type == AVRO_DOUBLE;

	if ((node->type != AVRO_INT && node->type != AVRO_LONG && !floating) || (floating && (field->kind == KFK_INT4_ARRAY || field->kind == KFK_INT8_ARRAY)))
		return kfk_fail(d->fault, "22P02", "value of \"%.*s\" is not an array of %s", kfk_shown(field->key_len), field->key, floating ? "integers" : "numbers");
	if (!read_scalar(d, node, &integer, &real))
		return false;
	switch (field->kind)
	{
		case KFK_FLOAT4_ARRAY:
			*(float *) at = floating ? (float) real : (float) integer;
			return !floating || !isinf(*(float *) at) || isinf(real) ? true : fail_range(d, field);
		case KFK_FLOAT8_ARRAY:
			*(double *) at = floating ? real : (double) integer;
			return true;
		case KFK_INT4_ARRAY:
			*(int32_t *) at = (int32_t) integer;
			return integer == (int32_t) integer ? true : fail_range(d, field);
		default:
			*(int64_t *) at = integer;
			return true;
	}
}

/* More room for elements and, if they are there, nulls. */
static bool
grow(decoding *d, kfk_value *v, size_t used, size_t *room, size_t width)
{
	size_t		larger = *room * 2;
	char	   *more = kfk_take(d->decoder->arena, KFK_ARRAY_RESERVE + larger * width);
	bool	   *nulls = kfk_take(d->decoder->arena, larger);

	if (more == NULL || nulls == NULL)
		return kfk_fail_memory(d->fault);
	more += KFK_ARRAY_RESERVE;
	if (used > 0)
	{
		memcpy(more, v->v.data, used * width);
		memcpy(nulls, v->nulls, used);
	}
	v->v.data = more;
	v->nulls = nulls;
	*room = larger;
	return true;
}

static bool
read_array(decoding *d, const kfk_field *field, const avro_node *array, kfk_value *v)
{
	bool		numeric = field->kind != KFK_TEXT_ARRAY;
	size_t		width = field->kind == KFK_FLOAT4_ARRAY || field->kind == KFK_INT4_ARRAY ? 4 : numeric ? 8 : sizeof(kfk_slice);
	size_t		room = 16;
	size_t		used = 0;
	int64_t		n;

	if (!enter(d) || !grow(d, v, 0, &room, width))
		return false;
	v->has_nulls = false;
	for (;;)
	{
		if (!read_block(d, &n))
			return false;
		if (n == 0)
			break;
		for (; n > 0; n--, used++)
		{
			int			type = array->of[0];
			kfk_value	element = {.state = KFK_NULL};

			if (--d->steps < 0)
				return fail_steps(d);
			if (used == room && !grow(d, v, used, &room, width))
				return false;
			if (!resolve(d, &type))
				return false;
			v->nulls[used] = d->schema->nodes[type].type == AVRO_NULL;
			v->has_nulls = v->has_nulls || v->nulls[used];
			if (v->nulls[used])
				memset(v->v.data + used * width, 0, width);
			else if (numeric)
			{
				if (!put_number(d, field, &d->schema->nodes[type], v->v.data + used * width))
					return false;
			}
			else
			{
				if (d->schema->nodes[type].type == AVRO_ARRAY)
					return kfk_fail(d->fault, "22P02", "value of \"%.*s\" is not an array of one dimension", kfk_shown(field->key_len), field->key);
				if (!read_as_text(d, type, KFK_TEXT, &element))
					return false;
				v->v.slices[used] = (kfk_slice) {element.v.data, element.len};
			}
		}
	}
	d->depth++;
	v->len = used;
	v->state = KFK_SET;
	return true;
}

/* An integer for a column of integers or floats, or a timestamp. */
static bool
set_integer(decoding *d, const kfk_field *field, const avro_node *node, int64_t integer, kfk_value *v)
{
	v->state = KFK_SET;
	switch (field->kind)
	{
		case KFK_FLOAT4:
			v->v.float4 = (float) integer;
			return true;
		case KFK_FLOAT8:
			v->v.float8 = (double) integer;
			return true;
		case KFK_TIMESTAMPTZ:
			if (!avro_timestamp(node->logical, integer, &v->v.integer))
				return kfk_fail(d->fault, "22008", "value of \"%.*s\" is no timestamp in range", kfk_shown(field->key_len), field->key);
			return true;
		default:
			v->v.integer = integer;
			if ((field->kind == KFK_INT2 && integer != (int16_t) integer) || (field->kind == KFK_INT4 && integer != (int32_t) integer))
				return fail_range(d, field);
			return true;
	}
}

/* The value of a type for a field. */
static bool
read_value(decoding *d, int type, const kfk_field *field, kfk_value *v)
{
	const avro_node *node;
	const uint8_t *data;
	int64_t		integer;
	double		real = 0;
	char	   *piece;

	if (!resolve(d, &type))
		return false;
	if (--d->steps < 0)
		return fail_steps(d);
	node = &d->schema->nodes[type];
	v->has_nulls = false;
	if (node->type == AVRO_NULL)
	{
		v->state = KFK_NULL;
		return true;
	}
	if (field->kind >= KFK_FLOAT4_ARRAY && node->type == AVRO_ARRAY)
		return read_array(d, field, node, v);
	if (node->logical == AVRO_PLAIN || field->kind == KFK_TIMESTAMPTZ)
		switch (node->type)
		{
			case AVRO_INT:
			case AVRO_LONG:
				if (field->kind < KFK_INT2 || (field->kind > KFK_FLOAT8 && field->kind != KFK_TIMESTAMPTZ) ||
					(field->kind == KFK_TIMESTAMPTZ && node->logical == AVRO_DATE))
					break;
				return read_long(d, &integer) && set_integer(d, field, node, integer, v);
			case AVRO_FLOAT:
			case AVRO_DOUBLE:
				if (field->kind != KFK_FLOAT4 && field->kind != KFK_FLOAT8)
					break;
				if (!read_scalar(d, node, &integer, &real))
					return false;
				v->state = KFK_SET;
				if (field->kind == KFK_FLOAT8)
					v->v.float8 = real;
				else
					v->v.float4 = (float) real;
				return field->kind == KFK_FLOAT8 || isinf(real) || !isinf(v->v.float4) ? true : fail_range(d, field);
			case AVRO_BOOLEAN:
				if (field->kind != KFK_BOOL)
					break;
				if (!read_scalar(d, node, &integer, &real))
					return false;
				v->state = KFK_SET;
				v->v.boolean = integer != 0;
				return true;
			default:
				break;
		}
	if (field->kind == KFK_BYTEA && (node->type == AVRO_BYTES || node->type == AVRO_FIXED))
	{
		if (!read_bytes(d, node, &data, &v->len))
			return false;
		piece = kfk_take(d->decoder->arena, KFK_TEXT_RESERVE + v->len + 1);
		if (piece == NULL)
			return kfk_fail_memory(d->fault);
		v->v.data = piece + KFK_TEXT_RESERVE;
		memcpy(v->v.data, data, v->len);
		v->state = KFK_SET;
		return true;
	}
	return read_as_text(d, type, field->kind, v);
}

bool
kfk_avro_decode(const kfk_avro *schema, const kfk_decoder *decoder, const uint8_t *data, size_t len,
				kfk_value *values, kfk_fault *fault)
{
	decoding	d = {schema, decoder, data, data + len, fault, STEPS + (int64_t) len * STEPS_PER_BYTE, KFK_MAX_DEPTH};
	int			type = schema->root;
	const avro_node *node;
	bool		fields;
	int			guess = 0;

	for (int i = 0; i < decoder->n_fields; i++)
		values[i].state = KFK_ABSENT;
	if (!resolve(&d, &type))
		return false;
	node = &schema->nodes[type];
	fields = node->type == AVRO_RECORD && !decoder->whole;
	for (int i = 0; i < (fields ? node->n : 1); i++)
	{
		const avro_name key = fields ? node->names[i] : (avro_name) {"value", 5};
		int			of = fields ? node->of[i] : type;
		int			f = decoder->whole ? 0 : kfk_find_field(decoder, key.text, key.len, guess);

		if (f >= 0)
		{
			if (!read_value(&d, of, &decoder->fields[f], &values[f]))
				return false;
			guess = f + 1;
		}
		else if (decoder->refuse_unknown)
			return kfk_fail(fault, "22023", "field \"%.*s\" is no column of the target", kfk_shown(key.len), key.text);
		else if (!walk(&d, of, NULL))
			return false;
	}
	if (d.p < d.end)
		return kfk_fail(fault, "22P02", "invalid Avro: %zu bytes behind the value", (size_t) (d.end - d.p));
	return true;
}

kfk_step
kfk_avro_next(kfk_reader *reader, kfk_value *values, kfk_fault *fault)
{
	size_t		len = (size_t) (reader->end - reader->start);
	const kfk_avro *schema;
	uint32_t	id;

	if (reader->rows++ > 0)
		return KFK_DONE;
	if (!kfk_avro_id(reader->start, len, &id))
	{
		(void) kfk_fail(fault, "22P02", "the message does not begin with a zero byte and the id of a schema");
		return KFK_FAULT;
	}
	schema = reader->decoder->schema(reader->decoder->schema_arg, id);
	if (schema == NULL)
	{
		(void) kfk_fail(fault, "42704", "Avro schema %u is not known", id);
		return KFK_FAULT;
	}
	return kfk_avro_decode(schema, reader->decoder, (const uint8_t *) reader->start + KFK_AVRO_HEADER, len - KFK_AVRO_HEADER, values, fault) ? KFK_ROW : KFK_FAULT;
}
