/*
 * test_nn_quantize.c
 *	  The quantizer, and plans of int8 and bfloat16: agreement with float32, every
 *	  instruction set alike, refusals, cancels, forged plans.
 */
#include <math.h>

#include "nn/file.h"
#include "nn/quantize.h"
#include "nn_make.h"
#include "unit.h"

enum {INPUT = 3 * 12 * 10, FEATURES = 24, LOGITS = 5, SAMPLES = 24};

static pbw	network,
			wide,
			branches;
static float samples[SAMPLES][INPUT];
static long asked,
			stop_at = -1;

static bool
stop(void *arg)
{
	(void) arg;
	return ++asked == stop_at;
}

static void *
aligned(size_t size)
{
	return aligned_alloc(64, (size + 63) & ~(size_t) 63);
}

/* No depthwise convolution, and one with weights enough for bfloat16 to be worth
 * it; else the shapes of make_network(). */
static pbw
make_wide(void)
{
	static const struct
	{
		const char *op,
				   *inputs,
				   *output;
		int			kernel,
					stride;
	}			nodes[] = {
		{"Conv", "x,w1", "c1", 3, 1}, {"Relu", "c1", "a1", 0, 0}, {"Conv", "a1,w2", "c2", 3, 1}, {"Add", "c2,a1", "s2", 0, 0},
		{"Relu", "s2", "a2", 0, 0}, {"MaxPool", "a2", "m2", 2, 2}, {"AveragePool", "a2", "v2", 2, 2},
		{"Conv", "m2,w3", "c3", 1, 1}, {"Conv", "v2,w4", "c4", 1, 1}, {"Concat", "c3,c4", "cc", 0, 0},
		{"Sigmoid", "cc", "sg", 0, 0}, {"Mul", "cc,sg", "si", 0, 0}, {"GlobalAveragePool", "si", "gp", 0, 0},
		{"Flatten", "gp", "features", 0, 0}, {"Gemm", "features,fc", "logits", 0, 0}};
	pbw			g = {0};

	add_weights(&g, "w1", 4, (int64_t[]) {32, 3, 3, 3}, 0.3f, 0);
	add_weights(&g, "w2", 4, (int64_t[]) {32, 32, 3, 3}, 0.1f, 0);
	add_weights(&g, "w3", 4, (int64_t[]) {16, 32, 1, 1}, 0.3f, 0);
	add_weights(&g, "w4", 4, (int64_t[]) {8, 32, 1, 1}, 0.3f, 0);
	add_weights(&g, "fc", 2, (int64_t[]) {FEATURES, LOGITS}, 0.3f, 0);
	add_port(&g, 11, "x", 1, 4, (int64_t[]) {-1, 3, 12, 10});
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++)
	{
		pbw			n = make_node(nodes[i].op, nodes[i].output, nodes[i].inputs, nodes[i].output);

		if (nodes[i].kernel)
		{
			attr_ints(&n, "kernel_shape", 2, (int64_t[]) {nodes[i].kernel, nodes[i].kernel});
			attr_ints(&n, "strides", 2, (int64_t[]) {nodes[i].stride, nodes[i].stride});
			if (nodes[i].kernel == 3)
				attr_ints(&n, "pads", 4, (int64_t[]) {1, 1, 1, 1});
		}
		if (strcmp(nodes[i].op, "Concat") == 0)
			attr_int(&n, "axis", 1);
		pbw_message(&g, 1, &n);
	}
	add_port(&g, 12, "features", 1, 2, (int64_t[]) {-1, FEATURES});
	add_port(&g, 12, "logits", 1, 2, (int64_t[]) {-1, LOGITS});
	return make_model(&g, 13);
}

/* What tensors of bfloat16 go through between layers: parts that are views and parts that are copied, a concat
 * made in place, pixels doubled, a layer by Winograd's method. */
