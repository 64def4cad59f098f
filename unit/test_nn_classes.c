/*
 * test_nn_classes.c
 *	  Shape classes: several plans in one file, values that shapes depend on, and
 *	  sizes that depend on data.
 */
#include "nn/file.h"
#include "nn_make.h"
#include "unit.h"

static void *
aligned(size_t size)
{
	return aligned_alloc(64, (size + 64) & ~(size_t) 63);
}

static nn_shape
shape(int rank, int64_t a, int64_t b, int64_t c, int64_t d)
{
	nn_shape	s = {rank, {a, b, c, d}};

	return s;
}

/* x: N x 3 x h x w, of any size, to logits: N x 5. */
static pbw
open_network(void)
{
	pbw			g = {0},
				n;
	const int64_t pads[4] = {1, 1, 1, 1};

	add_weights(&g, "w1", 4, (int64_t[]) {16, 3, 3, 3}, 0.3f, 0);
	add_weights(&g, "w2", 4, (int64_t[]) {32, 16, 3, 3}, 0.1f, 0);
	add_weights(&g, "fc", 2, (int64_t[]) {5, 32}, 0.3f, 0);
	named_port(&g, 11, "x", 1, "N,3,h,w");
	n = make_node("Conv", "c1", "x,w1", "c1");
	attr_ints(&n, "pads", 4, pads);
	pbw_message(&g, 1, &n);
	add_node(&g, "Relu", "c1", "a1");
	n = make_node("Conv", "c2", "a1,w2", "c2");
	attr_ints(&n, "pads", 4, pads);
	pbw_message(&g, 1, &n);
	add_node(&g, "GlobalAveragePool", "c2", "gap");
	add_node(&g, "Flatten", "gap", "features");
	n = make_node("Gemm", "fc", "features,fc", "logits");
	attr_int(&n, "transB", 1);
	pbw_message(&g, 1, &n);
	named_port(&g, 12, "logits", 1, "N,5");
	return make_model(&g, 13);
}

static mr_code
compile(const pbw *model, int n, const nn_class *classes, uint8_t **file, size_t *len, mr_status *st)
{
	nn_options	opt = nn_default_options;

	st->message[0] = '\0';
	opt.n_classes = n;
	opt.classes = classes;
	return nn_compile(&mr_env_malloc, model->p, model->len, &opt, file, len, st);
}

/* Run with a workspace of exactly the announced size, full of NaN. */
static mr_code
run(const nn_model *m, int batch, const void *const *in, void *const *out, nn_shape *shapes, mr_status *st)
{
	void	   *ws = aligned_alloc(64, (nn_workspace(m) + 63) & ~(size_t) 63);
	mr_code		rc;

	memset(ws, 0xff, nn_workspace(m));
	rc = nn_run_shaped(m, &mr_env_malloc, ws, batch, in, out, shapes, st);
	free(ws);
	return rc;
}

/* ---- several plans ---- */

static const nn_shape sizes[3] = {{4, {-1, 3, 12, 10}}, {4, {-1, 3, 20, 16}}, {4, {2, 3, 32, 32}}};

