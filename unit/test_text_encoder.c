/*
 * test_text_encoder.c
 *	  Encoders: small random models of every shape against plain loops in float64,
 *	  bit-equality alone and in batches, damaged compiled bytes, cancels.  Real
 *	  models against transformers: t/test_text_encoders.py.
 */
#include <math.h>

#include "text/encoder_int.h"
#include "unit.h"

static uint64_t seed = 1;

static uint32_t
next_random(void)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t) (seed >> 33);
}

static float
uniform(float lo, float hi)
{
	return lo + (hi - lo) * (float) next_random() / 2147483648.0f;
}

static const char tokenizer_json[] = "{\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},"
	"\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2]},"
	"\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,"
	"\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,\"a\":4,\"##a\":5}}}";

/* ---- models ---- */

#define MOST_TENSORS (TXT_MAX_LAYERS * 16 + 16)

typedef struct model
{
	txt_hf		hf;
	float	   *memory[MOST_TENSORS];
	int			n;
} model;

static txt_tensor
random_tensor(model *m, int64_t rows, int64_t columns, float lo, float hi)
{
	float	   *x = malloc(sizeof(float) * (size_t) (rows * columns));
	txt_tensor	t = {.data = x, .dtype = nn_float32, .rank = rows > 1 ? 2 : 1, .dims = {rows > 1 ? rows : columns, columns}};

	for (int64_t i = 0; i < rows * columns; i++)
		x[i] = uniform(lo, hi);
	m->memory[m->n++] = x;
	return t;
}

static txt_linear
random_linear(model *m, int out, int in)
{
	float		most = 1.7f / sqrtf((float) in);
	txt_linear	l = {.weight = random_tensor(m, out, in, -most, most), .bias = random_tensor(m, 1, out, -0.2f, 0.2f)};

	return l;
}

typedef struct shape
{
	const char *name;
	int			layers,
				hidden,
				heads,
				intermediate,
				max_tokens;
	nn_act_kind act;
	bool		types,
				relative;
} shape;

static const shape shapes[] = {
	{"blocks", 2, 64, 2, 128, 80, nn_act_gelu, true, false},
	{"odd sizes", 2, 42, 3, 101, 75, nn_act_gelu_tanh, false, false},
	{"relative positions", 2, 48, 3, 96, 150, nn_act_gelu, false, true},
	{"rows of 4 KB", 1, 1024, 8, 32, 130, nn_act_relu, true, false},
};

static model *
make_model(const shape *s)
{
	model	   *m = calloc(1, sizeof(model));
	txt_hf	   *hf = &m->hf;

	hf->info = (txt_encoder_info) {
		.family = s->relative ? txt_mpnet : txt_bert, .layers = s->layers, .hidden = s->hidden, .heads = s->heads,
		.intermediate = s->intermediate, .vocabulary = 50, .max_tokens = s->max_tokens, .embed_tokens = s->max_tokens, .pooling = txt_pool_mean,
		.normalize = true, .n_parameters = 1
	};
	hf->act = s->act;
	hf->eps = 1e-5f;
	hf->first_position = s->relative ? 2 : 0;
	hf->padding = s->relative ? 1 : -1;
	hf->words = random_tensor(m, 50, s->hidden, -1, 1);
	hf->positions = random_tensor(m, s->max_tokens + hf->first_position, s->hidden, -1, 1);
	if (s->types)
		hf->types = random_tensor(m, 2, s->hidden, -1, 1);
	if (s->relative)
	{
		hf->relative = random_tensor(m, 32, s->heads, -2, 2);
		hf->relative_buckets = 32;
	}
	hf->scale = random_tensor(m, 1, s->hidden, 0.5f, 1.5f);
	hf->shift = random_tensor(m, 1, s->hidden, -0.5f, 0.5f);
	for (int i = 0; i < s->layers; i++)
	{
		txt_layer  *l = &hf->layer[i];

		l->query = random_linear(m, s->hidden, s->hidden);
		l->key = random_linear(m, s->hidden, s->hidden);
		l->value = random_linear(m, s->hidden, s->hidden);
		l->attended = random_linear(m, s->hidden, s->hidden);
		l->up = random_linear(m, s->intermediate, s->hidden);
		l->down = random_linear(m, s->hidden, s->intermediate);
		l->attended_scale = random_tensor(m, 1, s->hidden, 0.5f, 1.5f);
		l->attended_shift = random_tensor(m, 1, s->hidden, -0.5f, 0.5f);
		l->scale = random_tensor(m, 1, s->hidden, 0.5f, 1.5f);
		l->shift = random_tensor(m, 1, s->hidden, -0.5f, 0.5f);
	}
	return m;
}

