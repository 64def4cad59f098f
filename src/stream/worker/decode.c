/*
 * decode.c
 *	  One pass over a JSON object (RFC 8259) into column values.
 *
 * The message is checked as UTF-8 first, so that every slice of it is text.
 * Strings without escapes are copied once, numbers are converted where they
 * stand, and keys are guessed to come in the order of the fields, as they do
 * from any one producer.  Nothing recurses.
 */
#include "core/base64.h"
#include "stream/worker/json.h"

#include <string.h>

static bool __attribute__((cold))
fail_kind(kfk_json *ps, const kfk_field *field, const char *wanted)
{
	return kfk_fail(ps->fault, "22P02", "value of \"%.*s\" is not %s", kfk_shown(field->key_len), field->key, wanted);
}

static bool __attribute__((cold))
fail_rounding(kfk_json *ps, const kfk_field *field, const kfk_number *number, kfk_rounding why)
{
	if (why == KFK_NOT_WHOLE)
		return kfk_fail(ps->fault, "22P02", "value %.*s of \"%.*s\" is not an integer", kfk_shown(number->len), number->start, kfk_shown(field->key_len), field->key);
	return kfk_fail(ps->fault, "22003", "value %.*s of \"%.*s\" is out of range", kfk_shown(number->len), number->start, kfk_shown(field->key_len), field->key);
}

/* A number as the field's element type. */
static inline kfk_rounding
convert(kfk_kind kind, const kfk_number *number, void *out)
{
	int64_t		i;
	kfk_rounding r;

	switch (kind)
	{
		case KFK_FLOAT4:
		case KFK_FLOAT4_ARRAY:
			return kfk_to_float4(number, out);
		case KFK_FLOAT8:
		case KFK_FLOAT8_ARRAY:
			return kfk_to_float8(number, out);
		case KFK_INT4_ARRAY:
			r = kfk_to_int8(number, &i);
			if (r == KFK_ROUNDED && (i < INT32_MIN || i > INT32_MAX))
				return KFK_OUT_OF_RANGE;
			*(int32_t *) out = (int32_t) i;
			return r;
		case KFK_INT2:
		case KFK_INT4:
			r = kfk_to_int8(number, &i);
			if (r == KFK_ROUNDED && (kind == KFK_INT2 ? i < INT16_MIN || i > INT16_MAX : i < INT32_MIN || i > INT32_MAX))
				return KFK_OUT_OF_RANGE;
			*(int64_t *) out = i;
			return r;
		default:
			return kfk_to_int8(number, out);
	}
}

/* Double the room for elements; nulls, if it is there, with it. */
static bool
grow(kfk_json *ps, char **data, bool **nulls, size_t used, size_t *room, size_t width)
{
	char	   *more = kfk_take(ps->decoder->arena, KFK_ARRAY_RESERVE + *room * 2 * width);

	if (more == NULL)
		return kfk_fail_memory(ps->fault);
	memcpy(more + KFK_ARRAY_RESERVE, *data, used * width);
	*data = more + KFK_ARRAY_RESERVE;
	if (*nulls)
	{
		bool	   *flags = kfk_take(ps->decoder->arena, *room * 2);

		if (flags == NULL)
			return kfk_fail_memory(ps->fault);
		memcpy(flags, *nulls, used);
		*nulls = flags;
	}
	*room *= 2;
	return true;
}