static void
several(const pbw *net)
{
	nn_class	classes[3] = {{1, &sizes[0], NULL, NULL, false}, {1, &sizes[1], NULL, NULL, false}, {1, &sizes[2], NULL, NULL, false}};
	float	   *x = aligned(4 * 3 * 32 * 32 * sizeof(float));
	uint8_t    *file,
			   *again;
	size_t		len,
				again_len,
				single[3],
				content = 0;
	nn_model	m;
	mr_status	st = {0};

	for (int i = 0; i < 4 * 3 * 32 * 32; i++)
		x[i] = noise();
	if (!ok(compile(net, 3, classes, &file, &len, &st) == MR_OK, "three classes compile %s", st.message))
		return;
	compile(net, 3, classes, &again, &again_len, &st);
	ok(len == again_len && memcmp(file, again, len) == 0, "compiling again gives the same bytes");
	mr_free(&mr_env_malloc, again);
	ok(nn_verify(file, len, &st) == MR_OK, "the file verifies %s", st.message);
	for (int k = 0; k < 3; k++)
	{
		uint8_t    *own;
		nn_model	alone;
		int			images = k == 2 ? 2 : 3;
		int			batch = k == 2 ? 1 : 3;
		nn_shape	s = sizes[k];
		float		y[3][5] = {{0}},
					z[3][5] = {{1}};
		const void *in[1] = {x};
		void	   *out[1] = {y};

		s.dims[0] = images;
		compile(net, 1, &classes[k], &own, &single[k], &st);
		content = single[k] - ((nn_file_header *) (void *) own)->content;
		ok(nn_open_class(file, len, 1, &s, NULL, &m, &st) == MR_OK && m.plan == nn_file_plans(file) + k &&
		   nn_input(&m, 0)->dims[2] == s.dims[2] && nn_input(&m, 0)->dims[0] == sizes[k].dims[0] &&
		   nn_input(&m, 0)->declared[2] == -1 && nn_input(&m, 0)->declared[1] == 3, "class %d is found by its shape %s", k, st.message);
		ok(run(&m, batch, in, out, NULL, &st) == MR_OK, "class %d runs", k);
		out[0] = z;
		ok(nn_open(own, single[k], &alone, &st) == MR_OK && run(&alone, batch, in, out, NULL, &st) == MR_OK &&
		   memcmp(y, z, sizeof(float) * 5 * (size_t) images) == 0, "class %d gives what a file of its own gives", k);
		mr_free(&mr_env_malloc, own);
	}
	ok(len < single[0] + single[1] + single[2] - 2 * content + 64, "weights are in the file once (%zu bytes, alone %zu, %zu, %zu)",
	   len, single[0], single[1], single[2]);
	ok(nn_open(file, len, &m, &st) == MR_OK && m.plan == nn_file_plans(file) && nn_n_plans(&m) == 3, "nn_open opens the first");

	for (int k = 0; k < 4; k++)
	{
		nn_shape	wrong = k == 0 ? shape(4, 1, 3, 12, 11) : k == 1 ? shape(3, 3, 12, 10, 0) :
			k == 2 ? shape(4, 3, 3, 32, 32) : shape(4, 1, 4, 12, 10);

		ok(nn_open_class(file, len, 1, &wrong, NULL, &m, &st) == MR_INVALID, "wrong shape %d has no class", k);
	}
	{
		nn_shape	two[2] = {sizes[0], sizes[0]};

		ok(nn_open_class(file, len, 2, two, NULL, &m, &st) == MR_INVALID, "nor have two inputs");
		ok(nn_open_plan(file, len, 3, &m, &st) == MR_INVALID && nn_open_plan(file, len, -1, &m, &st) == MR_INVALID,
		   "a class out of range is refused");
		two[0] = shape(4, -1, 4, 12, 10);
		classes[0].shapes = two;
		ok(compile(net, 1, classes, &again, &again_len, &st) == MR_INVALID && strstr(st.message, "dimension 1") && again == NULL,
		   "a class against a fixed dimension: %s", st.message);
		two[0].rank = 3;
		ok(compile(net, 1, classes, &again, &again_len, &st) == MR_INVALID, "a class of another rank: %s", st.message);
		classes[0].n_inputs = 2;
		ok(compile(net, 1, classes, &again, &again_len, &st) == MR_INVALID, "a class of more inputs: %s", st.message);
	}
	ok(compile(net, 0, NULL, &again, &again_len, &st) == MR_OK && nn_open(again, again_len, &m, &st) == MR_OK &&
	   nn_input(&m, 0)->dims[2] == NN_OPEN_IMAGE && nn_input(&m, 0)->dims[0] == -1, "without a class an open size is a common one");
	mr_free(&mr_env_malloc, again);
	mr_free(&mr_env_malloc, file);
	free(x);
}

