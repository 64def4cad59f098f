/*
 * form.c
 *	  Queries and forms, urlencoded and multipart (RFC 7578).  See form.h.
 */
#include "gateway/form.h"

#include <string.h>
#include <strings.h>

#include "core/utf8.h"

#define MAX_PART_HEAD 4096

static const char bad_escape[] = "a parameter has an invalid escape, or is not UTF-8";
static const char too_many[] = "there are too many parameters";

const char *
gw_fields_add(gw_fields *out, const gw_field *field)
{
	if (out->n == GW_MAX_VALUES)
		return too_many;
	out->field[out->n++] = *field;
	return NULL;
}

const char *
gw_fields_read(char *text, size_t len, gw_source source, gw_fields *out)
{
	char	   *end = text + len;

	while (text < end)
	{
		char	   *next = memchr(text, '&', (size_t) (end - text));
		char	   *stop = next ? next : end;
		char	   *equals = memchr(text, '=', (size_t) (stop - text));
		gw_field	field = {.source = source};
		const char *wrong;
		long		name = gw_unescape(text, (size_t) ((equals ? equals : stop) - text), true);
		long		value = equals ? gw_unescape(equals + 1, (size_t) (stop - equals - 1), true) : 0;

		if (name < 0 || value < 0)
			return bad_escape;
		field.name.p = text;
		field.name.len = (size_t) name;
		field.value.p = equals ? equals + 1 : "";
		field.value.len = (size_t) value;
		if (stop > text && (wrong = gw_fields_add(out, &field)) != NULL)
			return wrong;
		text = stop + 1;
	}
	return NULL;
}

/* ---- headers' parameters: ; name=value; name="va\"lue" */

