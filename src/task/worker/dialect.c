/*
 * dialect.c
 *	  Requests to language model servers, and what their errors say.  See dialect.h.
 *
 * Values of the payload go into the body as they stand: they are valid JSON, for they have been passed over once. What is
 * one thing in both dialects but is called otherwise (max_tokens, format, stop) is translated; other options go through by their
 * names, so that what a server learns tomorrow can be asked for today; but none may change what we rely on.
 */
#include "task/worker/dialect.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/utf8.h"

/* ---- a text that grows ---- */

typedef struct text
{
	char	   *p;
	size_t		len;
	size_t		room;
	bool		failed;			/* out of memory */
} text;

static void
put(text *t, const char *p, size_t len)
{
	if (!t->failed && t->room - t->len < len)
	{
		size_t		room = 2 * (t->len + len) + 256;
		char	   *grown = realloc(t->p, room);

		t->failed = grown == NULL;
		if (grown)
		{
			t->p = grown;
			t->room = room;
		}
	}
	if (t->failed)
		return;
	memcpy(t->p + t->len, p, len);
	t->len += len;
}

static void
puts_to(text *t, const char *p)
{
	put(t, p, strlen(p));
}

/* As the inside of a JSON string. */
static void
put_escaped(text *t, const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		char		escape[8];

		if (p[i] == '"' || p[i] == '\\')
			snprintf(escape, sizeof(escape), "\\%c", p[i]);
		else if ((unsigned char) p[i] < ' ')
			snprintf(escape, sizeof(escape), "\\u%04x", p[i]);
		else
		{
			put(t, p + i, 1);
			continue;
		}
		puts_to(t, escape);
	}
}

/* ---- the payload ---- */

/* A value as it stands in the payload; len 0: there is none, or null. */
typedef struct value
{
	const char *p;
	size_t		len;
} value;

typedef struct payload
{
	value		prompt,
				messages,
				system,
				options,
				format,
				model,
				input;
	int			n_inputs;
} payload;

static bool
take_value(mr_json *js, value *out)
{
	mr_json_space(js);
	out->p = js->p;
	if (!mr_json_skip(js))
		return false;
	out->len = (size_t) (js->p - out->p);
	if (out->len == 4 && memcmp(out->p, "null", 4) == 0)
		out->len = 0;
	return true;
}

static bool
begins(const value *v, char c)
{
	return v->len > 0 && v->p[0] == c;
}

static bool
read_payload(mr_json *js, const mr_env *env, payload *p)
{
	char		key[32];
	int			n = 0,
				more;

	if (!mr_json_open(js, '{'))
		return false;
	while ((more = mr_json_key(js, &n, key, sizeof(key))) > 0)
	{
		value		other;
		value	   *to = strcmp(key, "prompt") == 0 ? &p->prompt : strcmp(key, "messages") == 0 ? &p->messages :
			strcmp(key, "system") == 0 ? &p->system : strcmp(key, "options") == 0 ? &p->options :
			strcmp(key, "format") == 0 ? &p->format : strcmp(key, "model") == 0 ? &p->model :
			strcmp(key, "input") == 0 ? &p->input : &other;

		if (!take_value(js, to))
			return false;
		if (mr_interrupted(env))
		{
			mr_fail(js->st, MR_CANCELED, "canceled");
			return false;
		}
	}
	return more == 0;
}

static bool
wrong(mr_status *st, const char *what)
{
	mr_fail(st, MR_INVALID, "the payload's %s", what);
	return false;
}

/* Does an array have elements, all of which begin so?  How many. */
static bool
all_begin(const value *array, char first, int *n, mr_status *st)
{
	mr_json		js;
	int			more;

	*n = 0;
	if (!begins(array, '['))
		return false;
	js = (mr_json) {array->p, array->p + 1, array->p + array->len, st};
	while ((more = mr_json_next(&js, '[', n)) > 0)
		if (mr_json_peek(&js) != first || !mr_json_skip(&js))
			return false;
	return more == 0 && *n > 0;
}

static bool
check_payload(tsk_ask ask, bool has_prompt, payload *p, mr_status *st)
{
	int			n;

	if (p->options.len && !begins(&p->options, '{'))
		return wrong(st, "\"options\" must be an object");
	if (p->model.len && !begins(&p->model, '"'))
		return wrong(st, "\"model\" must be a text");
	if (ask == TSK_ASK_VECTORS)
	{
		p->n_inputs = 1;
		if (!begins(&p->input, '"') && !all_begin(&p->input, '"', &p->n_inputs, st))
			return wrong(st, "\"input\" must be a text or an array of texts");
		return true;
	}
	if (p->system.len && !begins(&p->system, '"'))
		return wrong(st, "\"system\" must be a text");
	if (p->format.len && !begins(&p->format, '{') && !begins(&p->format, '"'))
		return wrong(st, "\"format\" must be \"json\" or a JSON schema");
	if (has_prompt)
		return true;
	if (p->prompt.len && p->messages.len)
		return wrong(st, "\"prompt\" and \"messages\" exclude each other");
	if (p->messages.len ? !all_begin(&p->messages, '{', &n, st) : !begins(&p->prompt, '"'))
		return wrong(st, "\"prompt\" must be a text, or \"messages\" an array of objects");
	return true;
}

