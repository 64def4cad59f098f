/*
 * dialect_error.c
 *	  What the errors of language model servers say.  See dialect.h.
 *
 *	Ollama			{"error": "model 'x' not found"}
 *	OpenAI			{"error": {"message": …, "type": …, "param": …, "code": …}}
 *	llama.cpp		{"error": {"code": 400, "message": …, "type": …}}
 *	vLLM			{"object": "error", "message": …, "type": …, "code": 400}, later as OpenAI
 *	FastAPI			{"detail": "Not Found"} or {"detail": [{"loc": …, "msg": …, "type": …}]}
 *	Gemini			[{"error": {"code": 400, "message": …, "status": …}}]
 *	proxies			a page of HTML, or a line of text
 */
#include <string.h>

#include "core/json.h"
#include "core/utf8.h"
#include "task/worker/dialect_int.h"

#define MAX_LEVELS 4

/* The text that a value holds, or one of those within it that are known to hold messages; at most so many levels down. */
static bool
find_message(mr_json *js, int levels, char *out, size_t size)
{
	static const char *const names[] = {"error", "message", "detail", "msg"};
	char		c = mr_json_peek(js);
	char		key[16];
	int			n = 0;

	if (c == '"')
		return tsk_read_word(js, out, size) && out[0] != '\0';
	if (levels == 0 || (c != '{' && c != '['))
		return mr_json_skip(js) && false;
	js->p++;
	while ((c == '{' ? mr_json_key(js, &n, key, sizeof(key)) : mr_json_next(js, '[', &n)) > 0)
	{
		bool		known = c == '[' && mr_json_peek(js) != '"';

		for (size_t i = 0; c == '{' && i < sizeof(names) / sizeof(names[0]); i++)
			known = known || strcmp(key, names[i]) == 0;
		if (known ? find_message(js, levels - 1, out, size) : !mr_json_skip(js))
			return known;
	}
	return false;
}

/* Text as it stands, without what is between < and >. */
static void
copy_text(const char *body, size_t len, char *out, size_t size)
{
	size_t		n = 0;
	bool		tag = false;

	for (size_t i = 0; i < len && n < size - 1; i++)
	{
		if (body[i] == '<' || body[i] == '>')
			tag = body[i] == '<';
		out[n++] = tag || body[i] == '>' ? ' ' : body[i];
	}
	out[n] = '\0';
}

/* One line of UTF-8: runs of blanks and control characters are a blank, anything else that is not UTF-8 a question mark. */
static void
tidy(char *text)
{
	char	   *to = text;

	for (const char *p = text; *p;)
	{
		size_t		n = (unsigned char) *p < 0x80 ? 1 : (unsigned char) *p < 0xe0 ? 2 : (unsigned char) *p < 0xf0 ? 3 : 4;

		if ((unsigned char) *p <= ' ' || *p == 0x7f)
		{
			if (to > text && to[-1] != ' ')
				*to++ = ' ';
			p++;
		}
		else if (strnlen(p, n) < n || !mr_utf8(p, n))
		{
			*to++ = '?';
			p++;
		}
		else
		{
			memmove(to, p, n);
			to += n;
			p += n;
		}
	}
	while (to > text && to[-1] == ' ')
		to--;
	*to = '\0';
}

void
tsk_dialect_error(const char *body, size_t len, char *out, size_t size)
{
	mr_status	st;
	mr_json		js = {body, body, body + len, &st};
	char		first = mr_json_peek(&js);

	out[0] = '\0';
	if (first == '{' || first == '[' || first == '"')
	{
		if (!find_message(&js, MAX_LEVELS, out, size))
			out[0] = '\0';
	}
	if (out[0] == '\0')
		copy_text(body, len, out, size);
	tidy(out);
}

void
tsk_dialect_blot(char *text, size_t len, const char *secret)
{
	size_t		n = strlen(secret);
	char	   *p = text;

	if (n < 8)
		return;
	while ((p = memmem(p, len - (size_t) (p - text), secret, n)) != NULL)
		memset(p, '*', n);
}