static char *
skip_space(char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

/*
 * The next parameter at p, which is behind the value or a parameter, zero-terminated text.  A quoted value is
 * resolved in place.  Returns where to go on; NULL: there is no more, or it is malformed (*bad).
 */
static char *
next_parameter(char *p, gw_bytes *name, gw_bytes *value, bool *bad)
{
	char	   *out;

	p = skip_space(p);
	if (*p != ';')
	{
		*bad = *p != '\0';
		return NULL;
	}
	p = skip_space(p + 1);
	if (*p == '\0')
		return NULL;			/* a semicolon at the end */
	name->p = p;
	name->len = strcspn(p, "=; \t");
	p += name->len;
	if (*p != '=' || name->len == 0)
	{
		*bad = true;
		return NULL;
	}
	p++;
	if (*p != '"')
	{
		value->p = p;
		value->len = strcspn(p, "; \t");
		return p + value->len;
	}
	value->p = out = ++p;
	while (*p != '"')
	{
		if (p[0] == '\\' && (p[1] == '"' || p[1] == '\\'))
			p++;
		if (*p == '\0')
		{
			*bad = true;
			return NULL;
		}
		*out++ = *p++;
	}
	value->len = (size_t) (out - value->p);
	return p + 1;
}

static bool
is_word(gw_bytes b, const char *word)
{
	return b.len == strlen(word) && strncasecmp(b.p, word, b.len) == 0;
}

/* ---- multipart */

/* One header line of a part, zero-terminated. */
static const char *
part_header(char *line, gw_field *field, bool *form_data)
{
	char	   *colon = strchr(line, ':');
	gw_bytes	head = {line, 0};
	gw_bytes	name,
				value;
	bool		bad = false;
	char	   *p;

	if (colon == NULL)
		return "a part of the form has a malformed header";
	head.len = (size_t) (colon - line);
	p = skip_space(colon + 1);
	if (is_word(head, "content-type"))
	{
		size_t		len = strlen(p);

		while (len > 0 && (p[len - 1] == ' ' || p[len - 1] == '\t'))
			len--;
		field->type.p = p;
		field->type.len = len;
	}
	else if (is_word(head, "content-transfer-encoding"))
	{
		gw_bytes	how = {p, strcspn(p, " \t;")};

		if (!is_word(how, "binary") && !is_word(how, "8bit") && !is_word(how, "7bit"))
			return "a part of the form has a transfer encoding, which forms have not";
	}
	else if (is_word(head, "content-disposition"))
	{
		gw_bytes	what = {p, strcspn(p, "; \t")};

		if (!is_word(what, "form-data"))
			return "a part is not form-data";
		p += what.len;
		while ((p = next_parameter(p, &name, &value, &bad)) != NULL)
		{
			if (is_word(name, "name"))
			{
				field->name = value;
				*form_data = true;
			}
			else if (is_word(name, "filename"))
			{
				field->filename = value;
				field->source = GW_FILE;
			}
		}
		if (bad)
			return "a part of the form has a malformed Content-Disposition";
	}
	return NULL;
}

const char *
gw_multipart_read(char *text, size_t len, gw_bytes boundary, gw_fields *out)
{
	static const char cut[] = "the form ends before its last boundary";
	static const char malformed[] = "the form is not what its Content-Type says";
	char	   *end = text + len;
	char		mark[4 + 70 + 1] = "\r\n--";
	size_t		n_mark = 4 + boundary.len;
	char	   *p;

	if (boundary.len == 0 || boundary.len > 70)
		return "the form has no boundary, or one of more than 70 characters";
	memcpy(mark + 4, boundary.p, boundary.len);
	/* the first boundary stands at the very start, or behind a preamble */
	if (len >= n_mark - 2 && memcmp(text, mark + 2, n_mark - 2) == 0)
		p = text + n_mark - 2;
	else if ((p = memmem(text, len, mark, n_mark)) != NULL)
		p += n_mark;
	else
		return malformed;
	for (;;)
	{
		gw_field	field = {.source = GW_FIELD};
		bool		form_data = false;
		char	   *head,
				   *stop;
		const char *wrong;

		if (end - p >= 2 && p[0] == '-' && p[1] == '-')
			return NULL;		/* what follows is an epilogue */
		while (p < end && (*p == ' ' || *p == '\t'))
			p++;
		if (end - p < 2)
			return cut;
		if (p[0] != '\r' || p[1] != '\n')
			return malformed;
		/* headers, up to an empty line */
		for (p += 2;; p = head + 2)
		{
			size_t		most = (size_t) (end - p) < MAX_PART_HEAD ? (size_t) (end - p) : MAX_PART_HEAD;

			head = memmem(p, most, "\r\n", 2);
			if (head == NULL)
				return most == MAX_PART_HEAD ? "a part of the form has a header that is too long" : cut;
			if (head == p)
				break;
			if (!mr_utf8(p, (size_t) (head - p)))
				return "a header of a part is not UTF-8";
			*head = '\0';
			if ((wrong = part_header(p, &field, &form_data)) != NULL)
				return wrong;
		}
		if (!form_data)
			return "a part of the form has no name";
		/* an empty part's boundary begins with the empty line's end */
		p = head + 2;
		stop = memmem(head, (size_t) (end - head), mark, n_mark);
		if (stop == NULL)
			return cut;
		field.value.p = p;
		field.value.len = stop > p ? (size_t) (stop - p) : 0;
		if (field.source == GW_FIELD && !mr_utf8(p, field.value.len))
			return "a field of the form is not UTF-8";
		if ((wrong = gw_fields_add(out, &field)) != NULL)
			return wrong;
		p = stop + n_mark;
	}
}

/* ---- media types, credentials */

gw_media
gw_media_read(char *text, gw_bytes *boundary, gw_bytes *charset)
{
	gw_bytes	type = {text, 0};
	gw_bytes	name,
				value;
	bool		bad = false;
	char	   *p;

	boundary->len = charset->len = 0;
	boundary->p = charset->p = "";
	if (text == NULL)
		return GW_MEDIA_NONE;
	type.p = p = skip_space(text);
	type.len = strcspn(p, "; \t");
	p += type.len;
	while ((p = next_parameter(p, &name, &value, &bad)) != NULL)
	{
		if (is_word(name, "boundary"))
			*boundary = value;
		else if (is_word(name, "charset"))
			*charset = value;
	}
	if (type.len == 0)
		return GW_MEDIA_NONE;
	if (is_word(type, "application/json") ||
		(type.len > 17 && strncasecmp(type.p, "application/", 12) == 0 && strncasecmp(type.p + type.len - 5, "+json", 5) == 0))
		return GW_MEDIA_JSON;
	if (is_word(type, "application/x-www-form-urlencoded"))
		return GW_MEDIA_FORM;
	if (is_word(type, "multipart/form-data"))
		return GW_MEDIA_MULTIPART;
	return GW_MEDIA_OTHER;
}
