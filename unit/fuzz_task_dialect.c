/*
 * fuzz_task_dialect.c
 *	  Any bytes as the answer of a language model server, as its error, and as a task's payload: what is made of them
 *	  is UTF-8 within its bounds, and a request is JSON.
 *
 * make unit/bin/fuzz_task_dialect && unit/bin/fuzz_task_dialect -max_total_time=600 corpus/
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/utf8.h"
#include "task/worker/dialect.h"

static void
expect(bool good)
{
	if (!good)
		abort();
}

static void
answer(tsk_api api, tsk_ask ask, int n, const char *body, size_t len)
{
	tsk_dialect_request request = {.api = api,.ask = ask,.n_inputs = n};
	tsk_dialect_answer a;
	mr_status	st;

	if (tsk_dialect_read(&request, body, len, &mr_env_malloc, &a, &st) != MR_OK)
	{
		expect(a.text == NULL && a.vectors == NULL && st.message[0]);
		return;
	}
	expect(mr_utf8(a.model, strlen(a.model)) && mr_utf8(a.finish, strlen(a.finish)) && a.tokens_in >= -1 && a.tokens_out >= -1);
	if (ask == TSK_ASK_TEXT)
		expect(a.len > 0 && a.len <= len && mr_utf8(a.text, a.len) && a.text[a.len] == '\0');
	for (int i = 0; ask == TSK_ASK_VECTORS && i < a.n * a.dim; i++)
		expect(isfinite(a.vectors[i]));
	free(a.text);
	free(a.vectors);
}

static void
question(tsk_api api, tsk_ask ask, bool stream, const char *prompt, const char *payload, size_t len)
{
	tsk_dialect d = {.api = api,.ask = ask,.url = "https://host/v1",.model = "m",.prompt = prompt,.stream = stream};
	tsk_dialect_request request;
	mr_status	st;
	mr_json		js;

	if (tsk_dialect_write(&d, payload, len, &mr_env_malloc, &request, &st) != MR_OK)
	{
		expect(request.url == NULL);
		return;
	}
	js = (mr_json) {request.body, request.body, request.body + request.len, &st};
	/* a payload at the bound of nesting lies deeper in the request */
	expect((mr_json_skip(&js) && mr_json_peek(&js) == '\0') || st.code == MR_LIMIT);
	expect(mr_utf8(request.body, request.len));
	free(request.url);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *copy = malloc(size + 1);
	char		out[64];

	memcpy(copy, data, size);
	for (int api = TSK_API_OLLAMA; api <= TSK_API_OPENAI; api++)
	{
		answer(api, TSK_ASK_TEXT, 0, copy, size);
		answer(api, TSK_ASK_VECTORS, 2, copy, size);
		question(api, TSK_ASK_TEXT, size % 2, NULL, copy, size);
		question(api, TSK_ASK_TEXT, size % 2, "{{a}} \"and\" {{ b }}", copy, size);
		question(api, TSK_ASK_VECTORS, false, NULL, copy, size);
	}
	tsk_dialect_error(copy, size, out, size % 60 + 2);
	expect(mr_utf8(out, strlen(out)) && strlen(out) < size % 60 + 2);
	for (const char *p = out; *p; p++)
		expect((unsigned char) *p >= ' ' && *p != 0x7f);
	tsk_dialect_blot(copy, size, "canary-1");
	free(copy);
	return 0;
}
