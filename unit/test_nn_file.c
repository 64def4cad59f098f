/*
 * test_nn_file.c
 *	  The compiled file and its runs: the same bits in any batch, memory bounded
 *	  by what was announced, damage always found, the CPU's modes restored.
 */
#include <math.h>

#include "nn/file.h"
#include "nn_make.h"
#include "unit.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

static pbw	network;

static void *
aligned(size_t size)
{
	return aligned_alloc(64, (size + 63) & ~(size_t) 63);
}

/* ---- an environment that counts memory and stops on request ---- */

static long asked,
			stop_at;

static bool
stop(void *arg)
{
	(void) arg;
	return ++asked == stop_at;
}

static mr_env
stopping_env(void)
{
	mr_env		env = mr_env_malloc;

	env.interrupted = stop;
	asked = 0;
	return env;
}

/* Straightforward reference: the same graph with batch fixed at 2, which the
 * planner gives to the plain kernels. */
static void
compare_isas(void)
{
	static const nn_isa isas[] = {nn_isa_portable, nn_isa_avx2, nn_isa_avx512};
	enum {BATCH = 5};
	float	   *x = aligned(BATCH * 360 * sizeof(float));
	float		first[BATCH * 24],
				first_logits[BATCH * 5];
	bool		have = false;

	for (int i = 0; i < BATCH * 360; i++)
		x[i] = noise();
	for (int k = 0; k < 3; k++)
	{
		nn_options	opt = nn_default_options;
		mr_status	st = {0};
		uint8_t    *file,
				   *again;
		size_t		len,
					again_len;
		nn_model	m;
		void	   *ws;
		float		f[BATCH * 24],
					l[BATCH * 5],
					f1[24],
					l1[5];
		const float *in[1] = {x};
		float	   *out[2] = {f, l};
		bool		same = true;
		float		worst = 0;

		opt.isa = isas[k];
		if (!nn_isa_available(isas[k]))
		{
			skip("this CPU lacks the instruction set");
			continue;
		}
		if (!ok(nn_compile(&mr_env_malloc, network.p, network.len, &opt, &file, &len, &st) == MR_OK,
				"%s: compiles%s", nn_isa_name(isas[k]), st.message))
			continue;
		nn_compile(&mr_env_malloc, network.p, network.len, &opt, &again, &again_len, &st);
		ok(again_len == len && memcmp(file, again, len) == 0, "%s: compiling again gives the same bytes", nn_isa_name(isas[k]));
		mr_free(&mr_env_malloc, again);
		ok(nn_open(file, len, &m, &st) == MR_OK && nn_verify(file, len, &st) == MR_OK, "%s: opens", nn_isa_name(isas[k]));
		ok(nn_n_inputs(&m) == 1 && nn_n_outputs(&m) == 2 && nn_find_output(&m, "logits") == 1 &&
		   nn_find_output(&m, "nope") == -1 && nn_find_input(&m, "x") == 0 &&
		   nn_input(&m, 0)->dims[0] == -1 && nn_input(&m, 0)->elements == 360 && nn_output(&m, 0)->dims[0] == -1 &&
		   nn_output(&m, 0)->dims[1] == 24, "%s: inputs and outputs", nn_isa_name(isas[k]));
		ws = aligned(nn_workspace(&m));	/* ASan watches its end */
		memset(ws, 0xff, nn_workspace(&m));	/* NaN everywhere */
		ok(nn_run(&m, &mr_env_malloc, ws, BATCH, in, out, &st) == MR_OK, "%s: runs a batch", nn_isa_name(isas[k]));
		for (int n = 0; n < BATCH; n++)
		{
			const float *in1[1] = {x + n * 360};
			float	   *out1[2] = {f1, l1};

			memset(ws, 0xff, nn_workspace(&m));
			nn_run(&m, &mr_env_malloc, ws, 1, in1, out1, &st);
			same = same && memcmp(f1, f + n * 24, sizeof(f1)) == 0 && memcmp(l1, l + n * 5, sizeof(l1)) == 0;
		}
		ok(same, "%s: each image bit-equal alone and in the batch", nn_isa_name(isas[k]));
		{
			float	   *only[2] = {NULL, l1};

			nn_run(&m, &mr_env_malloc, ws, 1, in, only, &st);
			ok(memcmp(l1, l, sizeof(l1)) == 0, "%s: an output alone", nn_isa_name(isas[k]));
			only[0] = f1;
			only[1] = NULL;
			nn_run(&m, &mr_env_malloc, ws, 1, in, only, &st);
			ok(memcmp(f1, f, sizeof(f1)) == 0, "%s: the other output alone", nn_isa_name(isas[k]));
		}
		if (have)
		{
			for (int i = 0; i < BATCH * 24; i++)
				worst = fabsf(f[i] - first[i]) > worst ? fabsf(f[i] - first[i]) : worst;
			for (int i = 0; i < BATCH * 5; i++)
				worst = fabsf(l[i] - first_logits[i]) > worst ? fabsf(l[i] - first_logits[i]) : worst;
			ok(worst < 1e-4f, "%s: agrees with portable (%g)", nn_isa_name(isas[k]), (double) worst);
		}
		else
		{
			memcpy(first, f, sizeof(f));
			memcpy(first_logits, l, sizeof(l));
			have = true;
		}
		free(ws);
		mr_free(&mr_env_malloc, file);
	}
	free(x);
}