static void
free_model(model *m)
{
	for (int i = 0; i < m->n; i++)
		free(m->memory[i]);
	free(m);
}

static void *
compile(const model *m, nn_isa isa, nn_dtype precision, size_t *len)
{
	mr_status	st = {0};
	void	   *tokenizer,
			   *bytes = NULL;
	size_t		size;

	if (txt_compile_json(&mr_env_malloc, tokenizer_json, sizeof(tokenizer_json) - 1, &tokenizer, &size, &st) != MR_OK ||
		txt_encoder_build(&mr_env_malloc, &m->hf, tokenizer, size, &(txt_encoder_options) {isa, precision}, &bytes, len, &st) != MR_OK)
		printf("# %s\n", st.message);
	mr_free(&mr_env_malloc, tokenizer);
	return bytes;
}

/* ---- the reference ---- */

static const float *
floats(txt_tensor t)
{
	return t.data;
}

static void
reference_product(const txt_linear *l, int rows, int in, int out, const double *x, double *y)
{
	for (int r = 0; r < rows; r++)
		for (int o = 0; o < out; o++)
		{
			double		sum = floats(l->bias)[o];

			for (int i = 0; i < in; i++)
				sum += x[r * in + i] * floats(l->weight)[o * in + i];
			y[r * out + o] = sum;
		}
}

static void
reference_norm(double *x, int rows, int n, txt_tensor scale, txt_tensor shift, double eps)
{
	for (int r = 0; r < rows; r++, x += n)
	{
		double		mean = 0,
					var = 0;

		for (int i = 0; i < n; i++)
			mean += x[i] / n;
		for (int i = 0; i < n; i++)
			var += (x[i] - mean) * (x[i] - mean) / n;
		for (int i = 0; i < n; i++)
			x[i] = (x[i] - mean) / sqrt(var + eps) * floats(scale)[i] + floats(shift)[i];
	}
}