/* Dimensions of one name: given once, known everywhere; given twice, equal. */
static void
names(void)
{
	pbw			g = {0},
				net;
	nn_shape	s[2] = {shape(2, -1, 7, 0, 0), {-1, {0}}};
	nn_class	class = {2, s, NULL, NULL, false};
	uint8_t    *file;
	size_t		len;
	nn_model	m;
	mr_status	st = {0};

	named_port(&g, 11, "ids", 1, "batch,seq");
	named_port(&g, 11, "mask", 1, "batch,seq");
	add_node(&g, "Add", "ids,mask", "y");
	named_port(&g, 12, "y", 1, "batch,seq");
	net = make_model(&g, 13);
	ok(compile(&net, 1, &class, &file, &len, &st) == MR_OK && nn_open(file, len, &m, &st) == MR_OK &&
	   nn_input(&m, 1)->dims[1] == 7 && nn_input(&m, 1)->dims[0] == -1 && nn_output(&m, 0)->dims[0] == -1,
	   "a dimension's name carries its size to other inputs %s", st.message);
	mr_free(&mr_env_malloc, file);
	class.n_inputs = 1;
	ok(compile(&net, 1, &class, &file, &len, &st) == MR_OK, "a class of the first input alone");
	{
		nn_shape	more[2] = {shape(2, 3, 7, 0, 0), shape(2, 4, 7, 0, 0)};

		ok(nn_open_class(file, len, 2, more, NULL, &m, &st) == MR_INVALID, "inputs of two batches have no class");
		more[1].dims[0] = 3;
		ok(nn_open_class(file, len, 2, more, NULL, &m, &st) == MR_OK, "of one batch they have");
	}
	mr_free(&mr_env_malloc, file);
	{
		const char *mask[1] = {"mask"};
		const char *none[1] = {"none"};

		class.names = mask;
		ok(compile(&net, 1, &class, &file, &len, &st) == MR_OK && nn_open(file, len, &m, &st) == MR_OK && nn_input(&m, 0)->dims[1] == 7,
		   "a class by the input's name");
		mr_free(&mr_env_malloc, file);
		class.names = none;
		ok(compile(&net, 1, &class, &file, &len, &st) == MR_INVALID, "which must be one: %s", st.message);
		class.names = NULL;
		class.open_only = true;
		s[0] = shape(2, 9, 7, 0, 0);
		ok(compile(&net, 1, &class, &file, &len, &st) == MR_OK && nn_open(file, len, &m, &st) == MR_OK && nn_input(&m, 0)->dims[0] == 9,
		   "a class of what is open");
		mr_free(&mr_env_malloc, file);
		s[0] = shape(3, 9, 7, 1, 0);
		ok(compile(&net, 1, &class, &file, &len, &st) == MR_OK, "says nothing of an input of another rank");
		mr_free(&mr_env_malloc, file);
		class.open_only = false;
		s[0] = shape(2, -1, 7, 0, 0);
	}
	class.n_inputs = 2;
	s[1] = shape(2, -1, 8, 0, 0);
	ok(compile(&net, 1, &class, &file, &len, &st) == MR_INVALID && strstr(st.message, "\"seq\""), "two sizes of one name: %s", st.message);
	free(net.p);
}

/* ---- values that shapes depend on ---- */

