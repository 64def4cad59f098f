/*
 * dialect_stream.c
 *	  Answers that came as streams.  See dialect.h.
 *
 * Ollama sends JSON documents, a line each; one that did not stream is a stream of one.  OpenAI and those like it send server-sent events (WHATWG
 * HTML, section 9.2): lines "field: value", ended by LF, CR LF or CR.  All of them put a whole document into one "data" line.
 */
#include "task/worker/dialect_int.h"

mr_code
tsk_read_lines(tsk_reader *r, const char *body, size_t len)
{
	mr_json		js = {body, body, body + len, r->st};

	do
	{
		mr_code		code = tsk_read_document(r, &js);

		if (code != MR_OK)
			return code;
		if (mr_interrupted(r->env))
			return mr_fail(r->st, MR_CANCELED, "canceled");
	} while (!r->ended && mr_json_peek(&js) != '\0');
	return MR_OK;
}

/* The value of a line, if its field is of this name. */
static bool
is_field(const char *line, const char *end, const char *name, const char **value)
{
	size_t		n = strlen(name);

	if ((size_t) (end - line) <= n || memcmp(line, name, n) != 0 || line[n] != ':')
		return false;
	*value = line + n + 1;
	if (*value < end && **value == ' ')
		(*value)++;
	return true;
}

mr_code
tsk_read_events(tsk_reader *r, const char *body, size_t len)
{
	const char *end = body + len;
	bool		data = false;

	for (const char *line = body, *next; line < end; line = next)
	{
		const char *value;
		const char *stop = line;

		while (stop < end && *stop != '\n' && *stop != '\r')
			stop++;
		next = stop < end ? stop + 1 : end;
		if (is_field(line, stop, "data", &value))
		{
			mr_json		js = {value, value, stop, r->st};
			mr_code		code;

			if (stop - value >= 6 && memcmp(value, "[DONE]", 6) == 0)
			{
				r->ended = true;
				return MR_OK;
			}
			data = true;
			if (mr_json_peek(&js) == '\0')
				continue;		/* a sign of life */
			code = tsk_read_document(r, &js);
			if (code != MR_OK)
				return code;
			if (mr_interrupted(r->env))
				return mr_fail(r->st, MR_CANCELED, "canceled");
		}
		else if (is_field(line, stop, "error", &value))
		{
			/* llama.cpp's way of breaking off */
			char		text[200];

			tsk_dialect_error(value, (size_t) (stop - value), text, sizeof(text));
			return mr_fail(r->st, MR_INVALID, "the answer is an error: %s", text);
		}
	}
	return data ? MR_OK : mr_fail(r->st, MR_INVALID, "the answer is neither JSON nor a stream of events");
}