/* ---- prompts of kinds ---- */

/* The payload's value of this name: a text's content as it stands, escapes and all; anything else as it is written. */
static bool
find_value(const char *doc, size_t len, const char *name, size_t name_len, value *found, mr_status *st)
{
	mr_json		js = {doc, doc, doc + len, st};
	char		key[128];
	int			n = 0;

	if (!mr_json_open(&js, '{'))
		return false;
	while (mr_json_key(&js, &n, key, sizeof(key)) > 0)
	{
		if (!take_value(&js, found))
			return false;
		if (strlen(key) == name_len && memcmp(key, name, name_len) == 0)
			return true;
	}
	mr_fail(st, MR_INVALID, "the payload has no \"%.*s\", which its kind's prompt names", (int) name_len, name);
	return false;
}

/* The JSON string that a kind's prompt becomes. */
static bool
fill_prompt(const char *prompt, const char *doc, size_t len, text *out, mr_status *st)
{
	put(out, "\"", 1);
	for (const char *p = prompt; *p;)
	{
		const char *open = strstr(p, "{{");
		const char *close = open ? strstr(open, "}}") : NULL;
		value		v;

		put_escaped(out, p, close ? (size_t) (open - p) : strlen(p));
		if (close == NULL)
			break;
		for (open += 2; *open == ' '; open++)
			;
		p = close + 2;
		while (close > open && close[-1] == ' ')
			close--;
		if (!find_value(doc, len, open, (size_t) (close - open), &v, st))
			return false;
		if (begins(&v, '"'))
			put(out, v.p + 1, v.len - 2);
		else
			put_escaped(out, v.p, v.len);
	}
	put(out, "\"", 1);
	return true;
}

/* ---- the body ---- */

static bool
is_one_of(const char *word, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(word, *words) == 0)
			return true;
	return false;
}

static void
put_member(text *t, const char *key, const char *p, size_t len)
{
	puts_to(t, t->len > 0 && !t->failed && t->p[t->len - 1] == '{' ? "\"" : ",\"");
	puts_to(t, key);
	puts_to(t, "\":");
	put(t, p, len);
}

/* May it stand between quotes as it is, and is it whole? */
static bool
is_plain(const char *key, size_t size)
{
	if (strlen(key) == size - 1)
		return false;
	for (; *key; key++)
		if ((unsigned char) *key < ' ' || *key == '"' || *key == '\\')
			return false;
	return true;
}

/* The payload's options: those of this place, top level or Ollama's "options". */
static bool
put_options(tsk_api api, const payload *p, bool top, text *t, mr_status *st)
{
	/* what we rely on, and what has a place of its own */
	static const char *const ours[] = {"model", "prompt", "messages", "system", "input", "stream", "stream_options", "n", "format",
	"response_format", "tools", "tool_choice", "functions", "encoding_format", NULL};
	/* of Ollama's, those that stand beside "options" */
	static const char *const beside[] = {"keep_alive", "think", "raw", "truncate", "dimensions", NULL};
	mr_json		js;
	char		key[64];
	int			n = 0,
				more;

	if (p->options.len == 0)
		return true;
	js = (mr_json) {p->options.p, p->options.p + 1, p->options.p + p->options.len, st};
	while ((more = mr_json_key(&js, &n, key, sizeof(key))) > 0)
	{
		bool		ollama = api == TSK_API_OLLAMA;
		value		v;

		if (!take_value(&js, &v))
			return false;
		if (is_one_of(key, ours) || !is_plain(key, sizeof(key)))
		{
			mr_fail(st, MR_INVALID, "the payload's option \"%s\" is not allowed", key);
			return false;
		}
		if (v.len == 0 || (ollama && is_one_of(key, beside) != top))
			continue;
		if (ollama && strcmp(key, "max_tokens") == 0)
			put_member(t, "num_predict", v.p, v.len);
		else if (ollama && strcmp(key, "stop") == 0 && begins(&v, '"'))
		{
			/* which takes an array only */
			put_member(t, key, "[", 1);
			put(t, v.p, v.len);
			put(t, "]", 1);
		}
		else
			put_member(t, key, v.p, v.len);
	}
	return more == 0;
}

/* The messages of a chat: those given, or of the prompt; before them what the system says. */
static void
put_messages(const payload *p, const text *prompt, text *t)
{
	put_member(t, "messages", "[", 1);
	if (p->system.len)
	{
		puts_to(t, "{\"role\":\"system\",\"content\":");
		put(t, p->system.p, p->system.len);
		puts_to(t, "},");
	}
	if (prompt->len)
	{
		puts_to(t, "{\"role\":\"user\",\"content\":");
		put(t, prompt->p, prompt->len);
		puts_to(t, "}]");
	}
	else
		put(t, p->messages.p + 1, p->messages.len - 1);
}

