/*
 * json.c
 *	  Pieces of JSON (RFC 8259): strings, and values that nobody wants.  See json.h.
 */
#include "stream/worker/json.h"

#include <string.h>

bool
kfk_json_syntax(kfk_json *ps, const char *expected)
{
	if (ps->p >= ps->end)
		return kfk_fail(ps->fault, "22P02", "invalid JSON: the message ends after %zu bytes, expected %s", (size_t) (ps->end - ps->start), expected);
	return kfk_fail(ps->fault, "22P02", "invalid JSON at byte %zu: expected %s", (size_t) (ps->p - ps->start) + 1, expected);
}

bool
kfk_json_scan(kfk_json *ps, const char **content, size_t *len, bool *escaped)
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
				return kfk_json_syntax(ps, "the closing quote of a string");
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
				return kfk_json_syntax(ps, "an escape for the control character in a string");
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

bool
kfk_json_unescape(kfk_json *ps, const char *p, size_t len, char *out, size_t *out_len)
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
					return kfk_fail(ps->fault, "22P02", "invalid JSON at byte %zu: \\u without four hexadecimal digits", (size_t) (p - ps->start) + 1);
				if (c == 0)
					return kfk_fail(ps->fault, "22P05", "\\u0000 at byte %zu cannot be stored in text", (size_t) (p - ps->start) + 1);
				if (c >= 0xd800 && c <= 0xdfff)
				{
					int			low = c < 0xdc00 && end - p >= 12 && p[6] == '\\' && p[7] == 'u' ? hex4(p + 8) : -1;

					if (low < 0xdc00 || low > 0xdfff)
						return kfk_fail(ps->fault, "22P02", "invalid JSON at byte %zu: half of a surrogate pair", (size_t) (p - ps->start) + 1);
					c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
					p += 6;
				}
				p += 4;
				break;
			default:
				return kfk_fail(ps->fault, "22P02", "invalid JSON at byte %zu: unknown escape", (size_t) (p - ps->start) + 1);
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

bool
kfk_json_string(kfk_json *ps, size_t reserve, char **data, size_t *len)
{
	const char *content;
	size_t		content_len;
	bool		escaped;
	char	   *piece;

	if (!kfk_json_scan(ps, &content, &content_len, &escaped))
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
	else if (!kfk_json_unescape(ps, content, content_len, *data, len))
		return false;
	(*data)[*len] = '\0';
	return true;
}

bool
kfk_json_skip(kfk_json *ps)
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
		kfk_json_space(ps);
		if (ps->p >= ps->end)
			return kfk_json_syntax(ps, "a value");
		if (*ps->p == '{' || *ps->p == '[')
		{
			char		close = *ps->p == '{' ? '}' : ']';

			if (depth == KFK_MAX_DEPTH - 1)
				return kfk_fail(ps->fault, "54001", "the message is nested more than %d levels deep", KFK_MAX_DEPTH);
			in_object[depth++] = close == '}';
			ps->p++;
			kfk_json_space(ps);
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
			if (!kfk_json_scan(ps, &content, &len, &escaped) ||
				(escaped && !kfk_json_unescape(ps, content, len, NULL, NULL)))
				return false;
		}
		else if (!kfk_json_word(ps, "true", 4) && !kfk_json_word(ps, "false", 5) && !kfk_json_word(ps, "null", 4))
		{
			const char *after = kfk_scan_number(ps->p, ps->end, &number);

			if (after == NULL)
				return kfk_json_syntax(ps, "a value");
			ps->p = after;
		}

		/* then the end of what it closes, or a comma and the next. */
		for (;;)
		{
			if (depth == 0)
				return true;
			kfk_json_space(ps);
			if (ps->p < ps->end && *ps->p == (in_object[depth - 1] ? '}' : ']'))
			{
				ps->p++;
				depth--;
				continue;
			}
			if (ps->p >= ps->end || *ps->p != ',')
				return kfk_json_syntax(ps, in_object[depth - 1] ? "a comma or }" : "a comma or ]");
			ps->p++;
			break;
		}
		if (!in_object[depth - 1])
			continue;
key:
		kfk_json_space(ps);
		if (ps->p >= ps->end || *ps->p != '"')
			return kfk_json_syntax(ps, "a key");
		if (!kfk_json_scan(ps, &content, &len, &escaped) ||
			(escaped && !kfk_json_unescape(ps, content, len, NULL, NULL)))
			return false;
		kfk_json_space(ps);
		if (ps->p >= ps->end || *ps->p != ':')
			return kfk_json_syntax(ps, "a colon");
		ps->p++;
	}
}

bool
kfk_json_raw(kfk_json *ps, size_t reserve, char **data, size_t *len)
{
	const char *from = ps->p;
	char	   *piece;

	if (!kfk_json_skip(ps))
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