static void
values(void)
{
	pbw			g = {0},
				net;
	static const int64_t a[2] = {2, 6},
				b[2] = {4, 3},
				c[2] = {3, 4};
	const void *va[2] = {NULL, a},
			   *vb[2] = {NULL, b};
	nn_shape	s[2] = {shape(1, 12, 0, 0, 0), shape(1, 2, 0, 0, 0)};
	nn_class	classes[2] = {{2, s, va, NULL, false}, {2, s, vb, NULL, false}};
	nn_options	opt = nn_default_options;
	int			need = 7;
	uint8_t    *file;
	size_t		len;
	nn_model	m;
	mr_status	st = {0};
	float		x[12],
				y[12];
	nn_shape	found;
	const void *in[2] = {x, b};
	void	   *out[1] = {y};

	for (int i = 0; i < 12; i++)
		x[i] = noise();
	named_port(&g, 11, "x", 1, "12");
	named_port(&g, 11, "shape", 7, "2");
	add_node(&g, "Reshape", "x,shape", "r");
	add_node(&g, "Transpose", "r", "y");
	named_port(&g, 12, "y", 1, "p,q");
	net = make_model(&g, 13);
	opt.need = &need;
	ok(nn_compile(&mr_env_malloc, net.p, net.len, &opt, &file, &len, &st) == MR_UNSUPPORTED && need == 1 &&
	   strstr(st.message, "must be constant") && strstr(st.hint, "\"shape\""), "a shape from an input is refused, and named: %s", st.hint);
	ok(compile(&net, 2, classes, &file, &len, &st) == MR_OK && nn_verify(file, len, &st) == MR_OK, "bound values compile %s", st.message);
	ok(nn_open_class(file, len, 2, s, in, &m, &st) == MR_OK && m.plan == nn_file_plans(file) + 1 && nn_input_bound(&m, 1) &&
	   !nn_input_bound(&m, 0) && nn_output(&m, 0)->dims[0] == 3 && nn_output(&m, 0)->dims[1] == 4, "the class is found by the value");
	ok(run(&m, 1, in, out, &found, &st) == MR_OK && found.dims[0] == 3 && found.dims[1] == 4 && y[1] == x[3], "and runs");
	in[1] = c;
	ok(run(&m, 1, in, out, &found, &st) == MR_INVALID && strstr(st.message, "\"shape\""), "another value is refused: %s", st.message);
	ok(nn_open_class(file, len, 2, s, in, &m, &st) == MR_INVALID, "and has no class");
	mr_free(&mr_env_malloc, file);
	ok(nn_compile_for(&mr_env_malloc, net.p, net.len, NULL, 2, s, in, &file, &len, &st) == MR_OK &&
	   nn_open(file, len, &m, &st) == MR_OK && run(&m, 1, in, out, &found, &st) == MR_OK && found.dims[0] == 4 &&
	   !nn_input_bound(&m, 0), "nn_compile_for binds what is asked for");
	mr_free(&mr_env_malloc, file);
	s[1] = shape(1, -1, 0, 0, 0);
	ok(compile(&net, 2, classes, &file, &len, &st) == MR_OK, "a declared shape is enough for a value");
	mr_free(&mr_env_malloc, file);
	va[0] = x;
	va[1] = b;
	ok(compile(&net, 1, classes, &file, &len, &st) == MR_OK && nn_open(file, len, &m, &st) == MR_OK &&
	   run(&m, 1, va, out, &found, &st) == MR_OK && y[1] == x[3], "a graph of constants only");
	mr_free(&mr_env_malloc, file);
	free(net.p);
}

/* ---- sizes that depend on data ---- */