static pbw
make_branches(void)
{
	static const struct
	{
		const char *op,
				   *inputs,
				   *outputs;
		int			kernel;
	}			nodes[] = {
		{"Conv", "x,w0", "c0", 3}, {"Relu", "c0", "a0", 0}, {"Conv", "a0,w1", "c1", 1}, {"Relu", "c1", "a1", 0},
		{"Split", "a1,halves", "l1,r1", 0}, {"Conv", "r1,w2", "c2", 3},
		{"Relu", "c2", "a2", 0}, {"Concat", "l1,r1,a2", "cc", 0}, {"Resize", "cc,,scales", "z3", 0}, {"Conv", "z3,w3", "c3", 1},
		{"Sigmoid", "c3", "g3", 0}, {"Mul", "c3,g3", "a3", 0}, {"Conv", "a3,w4", "c4", 3}, {"Sigmoid", "c4", "g4", 0},
		{"Mul", "c4,g4", "a4", 0}, {"Add", "a4,a3", "s4", 0}, {"Split", "s4,odd", "l4,r4", 0}, {"Concat", "r4,l4", "c5", 0},
		{"Conv", "c5,w6", "c6", 1}, {"GlobalAveragePool", "c6", "gp", 0}, {"Flatten", "gp", "features", 0},
		{"Gemm", "features,fc", "logits", 0}};
	pbw			g = {0},
				t = {0};

	add_weights(&g, "w0", 4, (int64_t[]) {32, 3, 3, 3}, 0.3f, 0);
	add_weights(&g, "w1", 4, (int64_t[]) {64, 32, 1, 1}, 0.3f, 0);
	add_weights(&g, "w2", 4, (int64_t[]) {32, 32, 3, 3}, 0.1f, 0);
	add_weights(&g, "w3", 4, (int64_t[]) {64, 96, 1, 1}, 0.2f, 0);
	add_weights(&g, "w4", 4, (int64_t[]) {64, 64, 3, 3}, 0.1f, 0);
	add_weights(&g, "w6", 4, (int64_t[]) {FEATURES, 64, 1, 1}, 0.2f, 0);
	add_weights(&g, "fc", 2, (int64_t[]) {FEATURES, LOGITS}, 0.3f, 0);
	pbw_int(&t, 1, 4);
	pbw_int(&t, 2, 1);
	pbw_str(&t, 8, "scales");
	pbw_bytes(&t, 9, (float[]) {1, 1, 2, 2}, 4 * sizeof(float));
	pbw_message(&g, 5, &t);
	for (int i = 0; i < 2; i++)
	{
		pbw			s = {0};

		pbw_int(&s, 1, 2);
		pbw_int(&s, 2, 7);
		pbw_str(&s, 8, i ? "odd" : "halves");
		pbw_bytes(&s, 9, i ? (int64_t[]) {16, 48} : (int64_t[]) {32, 32}, 2 * sizeof(int64_t));
		pbw_message(&g, 5, &s);
	}
	add_port(&g, 11, "x", 1, 4, (int64_t[]) {-1, 3, 12, 10});
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++)
	{
		pbw			n = make_node(nodes[i].op, nodes[i].outputs, nodes[i].inputs, nodes[i].outputs);

		if (nodes[i].kernel)
			attr_ints(&n, "kernel_shape", 2, (int64_t[]) {nodes[i].kernel, nodes[i].kernel});
		if (nodes[i].kernel == 3)
			attr_ints(&n, "pads", 4, (int64_t[]) {1, 1, 1, 1});
		if (strcmp(nodes[i].op, "Concat") == 0 || strcmp(nodes[i].op, "Split") == 0)
			attr_int(&n, "axis", 1);
		pbw_message(&g, 1, &n);
	}
	add_port(&g, 12, "features", 1, 2, (int64_t[]) {-1, FEATURES});
	add_port(&g, 12, "logits", 1, 2, (int64_t[]) {-1, LOGITS});
	return make_model(&g, 13);
}

/* How many steps of that kind and type of elements the plan of a model has. */
static int
steps_of(pbw net, const char *kernel, const char *dtype)
{
	nn_options	o = nn_default_options;
	uint8_t    *file;
	size_t		len;
	nn_model	m;
	mr_status	st = {0};
	int			found = 0;

	o.isa = nn_isa_avx512_bf16;
	o.precision = nn_bfloat16;
	if (nn_compile(&mr_env_malloc, net.p, net.len, &o, &file, &len, &st) != MR_OK || nn_open(file, len, &m, &st) != MR_OK)
		return -1;
	for (int i = 0; i < nn_n_steps(&m); i++)
	{
		nn_step_info s;

		nn_describe_step(&m, i, &s);
		found += strcmp(s.kernel, kernel) == 0 && strcmp(s.dtype, dtype) == 0;
	}
	mr_free(&mr_env_malloc, file);
	return found;
}

