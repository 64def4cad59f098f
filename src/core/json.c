/*
 * json.c
 *	  Reading JSON.  See json.h.
 */
#include "core/json.h"

#include <stdlib.h>

bool
mr_json_syntax(mr_json *js, const char *expected)
{
	if (js->p >= js->end)
		mr_fail(js->st, MR_INVALID, "invalid JSON: it ends after %zu bytes, expected %s", (size_t) (js->end - js->start), expected);
	else
		mr_fail(js->st, MR_INVALID, "invalid JSON at byte %zu: expected %s", (size_t) (js->p - js->start) + 1, expected);
	return false;
}

bool
mr_json_string(mr_json *js, const char **content, size_t *len, bool *escaped)
{
	const char *p;
	const char *end = js->end;

	if (mr_json_peek(js) != '"')
		return mr_json_syntax(js, "a string");
	p = js->p + 1;
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
				js->p = end;
				return mr_json_syntax(js, "the closing quote of a string");
			}
			if (*p == '"')
			{
				*len = (size_t) (p - *content);
				js->p = p + 1;
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
				js->p = p;
				return mr_json_syntax(js, "an escape for the control character in a string");
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

/* What the escape at p stands for, and its length; -1: fault set. */
static int
escape(mr_json *js, const char *p, const char *end, int *len)
{
	size_t		at = (size_t) (p - js->start) + 1;
	int			c;

	*len = 2;
	switch (p[1])
	{
		case 'b':
			return '\b';
		case 'f':
			return '\f';
		case 'n':
			return '\n';
		case 'r':
			return '\r';
		case 't':
			return '\t';
		case '"':
		case '\\':
		case '/':
			return p[1];
		case 'u':
			break;
		default:
			mr_fail(js->st, MR_INVALID, "invalid JSON at byte %zu: unknown escape", at);
			return -1;
	}
	c = end - p >= 6 ? hex4(p + 2) : -1;
	*len = 6;
	if (c < 0)
		mr_fail(js->st, MR_INVALID, "invalid JSON at byte %zu: \\u without four hexadecimal digits", at);
	else if (c == 0)
	{
		mr_fail(js->st, MR_UNSUPPORTED, "\\u0000 at byte %zu cannot be stored in text", at);
		return -1;
	}
	else if (c >= 0xd800 && c <= 0xdfff)
	{
		int			low = c < 0xdc00 && end - p >= 12 && p[6] == '\\' && p[7] == 'u' ? hex4(p + 8) : -1;

		*len = 12;
		if (low >= 0xdc00 && low <= 0xdfff)
			return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
		mr_fail(js->st, MR_INVALID, "invalid JSON at byte %zu: half of a surrogate pair", at);
		return -1;
	}
	return c;
}

bool
mr_json_unescape(mr_json *js, const char *p, size_t len, char *out, size_t *out_len)
{
	const char *end = p + len;
	char	   *begin = out;
	char		scratch[4];

	while (p < end)
	{
		int			c,
					n;

		if (*p != '\\')
		{
			if (out)
				*out++ = *p;
			p++;
			continue;
		}
		c = escape(js, p, end, &n);
		if (c < 0)
			return false;
		p += n;
		if (out)
			out = put_utf8(out, c);
		else
			(void) put_utf8(scratch, c);
	}
	if (out)
		*out_len = (size_t) (out - begin);
	return true;
}

bool
mr_json_text(mr_json *js, char *out, size_t size)
{
	const char *content;
	size_t		len;
	bool		escaped;

	if (!mr_json_string(js, &content, &len, &escaped))
		return false;
	if (len > size - 1)
	{
		len = size - 1;
		/* not within an escape */
		while (escaped && len > 0 && memchr(content + (len > 11 ? len - 11 : 0), '\\', len > 11 ? 11 : len))
			len--;
	}
	if (!escaped)
		memcpy(out, content, len);
	else if (!mr_json_unescape(js, content, len, out, &len))
		return false;
	out[len] = '\0';
	return true;
}

/* The end of the number at p (RFC 8259), or NULL. */
static const char *
number_end(const char *p, const char *end)
{
	const char *first;

	if (p < end && *p == '-')
		p++;
	for (first = p; p < end && *p >= '0' && *p <= '9'; p++)
		;
	if (p == first || (*first == '0' && p - first > 1))
		return NULL;
	if (p < end && *p == '.')
	{
		for (first = ++p; p < end && *p >= '0' && *p <= '9'; p++)
			;
		if (p == first)
			return NULL;
	}
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		for (first = p; p < end && *p >= '0' && *p <= '9'; p++)
			;
		if (p == first)
			return NULL;
	}
	return p;
}

