/*
 * xml.c
 *	  See xml.h.  Grammar: Extensible Markup Language (XML) 1.0, fifth edition,
 *	  without the productions of document type declarations.
 */
#include "quality/xml.h"

#include <string.h>

static qlt_xml_step
fault(qlt_xml *x, const char *kind, const char *reason)
{
	x->fault = kind;
	x->reason = reason;
	return QLT_XML_FAULT;
}

static bool
space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool
name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' || c == ':' ||
		(unsigned char) c >= 0x80;
}

static bool
starts(const qlt_xml *x, const char *with)
{
	size_t		len = strlen(with);

	return (size_t) (x->end - x->p) >= len && memcmp(x->p, with, len) == 0;
}

/* Behind the next mark, or NULL. */
static const char *
behind(const qlt_xml *x, const char *mark)
{
	const char *at = memmem(x->p, (size_t) (x->end - x->p), mark, strlen(mark));

	return at ? at + strlen(mark) : NULL;
}

void
qlt_xml_begin(qlt_xml *x, const char *text, const char *end)
{
	memset(x, 0, sizeof(*x));
	x->p = x->at = text;
	x->end = end;
}

static void
add_text(qlt_xml *x, const char *p, size_t len)
{
	/* A character that does not fit ends the text: it is cut, never broken. */
	if (x->text_len + len <= QLT_XML_TEXT)
	{
		memcpy(x->text + x->text_len, p, len);
		x->text_len += len;
	}
}

static void
end_text(qlt_xml *x)
{
	size_t		first = 0;

	while (x->text_len > 0 && space(x->text[x->text_len - 1]))
		x->text_len--;
	while (first < x->text_len && space(x->text[first]))
		first++;
	x->text_len -= first;
	memmove(x->text, x->text + first, x->text_len);
	x->text[x->text_len] = '\0';
}

/* A character by number, as UTF-8. */
static bool
add_character(qlt_xml *x, unsigned long c)
{
	char		out[4];
	size_t		len;

	if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) || (c < 0x20 && c != '\t' && c != '\n' && c != '\r'))
		return false;
	if (c < 0x80)
	{
		out[0] = (char) c;
		len = 1;
	}
	else if (c < 0x800)
	{
		out[0] = (char) (0xc0 | c >> 6);
		out[1] = (char) (0x80 | (c & 0x3f));
		len = 2;
	}
	else if (c < 0x10000)
	{
		out[0] = (char) (0xe0 | c >> 12);
		out[1] = (char) (0x80 | (c >> 6 & 0x3f));
		out[2] = (char) (0x80 | (c & 0x3f));
		len = 3;
	}
	else
	{
		out[0] = (char) (0xf0 | c >> 18);
		out[1] = (char) (0x80 | (c >> 12 & 0x3f));
		out[2] = (char) (0x80 | (c >> 6 & 0x3f));
		out[3] = (char) (0x80 | (c & 0x3f));
		len = 4;
	}
	add_text(x, out, len);
	return true;
}

/* The reference at p, which is an ampersand. */
static bool
add_reference(qlt_xml *x)
{
	static const struct
	{
		const char *name;
		const char *text;
	}			known[] = {{"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&apos;", "'"}};
	unsigned long c = 0;
	bool		hex;
	const char *p;

	for (int i = 0; i < 5; i++)
		if (starts(x, known[i].name))
		{
			add_text(x, known[i].text, 1);
			x->p += strlen(known[i].name);
			return true;
		}
	if (!starts(x, "&#"))
		return false;
	hex = starts(x, "&#x");
	p = x->p + (hex ? 3 : 2);
	if (p < x->end && *p == ';')
		return false;
	for (; p < x->end && *p != ';'; p++)
	{
		int			digit = *p >= '0' && *p <= '9' ? *p - '0' : hex && (*p | 0x20) >= 'a' && (*p | 0x20) <= 'f' ? (*p | 0x20) - 'a' + 10 : -1;

		if (digit < 0 || c > 0x10ffff)
			return false;
		c = c * (hex ? 16 : 10) + (unsigned long) digit;
	}
	if (p >= x->end || !add_character(x, c))
		return false;
	x->p = p + 1;
	return true;
}

/* The attributes, up to > or />. */
static bool
pass_attributes(qlt_xml *x)
{
	for (;;)
	{
		const char *before = x->p;
		char		quote;

		while (x->p < x->end && space(*x->p))
			x->p++;
		if (x->p >= x->end)
			return false;
		if (*x->p == '>' || starts(x, "/>"))
			return true;
		if (x->p == before || !name_char(*x->p))
			return false;
		while (x->p < x->end && name_char(*x->p))
			x->p++;
		while (x->p < x->end && space(*x->p))
			x->p++;
		if (x->p >= x->end || *x->p != '=')
			return false;
		x->p++;
		while (x->p < x->end && space(*x->p))
			x->p++;
		if (x->p >= x->end || (*x->p != '"' && *x->p != '\''))
			return false;
		quote = *x->p++;
		while (x->p < x->end && *x->p != quote && *x->p != '<')
			x->p++;
		if (x->p >= x->end || *x->p != quote)
			return false;
		x->p++;
	}
}