static void
dynamic(void)
{
	pbw			g = {0},
				net,
				n;
	uint8_t    *file;
	size_t		len;
	nn_model	m;
	mr_status	st = {0};
	float		x[2][6] = {{0, 1, 0, 2, 0, 3}, {0, 0, 0, 0, 5, 0}};
	int64_t		at[2][12],
				first[2][6];
	float		picked[2][6];
	nn_shape	found[6];
	const void *in[1] = {x};
	void	   *out[3] = {at, picked, first};

	/* where x is not zero; x there; the column */
	named_port(&g, 11, "x", 1, "N,2,3");
	n = make_node("Squeeze", "sq", "x,zero", "m");
	pbw_message(&g, 1, &n);
	{
		pbw			t = {0};
		int64_t		zero = 0,
					minus = -1;

		pbw_int(&t, 1, 1);
		pbw_int(&t, 2, 7);
		pbw_str(&t, 8, "zero");
		pbw_bytes(&t, 9, &zero, 8);
		pbw_message(&g, 5, &t);
		pbw_int(&t, 1, 1);
		pbw_int(&t, 2, 7);
		pbw_str(&t, 8, "minus");
		pbw_bytes(&t, 9, &minus, 8);
		pbw_message(&g, 5, &t);
	}
	add_node(&g, "NonZero", "m", "nz");
	add_node(&g, "Transpose", "nz", "at");
	add_node(&g, "GatherND", "m,at", "picked");
	n = make_node("Gather", "g", "at,zero", "c0");
	attr_int(&n, "axis", 1);
	pbw_message(&g, 1, &n);
	add_node(&g, "Reshape", "c0,minus", "first");
	named_port(&g, 12, "at", 7, "k,2");
	named_port(&g, 12, "picked", 1, "k");
	named_port(&g, 12, "first", 7, "k");
	net = make_model(&g, 13);
	if (ok(nn_compile(&mr_env_malloc, net.p, net.len, NULL, &file, &len, &st) == MR_OK, "sizes from data compile %s", st.message))
	{
		ok(nn_open(file, len, &m, &st) == MR_OK && nn_output(&m, 0)->dynamic[0] && !nn_output(&m, 0)->dynamic[1] &&
		   nn_output(&m, 0)->dims[0] == 6 && nn_output(&m, 1)->dynamic[0], "the outputs' most is known before");
		ok(run(&m, 2, in, out, found, &st) == MR_OK && found[0].dims[0] == 3 && found[0].dims[1] == 2 && found[1].dims[0] == 3 &&
		   found[3].dims[0] == 1 && found[5].dims[0] == 1, "and each image's size after the run %s", st.message);
		ok(at[0][0] == 0 && at[0][1] == 1 && at[0][2] == 1 && at[0][3] == 0 && at[0][5] == 2 && at[1][0] == 1 && at[1][1] == 1 &&
		   picked[0][2] == 3 && picked[1][0] == 5 && first[0][2] == 1, "values");
		memset(at, 0xff, sizeof(at));
		ok(run(&m, 2, in, out, NULL, &st) == MR_OK && at[0][5] == 2 && at[0][6] == 0 && at[1][11] == 0, "without shapes: zeros behind");
		memset(x, 0, sizeof(x));
		ok(run(&m, 2, in, out, found, &st) == MR_OK && found[0].dims[0] == 0 && found[4].dims[0] == 0, "nothing at all");
		mr_free(&mr_env_malloc, file);
	}
	free(net.p);

	memset(&g, 0, sizeof(g));
	named_port(&g, 11, "x", 1, "N,3");
	add_node(&g, "NonZero", "x", "nz");
	add_node(&g, "Softmax", "x", "s");
	n = make_node("ReduceSum", "the sum", "nz", "y");
	attr_int(&n, "keepdims", 0);
	pbw_message(&g, 1, &n);
	named_port(&g, 12, "y", 7, "");
	net = make_model(&g, 13);
	ok(nn_compile(&mr_env_malloc, net.p, net.len, NULL, &file, &len, &st) == MR_UNSUPPORTED && strstr(st.message, "the sum") &&
	   strstr(st.message, "depends on data"), "an operator that cannot follow: %s", st.message);
	free(net.p);
}

/* ---- damage ---- */

static long asked,
			stop_at;

static bool
stop(void *arg)
{
	(void) arg;
	return ++asked == stop_at;
}

