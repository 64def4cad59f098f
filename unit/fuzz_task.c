/*
 * fuzz_task.c
 *	  Any bytes as the answer of a store, and any text as a path: what is made of them stays in its bounds.
 *
 * make unit/bin/fuzz_task && unit/bin/fuzz_task -max_total_time=60 corpus/
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "task/worker/outcome.h"
#include "task/worker/s3.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static tsk_s3_request request;
	static const tsk_store stores[] = {
		{"http://127.0.0.1:9000", "us-east-1", false, "me", "secret", NULL},
		{"https://s3.example:443/", "eu-1", true, "me", "secret", "token"},
		{"https://s3.example", "eu-1", false, NULL, NULL, NULL}
	};
	tsk_transfer t = {.status = size > 1 ? data[0] * 4 : 404,.cut = TSK_WHOLE};
	tsk_outcome outcome;
	mr_status	st;
	char	   *text = malloc(size + 1);

	memcpy(text, data, size);
	text[size] = '\0';
	t.body = text;
	t.len = size;
	tsk_judge(&t, &outcome);
	for (const char *p = outcome.error; *p; p++)
		if (*p < ' ' || *p > '~')
			abort();
	for (int i = 0; i < 3; i++)
		if (tsk_s3_prepare(&stores[i], "PUT", text, data, size, size % 2 ? text : NULL, (int64_t) size, &request, &st) == MR_OK)
			for (const char *p = request.url; *p; p++)
				if (*p <= ' ' || *p > '~')
					abort();
	free(text);
	return 0;
}