static qlt_xml_step
open_element(qlt_xml *x)
{
	const char *name = ++x->p;
	size_t		before = x->depth > 0 ? x->name_end[x->depth] : 0;
	size_t		len;

	while (x->p < x->end && name_char(*x->p))
		x->p++;
	len = (size_t) (x->p - name);
	if (len == 0)
		return fault(x, "invalid_xml", "a < that begins no element");
	if (x->depth == 0 && x->rooted)
		return fault(x, "invalid_xml", "a second root element");
	if (x->depth == QLT_XML_DEPTH || before + 1 + len >= sizeof(x->path))
		return fault(x, "xml_too_deep", "elements are nested too deep");
	if (!pass_attributes(x))
		return fault(x, "invalid_xml", "the attributes of an element cannot be read");
	if (x->depth > 0)
		x->path[before++] = '/';
	memcpy(x->path + before, name, len);
	x->path[before + len] = '\0';
	x->name_end[++x->depth] = before + len;
	x->rooted = true;
	x->close = *x->p == '/';
	x->p += x->close ? 2 : 1;
	x->text_len = 0;
	x->text[0] = '\0';
	return QLT_XML_OPEN;
}

static qlt_xml_step
close_element(qlt_xml *x)
{
	size_t		first = x->depth > 1 ? x->name_end[x->depth - 1] + 1 : 0;
	size_t		len;

	if (x->depth == 0)
		return fault(x, "invalid_xml", "an end without a beginning");
	len = x->name_end[x->depth] - first;
	x->p += 2;
	if ((size_t) (x->end - x->p) < len || memcmp(x->p, x->path + first, len) != 0)
		return fault(x, "invalid_xml", "an element ends that is not the innermost one");
	x->p += len;
	while (x->p < x->end && space(*x->p))
		x->p++;
	if (x->p >= x->end || *x->p != '>')
		return fault(x, "invalid_xml", "the end of an element cannot be read");
	x->p++;
	end_text(x);
	x->leave = true;
	return QLT_XML_CLOSE;
}

/* <?…?>, <!--…-->, <![CDATA[…]]>; false: none of them, or it does not end. */
static bool
pass_markup(qlt_xml *x)
{
	const char *after;

	if (starts(x, "<![CDATA[") && x->depth > 0)
	{
		x->p += 9;
		after = behind(x, "]]>");
		if (after)
			add_text(x, x->p, (size_t) (after - 3 - x->p));
	}
	else if (starts(x, "<?"))
		after = behind(x, "?>");
	else if (starts(x, "<!--"))
	{
		x->p += 4;
		after = behind(x, "-->");
	}
	else
		return false;
	if (after == NULL)
		return false;
	x->p = after;
	return true;
}

qlt_xml_step
qlt_xml_next(qlt_xml *x)
{
	if (x->leave)
	{
		x->depth--;
		x->path[x->depth > 0 ? x->name_end[x->depth] : 0] = '\0';
		x->text_len = 0;
		x->leave = false;
	}
	if (x->close)
	{
		x->close = false;
		x->leave = true;
		return QLT_XML_CLOSE;
	}
	while (x->p < x->end)
	{
		const char *first = x->p;

		x->at = first;
		if (*x->p == '&')
		{
			if (x->depth == 0 || !add_reference(x))
				return fault(x, "xml_entity", "an entity that XML does not have by itself");
		}
		else if (*x->p != '<')
		{
			while (x->p < x->end && *x->p != '<' && *x->p != '&')
			{
				if (x->depth == 0 && !space(*x->p))
					return fault(x, "invalid_xml", x->rooted ? "text behind the root element" : "text before the root element");
				x->p++;
			}
			if (x->depth > 0 && x->text_len + (size_t) (x->p - first) > QLT_XML_TEXT)
				return fault(x, "name_too_long", "the text of an element is too long");
			if (x->depth > 0)
				add_text(x, first, (size_t) (x->p - first));
		}
		else if (starts(x, "</"))
			return close_element(x);
		else if (starts(x, "<!DOCTYPE") || starts(x, "<!ENTITY"))
			return fault(x, "xml_doctype", "a document type, which might define entities, is not read");
		else if (starts(x, "<?") || starts(x, "<!"))
		{
			if (!pass_markup(x))
				return fault(x, "invalid_xml", "markup that cannot be read or does not end");
		}
		else
			return open_element(x);
	}
	x->at = x->end;
	if (x->depth > 0)
		return fault(x, "invalid_xml", "the file ends within an element");
	return x->rooted ? QLT_XML_END : fault(x, "invalid_xml", "there is no element");
}
