/*
 * svg_buffer.c
 *	  SVG text as it grows: elements, escaped texts, the frame.  See svg_int.h.
 */
#include "core/svg_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool
reserve(svg_buffer *b, size_t more)
{
	size_t		size = b->size ? b->size : 8192;
	char	   *grown;

	if (b->failed)
		return false;
	if (b->len + more < b->size)
		return true;
	while (size <= b->len + more)
		size *= 2;
	grown = mr_alloc(b->env, size);
	if (grown == NULL)
	{
		b->failed = MR_NOMEM;
		return false;
	}
	if (b->data)
		memcpy(grown, b->data, b->len);
	mr_free(b->env, b->data);
	b->data = grown;
	b->size = size;
	return true;
}

void
svg_put(svg_buffer *b, const char *fmt,...)
{
	va_list		args;
	int			n;

	if (!reserve(b, 512))
		return;
	va_start(args, fmt);
	n = vsnprintf(b->data + b->len, 512, fmt, args);
	va_end(args);
	b->len += n < 0 ? 0 : n > 511 ? 511 : (size_t) n;
}

size_t
svg_cut(const char *text, size_t max)
{
	size_t		n = strlen(text);

	if (n <= max)
		return n;
	for (n = max - 3; n > 0 && ((unsigned char) text[n] & 0xC0) == 0x80;)
		n--;
	return n;
}

static void
put_text(svg_buffer *b, const char *text, size_t max)
{
	size_t		n = svg_cut(text, max);

	if (!reserve(b, n * 6 + 4))
		return;
	for (size_t i = 0; i < n; i++)
	{
		unsigned char c = (unsigned char) text[i];
		const char *entity = c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&quot;" : NULL;

		if (entity)
		{
			memcpy(b->data + b->len, entity, strlen(entity));
			b->len += strlen(entity);
		}
		else if (c == 0xEF && n - i >= 3 && (unsigned char) text[i + 1] == 0xBF && (unsigned char) text[i + 2] >= 0xBE)
		{
			b->data[b->len++] = ' ';	/* U+FFFE, U+FFFF */
			i += 2;
		}
		else
			b->data[b->len++] = c < 0x20 || c == 0x7F ? ' ' : (char) c;
	}
	if (n < strlen(text))
	{
		memcpy(b->data + b->len, "...", 3);
		b->len += 3;
	}
}

void
svg_label(svg_buffer *b, double x, double y, const char *attributes, const char *text, size_t max)
{
	svg_put(b, "<text x=\"%.1f\" y=\"%.1f\"%s>", x, y, attributes);
	put_text(b, text, max);
	svg_put(b, "</text>\n");
}

void
svg_begin(svg_buffer *b, double width, double height, const char *title)
{
	svg_put(b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
			"font-family=\"sans-serif\" font-size=\"12\">\n", width, height, width, height);
	if (title && title[0])
	{
		svg_put(b, "<title>");
		put_text(b, title, 200);
		svg_put(b, "</title>\n");
	}
	svg_put(b, "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n");
	if (title && title[0])
		svg_label(b, width / 2, 20, " text-anchor=\"middle\" font-size=\"14\" font-weight=\"bold\"", title, 70);
}

mr_code
svg_end(svg_buffer *b, char **out, mr_status *st)
{
	svg_put(b, "</svg>\n");
	if (b->failed)
	{
		mr_free(b->env, b->data);
		return b->failed == MR_CANCELED ? mr_fail(st, MR_CANCELED, "canceled") : mr_fail(st, MR_NOMEM, "out of memory");
	}
	b->data[b->len] = '\0';
	*out = b->data;
	return MR_OK;
}
