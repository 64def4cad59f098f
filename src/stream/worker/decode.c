/*
 * decode.c
 *	  One pass over a JSON object (RFC 8259) into column values.
 *
 * The message is checked as UTF-8 first, so that every slice of it is text.
 * Strings without escapes are copied once, numbers are converted where they
 * stand, and keys are guessed to come in the order of the fields, as they do
 * from any one producer.  Nothing recurses: unwanted values are skipped with a
 * bit per level.
 */
#include "stream/worker/format.h"

#include <string.h>

#include "stream/worker/scalar.h"

typedef struct parser
{
	const kfk_decoder *decoder;
	const char *start;
	const char *p;
	const char *end;
	kfk_fault  *fault;
} parser;

#define fail(ps, ...) kfk_fail((ps)->fault, __VA_ARGS__)
#define shown(len) kfk_shown(len)

static bool __attribute__((cold))
fail_syntax(parser *ps, const char *expected)
{
	if (ps->p >= ps->end)
		return fail(ps, "22P02", "invalid JSON: the message ends after %zu bytes, expected %s", (size_t) (ps->end - ps->start), expected);
	return fail(ps, "22P02", "invalid JSON at byte %zu: expected %s", (size_t) (ps->p - ps->start) + 1, expected);
}

static inline void
skip_space(parser *ps)
{
	while (ps->p < ps->end && (*ps->p == ' ' || *ps->p == '\n' || *ps->p == '\t' || *ps->p == '\r'))
		ps->p++;
}

/*
 * The string at p (which is its opening quote): content as it stands, without
 * the quotes, and whether it has escapes.  Escapes are checked by unescape().
 */
static bool
scan_string(parser *ps, const char **content, size_t *len, bool *escaped)
{
	const char *p = ps->p + 1;
	const char *end = ps->end;

	*content = p;
	*escaped = false;
	for (;;)
	{
		/* Eight bytes that are neither quote, backslash nor control character. */
		while (end - p >= 8)
		{
			const uint64_t ones = UINT64_C(0x0101010101010101);
			uint64_t	w,
						quote,
						back;

			memcpy(&w, p, 8);
			quote = w ^ (ones * '"');
			back = w ^ (ones * '\\');
			if ((((quote - ones) & ~quote) | ((back - ones) & ~back) | ((w - ones * 0x20) & ~w)) & (ones * 0x80))
				break;
			p += 8;
		}
		for (;; p++)
		{
			if (p >= end)
			{
				ps->p = end;
				return fail_syntax(ps, "the closing quote of a string");
			}
			if (*p == '"')
			{
				*len = (size_t) (p - *content);
				ps->p = p + 1;
				return true;
			}
			if (*p == '\\')
			{
				*escaped = true;
				p += end - p < 2 ? 1 : 2;
				break;
			}
			if ((unsigned char) *p < 0x20)
			{
				ps->p = p;
				return fail_syntax(ps, "an escape for the control character in a string");
			}
		}
	}
}