/* Calibrate, build, compare: the whole way; the ONNX bytes are the caller's. */
static mr_code
quantize(const mr_env *env, const nn_quant_options *options, uint8_t **onnx, size_t *len, nn_agreement *a, int *kept,
		 mr_status *st)
{
	nn_quantizer *q;
	bool		again = true;
	mr_code		rc = nn_quantizer_open(env, network.p, network.len, NULL, options, &q, st);

	*onnx = NULL;
	for (int i = 0; i < SAMPLES && rc == MR_OK; i++)
		if (i % 3)
			rc = nn_quantizer_observe(q, (const void *[]) {samples[i]}, st);
	while (again && rc == MR_OK)
	{
		rc = nn_quantizer_build(q, st);
		for (int i = 0; i < SAMPLES && rc == MR_OK; i += 3)
			rc = nn_quantizer_compare(q, (const void *[]) {samples[i]}, st);
		if (rc == MR_OK)
			rc = nn_quantizer_next(q, &again, st);
	}
	if (rc == MR_OK)
	{
		const uint8_t *bytes = nn_quantizer_bytes(q, len);

		*onnx = malloc(*len);
		memcpy(*onnx, bytes, *len);
		*a = *nn_quantizer_agreement(q);
		*kept = 0;
		for (int i = 0; i < nn_quantizer_n_layers(q); i++)
		{
			bool		k;

			nn_quantizer_layer(q, i, &k);
			*kept += k;
		}
	}
	nn_quantizer_close(q);
	return rc;
}

/* Answers of a model for all samples; false if the machine lacks the instruction set. */
static bool
answers(const uint8_t *onnx, size_t len, nn_isa isa, nn_dtype precision, float *logits, float *features)
{
	nn_options	o = nn_default_options;
	uint8_t    *file;
	size_t		file_len;
	nn_model	m;
	mr_status	st = {0};
	void	   *ws;
	bool		good;

	o.isa = isa;
	o.precision = precision;
	if (!nn_isa_available(isa))
		return false;
	if (nn_compile(&mr_env_malloc, onnx, len, &o, &file, &file_len, &st) != MR_OK ||
		nn_open(file, file_len, &m, &st) != MR_OK)
	{
		printf("# %s\n", st.message);
		return false;
	}
	ws = aligned(nn_workspace(&m));
	good = nn_run(&m, &mr_env_malloc, ws, SAMPLES, (const float *[]) {samples[0]}, (float *[]) {features, logits}, &st) == MR_OK;
	free(ws);
	mr_free(&mr_env_malloc, file);
	return good;
}

static double
worst(const float *a, const float *b, int n)
{
	double		most = 0,
				off = 0;

	for (int i = 0; i < n; i++)
	{
		most = fmax(most, fabs((double) a[i]));
		off = fmax(off, fabs((double) a[i] - b[i]));
	}
	return off / most;
}

