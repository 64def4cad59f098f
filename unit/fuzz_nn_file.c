/*
 * fuzz_nn_file.c
 *	  libFuzzer: a compiled file of several plans, changed at will and sealed
 *	  again, is refused or runs within its memory.
 *
 * make fuzz (clang with libFuzzer), then
 *	  unit/bin/fuzz_nn_file -max_len=64 -rss_limit_mb=1024 -timeout=5 CORPUS
 *
 * The input is a list of changes: four bytes say where, one what.  The network
 * has blocked kernels only: parameters of plain operators rest on the checksum.
 */
#include "nn/file.h"
#include "nn_make.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint8_t *file;
static size_t file_len;
static float x[3 * 32 * 32];

static int	asked;

static bool
enough(void *arg)
{
	(void) arg;
	return ++asked > 1000;
}

/* The network at two sizes; its open batch in both. */
static void
make_file(void)
{
	static const nn_shape shapes[1] = {{4, {-1, 3, 12, 10}}};
	nn_class	classes[2] = {{1, shapes, NULL, NULL, false}, {0, NULL, NULL, NULL, false}};
	nn_options	opt = nn_default_options;
	pbw			net = make_network();
	mr_status	st;

	opt.n_classes = 2;
	opt.classes = classes;
	if (nn_compile(&mr_env_malloc, net.p, net.len, &opt, &file, &file_len, &st) != MR_OK)
		abort();
	free(net.p);
}

/* Does it still say where its plans are, so that it can be sealed? */
static bool
sealable(const uint8_t *f)
{
	const nn_file_header *h = (const void *) f;

	if (h->total_len != file_len || h->content > file_len || h->n_plans < 1 || h->n_plans > 2)
		return false;
	for (uint32_t i = 0; i < h->n_plans; i++)
		if (nn_file_plans(f)[i].at > file_len || nn_file_plans(f)[i].len > file_len - nn_file_plans(f)[i].at)
			return false;
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	mr_env		env = mr_env_malloc;
	uint8_t    *copy;
	uint64_t	head;

	if (file == NULL)
		make_file();
	head = ((nn_file_header *) (void *) file)->content;
	copy = aligned_alloc(64, (file_len + 63) & ~(size_t) 63);
	memcpy(copy, file, file_len);
	for (; len >= 5; data += 5, len -= 5)
	{
		uint32_t	at;

		memcpy(&at, data, sizeof(at));
		copy[at % head] = data[4];
	}
	env.interrupted = enough;
	if (sealable(copy))
	{
		nn_file_seal(copy, &mr_env_malloc);
		for (int i = 0; i < 2; i++)
		{
			float		y[64];
			const void *in[1] = {x};
			void	   *out[2] = {y, y};
			nn_model	m;
			mr_status	st;
			void	   *ws;

			if (nn_open_plan(copy, file_len, i, &m, &st) != MR_OK || nn_n_inputs(&m) != 1 || nn_n_outputs(&m) > 2 ||
				nn_input(&m, 0)->elements > 3 * 32 * 32 || nn_dtype_size(nn_input(&m, 0)->dtype) > 4 ||
				nn_workspace(&m) > 1 << 24)
				continue;
			for (int k = 0; k < nn_n_outputs(&m); k++)
				if (nn_output(&m, k)->elements > 64 || nn_dtype_size(nn_output(&m, k)->dtype) > 4)
					out[k] = NULL;
			ws = aligned_alloc(64, (nn_workspace(&m) + 63) & ~(size_t) 63);
			memset(ws, 0xff, nn_workspace(&m));
			asked = 0;
			nn_run_typed(&m, &env, ws, 1, in, out, &st);
			free(ws);
		}
	}
	free(copy);
	return 0;
}