static void
put_format(tsk_api api, const payload *p, text *t)
{
	bool		json = p->format.len == 6 && memcmp(p->format.p, "\"json\"", 6) == 0;

	if (!json && !begins(&p->format, '{'))
		return;					/* "text", which is the rule */
	if (api == TSK_API_OLLAMA)
		put_member(t, "format", p->format.p, p->format.len);
	else if (json)
		put_member(t, "response_format", "{\"type\":\"json_object\"}", 22);
	else
	{
		put_member(t, "response_format", "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\",\"schema\":", 62);
		put(t, p->format.p, p->format.len);
		puts_to(t, "}}");
	}
}

static bool
put_body(const tsk_dialect *d, const payload *p, const text *prompt, bool chat, text *t, mr_status *st)
{
	bool		ollama = d->api == TSK_API_OLLAMA;

	put(t, "{", 1);
	if (p->model.len)
		put_member(t, "model", p->model.p, p->model.len);
	else
	{
		put_member(t, "model", "\"", 1);
		put_escaped(t, d->model, strlen(d->model));
		put(t, "\"", 1);
	}
	if (d->ask == TSK_ASK_VECTORS)
		put_member(t, "input", p->input.p, p->input.len);
	else if (chat)
		put_messages(p, prompt, t);
	else
	{
		put_member(t, "prompt", prompt->p, prompt->len);
		if (p->system.len)
			put_member(t, "system", p->system.p, p->system.len);
	}
	if (d->ask == TSK_ASK_TEXT)
	{
		put_member(t, "stream", d->stream ? "true" : "false", d->stream ? 4 : 5);
		if (d->stream && !ollama)
			put_member(t, "stream_options", "{\"include_usage\":true}", 22);
		put_format(d->api, p, t);
	}
	if (!put_options(d->api, p, true, t, st))
		return false;
	if (ollama && p->options.len)
	{
		put_member(t, "options", "{", 1);
		if (!put_options(d->api, p, false, t, st))
			return false;
		put(t, "}", 1);
	}
	put(t, "}", 1);
	return true;
}

/* The server's url, and the path behind it. */
static void
put_url(const tsk_dialect *d, bool chat, text *t)
{
	const char *host = strstr(d->url, "://");
	size_t		len = strlen(d->url);
	bool		has_path;

	while (len > 0 && d->url[len - 1] == '/')
		len--;
	has_path = host != NULL && memchr(host + 3, '/', d->url + len > host + 3 ? (size_t) (d->url + len - host - 3) : 0) != NULL;
	put(t, d->url, len);
	if (d->api == TSK_API_OLLAMA)
		puts_to(t, d->ask == TSK_ASK_VECTORS ? "/api/embed" : chat ? "/api/chat" : "/api/generate");
	else
	{
		puts_to(t, has_path ? "" : "/v1");
		puts_to(t, d->ask == TSK_ASK_VECTORS ? "/embeddings" : "/chat/completions");
	}
	put(t, "", 1);
}

/* Both parts into t: the url with its zero, then the body. */
static bool
make_request(const tsk_dialect *d, const char *doc, size_t len, const mr_env *env, payload *p, text *prompt, text *t, size_t *url_len, mr_status *st)
{
	mr_json		js = {doc, doc, doc + len, st};
	bool		chat;

	if (!mr_utf8(doc, len))
	{
		mr_fail(st, MR_INVALID, "the payload is not UTF-8");
		return false;
	}
	if (!read_payload(&js, env, p) || !check_payload(d->ask, d->prompt != NULL, p, st))
		return false;
	if (!p->model.len && d->model == NULL)
	{
		mr_fail(st, MR_INVALID, "neither the provider nor the payload names a model");
		mr_hint(st, d->ask == TSK_ASK_TEXT ? "Set option model of the server." : "Set option embedding_model of the server.");
		return false;
	}
	chat = d->api == TSK_API_OPENAI || (p->messages.len && !d->prompt);
	if (d->ask == TSK_ASK_TEXT && d->prompt)
	{
		if (!fill_prompt(d->prompt, doc, len, prompt, st))
			return false;
	}
	else if (d->ask == TSK_ASK_TEXT && p->prompt.len)
		put(prompt, p->prompt.p, p->prompt.len);
	put_url(d, chat, t);
	*url_len = t->len;
	if (!put_body(d, p, prompt, chat, t, st))
		return false;
	put(t, "", 1);
	if (!t->failed && !prompt->failed)
		return true;
	mr_fail(st, MR_NOMEM, "out of memory");
	return false;
}

mr_code
tsk_dialect_write(const tsk_dialect *dialect, const char *payload_text, size_t len, const mr_env *env,
				  tsk_dialect_request *out, mr_status *st)
{
	payload		p = {0};
	text		t = {0},
				prompt = {0};
	size_t		url_len = 0;
	bool		made = make_request(dialect, payload_text, len, env, &p, &prompt, &t, &url_len, st);

	free(prompt.p);
	memset(out, 0, sizeof(*out));
	if (!made)
	{
		free(t.p);
		return st->code;
	}
	out->api = dialect->api;
	out->ask = dialect->ask;
	out->n_inputs = p.n_inputs;
	out->url = t.p;
	out->body = t.p + url_len;
	out->len = t.len - url_len - 1;
	return MR_OK;
}
