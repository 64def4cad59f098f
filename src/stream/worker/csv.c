/*
 * csv.c
 *	  Lines of comma-separated values (RFC 4180) into column values.
 *
 * A message is one line or several; its last line break may be missing.  Fields
 * between quotes may hold delimiters, line breaks and doubled quotes.  As in
 * COPY, a field without quotes that reads like the NULL text is NULL, and one
 * with quotes never is.  Each line has as many fields as there are names.
 */
#include "stream/worker/format.h"

#include <string.h>

#include "stream/worker/scalar.h"

/* The field at *p: its text (zero-terminated, in the arena, quotes resolved) and whether it was quoted. */
static bool
read_field(kfk_reader *r, char **text, size_t *len, bool *quoted, kfk_fault *fault)
{
	const kfk_format_options *o = r->decoder->options;
	const char *p = r->p;
	const char *from = p;
	char	   *out;

	*quoted = o->quote != '\0' && p < r->end && *p == o->quote;
	if (!*quoted)
	{
		while (p < r->end && *p != o->delimiter && *p != '\n' && *p != '\r')
		{
			if (*p == o->quote && o->quote != '\0')
				return kfk_fail(fault, "22P04", "invalid CSV at byte %zu: a quote inside a field without quotes", (size_t) (p - r->start) + 1);
			p++;
		}
		*len = (size_t) (p - from);
		*text = kfk_take(r->decoder->arena, KFK_TEXT_RESERVE + *len + 1);
		if (*text == NULL)
			return kfk_fail_memory(fault);
		*text += KFK_TEXT_RESERVE;
		memcpy(*text, from, *len);
		(*text)[*len] = '\0';
		r->p = p;
		return true;
	}

	/* To the closing quote; the text is never longer than what stands there. */
	from = ++p;
	while (p < r->end && (*p != o->quote || (p + 1 < r->end && p[1] == o->quote)))
		p += *p == o->quote ? 2 : 1;
	if (p >= r->end)
		return kfk_fail(fault, "22P04", "invalid CSV: the field at byte %zu has no closing quote", (size_t) (from - r->start));
	*text = kfk_take(r->decoder->arena, KFK_TEXT_RESERVE + (size_t) (p - from) + 1);
	if (*text == NULL)
		return kfk_fail_memory(fault);
	*text += KFK_TEXT_RESERVE;
	out = *text;
	for (const char *q = from; q < p; q++)
	{
		*out++ = *q;
		q += *q == o->quote;
	}
	*out = '\0';
	*len = (size_t) (out - *text);
	r->p = p + 1;
	return true;
}

/* Behind a field: true with *more if another follows in this line; the line break is read. */
static bool
read_separator(kfk_reader *r, bool *more, kfk_fault *fault)
{
	*more = r->p < r->end && *r->p == r->decoder->options->delimiter;
	if (*more)
		r->p++;
	else if (r->p < r->end && *r->p == '\n')
		r->p++;
	else if (r->end - r->p >= 2 && r->p[0] == '\r' && r->p[1] == '\n')
		r->p += 2;
	else if (r->p < r->end)
		return kfk_fail(fault, "22P04", "invalid CSV at byte %zu: expected a delimiter or the end of the line", (size_t) (r->p - r->start) + 1);
	return true;
}

/* The first line as names of the fields. */
static bool
read_header(kfk_reader *r, kfk_fault *fault)
{
	int			room = 16;
	int		   *positions = kfk_take(r->decoder->arena, sizeof(int) * (size_t) room);
	int			n = 0;
	bool		more = true;

	if (positions == NULL)
		return kfk_fail_memory(fault);
	while (more)
	{
		char	   *name;
		size_t		len;
		bool		quoted;

		if (!read_field(r, &name, &len, &quoted, fault) || !read_separator(r, &more, fault))
			return false;
		if (n == room)
		{
			int		   *larger = kfk_take(r->decoder->arena, sizeof(int) * (size_t) room * 2);

			if (larger == NULL)
				return kfk_fail_memory(fault);
			memcpy(larger, positions, sizeof(int) * (size_t) n);
			positions = larger;
			room *= 2;
		}
		positions[n] = kfk_find_field(r->decoder, name, len, n);
		if (positions[n] < 0 && r->decoder->refuse_unknown)
			return kfk_fail(fault, "22023", "field \"%.*s\" is no column of the target", kfk_shown(len), name);
		n++;
	}
	r->positions = positions;
	r->n_positions = n;
	return true;
}

static bool
read_line(kfk_reader *r, kfk_value *values, kfk_fault *fault)
{
	const kfk_decoder *d = r->decoder;
	const kfk_format_options *o = d->options;
	bool		more = true;

	for (int i = 0; i < d->n_fields; i++)
		values[i].state = KFK_ABSENT;
	for (int i = 0; more; i++)
	{
		char	   *text;
		size_t		len;
		bool		quoted;
		int			f;

		if (!read_field(r, &text, &len, &quoted, fault) || !read_separator(r, &more, fault))
			return false;
		if (i >= r->n_positions || (!more && i + 1 < r->n_positions))
			return kfk_fail(fault, "22P04", "row %d of the CSV message has %s fields than the %d expected", r->rows + 1,
							i >= r->n_positions ? "more" : "fewer", r->n_positions);
		f = r->positions[i];
		if (f < 0)
			continue;
		if (!quoted && len == o->null_len && memcmp(text, o->null_text, len) == 0)
			values[f].state = KFK_NULL;
		else
			kfk_text_value(d->fields[f].kind, text, len, &values[f]);
	}
	return true;
}

kfk_step
kfk_csv_next(kfk_reader *r, kfk_value *values, kfk_fault *fault)
{
	if (r->p == r->start)
	{
		size_t		len = (size_t) (r->end - r->start);

		if (!mr_utf8(r->start, len))
		{
			(void) kfk_fail(fault, "22021", memchr(r->start, 0, len) ? "the message contains a zero byte" : "the message is not valid UTF-8");
			return KFK_FAULT;
		}
		if (len == 0)
		{
			(void) kfk_fail(fault, "22P04", "the CSV message is empty");
			return KFK_FAULT;
		}
		if (r->decoder->options->header && !read_header(r, fault))
			return KFK_FAULT;
	}
	if (r->p >= r->end)
		return KFK_DONE;
	if (!read_line(r, values, fault))
		return KFK_FAULT;
	r->rows++;
	return KFK_ROW;
}