static void
damage(const pbw *net)
{
	/* a batch in the plan would be computed by plain operators, whose parameters
	 * rest on the checksum */
	nn_shape	large = shape(4, -1, 3, 32, 32);
	nn_class	classes[3] = {{1, &sizes[0], NULL, NULL, false}, {1, &sizes[1], NULL, NULL, false}, {1, &large, NULL, NULL, false}};
	mr_env		env = mr_env_malloc;
	uint8_t    *file,
			   *copy;
	size_t		len,
				head,
				missed = 0,
				accepted = 0,
				refused = 0;
	nn_model	m;
	mr_status	st = {0};
	uint32_t	seed = 99;
	float	   *x = aligned(2 * 3 * 32 * 32 * sizeof(float));
	bool		good = true;
	long		n;

	memset(x, 0, 2 * 3 * 32 * 32 * sizeof(float));
	compile(net, 3, classes, &file, &len, &st);
	head = ((nn_file_header *) (void *) file)->content;
	copy = aligned(len);
	memcpy(copy, file, len);
	for (size_t i = 0; i < head; i++)
	{
		copy[i] ^= (uint8_t) (1 << i % 8);
		good = false;
		for (int k = 0; k < 3; k++)
			good = good || nn_open_plan(copy, len, k, &m, &st) == MR_CORRUPT;
		missed += !good;
		copy[i] ^= (uint8_t) (1 << i % 8);
	}
	ok(missed == 0, "every flipped bit of heads and plans is found (%zu bytes)", head);
	((nn_file_header *) (void *) copy)->n_plans = 2;
	ok(nn_open(copy, len, &m, &st) == MR_CORRUPT, "a plan less is found");

	/* Forged with right checksums: refused, or runs within its memory. */
	for (int i = 0; i < 1500; i++)
	{
		nn_file_header *h = (nn_file_header *) (void *) copy;
		size_t		heads = nn_file_heads(3);
		bool		sealable = true;

		memcpy(copy, file, len);
		for (int k = 0; k <= i % 2; k++)
		{
			size_t		at;

			seed = seed * 1664525u + 1013904223u;
			/* half of them in the heads, which are few */
			at = i % 4 < 2 ? 8 + (seed >> 4) % (heads - 8) : heads + (seed >> 4) % (head - heads);
			seed = seed * 1664525u + 1013904223u;
			copy[at] = i % 3 ? (uint8_t) (copy[at] ^ 1 << (seed >> 9) % 8) : (uint8_t) (seed >> 16);
		}
		sealable = h->total_len == len && h->content <= len && h->n_plans >= 1 && h->n_plans <= 3;
		for (uint32_t k = 0; sealable && k < h->n_plans; k++)
			sealable = nn_file_plans(copy)[k].at <= len && nn_file_plans(copy)[k].len <= len - nn_file_plans(copy)[k].at;
		if (!sealable)
			continue;
		nn_file_seal(copy, &mr_env_malloc);
		for (int k = 0; k < 3; k++)
		{
			float		y[10];
			const void *in[1] = {x};
			void	   *out[1] = {y};

			if (nn_open_plan(copy, len, k, &m, &st) != MR_OK)
			{
				refused++;
				continue;
			}
			if (nn_n_inputs(&m) != 1 || nn_n_outputs(&m) != 1 || nn_input(&m, 0)->elements > 2 * 3 * 32 * 32 ||
				nn_dtype_size(nn_input(&m, 0)->dtype) > 4 || nn_dtype_size(nn_output(&m, 0)->dtype) > 4 ||
				nn_output(&m, 0)->elements > 10 || nn_workspace(&m) > 1 << 24)
				continue;
			run(&m, 1, in, out, NULL, &st);
			accepted++;
		}
		(void) nn_open_class(copy, len, 1, &large, NULL, &m, &st);
	}
	ok(accepted > 0 && refused > 0, "forged heads and plans are refused (%zu) or stay within their memory (%zu)", refused, accepted);

	/* Leaks of a canceled compilation: ASan watches. */
	env.interrupted = stop;
	asked = 0;
	stop_at = -1;
	{
		nn_options	opt = nn_default_options;
		uint8_t    *f;
		size_t		flen;

		opt.n_classes = 3;
		opt.classes = classes;
		nn_compile(&env, net->p, net->len, &opt, &f, &flen, &st);
		mr_free(&mr_env_malloc, f);
		n = asked;
		good = true;
		for (stop_at = 1; stop_at <= n; stop_at++)
		{
			asked = 0;
			good = good && nn_compile(&env, net->p, net->len, &opt, &f, &flen, &st) == MR_CANCELED && f == NULL;
		}
	}
	ok(good && n > 10, "compiling three classes stops at each of its %ld questions", n);
	free(copy);
	free(x);
	mr_free(&mr_env_malloc, file);
}

int
main(void)
{
	pbw			net = open_network();

	several(&net);
	names();
	values();
	dynamic();
	damage(&net);
	free(net.p);
	return done_testing();
}
