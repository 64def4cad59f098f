/*
 * call_result_pg.c
 *	  Results of calls as jsonb: what tasks.result says of a text, of vectors, of something fetched.
 *
 * Memory: the current context, which is the task's.  An ERROR fails the task.
 */
#include "postgres.h"

#include "task/worker/call.h"

#include "catalog/pg_type.h"
#include "common/base64.h"
#include "common/shortest_dec.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "task/jsonb_pg.h"

static void
push_value(JsonbParseState **state, const char *text, size_t len)
{
	JsonbValue	v = {.type = jbvString,.val.string = {.len = (int) len,.val = unconstify(char *, text)}};

	if (len > JENTRY_OFFLENMASK)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("an answer of %zu bytes is too large for jsonb", len)));
	pushJsonbValue(state, WJB_VALUE, &v);
}

/* Text in UTF-8. */
static void
push_utf8(JsonbParseState **state, const char *name, const char *text, size_t len)
{
	char	   *converted;

	if (len > MaxAllocSize / 2)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("an answer of %zu bytes is too large for jsonb", len)));
	tsk_push_key(state, name);
	converted = pg_any_to_server(text, (int) len, PG_UTF8);
	push_value(state, converted, converted == text ? len : strlen(converted));
}

static void
push_number(JsonbParseState **state, JsonbIteratorToken what, const char *digits)
{
	JsonbValue	v = {.type = jbvNumeric};

	v.val.numeric = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(digits), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	pushJsonbValue(state, what, &v);
}

/* Who answered, what it took. */
static Jsonb *
end_result(JsonbParseState **state, const tsk_errand *errand, const tsk_dialect_answer *answer)
{
	const tsk_task *task = errand->task;
	const tsk_provider *p = errand->provider;
	bool		embed = strcmp(task->base, "embed") == 0;
	const char *model = embed && p->embedding_model ? p->embedding_model : p->model;

	tsk_push_text(state, "provider", p->queue->name);
	if (answer->model[0])
		push_utf8(state, "model", answer->model, strlen(answer->model));
	else if (model)
		tsk_push_text(state, "model", model);
	if (answer->finish[0])
		push_utf8(state, "finish", answer->finish, strlen(answer->finish));
	if (task->tokens_in >= 0)
		tsk_push_number(state, "tokens_in", task->tokens_in);
	if (task->tokens_out >= 0)
		tsk_push_number(state, "tokens_out", task->tokens_out);
	if (task->cost >= 0)
	{
		tsk_push_key(state, "cost");
		push_number(state, WJB_VALUE, psprintf("%.9g", task->cost));
	}
	tsk_push_number(state, "latency_ms", errand->transfer->duration_us / 1000);
	return tsk_end_object(state);
}

/* {"text", "provider", "model", "finish", "tokens_in", "tokens_out", "cost", "latency_ms"}, what is not known left out */
Jsonb *
tsk_llm_result(const tsk_errand *errand, const tsk_dialect_answer *answer)
{
	JsonbParseState *state = NULL;

	tsk_begin_object(&state);
	push_utf8(&state, "text", answer->text, answer->len);
	return end_result(&state, errand, answer);
}

/* {"embeddings": [[…], …], …}: in the order of the input, with the fewest digits that give the same float4 */
Jsonb *
tsk_embed_result(const tsk_errand *errand, const tsk_dialect_answer *answer)
{
	JsonbParseState *state = NULL;
	const float *x = answer->vectors;	/* (n, dim) */
	char		digits[FLOAT_SHORTEST_DECIMAL_LEN];

	tsk_begin_object(&state);
	tsk_push_key(&state, "embeddings");
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < answer->n; i++)
	{
		pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
		for (int k = 0; k < answer->dim; k++)
		{
			float_to_shortest_decimal_buf(*x++, digits);
			push_number(&state, WJB_ELEM, digits);
		}
		pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	}
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	return end_result(&state, errand, answer);
}

/* Is it a text that jsonb can hold?  Pictures and the like are not, whatever their bytes. */
static bool
is_text(const tsk_transfer *t)
{
	static const char *const others[] = {"image/", "audio/", "video/", "application/octet-stream", "application/zip", "application/pdf"};

	for (int i = 0; i < (int) lengthof(others); i++)
		if (pg_strncasecmp(t->content_type, others[i], strlen(others[i])) == 0)
			return false;
	return t->len == 0 || (memchr(t->body, 0, t->len) == NULL && pg_verify_mbstr(PG_UTF8, t->body, (int) t->len, true));
}

static void
push_base64(JsonbParseState **state, const tsk_transfer *t)
{
	int			room = pg_b64_enc_len((int) t->len);
	char	   *to = MemoryContextAllocHuge(CurrentMemoryContext, (Size) room + 1);
	int			n = pg_b64_encode((const void *) t->body, (int) t->len, to, room);

	if (n < 0)
		elog(ERROR, "no room for base64");
	tsk_push_key(state, "base64");
	push_value(state, to, (size_t) n);
}

/* {"status", "content_type", "bytes", "latency_ms", "text" | "base64"} */
Jsonb *
tsk_fetch_result(const tsk_errand *errand)
{
	JsonbParseState *state = NULL;
	const tsk_transfer *t = errand->transfer;
	bool		printable = t->content_type[0] != '\0';

	for (const char *c = t->content_type; *c; c++)
		printable = printable && *c >= ' ' && *c < 0x7f;
	tsk_begin_object(&state);
	tsk_push_number(&state, "status", t->status);
	if (printable)
		tsk_push_text(&state, "content_type", t->content_type);
	tsk_push_number(&state, "bytes", (int64) t->len);
	tsk_push_number(&state, "latency_ms", t->duration_us / 1000);
	if (is_text(t))
		push_utf8(&state, "text", t->body ? t->body : "", t->len);
	else
		push_base64(&state, t);
	return tsk_end_object(&state);
}
