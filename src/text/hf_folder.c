/*
 * hf_folder.c
 *	  Files of a model's folder and the JSON in them.
 */
#include "text/hf_int.h"

#include <math.h>
#include <stdio.h>

#include "text/text_int.h"

bool
txt_is_utf8(const char *p, size_t len)
{
	const char *end = p + len;

	while (p < end)
	{
		uint64_t	w;
		int			n;

		if (end - p >= 8 && (memcpy(&w, p, 8), (w & UINT64_C(0x8080808080808080)) == 0))
		{
			p += 8;
			continue;
		}
		if (txt_decode(p, end, &n) == 0xfffd && n == 1)
			return false;
		p += n;
	}
	return true;
}

void
txt_printable(mr_status *st)
{
	for (char *p = st->message; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
}

const txt_file *
txt_folder_find(const txt_folder *f, const char *name)
{
	char		path[2 * TXT_TEXT_SIZE];

	snprintf(path, sizeof(path), "%s%s", f->dir, name);
	return txt_bundle_find(f->bundle, path);
}

bool
txt_in_file(const txt_folder *f, const txt_file *file)
{
	char		message[sizeof(f->st->message)];
	mr_code		code = f->st->code;

	memcpy(message, f->st->message, sizeof(message));
	if (code != MR_CANCELED && code != MR_NOMEM)
		mr_fail(f->st, code, "%.80s: %.170s", file->name, message);
	return false;
}

bool
txt_json_begin(const txt_folder *f, const txt_file *file, const char *bytes, size_t len, size_t most, mr_json *js)
{
	*js = (mr_json) {bytes, bytes, bytes + len, f->st};
	if (len > most)
		mr_fail(f->st, MR_LIMIT, "its JSON has more than %zu MB", most >> 20);
	else if (!txt_is_utf8(bytes, len))
		mr_fail(f->st, MR_INVALID, "its JSON is not valid UTF-8");
	else
		return true;
	return txt_in_file(f, file);
}

bool
txt_json_end(mr_json *js)
{
	return mr_json_peek(js) == '\0' && js->p == js->end ? true : mr_json_syntax(js, "the end");
}

bool
txt_read_json(const txt_folder *f, const txt_file *file, const txt_member *m, int n)
{
	mr_json		js;

	if (!txt_json_begin(f, file, file->data, file->len, TXT_MAX_JSON, &js))
		return false;
	return (txt_read_members(&js, m, n) && txt_json_end(&js)) || txt_in_file(f, file);
}

bool
txt_whole(const txt_folder *f, const txt_file *file, const char *key, double value, int least, int most, int32_t *out)
{
	if (isnan(value))
		mr_fail(f->st, MR_INVALID, "there is no \"%s\"", key);
	else if (value != floor(value) || value < least || value > most)
		mr_fail(f->st, MR_INVALID, "\"%s\" is %g, and must be a whole number from %d to %d", key, value, least, most);
	else
	{
		*out = (int32_t) value;
		return true;
	}
	return txt_in_file(f, file);
}