/* A JSON array of numbers or nulls, or of anything as text. */
static bool
read_array(kfk_json *ps, const kfk_field *field, kfk_value *value)
{
	bool		numeric = field->kind != KFK_TEXT_ARRAY;
	size_t		width = field->kind == KFK_FLOAT4_ARRAY || field->kind == KFK_INT4_ARRAY ? 4 : numeric ? 8 : sizeof(kfk_slice);
	size_t		room = numeric ? 32 : 8;
	size_t		n = 0;
	char	   *data = kfk_take(ps->decoder->arena, KFK_ARRAY_RESERVE + room * width);
	bool	   *nulls = NULL;

	if (data == NULL)
		return kfk_fail_memory(ps->fault);
	data += KFK_ARRAY_RESERVE;
	ps->in.p++;
	mr_json_space(&ps->in);
	if (ps->in.p < ps->in.end && *ps->in.p == ']')
		ps->in.p++;
	else
		for (;;)
		{
			if (n == room && !grow(ps, &data, &nulls, n, &room, width))
				return false;
			mr_json_space(&ps->in);
			if (ps->in.p < ps->in.end && *ps->in.p == 'n' && mr_json_word(&ps->in, "null", 4))
			{
				memset(data + n * width, 0, width);
				if (numeric && nulls == NULL)
				{
					nulls = kfk_take(ps->decoder->arena, room);
					if (nulls == NULL)
						return kfk_fail_memory(ps->fault);
					memset(nulls, 0, n);
				}
				if (nulls)
					nulls[n] = true;
			}
			else if (numeric)
			{
				kfk_number	number;
				const char *after = kfk_scan_number(ps->in.p, ps->in.end, &number);
				kfk_rounding r;

				if (after == NULL)
				{
					if (ps->in.p < ps->in.end && strchr("\"{[tf", *ps->in.p) != NULL)
						return fail_kind(ps, field, "an array of numbers");
					return kfk_json_syntax(ps, "a number");
				}
				ps->in.p = after;
				r = convert(field->kind, &number, data + n * width);
				if (r != KFK_ROUNDED)
					return fail_rounding(ps, field, &number, r);
				if (nulls)
					nulls[n] = false;
			}
			else
			{
				kfk_slice  *slice = (kfk_slice *) data + n;
				char	   *text;

				if (ps->in.p < ps->in.end && (*ps->in.p == '[' || *ps->in.p == '{'))
					return fail_kind(ps, field, "an array of one dimension");
				if (ps->in.p < ps->in.end && *ps->in.p == '"' ? !kfk_json_string(ps, KFK_TEXT_RESERVE, &text, &slice->len) :
					!kfk_json_raw(ps, KFK_TEXT_RESERVE, &text, &slice->len))
					return false;
				slice->data = text;
			}
			n++;
			mr_json_space(&ps->in);
			if (ps->in.p < ps->in.end && *ps->in.p == ',')
				ps->in.p++;
			else if (ps->in.p < ps->in.end && *ps->in.p == ']')
			{
				ps->in.p++;
				break;
			}
			else
				return kfk_json_syntax(ps, "a comma or ]");
		}
	value->len = n;
	value->nulls = nulls;
	value->has_nulls = nulls != NULL;
	value->state = KFK_SET;
	if (numeric)
		value->v.data = data;
	else
		value->v.slices = (kfk_slice *) data;
	return true;
}

/* A string for a field that is not text: decoded here, or left to the type. */
static bool
read_string_as(kfk_json *ps, const kfk_field *field, kfk_value *value)
{
	if (!kfk_json_string(ps, KFK_TEXT_RESERVE, &value->v.data, &value->len))
		return false;
	if (field->kind == KFK_TIMESTAMPTZ)
	{
		int64_t		micros;

		if (kfk_timestamp(value->v.data, value->len, &micros))
		{
			value->v.integer = micros;
			value->state = KFK_SET;
		}
	}
	else if (field->kind == KFK_BYTEA)
	{
		/* In place: three bytes never overtake the four they come from. */
		long		n = mr_base64_decode(value->v.data, value->len, (unsigned char *) value->v.data);

		if (n < 0)
			return fail_kind(ps, field, "base64");
		value->len = (size_t) n;
		value->state = KFK_SET;
	}
	return true;
}

/* The value at p for a field. */
static bool
read_value(kfk_json *ps, const kfk_field *field, kfk_value *value)
{
	char		c;

	mr_json_space(&ps->in);
	if (ps->in.p >= ps->in.end)
		return kfk_json_syntax(ps, "a value");
	c = *ps->in.p;
	value->state = KFK_AS_TEXT;
	value->has_nulls = false;

	if (field->kind == KFK_JSON)
		return kfk_json_raw(ps, KFK_TEXT_RESERVE, &value->v.data, &value->len);
	if (c == '"')
	{
		if (field->kind != KFK_TEXT)
			return read_string_as(ps, field, value);
		value->state = KFK_SET;
		return kfk_json_string(ps, KFK_TEXT_RESERVE, &value->v.data, &value->len);
	}
	if (c == 'n' && mr_json_word(&ps->in, "null", 4))
	{
		value->state = KFK_NULL;
		return true;
	}
	if (field->kind == KFK_TEXT)
	{
		value->state = KFK_SET;
		return kfk_json_raw(ps, KFK_TEXT_RESERVE, &value->v.data, &value->len);
	}
	if (field->kind >= KFK_FLOAT4_ARRAY)
		return c == '[' ? read_array(ps, field, value) : fail_kind(ps, field, "an array");
	if (c == '{' || c == '[')
		return fail_kind(ps, field, "a single value");
	switch (field->kind)
	{
		case KFK_BOOL:
			value->v.boolean = c == 't';
			if (!mr_json_word(&ps->in, "true", 4) && !mr_json_word(&ps->in, "false", 5))
				return fail_kind(ps, field, "true or false");
			break;
		case KFK_TIMESTAMPTZ:
			return fail_kind(ps, field, "a timestamp in a string");
		case KFK_BYTEA:
			return fail_kind(ps, field, "base64 in a string");
		default:
			{
				kfk_number	number;
				const char *after = kfk_scan_number(ps->in.p, ps->in.end, &number);
				kfk_rounding r;

				if (after == NULL)
				{
					if (c == 't' || c == 'f')
						return fail_kind(ps, field, "a number");
					return kfk_json_syntax(ps, "a value");
				}
				ps->in.p = after;
				r = convert(field->kind, &number, &value->v);
				if (r != KFK_ROUNDED)
					return fail_rounding(ps, field, &number, r);
			}
	}
	value->state = KFK_SET;
	return true;
}