/* Blocked kernels against the plain operators: the same network at batch 2. */
static void
compare_plain(void)
{
	pbw			fixed = {0};
	nn_model	m[2];
	uint8_t    *file[2];
	size_t		len;
	float		x[2 * 360];
	float		y[2][2 * 5],
				worst = 0;
	mr_status	st = {0};
	bool		good = true;

	/* "N" as the name of the first dimension becomes the number 2 */
	pbw_raw(&fixed, network.p, network.len);
	for (size_t i = 0; i + 3 <= fixed.len; i++)
		if (memcmp(fixed.p + i, "\x12\x01N", 3) == 0)
			memcpy(fixed.p + i, "\x08\x82\x00", 3);
	for (int i = 0; i < 2 * 360; i++)
		x[i] = noise();
	for (int k = 0; k < 2; k++)
	{
		const pbw  *w = k ? &fixed : &network;
		const float *in[1] = {x};
		float	   *out[2] = {NULL, y[k]};
		void	   *ws;

		good = good && nn_compile(&mr_env_malloc, w->p, w->len, NULL, &file[k], &len, &st) == MR_OK &&
			nn_open(file[k], len, &m[k], &st) == MR_OK;
		if (!good)
			break;
		ws = aligned(nn_workspace(&m[k]));
		good = good && nn_run(&m[k], &mr_env_malloc, ws, k ? 1 : 2, in, out, &st) == MR_OK;
		free(ws);
		mr_free(&mr_env_malloc, file[k]);
	}
	for (int i = 0; good && i < 10; i++)
		worst = fabsf(y[0][i] - y[1][i]) > worst ? fabsf(y[0][i] - y[1][i]) : worst;
	ok(good && worst < 1e-4f, "blocked kernels agree with plain operators (%g) %s", (double) worst, st.message);
	free(fixed.p);
}

/* ---- damage ---- */

static void
damage(void)
{
	mr_status	st = {0};
	uint8_t    *file,
			   *copy;
	size_t		len;
	nn_model	m;
	nn_file_header *h;
	size_t		missed = 0,
				accepted = 0,
				crashes = 0;
	uint32_t	seed = 1;
	float		x[360],
				f[24],
				l[5];
	const float *in[1] = {x};
	float	   *out[2] = {f, l};

	for (int i = 0; i < 360; i++)
		x[i] = noise();
	nn_compile(&mr_env_malloc, network.p, network.len, NULL, &file, &len, &st);
	h = (nn_file_header *) (void *) file;
	copy = aligned(len);
	for (size_t i = 0; i < h->content; i++)
	{
		memcpy(copy, file, h->content);
		copy[i] ^= (uint8_t) (1 << i % 8);
		missed += nn_open(copy, len, &m, &st) != MR_CORRUPT;
	}
	ok(missed == 0, "every flipped bit of header and plan is found (%zu bytes)", (size_t) h->content);
	for (size_t n = 0; n < len; n += 61)
		missed += nn_open(file, n, &m, &st) != MR_CORRUPT;
	ok(missed == 0, "every truncation is found");
	memcpy(copy, file, len);
	copy[len - 5] ^= 4;
	ok(nn_open(copy, len, &m, &st) == MR_OK && nn_verify(copy, len, &st) == MR_CORRUPT, "damaged weights are found by nn_verify");
	memset(copy, 0, len);
	ok(nn_open(copy, len, &m, &st) == MR_CORRUPT, "a foreign file is refused");

	/* A forged plan with a right checksum: refused, or runs within its memory. */
	for (int i = 0; i < 6000; i++)
	{
		size_t		at;

		memcpy(copy, file, len);
		for (int k = 0; k <= i % 2; k++)
		{
			seed = seed * 1664525u + 1013904223u;
			at = 8 + (seed >> 4) % (h->content - 8);
			seed = seed * 1664525u + 1013904223u;
			copy[at] = i % 3 ? (uint8_t) (copy[at] ^ 1 << (seed >> 9) % 8) : (uint8_t) (seed >> 16);
		}
		if (((nn_file_header *) (void *) copy)->total_len != len || ((nn_file_header *) (void *) copy)->content > len ||
			((nn_file_header *) (void *) copy)->n_plans != 1 || nn_file_plans(copy)->at > len ||
			nn_file_plans(copy)->len > len - nn_file_plans(copy)->at)
			continue;
		nn_file_seal(copy, &mr_env_malloc);
		if (nn_open(copy, len, &m, &st) != MR_OK)
			continue;
		if (nn_n_inputs(&m) != 1 || nn_n_outputs(&m) != 2 || nn_input(&m, 0)->elements != 360 ||
			nn_output(&m, 0)->elements != 24 || nn_output(&m, 1)->elements != 5 || nn_workspace(&m) > 1 << 24)
			continue;
		{
			void	   *ws = aligned(nn_workspace(&m));
			mr_code		rc = nn_run(&m, &mr_env_malloc, ws, 1, in, out, &st);

			crashes += rc != MR_OK && rc != MR_UNSUPPORTED && rc != MR_INVALID;
			free(ws);
			accepted++;
		}
	}
	ok(crashes == 0, "forged plans are refused or stay within their memory (%zu ran)", accepted);
	free(copy);
	mr_free(&mr_env_malloc, file);
}

