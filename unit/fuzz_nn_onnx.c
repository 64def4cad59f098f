/*
 * fuzz_nn_onnx.c
 *	  libFuzzer: any bytes give a compiled model that opens and runs, or a clean
 *	  error.
 *
 * make fuzz (clang with libFuzzer), then
 *	  unit/bin/fuzz_nn_onnx -max_len=65536 -rss_limit_mb=1024 -timeout=5 CORPUS
 *
 * Seeds: the conformance cases' model.onnx.  Memory is capped and questions
 * whether to stop are counted, so that an execution stays short.
 */
#include <stdlib.h>

#include "nn/graph.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int	asked;

static bool
enough(void *arg)
{
	(void) arg;
	return ++asked > 64;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	nn_options	opt = nn_default_options;
	mr_env		env = mr_env_malloc;
	uint8_t    *file = NULL;
	size_t		flen;
	nn_model	m;
	mr_status	st = {0};
	mr_code		rc;
	const void *in[NN_MAX_PORTS];
	void	   *out[NN_MAX_PORTS];
	void	   *ws;

	env.interrupted = enough;
	asked = 0;
	opt.max_memory = (size_t) 32 << 20;
	opt.max_nodes = 1000;
	rc = nn_compile(&env, data, len, &opt, &file, &flen, &st);
	if (rc != MR_OK)
	{
		if (file != NULL || rc == MR_INTERNAL || rc == MR_CORRUPT || st.message[0] == '\0')
			abort();
		return 0;
	}
	if (nn_verify(file, flen, &st) != MR_OK || nn_open(file, flen, &m, &st) != MR_OK)
		abort();
	ws = aligned_alloc(64, nn_workspace(&m) + 64);
	for (int i = 0; i < nn_n_inputs(&m); i++)
		in[i] = calloc((size_t) nn_input(&m, i)->elements + 1, nn_dtype_size(nn_input(&m, i)->dtype));
	for (int i = 0; i < nn_n_outputs(&m); i++)
		out[i] = malloc(((size_t) nn_output(&m, i)->elements + 1) * nn_dtype_size(nn_output(&m, i)->dtype));
	asked = 0;
	rc = nn_run_typed(&m, &env, ws, 1, in, out, &st);
	if (rc == MR_INTERNAL || rc == MR_CORRUPT)
		abort();
	for (int i = 0; i < nn_n_inputs(&m); i++)
		free((void *) (uintptr_t) in[i]);
	for (int i = 0; i < nn_n_outputs(&m); i++)
		free(out[i]);
	free(ws);
	mr_free(&mr_env_malloc, file);
	return 0;
}