static int
hex4(const char *p)
{
	int			value = 0;

	for (int i = 0; i < 4; i++)
	{
		char		c = p[i];

		if (c >= '0' && c <= '9')
			value = value * 16 + (c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			value = value * 16 + ((c | 0x20) - 'a' + 10);
		else
			return -1;
	}
	return value;
}

static char *
put_utf8(char *out, int c)
{
	if (c < 0x80)
		*out++ = (char) c;
	else if (c < 0x800)
	{
		*out++ = (char) (0xc0 | c >> 6);
		*out++ = (char) (0x80 | (c & 0x3f));
	}
	else if (c < 0x10000)
	{
		*out++ = (char) (0xe0 | c >> 12);
		*out++ = (char) (0x80 | (c >> 6 & 0x3f));
		*out++ = (char) (0x80 | (c & 0x3f));
	}
	else
	{
		*out++ = (char) (0xf0 | c >> 18);
		*out++ = (char) (0x80 | (c >> 12 & 0x3f));
		*out++ = (char) (0x80 | (c >> 6 & 0x3f));
		*out++ = (char) (0x80 | (c & 0x3f));
	}
	return out;
}

/*
 * Copy a string's content, resolving escapes, to out (which holds len bytes);
 * out NULL: only check it.  The text is never longer than its escaped form.
 */
static bool
unescape(parser *ps, const char *p, size_t len, char *out, size_t *out_len)
{
	const char *end = p + len;
	char	   *begin = out;
	char		scratch[4];

	while (p < end)
	{
		int			c;

		if (*p != '\\')
		{
			if (out)
				*out++ = *p;
			p++;
			continue;
		}
		switch (p[1])
		{
			case 'b':
				c = '\b';
				break;
			case 'f':
				c = '\f';
				break;
			case 'n':
				c = '\n';
				break;
			case 'r':
				c = '\r';
				break;
			case 't':
				c = '\t';
				break;
			case '"':
			case '\\':
			case '/':
				c = p[1];
				break;
			case 'u':
				c = end - p >= 6 ? hex4(p + 2) : -1;
				if (c < 0)
					return fail(ps, "22P02", "invalid JSON at byte %zu: \\u without four hexadecimal digits", (size_t) (p - ps->start) + 1);
				if (c == 0)
					return fail(ps, "22P05", "\\u0000 at byte %zu cannot be stored in text", (size_t) (p - ps->start) + 1);
				if (c >= 0xd800 && c <= 0xdfff)
				{
					int			low = c < 0xdc00 && end - p >= 12 && p[6] == '\\' && p[7] == 'u' ? hex4(p + 8) : -1;

					if (low < 0xdc00 || low > 0xdfff)
						return fail(ps, "22P02", "invalid JSON at byte %zu: half of a surrogate pair", (size_t) (p - ps->start) + 1);
					c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
					p += 6;
				}
				p += 4;
				break;
			default:
				return fail(ps, "22P02", "invalid JSON at byte %zu: unknown escape", (size_t) (p - ps->start) + 1);
		}
		p += 2;
		if (out)
			out = put_utf8(out, c);
		else
			(void) put_utf8(scratch, c);
	}
	if (out)
		*out_len = (size_t) (out - begin);
	return true;
}

/* The string at p as zero-terminated text in the arena, reserve bytes in. */
static bool
read_string(parser *ps, size_t reserve, char **data, size_t *len)
{
	const char *content;
	size_t		content_len;
	bool		escaped;
	char	   *piece;

	if (!scan_string(ps, &content, &content_len, &escaped))
		return false;
	piece = kfk_take(ps->decoder->arena, reserve + content_len + 1);
	if (piece == NULL)
		return kfk_fail_memory(ps->fault);
	*data = piece + reserve;
	if (!escaped)
	{
		memcpy(*data, content, content_len);
		*len = content_len;
	}
	else if (!unescape(ps, content, content_len, *data, len))
		return false;
	(*data)[*len] = '\0';
	return true;
}

/* The word at p, if it is this one. */
static inline bool
word(parser *ps, const char *text, size_t len)
{
	if ((size_t) (ps->end - ps->p) < len || memcmp(ps->p, text, len) != 0)
		return false;
	ps->p += len;
	return true;
}

/* Pass over any value, checking it wholly. */
static bool
skip_value(parser *ps)
{
	bool		in_object[KFK_MAX_DEPTH];
	int			depth = 0;
	kfk_number	number;
	const char *content;
	size_t		len;
	bool		escaped;

	for (;;)
	{
		/* A value, */
		skip_space(ps);
		if (ps->p >= ps->end)
			return fail_syntax(ps, "a value");
		if (*ps->p == '{' || *ps->p == '[')
		{
			char		close = *ps->p == '{' ? '}' : ']';

			if (depth == KFK_MAX_DEPTH - 1)
				return fail(ps, "54001", "the message is nested more than %d levels deep", KFK_MAX_DEPTH);
			in_object[depth++] = close == '}';
			ps->p++;
			skip_space(ps);
			if (ps->p < ps->end && *ps->p == close)
			{
				ps->p++;
				depth--;
			}
			else if (close == '}')
				goto key;
			else
				continue;
		}
		else if (*ps->p == '"')
		{
			if (!scan_string(ps, &content, &len, &escaped) ||
				(escaped && !unescape(ps, content, len, NULL, NULL)))
				return false;
		}
		else if (!word(ps, "true", 4) && !word(ps, "false", 5) && !word(ps, "null", 4))
		{
			const char *after = kfk_scan_number(ps->p, ps->end, &number);

			if (after == NULL)
				return fail_syntax(ps, "a value");
			ps->p = after;
		}

		/* then the end of what it closes, or a comma and the next. */
		for (;;)
		{
			if (depth == 0)
				return true;
			skip_space(ps);
			if (ps->p < ps->end && *ps->p == (in_object[depth - 1] ? '}' : ']'))
			{
				ps->p++;
				depth--;
				continue;
			}
			if (ps->p >= ps->end || *ps->p != ',')
				return fail_syntax(ps, in_object[depth - 1] ? "a comma or }" : "a comma or ]");
			ps->p++;
			break;
		}
		if (!in_object[depth - 1])
			continue;
key:
		skip_space(ps);
		if (ps->p >= ps->end || *ps->p != '"')
			return fail_syntax(ps, "a key");
		if (!scan_string(ps, &content, &len, &escaped) ||
			(escaped && !unescape(ps, content, len, NULL, NULL)))
			return false;
		skip_space(ps);
		if (ps->p >= ps->end || *ps->p != ':')
			return fail_syntax(ps, "a colon");
		ps->p++;
	}
}

/* Any value as it stands in the message, zero-terminated in the arena. */
static bool
read_raw(parser *ps, size_t reserve, char **data, size_t *len)
{
	const char *from = ps->p;
	char	   *piece;

	if (!skip_value(ps))
		return false;
	*len = (size_t) (ps->p - from);
	piece = kfk_take(ps->decoder->arena, reserve + *len + 1);
	if (piece == NULL)
		return kfk_fail_memory(ps->fault);
	*data = piece + reserve;
	memcpy(*data, from, *len);
	(*data)[*len] = '\0';
	return true;
}

static bool __attribute__((cold))
fail_kind(parser *ps, const kfk_field *field, const char *wanted)
{
	return fail(ps, "22P02", "value of \"%.*s\" is not %s", shown(field->key_len), field->key, wanted);
}

static bool __attribute__((cold))
fail_rounding(parser *ps, const kfk_field *field, const kfk_number *number, kfk_rounding why)
{
	if (why == KFK_NOT_WHOLE)
		return fail(ps, "22P02", "value %.*s of \"%.*s\" is not an integer", shown(number->len), number->start, shown(field->key_len), field->key);
	return fail(ps, "22003", "value %.*s of \"%.*s\" is out of range", shown(number->len), number->start, shown(field->key_len), field->key);
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
grow(parser *ps, char **data, bool **nulls, size_t used, size_t *room, size_t width)
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
read_array(parser *ps, const kfk_field *field, kfk_value *value)
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
	ps->p++;
	skip_space(ps);
	if (ps->p < ps->end && *ps->p == ']')
		ps->p++;
	else
		for (;;)
		{
			if (n == room && !grow(ps, &data, &nulls, n, &room, width))
				return false;
			skip_space(ps);
			if (ps->p < ps->end && *ps->p == 'n' && word(ps, "null", 4))
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
				const char *after = kfk_scan_number(ps->p, ps->end, &number);
				kfk_rounding r;

				if (after == NULL)
				{
					if (ps->p < ps->end && strchr("\"{[tf", *ps->p) != NULL)
						return fail_kind(ps, field, "an array of numbers");
					return fail_syntax(ps, "a number");
				}
				ps->p = after;
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

				if (ps->p < ps->end && (*ps->p == '[' || *ps->p == '{'))
					return fail_kind(ps, field, "an array of one dimension");
				if (ps->p < ps->end && *ps->p == '"' ? !read_string(ps, KFK_TEXT_RESERVE, &text, &slice->len) :
					!read_raw(ps, KFK_TEXT_RESERVE, &text, &slice->len))
					return false;
				slice->data = text;
			}
			n++;
			skip_space(ps);
			if (ps->p < ps->end && *ps->p == ',')
				ps->p++;
			else if (ps->p < ps->end && *ps->p == ']')
			{
				ps->p++;
				break;
			}
			else
				return fail_syntax(ps, "a comma or ]");
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
read_string_as(parser *ps, const kfk_field *field, kfk_value *value)
{
	if (!read_string(ps, KFK_TEXT_RESERVE, &value->v.data, &value->len))
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
		long		n = kfk_base64(value->v.data, value->len, (unsigned char *) value->v.data);

		if (n < 0)
			return fail_kind(ps, field, "base64");
		value->len = (size_t) n;
		value->state = KFK_SET;
	}
	return true;
}

/* The value at p for a field. */
static bool
read_value(parser *ps, const kfk_field *field, kfk_value *value)
{
	char		c;

	skip_space(ps);
	if (ps->p >= ps->end)
		return fail_syntax(ps, "a value");
	c = *ps->p;
	value->state = KFK_AS_TEXT;
	value->has_nulls = false;

	if (field->kind == KFK_JSON)
		return read_raw(ps, KFK_TEXT_RESERVE, &value->v.data, &value->len);
	if (c == '"')
	{
		if (field->kind != KFK_TEXT)
			return read_string_as(ps, field, value);
		value->state = KFK_SET;
		return read_string(ps, KFK_TEXT_RESERVE, &value->v.data, &value->len);
	}
	if (c == 'n' && word(ps, "null", 4))
	{
		value->state = KFK_NULL;
		return true;
	}
	if (field->kind == KFK_TEXT)
	{
		value->state = KFK_SET;
		return read_raw(ps, KFK_TEXT_RESERVE, &value->v.data, &value->len);
	}
	if (field->kind >= KFK_FLOAT4_ARRAY)
		return c == '[' ? read_array(ps, field, value) : fail_kind(ps, field, "an array");
	if (c == '{' || c == '[')
		return fail_kind(ps, field, "a single value");
	switch (field->kind)
	{
		case KFK_BOOL:
			value->v.boolean = c == 't';
			if (!word(ps, "true", 4) && !word(ps, "false", 5))
				return fail_kind(ps, field, "true or false");
			break;
		case KFK_TIMESTAMPTZ:
			return fail_kind(ps, field, "a timestamp in a string");
		case KFK_BYTEA:
			return fail_kind(ps, field, "base64 in a string");
		default:
			{
				kfk_number	number;
				const char *after = kfk_scan_number(ps->p, ps->end, &number);
				kfk_rounding r;

				if (after == NULL)
				{
					if (c == 't' || c == 'f')
						return fail_kind(ps, field, "a number");
					return fail_syntax(ps, "a value");
				}
				ps->p = after;
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
read_object(parser *ps, kfk_value *values)
{
	const kfk_decoder *decoder = ps->decoder;
	int			guess = 0;

	for (int i = 0; i < decoder->n_fields; i++)
		values[i].state = KFK_ABSENT;
	skip_space(ps);
	if (ps->p >= ps->end || *ps->p != '{')
		return fail_syntax(ps, "a JSON object");
	ps->p++;
	skip_space(ps);
	if (ps->p < ps->end && *ps->p == '}')
	{
		ps->p++;
		return true;
	}
	for (;;)
	{
		const char *key;
		size_t		key_len;
		bool		escaped;
		int			f;

		skip_space(ps);
		if (ps->p >= ps->end || *ps->p != '"')
			return fail_syntax(ps, "a key");
		if (!scan_string(ps, &key, &key_len, &escaped))
			return false;
		if (escaped)
		{
			char	   *copy = kfk_take(decoder->arena, key_len + 1);

			if (copy == NULL)
				return kfk_fail_memory(ps->fault);
			if (!unescape(ps, key, key_len, copy, &key_len))
				return false;
			key = copy;
		}
		skip_space(ps);
		if (ps->p >= ps->end || *ps->p != ':')
			return fail_syntax(ps, "a colon");
		ps->p++;
		f = kfk_find_field(decoder, key, key_len, guess);
		if (f >= 0)
		{
			if (!read_value(ps, &decoder->fields[f], &values[f]))
				return false;
			guess = f + 1;
		}
		else if (decoder->refuse_unknown)
			return fail(ps, "22023", "key \"%.*s\" is no column of the target", shown(key_len), key);
		else if (!skip_value(ps))
			return false;
		skip_space(ps);
		if (ps->p < ps->end && *ps->p == ',')
			ps->p++;
		else if (ps->p < ps->end && *ps->p == '}')
		{
			ps->p++;
			return true;
		}
		else
			return fail_syntax(ps, "a comma or }");
	}
}

/* Between the objects of an array: true with *more if another follows. */
static bool
next_element(parser *ps, bool first, bool *more)
{
	skip_space(ps);
	*more = ps->p < ps->end && *ps->p == ',' && !first;
	if (*more)
	{
		ps->p++;
		return true;
	}
	if (ps->p < ps->end && *ps->p == ']')
	{
		ps->p++;
		return true;
	}
	*more = first;
	return first ? true : fail_syntax(ps, "a comma or ]");
}

static bool
read_end(parser *ps)
{
	skip_space(ps);
	return ps->p < ps->end ? fail_syntax(ps, "the end of the message") : true;
}

/* One object; with option array_rows also an array of them, one row each. */
static bool
read_row(parser *ps, kfk_reader *reader, kfk_value *values, bool *done)
{
	bool		first = reader->rows == 0;
	bool		more = true;

	*done = false;
	if (first)
	{
		if (!kfk_utf8(ps->start, (size_t) (ps->end - ps->start)))
			return fail(ps, "22021", memchr(ps->start, 0, (size_t) (ps->end - ps->start)) ? "the message contains a zero byte" : "the message is not valid UTF-8");
		skip_space(ps);
		if (!ps->decoder->options->array_rows || ps->p >= ps->end || *ps->p != '[')
			return read_object(ps, values) && read_end(ps);
		reader->in_array = true;
		ps->p++;
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
	parser		ps = {reader->decoder, reader->start, reader->p, reader->end, fault};
	bool		done;
	bool		good = read_row(&ps, reader, values, &done);

	reader->p = ps.p;
	reader->rows++;
	return !good ? KFK_FAULT : done ? KFK_DONE : KFK_ROW;
}
