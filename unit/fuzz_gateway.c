/*
 * fuzz_gateway.c
 *	  Any bytes as path, query, form, media type and credentials: what is made of them stays in its bounds.
 *
 * make unit/bin/fuzz_gateway && unit/bin/fuzz_gateway -max_total_time=60 corpus/
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "gateway/form.h"
#include "gateway/route.h"

static char *
copy_of(const uint8_t *data, size_t size)
{
	char	   *copy = malloc(size ? size : 1);

	memcpy(copy, data, size);
	return copy;
}

static void
inside(gw_bytes b, const char *text, size_t size, bool utf8)
{
	if (b.len > 0 && (b.p < text || b.p + b.len > text + size))
		abort();
	if (utf8 && !mr_utf8(b.p, b.len))
		abort();
}

static void
check(const gw_fields *fields, const char *text, size_t size)
{
	for (int i = 0; i < fields->n; i++)
	{
		inside(fields->field[i].name, text, size, true);
		inside(fields->field[i].value, text, size, fields->field[i].source != GW_FILE);
		inside(fields->field[i].filename, text, size, true);
		inside(fields->field[i].type, text, size, true);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static gw_fields fields;
	gw_bytes	boundary = {"B", 1};
	gw_bytes	charset;
	gw_path		path;
	char		token[GW_MAX_TOKEN + 1],
				user[GW_MAX_TOKEN + 1];
	char	   *text = copy_of(data, size);

	if (gw_path_parse(text, size, &path))
		for (int i = 0; i < path.n; i++)
			inside(path.segment[i], text, size, true);
	memcpy(text, data, size);
	fields.n = 0;
	if (gw_fields_read(text, size, GW_QUERY, &fields) == NULL)
		check(&fields, text, size);
	memcpy(text, data, size);
	fields.n = 0;
	if (gw_multipart_read(text, size, boundary, &fields) == NULL)
		check(&fields, text, size);
	free(text);
	/* texts that end with a NUL */
	text = malloc(size + 1);
	memcpy(text, data, size);
	text[size] = '\0';
	(void) gw_media_read(text, &boundary, &charset);
	memcpy(text, data, size);
	if (gw_auth_read(text, token, user) == GW_AUTH_TOKEN && token[0] == '\0')
		abort();
	(void) gw_listed(text, "\"x\"");
	free(text);
	return 0;
}