static double
reference_act(nn_act_kind kind, double x)
{
	return kind == nn_act_relu ? (x > 0 ? x : 0) : kind == nn_act_gelu ? x / 2 * (1 + erf(x / sqrt(2))) :
		x / 2 * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

/* transformers' MPNetEncoder.relative_position_bucket of key - query */
static int
reference_bucket(int relative)
{
	int			n = -relative,
				ret = n < 0 ? 16 : 0,
				large;

	n = abs(n);
	if (n < 8)
		return ret + n;
	large = 8 + (int) (log(n / 8.0) / log(128 / 8.0) * 8 + 1e-9);
	return ret + (large < 15 ? large : 15);
}

static void
reference_attention(const txt_hf *hf, const double *q, const double *k, const double *v, int rows, double *y)
{
	int			hidden = hf->info.hidden,
				dim = hidden / hf->info.heads;
	double	   *p = malloc(sizeof(double) * (size_t) rows);

	for (int h = 0; h < hf->info.heads; h++)
		for (int i = 0; i < rows; i++)
		{
			double		sum = 0;

			for (int j = 0; j < rows; j++)
			{
				double		s = 0;

				for (int e = h * dim; e < (h + 1) * dim; e++)
					s += q[i * hidden + e] * k[j * hidden + e];
				s /= sqrt(dim);
				if (hf->relative.data)
					s += floats(hf->relative)[reference_bucket(j - i) * hf->info.heads + h];
				sum += p[j] = exp(s);
			}
			for (int e = h * dim; e < (h + 1) * dim; e++)
			{
				y[i * hidden + e] = 0;
				for (int j = 0; j < rows; j++)
					y[i * hidden + e] += p[j] / sum * v[j * hidden + e];
			}
		}
	free(p);
}

/* A sequence through `layers` layers, in float64. */
static double *
reference(const txt_hf *hf, const int32_t *ids, int rows, int layers)
{
	int			hidden = hf->info.hidden,
				inner = hf->info.intermediate,
				all = rows * hidden;
	double	   *x = malloc(sizeof(double) * (size_t) all),
			   *part[5];

	for (int i = 0; i < 5; i++)
		part[i] = malloc(sizeof(double) * (size_t) (rows * (hidden > inner ? hidden : inner)));
	for (int r = 0, next = hf->first_position; r < rows; r++)
	{
		int			at = ids[r] == hf->padding ? hf->padding : next++;

		for (int i = 0; i < hidden; i++)
			x[r * hidden + i] = floats(hf->words)[ids[r] * hidden + i] + floats(hf->positions)[at * hidden + i] +
				(hf->types.data ? floats(hf->types)[i] : 0);
	}
	reference_norm(x, rows, hidden, hf->scale, hf->shift, hf->eps);
	for (int n = 0; n < layers; n++)
	{
		const txt_layer *l = &hf->layer[n];

		reference_product(&l->query, rows, hidden, hidden, x, part[0]);
		reference_product(&l->key, rows, hidden, hidden, x, part[1]);
		reference_product(&l->value, rows, hidden, hidden, x, part[2]);
		reference_attention(hf, part[0], part[1], part[2], rows, part[3]);
		reference_product(&l->attended, rows, hidden, hidden, part[3], part[4]);
		for (int i = 0; i < all; i++)
			x[i] += part[4][i];
		reference_norm(x, rows, hidden, l->attended_scale, l->attended_shift, hf->eps);
		reference_product(&l->up, rows, hidden, inner, x, part[0]);
		for (int i = 0; i < rows * inner; i++)
			part[0][i] = reference_act(hf->act, part[0][i]);
		reference_product(&l->down, rows, inner, hidden, part[0], part[1]);
		for (int i = 0; i < all; i++)
			x[i] += part[1][i];
		reference_norm(x, rows, hidden, l->scale, l->shift, hf->eps);
	}
	for (int i = 0; i < 5; i++)
		free(part[i]);
	return x;
}

/* ---- runs ---- */

/* Sequences one behind the other, work memory of just the size asked for. */
static mr_code
run(const txt_encoder *e, const mr_env *env, const txt_batch *b, int layer, float *hidden, mr_status *st)
{
	void	   *workspace = aligned_alloc(64, txt_encoder_workspace(e, b->start[b->n]) + 64);
	mr_code		rc = txt_encoder_run(e, env, workspace, b, layer, hidden, st);

	free(workspace);
	return rc;
}

static float *
run_alone(const txt_encoder *e, const int32_t *ids, int n, int layer)
{
	mr_status	st = {0};
	float	   *hidden = malloc(sizeof(float) * (size_t) (n * e->info.hidden));

	if (run(e, &mr_env_malloc, &(txt_batch) {1, ids, (int32_t[2]) {0, n}}, layer, hidden, &st) != MR_OK)
		printf("# %s\n", st.message);
	return hidden;
}

static void
random_ids(int32_t *ids, int n)
{
	for (int i = 0; i < n; i++)
		ids[i] = (int32_t) (next_random() % 50);
}

static void
test_reference(const shape *s, const model *m, const txt_encoder *e, const char *what)
{
	static const int lengths[] = {1, 17, 2, 7, 33, 70};
	int32_t		ids[256];
	double		worst = 0,
				least = 1;
	bool		exact = e->info.precision == nn_float32;

	for (int layer = 0; layer <= s->layers; layer++)
		for (int k = 0; k < (s->hidden < 1000 ? 6 : 2); k++)
		{
			int			n = lengths[k],
						all = n * s->hidden;
			double	   *want;
			float	   *got;
			double		a = 0,
						b = 0,
						c = 0;

			random_ids(ids, n);
			want = reference(&m->hf, ids, n, layer);
			got = run_alone(e, ids, n, layer);
			for (int i = 0; i < all; i++)
			{
				worst = fmax(worst, fabs(got[i] - want[i]));
				a += got[i] * want[i];
				b += got[i] * got[i];
				c += want[i] * want[i];
			}
			least = fmin(least, a / sqrt(b * c));
			free(want);
			free(got);
		}
	if (exact)
		ok(worst < 2e-5, "%s, %s: as plain loops in float64 (%.1e)", s->name, what, worst);
	else
		ok(least > (e->info.precision == nn_bfloat16 ? 0.9998 : 0.999), "%s, %s: near plain loops (cosine %.6f)", s->name, what, least);
}

/* Lengths 1 to 70, each alone and in batches of any company and order. */
static void
test_same_bits(const shape *s, const txt_encoder *e, const char *what)
{
	enum {MOST = 70};
	int			N = s->hidden < 1000 ? MOST : 9;
	int32_t	   *ids[MOST];
	float	   *alone[MOST];
	int			wrong = 0;

	for (int i = 0; i < N; i++)
	{
		ids[i] = malloc(sizeof(int32_t) * (size_t) (i + 1));
		random_ids(ids[i], i + 1);
		alone[i] = run_alone(e, ids[i], i + 1, -1);
	}
	for (int round = 0; round < 8; round++)
	{
		int			n = 1 + (int) (next_random() % (round < 4 && N == MOST ? 40 : 8)),
					member[40];
		int32_t		start[41] = {0},
				   *all = malloc(sizeof(int32_t) * 40 * MOST);
		float	   *hidden;
		mr_status	st = {0};

		for (int i = 0; i < n; i++)
		{
			int			k = member[i] = (int) (next_random() % (uint32_t) N);

			memcpy(all + start[i], ids[k], sizeof(int32_t) * (size_t) (k + 1));
			start[i + 1] = start[i] + k + 1;
		}
		hidden = malloc(sizeof(float) * (size_t) (start[n] * s->hidden));
		if (run(e, &mr_env_malloc, &(txt_batch) {n, all, start}, -1, hidden, &st) != MR_OK)
			wrong++;
		for (int i = 0; i < n; i++)
			wrong += memcmp(hidden + (size_t) (start[i] * s->hidden), alone[member[i]],
							sizeof(float) * (size_t) ((member[i] + 1) * s->hidden)) != 0;
		free(hidden);
		free(all);
	}
	ok(wrong == 0, "%s, %s: the same bits alone and in any batch", s->name, what);
	for (int i = 0; i < N; i++)
	{
		free(ids[i]);
		free(alone[i]);
	}
}

/* ---- cancels and bad arguments ---- */

typedef struct patience
{
	int			left;
} patience;

static void *
plain_alloc(void *arg, size_t size)
{
	return mr_alloc(&mr_env_malloc, size);
}

static void
plain_release(void *arg, void *ptr)
{
	mr_free(&mr_env_malloc, ptr);
}

static bool
impatient(void *arg)
{
	patience   *p = arg;

	return p->left-- <= 0;
}

static void
test_cancel(const model *m, const txt_encoder *e)
{
	patience	p;
	mr_env		env = {plain_alloc, plain_release, impatient, &p};
	mr_status	st = {0};
	int32_t		ids[140];
	float	   *hidden = malloc(sizeof(float) * (size_t) (140 * e->info.hidden));
	txt_batch	b = {2, ids, (int32_t[3]) {0, 70, 140}};
	int			n = 0,
				canceled = 0;
	void	   *bytes;
	size_t		len;
	mr_code		rc;

	random_ids(ids, 140);
	do
	{
		p.left = n++;
		rc = run(e, &env, &b, -1, hidden, &st);
		canceled += rc == MR_CANCELED;
	} while (rc != MR_OK && n < 1000);
	ok(rc == MR_OK && canceled == n - 1 && n > 4, "a run can be canceled at each of %d looks", n - 1);
	n = canceled = 0;
	do
	{
		p.left = n++;
		rc = txt_encoder_build(&env, &m->hf, "x", 1, &(txt_encoder_options) {nn_isa_auto, nn_float32}, &bytes, &len, &st);
		canceled += rc == MR_CANCELED;
	} while (rc != MR_OK && n < 1000);
	ok(rc == MR_OK && canceled == n - 1 && n > 4, "so can compiling, %d", n - 1);
	mr_free(&mr_env_malloc, bytes);
	free(hidden);
}

static void
test_arguments(const txt_encoder *e)
{
	mr_status	st = {0};
	int32_t		ids[200] = {0};
	float	   *hidden = malloc(sizeof(float) * (size_t) (200 * e->info.hidden));
	txt_batch	b = {1, ids, (int32_t[2]) {0, 10}};
	int32_t		most = e->info.max_tokens;

	ids[3] = 50;
	ok(run(e, &mr_env_malloc, &b, -1, hidden, &st) == MR_INVALID, "a token out of the vocabulary: %s", st.message);
	ids[3] = -1;
	ok(run(e, &mr_env_malloc, &b, -1, hidden, &st) == MR_INVALID, "one below it: %s", st.message);
	ids[3] = 0;
	ok(run(e, &mr_env_malloc, &b, e->info.layers + 1, hidden, &st) == MR_INVALID, "too many layers: %s", st.message);
	ok(run(e, &mr_env_malloc, &(txt_batch) {1, ids, (int32_t[2]) {0, most + 1}}, -1, hidden, &st) == MR_INVALID, "too long: %s", st.message);
	ok(run(e, &mr_env_malloc, &(txt_batch) {1, ids, (int32_t[2]) {0, most}}, -1, hidden, &st) == MR_OK, "as long as can be");
	ok(run(e, &mr_env_malloc, &(txt_batch) {2, ids, (int32_t[3]) {0, 4, 4}}, -1, hidden, &st) == MR_INVALID, "an empty sequence: %s", st.message);
	ok(txt_encoder_run(e, &mr_env_malloc, NULL, &(txt_batch) {0, ids, (int32_t[1]) {0}}, -1, hidden, &st) == MR_OK, "an empty batch");
	free(hidden);
}

/* ---- damage ---- */

static void
test_damage(const void *bytes, size_t len, const char *what)
{
	char	   *copy = aligned_alloc(64, (len + 63) / 64 * 64);
	mr_status	st;
	txt_encoder e;
	int			opened = 0,
				refused = 0;
	const txt_encoder_head *h = bytes;

	for (int i = 0; i < 200; i++)
	{
		size_t		n = i < 100 ? next_random() % len : sizeof(txt_encoder_head) + 64 * (size_t) (i - 100);
		char	   *part = aligned_alloc(64, (n + 64) / 64 * 64);

		memcpy(part, bytes, n);
		opened += txt_encoder_open(part, n, &e, &st) != MR_CORRUPT;
		free(part);
	}
	ok(opened == 0, "%s: truncated bytes are refused", what);
	for (int i = 0; i < 3000; i++)
	{
		/* the head most of all, then heads of packs, then anywhere */
		size_t		at = i % 3 == 0 ? next_random() % (offsetof(txt_encoder_head, layer) + 3 * sizeof(txt_encoder_layer)) :
			i % 3 == 1 ? h->layer[next_random() % (uint32_t) h->layers].pack[next_random() % TXT_N_PRODUCTS] + next_random() % 64 :
			next_random() % len;

		memcpy(copy, bytes, len);
		copy[at] ^= (char) (1 << next_random() % 8);
		if (i % 5 == 0)
			copy[next_random() % sizeof(txt_encoder_head)] = (char) next_random();
		if (txt_encoder_open(copy, len, &e, &st) != MR_OK)
			refused++;
		else if (i % 10 == 0 && e.info.max_tokens < 1000)
		{
			int			n = 20 < e.info.max_tokens ? 20 : e.info.max_tokens;
			int32_t		ids[20] = {0};

			free(run_alone(&e, ids, n, -1));
		}
	}
	ok(refused > 300, "%s: changed bytes are refused (%d of 3000) or do no harm", what, refused);
	free(copy);
}

/* ---- pooling ---- */

static void
test_pooling(txt_encoder *e)
{
	int			width = e->info.hidden;
	float	   *x = malloc(sizeof(float) * (size_t) (8 * width)),
			   *got = malloc(sizeof(float) * (size_t) (2 * width));
	txt_batch	b = {2, NULL, (int32_t[3]) {0, 3, 8}};
	txt_encoder_info info = e->info;

	for (int i = 0; i < 8 * width; i++)
		x[i] = uniform(-1, 1);
	for (int pooling = txt_pool_mean; pooling <= txt_pool_mean_sqrt; pooling++)
		for (int unit = 0; unit < 2; unit++)
		{
			double		worst = 0;

			e->info.pooling = pooling;
			e->info.normalize = unit;
			txt_encoder_pool(e, &b, x, got);
			for (int s = 0; s < 2; s++)
			{
				int			n = b.start[s + 1] - b.start[s];
				double	   *want = calloc((size_t) width, sizeof(double)),
							length = 0;

				for (int c = 0; c < width; c++)
				{
					const float *v = x + b.start[s] * width + c;

					want[c] = pooling == txt_pool_max ? -INFINITY : 0;
					for (int r = 0; r < n; r++)
						want[c] = pooling == txt_pool_cls ? v[0] : pooling == txt_pool_max ? fmax(want[c], v[r * width]) :
							want[c] + v[r * width] / (pooling == txt_pool_mean ? n : sqrt(n));
					length += want[c] * want[c];
				}
				for (int c = 0; c < width; c++)
					worst = fmax(worst, fabs(got[s * width + c] - want[c] / (unit ? sqrt(length) : 1)));
				free(want);
			}
			ok(worst < 1e-6, "pooling %d%s (%.1e)", pooling, unit ? ", length 1" : "", worst);
		}
	memset(x, 0, sizeof(float) * (size_t) (8 * width));
	txt_encoder_pool(e, &b, x, got);
	ok(got[0] == 0 && got[2 * width - 1] == 0, "vectors of zeros stay so");
	e->info = info;
	free(x);
	free(got);
}

int
main(void)
{
	static const nn_dtype precisions[] = {nn_float32, nn_bfloat16, nn_int8};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
	{
		model	   *m = make_model(&shapes[i]);

		for (int p = 0; p < 3; p++)
			for (int isa = nn_isa_portable; isa <= nn_isa_last; isa++)
			{
				char		what[64];
				size_t		len;
				mr_status	st = {0};
				txt_encoder e;
				void	   *bytes;

				if (!nn_isa_available(isa) || (p == 0 && isa > nn_isa_avx512))
					continue;
				snprintf(what, sizeof(what), "%s, %s", nn_dtype_name(precisions[p]), nn_isa_name(isa));
				bytes = compile(m, isa, precisions[p], &len);
				if (bytes == NULL || txt_encoder_open(bytes, len, &e, &st) != MR_OK)
				{
					ok(false, "%s, %s: %s", shapes[i].name, what, st.message);
					continue;
				}
				test_reference(&shapes[i], m, &e, what);
				test_same_bits(&shapes[i], &e, what);
				if (i == 0 && isa == nn_isa_portable)
				{
					test_damage(bytes, len, what);
					if (p == 0)
					{
						test_cancel(m, &e);
						test_arguments(&e);
						test_pooling(&e);
					}
				}
				mr_free(&mr_env_malloc, bytes);
			}
		free_model(m);
	}
	return done_testing();
}
