/*
 * dialect_read.c
 *	  Answers of language model servers.  See dialect.h.
 *
 * One reader for both dialects: no member means one thing in one and another in the other.
 * Unknown members are passed over, whatever they are.  Forms: Ollama's docs/api.md; OpenAI's reference of
 * chat completions and embeddings, with what vLLM and llama.cpp's server add.
 */
#include "task/worker/dialect_int.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "core/utf8.h"

#define MAX_DIM 65536

bool
tsk_read_word(mr_json *js, char *out, size_t size)
{
	size_t		n;

	if (mr_json_peek(js) != '"')
		return mr_json_skip(js);
	if (!mr_json_text(js, out, size))
		return false;
	for (n = strlen(out); n > 0 && !mr_utf8(out, n); n--)
		;
	out[n] = '\0';
	return true;
}

/* A number of tokens; *out stays where there is none. */
static bool
read_count(mr_json *js, int *out)
{
	char		c = mr_json_peek(js);
	double		d;

	if (c != '-' && (c < '0' || c > '9'))
		return mr_json_skip(js);
	if (!mr_json_number(js, &d))
		return false;
	if (d >= 0 && d <= INT_MAX)
		*out = (int) d;
	return true;
}

/* The string at p belongs to the text; null is none. */
static bool
read_text(tsk_reader *r, mr_json *js)
{
	tsk_dialect_answer *a = r->answer;
	const char *content;
	size_t		len;
	bool		escaped;

	if (mr_json_peek(js) != '"')
		return mr_json_null(js) || mr_json_syntax(js, "a text");
	if (!mr_json_string(js, &content, &len, &escaped))
		return false;
	if (!escaped)
		memcpy(a->text + a->len, content, len);
	else if (!mr_json_unescape(js, content, len, a->text + a->len, &len))
		return false;
	a->len += len;
	return true;
}