/* The object at p into values. */
static bool
read_object(kfk_json *ps, kfk_value *values)
{
	const kfk_decoder *decoder = ps->decoder;
	int			guess = 0;

	for (int i = 0; i < decoder->n_fields; i++)
		values[i].state = KFK_ABSENT;
	mr_json_space(&ps->in);
	if (ps->in.p >= ps->in.end || *ps->in.p != '{')
		return kfk_json_syntax(ps, "a JSON object");
	ps->in.p++;
	mr_json_space(&ps->in);
	if (ps->in.p < ps->in.end && *ps->in.p == '}')
	{
		ps->in.p++;
		return true;
	}
	for (;;)
	{
		const char *key;
		size_t		key_len;
		bool		escaped;
		int			f;

		mr_json_space(&ps->in);
		if (ps->in.p >= ps->in.end || *ps->in.p != '"')
			return kfk_json_syntax(ps, "a key");
		if (!kfk_json_scan(ps, &key, &key_len, &escaped))
			return false;
		if (escaped)
		{
			char	   *copy = kfk_take(decoder->arena, key_len + 1);

			if (copy == NULL)
				return kfk_fail_memory(ps->fault);
			if (!kfk_json_unescape(ps, key, key_len, copy, &key_len))
				return false;
			key = copy;
		}
		mr_json_space(&ps->in);
		if (ps->in.p >= ps->in.end || *ps->in.p != ':')
			return kfk_json_syntax(ps, "a colon");
		ps->in.p++;
		f = kfk_find_field(decoder, key, key_len, guess);
		if (f >= 0)
		{
			if (!read_value(ps, &decoder->fields[f], &values[f]))
				return false;
			guess = f + 1;
		}
		else if (decoder->refuse_unknown)
			return kfk_fail(ps->fault, "22023", "key \"%.*s\" is no column of the target", kfk_shown(key_len), key);
		else if (!kfk_json_skip(ps))
			return false;
		mr_json_space(&ps->in);
		if (ps->in.p < ps->in.end && *ps->in.p == ',')
			ps->in.p++;
		else if (ps->in.p < ps->in.end && *ps->in.p == '}')
		{
			ps->in.p++;
			return true;
		}
		else
			return kfk_json_syntax(ps, "a comma or }");
	}
}

/* Between the objects of an array: true with *more if another follows. */
static bool
next_element(kfk_json *ps, bool first, bool *more)
{
	mr_json_space(&ps->in);
	*more = ps->in.p < ps->in.end && *ps->in.p == ',' && !first;
	if (*more)
	{
		ps->in.p++;
		return true;
	}
	if (ps->in.p < ps->in.end && *ps->in.p == ']')
	{
		ps->in.p++;
		return true;
	}
	*more = first;
	return first ? true : kfk_json_syntax(ps, "a comma or ]");
}

static bool
read_end(kfk_json *ps)
{
	mr_json_space(&ps->in);
	return ps->in.p < ps->in.end ? kfk_json_syntax(ps, "the end of the message") : true;
}

/* One object; with option array_rows also an array of them, one row each. */
static bool
read_row(kfk_json *ps, kfk_reader *reader, kfk_value *values, bool *done)
{
	bool		first = reader->rows == 0;
	bool		more = true;

	*done = false;
	if (first)
	{
		if (!mr_utf8(ps->in.start, (size_t) (ps->in.end - ps->in.start)))
			return kfk_fail(ps->fault, "22021", memchr(ps->in.start, 0, (size_t) (ps->in.end - ps->in.start)) ? "the message contains a zero byte" : "the message is not valid UTF-8");
		mr_json_space(&ps->in);
		if (!ps->decoder->options->array_rows || ps->in.p >= ps->in.end || *ps->in.p != '[')
			return read_object(ps, values) && read_end(ps);
		reader->in_array = true;
		ps->in.p++;
	}
	else if (!reader->in_array)
	{
		*done = true;
		return true;
	}
	if (!next_element(ps, first, &more))
		return false;
	if (more)
		return read_object(ps, values);
	*done = true;
	return read_end(ps);
}

kfk_step
kfk_json_next(kfk_reader *reader, kfk_value *values, kfk_fault *fault)
{
	kfk_json	ps = {.in = {reader->start, reader->p, reader->end, NULL}, .decoder = reader->decoder, .fault = fault};
	bool		done;
	bool		good = read_row(&ps, reader, values, &done);

	reader->p = ps.in.p;
	reader->rows++;
	return !good ? KFK_FAULT : done ? KFK_DONE : KFK_ROW;
}
