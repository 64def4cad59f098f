/*
 * call_payload_pg.c
 *	  A task's payload as a dialect wants it: the prompt of its kind filled in,
 *	  and whether the answer shall come as a stream.
 *
 * Memory: the current context, which is the task's.
 */
#include "postgres.h"

#include "task/worker/call.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* What a payload whose prompt is its kind's may say besides the prompt's values. */
static const char *const told[] = {"system", "options", "format", "model", "stream"};

/* The payload's value of a name into out: a text as it is, anything else as JSON. */
static void
append_value(StringInfo out, Jsonb *payload, const char *name, int len)
{
	JsonbValue *v = JB_ROOT_IS_OBJECT(payload) ? getKeyJsonValueFromContainer(&payload->root, name, len, NULL) : NULL;

	if (v == NULL || v->type == jbvNull)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the payload has no value for {{%.*s}} of its kind's prompt", len, name)));
	switch (v->type)
	{
		case jbvString:
			appendBinaryStringInfo(out, v->val.string.val, v->val.string.len);
			break;
		case jbvNumeric:
			appendStringInfoString(out, DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric))));
			break;
		case jbvBool:
			appendStringInfoString(out, v->val.boolean ? "true" : "false");
			break;
		default:
			(void) JsonbToCString(out, v->val.binary.data, v->val.binary.len);
	}
}

/* The prompt with {{name}} replaced; what comes in is not looked at again. */
static char *
fill_in(const char *prompt, Jsonb *payload)
{
	StringInfoData out;
	const char *open;

	initStringInfo(&out);
	while ((open = strstr(prompt, "{{")) != NULL)
	{
		const char *name = open + 2 + strspn(open + 2, " ");
		const char *close = strstr(name, "}}");
		int			len;

		if (close == NULL)
			break;
		len = (int) (close - name);
		while (len > 0 && name[len - 1] == ' ')
			len--;
		appendBinaryStringInfo(&out, prompt, (int) (open - prompt));
		append_value(&out, payload, name, len);
		prompt = close + 2;
	}
	appendStringInfoString(&out, prompt);
	return out.data;
}

static void
push_key(JsonbParseState **state, const char *name)
{
	JsonbValue	key = {.type = jbvString,.val.string = {.len = (int) strlen(name),.val = unconstify(char *, name)}};

	pushJsonbValue(state, WJB_KEY, &key);
}

/* {"prompt": …} and what the payload says of told. */
static Jsonb *
with_prompt(const char *prompt, Jsonb *payload)
{
	JsonbParseState *state = NULL;
	JsonbValue	text = {.type = jbvString};

	text.val.string.val = fill_in(prompt, payload);
	text.val.string.len = (int) strlen(text.val.string.val);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_key(&state, "prompt");
	pushJsonbValue(&state, WJB_VALUE, &text);
	for (int i = 0; i < (int) lengthof(told); i++)
	{
		JsonbValue *v = JB_ROOT_IS_OBJECT(payload) ? getKeyJsonValueFromContainer(&payload->root, told[i], (int) strlen(told[i]), NULL) : NULL;

		if (v == NULL)
			continue;
		push_key(&state, told[i]);
		pushJsonbValue(&state, WJB_VALUE, v);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

char *
tsk_payload_json(const tsk_errand *errand, int *len)
{
	const tsk_task *task = errand->task;
	Jsonb	   *payload = task->prompt ? with_prompt(task->prompt, task->payload) : task->payload;
	StringInfoData out;
	char	   *json;

	initStringInfo(&out);
	(void) JsonbToCString(&out, &payload->root, VARSIZE(payload));
	if (errand->provider->stream && strcmp(task->base, "llm") == 0 && JB_ROOT_IS_OBJECT(payload) &&
		getKeyJsonValueFromContainer(&payload->root, "stream", 6, NULL) == NULL)
	{
		out.data[--out.len] = '\0';
		appendStringInfo(&out, "%s\"stream\": true}", JB_ROOT_COUNT(payload) > 0 ? ", " : "");
	}
	json = pg_server_to_any(out.data, out.len, PG_UTF8);
	*len = json == out.data ? out.len : (int) strlen(json);
	return json;
}