bool
mr_json_number(mr_json *js, double *out)
{
	char		copy[64];
	const char *after;

	mr_json_space(js);
	after = number_end(js->p, js->end);
	if (after == NULL || after - js->p >= (ptrdiff_t) sizeof(copy))
		return mr_json_syntax(js, "a number");
	memcpy(copy, js->p, (size_t) (after - js->p));
	copy[after - js->p] = '\0';
	*out = strtod(copy, NULL);	/* LC_NUMERIC is C in a server */
	js->p = after;
	return true;
}

bool
mr_json_bool(mr_json *js, bool *out)
{
	mr_json_space(js);
	*out = mr_json_word(js, "true", 4);
	if (!*out && !mr_json_word(js, "false", 5) && !mr_json_word(js, "null", 4))
		return mr_json_syntax(js, "true or false");
	return true;
}

bool
mr_json_null(mr_json *js)
{
	mr_json_space(js);
	return mr_json_word(js, "null", 4);
}

bool
mr_json_open(mr_json *js, char bracket)
{
	if (mr_json_peek(js) != bracket)
		return mr_json_syntax(js, bracket == '{' ? "an object" : "an array");
	js->p++;
	return true;
}

int
mr_json_next(mr_json *js, char bracket, int *n)
{
	char		close = bracket == '{' ? '}' : ']';
	char		c = mr_json_peek(js);

	if (c == close)
	{
		js->p++;
		return 0;
	}
	if (*n > 0)
	{
		if (c != ',')
			return mr_json_syntax(js, bracket == '{' ? "a comma or }" : "a comma or ]"), -1;
		js->p++;
		if (mr_json_peek(js) == close)
			return mr_json_syntax(js, "another value"), -1;
	}
	(*n)++;
	return 1;
}

int
mr_json_key(mr_json *js, int *n, char *key, size_t size)
{
	int			more = mr_json_next(js, '{', n);

	if (more <= 0)
		return more;
	if (!mr_json_text(js, key, size))
		return -1;
	if (mr_json_peek(js) != ':')
		return mr_json_syntax(js, "a colon"), -1;
	js->p++;
	return 1;
}

bool
mr_json_skip(mr_json *js)
{
	char		open[MR_JSON_DEPTH];
	int			members[MR_JSON_DEPTH];
	int			depth = 0;

	for (;;)
	{
		const char *content;
		size_t		len;
		bool		escaped;
		char		c = mr_json_peek(js);

		/* A value, */
		if (c == '{' || c == '[')
		{
			if (depth == MR_JSON_DEPTH)
			{
				mr_fail(js->st, MR_LIMIT, "JSON is nested more than %d levels deep", MR_JSON_DEPTH);
				return false;
			}
			open[depth] = c;
			members[depth++] = 0;
			js->p++;
		}
		else if (c == '"')
		{
			if (!mr_json_string(js, &content, &len, &escaped) ||
				(escaped && !mr_json_unescape(js, content, len, NULL, NULL)))
				return false;
		}
		else if (!mr_json_word(js, "true", 4) && !mr_json_word(js, "false", 5) && !mr_json_word(js, "null", 4))
		{
			const char *after = number_end(js->p, js->end);

			if (after == NULL)
				return mr_json_syntax(js, "a value");
			js->p = after;
		}

		/* then the ends of what it closes, and the next one. */
		for (;;)
		{
			int			more;

			if (depth == 0)
				return true;
			more = mr_json_next(js, open[depth - 1], &members[depth - 1]);
			if (more < 0)
				return false;
			if (more > 0)
				break;
			depth--;
		}
		if (open[depth - 1] == '{')
		{
			if (!mr_json_string(js, &content, &len, &escaped) ||
				(escaped && !mr_json_unescape(js, content, len, NULL, NULL)))
				return false;
			if (mr_json_peek(js) != ':')
				return mr_json_syntax(js, "a colon");
			js->p++;
		}
	}
}