static void
agree(void)
{
	static const char *const methods[] = {"minmax", "percentile", "entropy"};
	float		reference[SAMPLES * LOGITS],
				features[SAMPLES * FEATURES],
				logits[SAMPLES * LOGITS],
				first[SAMPLES * LOGITS];
	uint8_t    *onnx;
	size_t		len;
	nn_agreement a;
	int			kept;
	mr_status	st = {0};

	answers(network.p, network.len, nn_isa_portable, nn_float32, reference, features);
	for (int k = 0; k < 3; k++)
	{
		nn_quant_options o = nn_quant_defaults;
		bool		have = false;

		ok(nn_quant_method_by_name(methods[k], &o.method), "method %s", methods[k]);
		o.output = 1;
		ok(quantize(&mr_env_malloc, &o, &onnx, &len, &a, &kept, &st) == MR_OK, "quantised by %s %s", methods[k], st.message);
		ok(a.rows == SAMPLES / 3 && a.cosine / (double) a.rows > 0.995 && kept == 0,
		   "cosine %.5f on the hold-out", a.cosine / (double) a.rows);
		for (nn_isa isa = nn_isa_portable; isa <= nn_isa_last; isa++)
		{
			if (!answers(onnx, len, isa, nn_float32, logits, features))
				continue;
			if (!have)
				memcpy(first, logits, sizeof(first));
			have = true;
			ok(worst(reference, logits, SAMPLES * LOGITS) < 0.1 && worst(first, logits, SAMPLES * LOGITS) < 1e-5,
			   "%s: %.4f from float32, %.2g from the first", nn_isa_name(isa), worst(reference, logits, SAMPLES * LOGITS),
			   worst(first, logits, SAMPLES * LOGITS));
		}
		free(onnx);
	}
	answers(wide.p, wide.len, nn_isa_portable, nn_float32, reference, features);
	for (nn_isa isa = nn_isa_portable; isa <= nn_isa_last; isa++)
		if (answers(wide.p, wide.len, isa, nn_bfloat16, logits, features))
		{
			double		off = worst(reference, logits, SAMPLES * LOGITS);

			ok(off > 1e-5 && off < 0.02, "bfloat16 on %s: %.5f from float32", nn_isa_name(isa), off);
		}
	answers(branches.p, branches.len, nn_isa_portable, nn_float32, reference, features);
	for (nn_isa isa = nn_isa_portable; isa <= nn_isa_last; isa++)
		if (answers(branches.p, branches.len, isa, nn_bfloat16, logits, features))
		{
			double		off = worst(reference, logits, SAMPLES * LOGITS);

			ok(off < 0.02, "split, concat, resize in bfloat16 on %s: %.5f from float32", nn_isa_name(isa), off);
		}
	if (nn_isa_available(nn_isa_avx512_bf16))
	{
		ok(steps_of(branches, "resize", "bfloat16") == 1 && steps_of(branches, "conv winograd", "bfloat16") == 2,
		   "pixels are doubled, and Winograd's method is used, between tensors of bfloat16");
		ok(steps_of(branches, "convert", "bfloat16") <= 1, "which come from float32 behind the stem alone");
		ok(steps_of(branches, "copy channels", "bfloat16") == 4, "only the second split, of 16 channels, is copied");
	}
}

static void
refuse(void)
{
	nn_quant_options o = nn_quant_defaults;
	const char *names[] = {"fc"};
	uint8_t    *onnx;
	size_t		len;
	nn_agreement a;
	int			kept;
	mr_status	st = {0};
	float		before = samples[1][7];

	o.output = 1;
	o.n_keep = 1;
	o.keep = names;
	o.keep_first = true;
	ok(quantize(&mr_env_malloc, &o, &onnx, &len, &a, &kept, &st) == MR_OK && kept == 2, "layers kept by name and place");
	free(onnx);
	names[0] = "nothing";
	ok(quantize(&mr_env_malloc, &o, &onnx, &len, &a, &kept, &st) == MR_INVALID, "unknown layer: %s", st.message);
	o = nn_quant_defaults;
	o.output = 1;
	o.min_cosine = 1;
	o.max_kept = 2;
	ok(quantize(&mr_env_malloc, &o, &onnx, &len, &a, &kept, &st) == MR_INVALID, "agreement out of reach: %s", st.message);
	o.max_kept = 5;
	o.min_cosine = 0.99999;
	ok(quantize(&mr_env_malloc, &o, &onnx, &len, &a, &kept, &st) == MR_OK && kept > 0,
	   "%d layers kept for a cosine of %.6f", kept, a.cosine / (double) a.rows);
	free(onnx);
	o = nn_quant_defaults;
	o.output = 7;
	ok(quantize(&mr_env_malloc, &o, &onnx, &len, &a, &kept, &st) == MR_INVALID, "no such output: %s", st.message);
	o.output = 1;
	samples[1][7] = NAN;
	ok(quantize(&mr_env_malloc, &o, &onnx, &len, &a, &kept, &st) == MR_INVALID, "not finite: %s", st.message);
	samples[1][7] = before;
}