/* ---- interrupts and modes ---- */

static void
surroundings(void)
{
	mr_env		env = stopping_env();
	mr_status	st = {0};
	uint8_t    *file;
	size_t		len;
	nn_model	m;
	float		x[360] = {0},
				l[5];
	const float *in[1] = {x};
	float	   *out[2] = {NULL, l};
	void	   *ws;
	bool		good = true;
	long		n;

	nn_compile(&mr_env_malloc, network.p, network.len, NULL, &file, &len, &st);
	nn_open(file, len, &m, &st);
	ws = aligned(nn_workspace(&m));
	stop_at = -1;
	nn_run(&m, &env, ws, 1, in, out, &st);
	n = asked;
	for (stop_at = 1; stop_at <= n; stop_at++)
	{
		asked = 0;
		good = good && nn_run(&m, &env, ws, 1, in, out, &st) == MR_CANCELED && st.code == MR_CANCELED;
	}
	ok(n >= 5 && good, "a run stops at each of its %ld questions", n);
#if defined(__SSE__)
	{
		unsigned	mode = _mm_getcsr();

		_mm_setcsr(mode & ~0x8040u);
		for (int i = 0; i < 360; i++)
			x[i] = 1e-41f;
		nn_run(&m, &mr_env_malloc, ws, 1, in, out, &st);
		ok((_mm_getcsr() & 0x8040) == 0, "MXCSR is restored after a run");
		stop_at = 2;
		asked = 0;
		nn_run(&m, &env, ws, 1, in, out, &st);
		ok((_mm_getcsr() & 0x8040) == 0, "MXCSR is restored after a canceled run");
		_mm_setcsr(mode);
	}
#endif
	free(ws);
	mr_free(&mr_env_malloc, file);

	/* The same for compiling, leaks watched by ASan. */
	env = stopping_env();
	stop_at = -1;
	nn_compile(&env, network.p, network.len, NULL, &file, &len, &st);
	mr_free(&mr_env_malloc, file);
	n = asked;
	good = true;
	for (stop_at = 1; stop_at <= n; stop_at++)
	{
		asked = 0;
		good = good && nn_compile(&env, network.p, network.len, NULL, &file, &len, &st) == MR_CANCELED && file == NULL;
	}
	ok(good, "compiling stops at each of its %ld questions", n);
}

/* Packing one layer, which may be most of a model, asks panel by panel. */
static void
one_large_layer(void)
{
	pbw			g = {0},
				model;
	nn_options	opt = nn_default_options;
	mr_env		env = stopping_env();
	uint8_t    *file;
	size_t		len;
	mr_status	st = {0};

	add_weights(&g, "w", 2, (int64_t[]) {16, 4096}, 0.1f, 0);
	add_port(&g, 11, "x", 1, 2, (int64_t[]) {-1, 16});
	add_node(&g, "MatMul", "x,w", "y");
	add_port(&g, 12, "y", 1, 2, (int64_t[]) {-1, 4096});
	model = make_model(&g, 13);
	for (int half = 0; half < 2; half++)
	{
		opt.precision = half ? nn_bfloat16 : nn_float32;
		stop_at = -1;
		asked = 0;
		if (nn_compile(&env, model.p, model.len, &opt, &file, &len, &st) == MR_OK)
			mr_free(&mr_env_malloc, file);
		ok(asked >= 4096 / 64, "packing 4,096 columns (%s) asks %ld times", half ? "bfloat16" : "float32", asked);
	}
	free(model.p);
}

int
main(void)
{
	network = make_network();
	compare_isas();
	compare_plain();
	damage();
	surroundings();
	one_large_layer();
	free(network.p);
	return done_testing();
}