/* Is anything in the array or object at p?  It is passed over. */
static bool
read_any(mr_json *js, bool *any)
{
	const char *p = js->p;

	if (!mr_json_skip(js))
		return false;
	for (p++; p < js->p && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'); p++)
		;
	*any = *any || (p < js->p && *p != ']' && *p != '}');
	return true;
}

/* A content in parts: the texts among them. */
static bool
read_parts(tsk_reader *r, mr_json *js)
{
	char		key[16];
	int			n = 0,
				k,
				more,
				member;

	if (!mr_json_open(js, '['))
		return false;
	while ((more = mr_json_next(js, '[', &n)) > 0)
	{
		if (mr_json_peek(js) == '"')
		{
			if (!read_text(r, js))
				return false;
			continue;
		}
		if (!mr_json_open(js, '{'))
			return false;
		for (k = 0; (member = mr_json_key(js, &k, key, sizeof(key))) > 0;)
			if (!(strcmp(key, "text") == 0 ? read_text(r, js) : mr_json_skip(js)))
				return false;
		if (member < 0)
			return false;
	}
	return more == 0;
}

/* OpenAI's message or delta, Ollama's message. */
static bool
read_message(tsk_reader *r, mr_json *js)
{
	char		key[32];
	int			n = 0,
				more;
	bool		good = true;

	if (mr_json_null(js))
		return true;
	if (!mr_json_open(js, '{'))
		return false;
	while (good && (more = mr_json_key(js, &n, key, sizeof(key))) != 0)
	{
		char		c = more > 0 ? mr_json_peek(js) : '\0';

		if (more < 0)
			return false;
		if (strcmp(key, "content") == 0)
			good = c == '[' ? read_parts(r, js) : read_text(r, js);
		else if ((strcmp(key, "tool_calls") == 0 && c == '[') || (strcmp(key, "function_call") == 0 && c == '{'))
			good = read_any(js, &r->tools);
		else if (strcmp(key, "refusal") == 0)
			good = tsk_read_word(js, r->refusal, sizeof(r->refusal));
		else
			good = mr_json_skip(js);
	}
	return good;
}

static bool
read_finish(tsk_reader *r, mr_json *js)
{
	if (mr_json_peek(js) == '"')
		r->ended = true;
	return tsk_read_word(js, r->answer->finish, sizeof(r->answer->finish));
}

/* OpenAI's choices: the first is the answer, and no other was asked for. */
static bool
read_choices(tsk_reader *r, mr_json *js)
{
	char		key[32];
	int			n = 0,
				k,
				more,
				member;

	if (mr_json_null(js))
		return true;
	if (!mr_json_open(js, '['))
		return false;
	while ((more = mr_json_next(js, '[', &n)) > 0)
	{
		bool		good = true;

		if (n > 1)
		{
			mr_fail(r->st, MR_INVALID, "the answer has more than one choice");
			return false;
		}
		if (!mr_json_open(js, '{'))
			return false;
		for (k = 0; good && (member = mr_json_key(js, &k, key, sizeof(key))) != 0;)
			if (member < 0)
				good = false;
			else if (strcmp(key, "message") == 0 || strcmp(key, "delta") == 0)
				good = read_message(r, js);
			else if (strcmp(key, "finish_reason") == 0)
				good = read_finish(r, js);
			else
				good = mr_json_skip(js);
		if (!good)
			return false;
	}
	return more == 0;
}

static bool
read_usage(tsk_reader *r, mr_json *js)
{
	char		key[32];
	int			n = 0,
				more;
	bool		good = true;

	if (mr_json_peek(js) != '{')
		return mr_json_skip(js);
	js->p++;
	while (good && (more = mr_json_key(js, &n, key, sizeof(key))) != 0)
		if (more < 0)
			good = false;
		else if (strcmp(key, "prompt_tokens") == 0)
			good = read_count(js, &r->answer->tokens_in);
		else if (strcmp(key, "completion_tokens") == 0)
			good = read_count(js, &r->answer->tokens_out);
		else
			good = mr_json_skip(js);
	return good;
}

/* The first vector says how long they are, which sets the room for all: each number takes two bytes of the body, so a lie costs no memory. */
static bool
make_room(tsk_reader *r, const mr_json *first)
{
	tsk_dialect_answer *a = r->answer;
	mr_json		js = *first;
	double		x;
	int			n = 0,
				more;

	if (!mr_json_open(&js, '['))
		return false;
	while ((more = mr_json_next(&js, '[', &n)) > 0 && n <= MAX_DIM)
		if (!mr_json_number(&js, &x))
			return false;
	if (more < 0)
		return false;
	if (n == 0 || n > MAX_DIM)
		mr_fail(r->st, MR_INVALID, n == 0 ? "a vector is empty" : "a vector has more than %d numbers", MAX_DIM);
	else if ((size_t) n * (size_t) a->n > r->body_len)
		mr_fail(r->st, MR_INVALID, "the answer has less than %d vectors", a->n);
	else if ((a->vectors = malloc((size_t) n * (size_t) a->n * sizeof(float))) == NULL ||
			 (r->seen = calloc((size_t) a->n, 1)) == NULL)
		mr_fail(r->st, MR_NOMEM, "out of memory");
	else
	{
		a->dim = n;
		return true;
	}
	return false;
}

/* The vector at p, the at-th input's. */
static bool
read_vector(tsk_reader *r, mr_json *js, int at)
{
	tsk_dialect_answer *a = r->answer;
	int			n = 0,
				more;

	if (mr_interrupted(r->env))
	{
		mr_fail(r->st, MR_CANCELED, "canceled");
		return false;
	}
	if (a->vectors == NULL && !make_room(r, js))
		return false;
	if (at < 0 || at >= a->n || r->seen[at])
	{
		mr_fail(r->st, MR_INVALID, "the answer has other vectors than the %d that were asked for", a->n);
		return false;
	}
	r->seen[at] = 1;
	if (!mr_json_open(js, '['))
		return false;
	while ((more = mr_json_next(js, '[', &n)) > 0)
	{
		double		x;

		if (!mr_json_number(js, &x))
			return false;
		if (n > a->dim || !isfinite((float) x))
			break;
		a->vectors[(size_t) at * (size_t) a->dim + (size_t) (n - 1)] = (float) x;
	}
	if (more == 0 && n == a->dim)
		return true;
	if (more >= 0)
		mr_fail(r->st, MR_INVALID, more > 0 && n <= a->dim ? "a vector has a number out of range" : "vectors differ in length");
	return false;
}

/* Ollama's "embeddings": vectors in the order of the input. */
static bool
read_embeddings(tsk_reader *r, mr_json *js)
{
	int			n = 0,
				more;

	if (!mr_json_open(js, '['))
		return false;
	while ((more = mr_json_next(js, '[', &n)) > 0)
		if (!read_vector(r, js, n - 1))
			return false;
	return more == 0;
}

/* OpenAI's "data": objects of index and embedding, of which either may come first. */
static bool
read_data(tsk_reader *r, mr_json *js)
{
	char		key[32];
	int			n = 0,
				k,
				more,
				member;

	if (!mr_json_open(js, '['))
		return false;
	while ((more = mr_json_next(js, '[', &n)) > 0)
	{
		mr_json		vector = {0};
		int			at = n - 1;
		bool		good = true;

		if (!mr_json_open(js, '{'))
			return false;
		for (k = 0; good && (member = mr_json_key(js, &k, key, sizeof(key))) != 0;)
		{
			if (member < 0)
				return false;
			mr_json_space(js);
			if (strcmp(key, "embedding") == 0)
				vector = *js;
			good = strcmp(key, "index") == 0 ? read_count(js, &at) : mr_json_skip(js);
		}
		if (!good)
			return false;
		if (vector.p == NULL)
			return mr_json_syntax(js, "an embedding in every element of \"data\"");
		if (!read_vector(r, &vector, at))
			return false;
	}
	return more == 0;
}

/* "error": null, or what went wrong. */
static bool
read_error(tsk_reader *r, mr_json *js)
{
	char		text[200];
	const char *begin;

	if (mr_json_null(js))
		return true;
	begin = js->p;
	if (!mr_json_skip(js))
		return false;
	tsk_dialect_error(begin, (size_t) (js->p - begin), text, sizeof(text));
	mr_fail(r->st, MR_INVALID, "the answer is an error: %s", text);
	return false;
}

static bool
read_member(tsk_reader *r, mr_json *js, const char *key)
{
	tsk_dialect_answer *a = r->answer;
	bool		text = r->request->ask == TSK_ASK_TEXT;

	if (strcmp(key, "error") == 0)
		return read_error(r, js);
	if (strcmp(key, "model") == 0)
		return tsk_read_word(js, a->model, sizeof(a->model));
	if (strcmp(key, "prompt_eval_count") == 0)
		return read_count(js, &a->tokens_in);
	if (strcmp(key, "usage") == 0)
		return read_usage(r, js);
	if (text && strcmp(key, "choices") == 0)
		return read_choices(r, js);
	if (text && strcmp(key, "response") == 0)
		return read_text(r, js);
	if (text && strcmp(key, "message") == 0 && mr_json_peek(js) == '{')
		return read_message(r, js);
	if (text && strcmp(key, "eval_count") == 0)
		return read_count(js, &a->tokens_out);
	if (text && strcmp(key, "done_reason") == 0)
		return tsk_read_word(js, a->finish, sizeof(a->finish));
	if (text && strcmp(key, "done") == 0)
		return mr_json_bool(js, &r->ended);
	if (!text && strcmp(key, "embeddings") == 0)
		return read_embeddings(r, js);
	if (!text && strcmp(key, "data") == 0)
		return read_data(r, js);
	return mr_json_skip(js);
}

mr_code
tsk_read_document(tsk_reader *r, mr_json *js)
{
	char		key[32];
	int			n = 0,
				more;

	if (!mr_json_open(js, '{'))
		return r->st->code;
	while ((more = mr_json_key(js, &n, key, sizeof(key))) > 0)
		if (!read_member(r, js, key))
			return r->st->code;
	return more < 0 ? r->st->code : MR_OK;
}

/* Is what has been read an answer? */
static mr_code
check(const tsk_reader *r)
{
	const tsk_dialect_answer *a = r->answer;

	if (r->request->ask == TSK_ASK_VECTORS)
	{
		for (int i = 0; i < a->n; i++)
			if (r->seen == NULL || !r->seen[i])
				return mr_fail(r->st, MR_INVALID, "the answer lacks vector %d of %d", i + 1, a->n);
		return MR_OK;
	}
	if (r->tools)
		return mr_fail(r->st, MR_INVALID, "the answer calls a tool instead of saying something");
	if (!r->ended)
		return mr_fail(r->st, MR_INVALID, "the answer is cut off: it has no end");
	if (a->len == 0 && r->refusal[0])
		return mr_fail(r->st, MR_INVALID, "the model refuses: %s", r->refusal);
	if (a->len == 0)
		return mr_fail(r->st, MR_INVALID, "the answer has no text%s%s", a->finish[0] ? ", it ended by " : "", a->finish);
	return MR_OK;
}

static mr_code
read_body(tsk_reader *r, const char *body, size_t len)
{
	mr_json		js = {body, body, body + len, r->st};
	mr_code		code;

	if (!mr_utf8(body, len))
		return mr_fail(r->st, MR_INVALID, "the answer is not UTF-8");
	if (r->request->ask == TSK_ASK_TEXT && r->request->api == TSK_API_OLLAMA)
		return tsk_read_lines(r, body, len);
	if (r->request->ask == TSK_ASK_TEXT && mr_json_peek(&js) != '{')
		return tsk_read_events(r, body, len);
	code = tsk_read_document(r, &js);
	if (code == MR_OK && mr_json_peek(&js) != '\0')
	{
		mr_json_syntax(&js, "the end of the answer");
		code = r->st->code;
	}
	r->ended = true;			/* a document is whole */
	return code;
}

mr_code
tsk_dialect_read(const tsk_dialect_request *request, const char *body, size_t len, const mr_env *env,
				 tsk_dialect_answer *out, mr_status *st)
{
	tsk_reader	r = {.request = request,.env = env,.st = st,.answer = out,.body_len = len};
	mr_code		code;

	memset(out, 0, sizeof(*out));
	out->tokens_in = out->tokens_out = -1;
	if (request->ask == TSK_ASK_VECTORS)
		out->n = request->n_inputs;
	else if ((out->text = malloc(len + 1)) == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory");
	code = read_body(&r, body, len);
	if (code == MR_OK)
		code = check(&r);
	free(r.seen);
	if (code == MR_OK && out->text)
	{
		char	   *text;

		out->text[out->len] = '\0';
		text = realloc(out->text, out->len + 1);
		out->text = text ? text : out->text;
	}
	if (code == MR_OK)
		return MR_OK;
	free(out->text);
	free(out->vectors);
	out->text = NULL;
	out->vectors = NULL;
	return code == MR_NOMEM || code == MR_CANCELED ? code : (st->code = MR_INVALID);
}