static void
cancel(void)
{
	mr_env		env = mr_env_malloc;
	nn_quant_options o = nn_quant_defaults;
	uint8_t    *onnx;
	size_t		len;
	nn_agreement a;
	int			kept;
	mr_status	st = {0};
	bool		good = true;
	long		n;

	o.output = 1;
	env.interrupted = stop;
	quantize(&env, &o, &onnx, &len, &a, &kept, &st);
	free(onnx);
	n = asked;
	for (stop_at = 1; stop_at <= n; stop_at += 7)
	{
		asked = 0;
		good = good && quantize(&env, &o, &onnx, &len, &a, &kept, &st) == MR_CANCELED && st.code == MR_CANCELED;
	}
	ok(n > 100 && good, "quantising stops at any of its %ld questions, and leaks nothing", n);
	stop_at = -1;
}

/* A forged plan with right checksums: refused, or runs within its memory. */
static void
forge(pbw net, nn_dtype precision, nn_isa isa)
{
	nn_quant_options q = nn_quant_defaults;
	nn_options	o = nn_default_options;
	uint8_t    *onnx,
			   *file,
			   *copy;
	size_t		onnx_len,
				len,
				ran = 0,
				crashes = 0;
	nn_agreement a;
	int			kept;
	mr_status	st = {0};
	uint32_t	seed = 7;
	float		f[FEATURES],
				l[LOGITS];
	nn_model	m;

	q.output = 1;
	if (!nn_isa_available(isa))
		return;
	o.precision = precision;
	o.isa = isa;
	network = net;
	quantize(&mr_env_malloc, &q, &onnx, &onnx_len, &a, &kept, &st);
	if (precision == nn_float32)
		nn_compile(&mr_env_malloc, onnx, onnx_len, &o, &file, &len, &st);
	else
		nn_compile(&mr_env_malloc, net.p, net.len, &o, &file, &len, &st);
	copy = aligned(len);
	for (int i = 0; i < 6000; i++)
	{
		nn_file_header *h = (nn_file_header *) (void *) copy;

		memcpy(copy, file, len);
		for (int k = 0; k <= i % 2; k++)
		{
			size_t		at;

			seed = seed * 1664525u + 1013904223u;
			at = 8 + (seed >> 4) % (h->content - 8);
			seed = seed * 1664525u + 1013904223u;
			copy[at] = i % 3 ? (uint8_t) (copy[at] ^ 1 << (seed >> 9) % 8) : (uint8_t) (seed >> 16);
			if (h->content < 16 || h->content > len)
				break;
		}
		if (h->total_len != len || h->content > len || h->n_plans != 1 || nn_file_plans(copy)->at > len ||
			nn_file_plans(copy)->len > len - nn_file_plans(copy)->at)
			continue;
		nn_file_seal(copy, &mr_env_malloc);
		if (nn_open(copy, len, &m, &st) != MR_OK || nn_n_inputs(&m) != 1 || nn_n_outputs(&m) != 2 ||
			nn_input(&m, 0)->elements != INPUT || nn_output(&m, 0)->elements != FEATURES ||
			nn_output(&m, 1)->elements != LOGITS || nn_workspace(&m) > 1 << 24)
			continue;
		{
			void	   *ws = aligned(nn_workspace(&m));
			mr_code		rc;

			memset(ws, 0, nn_workspace(&m));
			rc = nn_run(&m, &mr_env_malloc, ws, 1, (const float *[]) {samples[0]}, (float *[]) {f, l}, &st);
			crashes += rc != MR_OK && rc != MR_UNSUPPORTED && rc != MR_INVALID;
			free(ws);
			ran++;
		}
	}
	ok(crashes == 0, "forged plans of %s on %s are refused or stay within their memory (%zu ran)",
	   precision == nn_float32 ? "int8" : "bfloat16", nn_isa_name(isa), ran);
	free(copy);
	free(onnx);
	mr_free(&mr_env_malloc, file);
}

int
main(void)
{
	pbw			first = make_network();

	wide = make_wide();
	network = first;
	for (int i = 0; i < SAMPLES; i++)
		for (int k = 0; k < INPUT; k++)
			samples[i][k] = noise();
	branches = make_branches();
	agree();
	refuse();
	cancel();
	forge(first, nn_float32, nn_isa_best());
	forge(wide, nn_float32, nn_isa_avx2);
	forge(wide, nn_bfloat16, nn_isa_avx512_bf16);
	forge(wide, nn_bfloat16, nn_isa_portable);
	forge(branches, nn_bfloat16, nn_isa_avx512_bf16);
	free(first.p);
	free(wide.p);
	free(branches.p);
	return done_testing();
}
