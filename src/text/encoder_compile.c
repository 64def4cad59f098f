/*
 * encoder_compile.c
 *	  A model's folder into one block of bytes: weights packed for the kernels of
 *	  an instruction set and precision, tables, the compiled tokenizer.
 *
 * The block is the only memory handed out.  What differs between families ends
 * here: positions start where the family's do and have the type's vector in them,
 * MPNet's buckets become a bias for each distance.
 */
#include "text/encoder_graph.h"
#include "text/encoder_int.h"

#define SOME (1 << 20)			/* numbers between two looks for interrupts */

typedef struct writer
{
	const mr_env *env;
	mr_status  *st;
	const txt_hf *hf;
	txt_encoder_head *h;		/* at the block's start */
	char	   *out;
	float	   *weight;			/* of a product: n x k, as safetensors has them */
	float	   *bias;
	float	   *scale;			/* a number for each of its columns */
	int8_t	   *q;				/* int8 alone */
} writer;

static mr_code
canceled(mr_status *st)
{
	return mr_fail(st, MR_CANCELED, "canceled");
}

/* ---- products ---- */

/* The parts of a product, side by side in its columns. */
static int
parts_of(const txt_layer *l, txt_product p, const txt_linear *part[3])
{
	switch (p)
	{
		case txt_p_qkv:
			part[0] = &l->query;
			part[1] = &l->key;
			part[2] = &l->value;
			return 3;
		case txt_p_attended:
			part[0] = &l->attended;
			return 1;
		case txt_p_up:
			part[0] = &l->up;
			return 1;
		default:
			part[0] = &l->down;
			return 1;
	}
}

/* n rows of k weights to int8, a scale each; finish gets what a zero point of 1 is worth. */
static void
quantize_rows(const float *w, int k, int n, int8_t *q, float *scale, float *finish)
{
	for (int o = 0; o < n; o++, w += k, q += k)
	{
		float		most = 0;
		int64_t		sum = 0;

		for (int i = 0; i < k; i++)
			most = fmaxf(most, fabsf(w[i]));
		scale[o] = most > 0 && isfinite(most) ? most / 127 : 1;
		for (int i = 0; i < k; i++)
		{
			float		x = rintf(w[i] / scale[o]);

			q[i] = (int8_t) (x > 127 ? 127 : x > -127 ? x : x <= -127 ? -127 : 0);
			sum += q[i];
		}
		finish[o] = (float) sum * scale[o];
	}
}

/*
 * Some columns of a LayerNorm's result are far larger than the rest and would cost these their bits.
 * Half of that (in logarithms) moves into the weights, as SmoothQuant does (Xiao et al. 2023, section 4),
 * with what scale and shift tell of a column's range instead of a sample: activations are to be multiplied
 * by factor, n rows of weights are divided by it.
 */
static void
smooth(float *w, int k, int n, const float *scale, const float *shift, float *factor)
{
	for (int i = 0; i < k; i++)
	{
		float		range = fabsf(shift[i]) + 4 * fabsf(scale[i]),
					most = 0;

		for (int o = 0; o < n; o++)
			most = fmaxf(most, fabsf(w[(size_t) o * k + i]));
		factor[i] = sqrtf(most / range);
		if (!(factor[i] > 1e-6f && factor[i] < 1e6f))
			factor[i] = 1;
	}
	for (int o = 0; o < n; o++)
		for (int i = 0; i < k; i++)
			w[(size_t) o * k + i] /= factor[i];
}

/* The LayerNorm whose result is a product's input; NULL: none is. */
static const float *
norm_before(const writer *w, int layer, txt_product p)
{
	const char *out = w->out;
	uint64_t	at;

	if (p == txt_p_qkv)
		at = layer == 0 ? w->h->norm : w->h->layer[layer - 1].norm + 2 * sizeof(float) * (uint64_t) w->h->hidden;
	else if (p == txt_p_up)
		at = w->h->layer[layer].norm;
	else
		return NULL;
	return (const float *) (const void *) (out + at);
}

/* Part i of a product, n columns of w->weight and w->bias. */
static bool
write_int8(writer *w, int layer, txt_product p, int i, int k, int n)
{
	const txt_encoder_head *h = w->h;
	float	   *weight = w->weight + (size_t) i * (size_t) n * (size_t) k,
			   *finish = (float *) (void *) (w->out + h->layer[layer].finish[p]) + (size_t) i * (size_t) (2 * n + k),
			   *factor = finish + 2 * n;
	const float *norm = norm_before(w, layer, p);
	nn_low_weights low = {.q = w->q, .scale = w->scale};

	for (int c = 0; c < k; c++)
		factor[c] = 1;
	if (norm)
		smooth(weight, k, n, norm, norm + k, factor);
	quantize_rows(weight, k, n, w->q, w->scale, finish);
	memcpy(finish + n, w->bias + (size_t) i * (size_t) n, sizeof(float) * (size_t) n);
	return nn_low_gemm_pack(w->env, h->low_isa, h->low, k, n, &low, 1, (size_t) k,
							w->out + h->layer[layer].pack[p] + (size_t) i * txt_encoder_pack_size(h, p));
}

static mr_code
write_product(writer *w, int layer, txt_product p)
{
	const txt_linear *part[3];
	txt_encoder_head *h = w->h;
	txt_encoder_layer *l = &h->layer[layer];
	int			n_parts = parts_of(&w->hf->layer[layer], p, part);
	void	   *pack = w->out + l->pack[p];
	int			k,
				n,
				each;
	nn_low_weights low = {.f = w->weight, .bias = w->bias};
	bool		whole = true;

	txt_product_shape(h, p, &k, &n);
	each = n / n_parts;
	for (int i = 0; i < n_parts; i++)
	{
		txt_tensor_floats(&part[i]->weight, 0, (int64_t) each * k, w->weight + (size_t) i * each * k);
		if (part[i]->bias.data)
			txt_tensor_floats(&part[i]->bias, 0, each, w->bias + (size_t) i * each);
		else
			memset(w->bias + (size_t) i * each, 0, sizeof(float) * each);
	}
	if (mr_interrupted(w->env))
		return canceled(w->st);
	if (h->low == TXT_ENCODER_FLOAT)
		whole = nn_gemm_pack(w->env, h->isa, k, n, w->weight, 1, (size_t) k, w->bias, pack);
	else if (h->low != nn_low_u8)
		whole = nn_low_gemm_pack(w->env, h->low_isa, h->low, k, n, &low, 1, (size_t) k, pack);
	else
		for (int i = 0, parts = txt_product_parts(h, p); i < parts && whole; i++)
			whole = write_int8(w, layer, p, i, k, n / parts);
	return whole ? MR_OK : canceled(w->st);
}

/* ---- tables ---- */

/* All rows of words, in the precision of the tables. */
static mr_code
write_words(writer *w)
{
	const txt_encoder_head *h = w->h;
	int64_t		all = (int64_t) h->vocabulary * h->hidden;
	float	   *floats = (float *) (void *) (w->out + h->words);
	uint16_t   *halves = (uint16_t *) (void *) (w->out + h->words);
	bool		half = h->precision != nn_float32;

	for (int64_t at = 0; at < all;)
	{
		float		some[4096];
		int64_t		n = half ? 4096 : SOME;

		n = all - at < n ? all - at : n;
		if (at % SOME == 0 && mr_interrupted(w->env))
			return canceled(w->st);
		txt_tensor_floats(&w->hf->words, at, n, half ? some : floats + at);
		for (int64_t i = 0; half && i < n; i++)
			halves[at + i] = nn_to_bf16(some[i]);
		at += n;
	}
	return MR_OK;
}

/* Position vectors with the one type's vector in them; behind them that of padding. */
static void
write_positions(writer *w)
{
	const txt_encoder_head *h = w->h;
	int64_t		width = h->hidden;
	float	   *out = (float *) (void *) (w->out + h->positions);
	float	   *type = w->weight;

	txt_tensor_floats(&w->hf->positions, w->hf->first_position * width, h->max_tokens * width, out);
	if (h->padding >= 0)
		txt_tensor_floats(&w->hf->positions, h->padding * width, width, out + h->max_tokens * width);
	if (w->hf->types.data == NULL)
		return;
	txt_tensor_floats(&w->hf->types, 0, width, type);
	for (int i = 0; i <= h->max_tokens; i++)
		for (int c = 0; c < h->hidden; c++)
			out[(size_t) i * h->hidden + c] += type[c];
}

/*
 * The bucket of a distance (MPNetEncoder.relative_position_bucket of transformers,
 * after T5): half of the buckets for keys behind the query, of each half the first
 * half exact, the rest by logarithm up to 128.
 */
static int
bucket_of(int distance, int buckets)
{
	int			half = buckets / 2,
				exact = half / 2,
				n = distance < 0 ? -distance : distance,
				far;

	if (n < exact)
		return n + (distance > 0 ? half : 0);
	far = exact + (int) (logf((float) n / (float) exact) / (float) log(128.0 / exact) * (float) (half - exact));
	return (far < half ? far : half - 1) + (distance > 0 ? half : 0);
}

static void
write_relative(writer *w)
{
	const txt_encoder_head *h = w->h;
	const txt_hf *hf = w->hf;
	float	   *out = (float *) (void *) (w->out + h->relative);
	int			last = h->max_tokens - 1;

	for (int d = -last; d <= last; d++)
	{
		float		by_head[1024];

		txt_tensor_floats(&hf->relative, (int64_t) bucket_of(d, hf->relative_buckets) * h->heads, h->heads, by_head);
		for (int head = 0; head < h->heads; head++)
			out[(size_t) head * (2 * (size_t) last + 1) + (size_t) (last + d)] = by_head[head];
	}
}

static void
write_norm(writer *w, uint64_t at, const txt_tensor *scale, const txt_tensor *shift)
{
	float	   *out = (float *) (void *) (w->out + at);

	txt_tensor_floats(scale, 0, w->h->hidden, out);
	txt_tensor_floats(shift, 0, w->h->hidden, out + w->h->hidden);
}

/* ---- all of it ---- */

static void
place(void *arg, uint64_t *at, uint64_t bytes)
{
	uint64_t   *end = arg;

	*at = *end;
	*end += (bytes + NN_ALIGN - 1) / NN_ALIGN * NN_ALIGN;
}

/* Which kernels: float32, or the kind that this precision has on this CPU. */
static mr_code
choose_kernels(txt_encoder_head *h, const txt_encoder_options *options, mr_status *st)
{
	nn_isa		isa = options->isa == nn_isa_auto ? nn_isa_best() : options->isa;

	h->isa = (int32_t) nn_isa_f32(isa);
	h->low = TXT_ENCODER_FLOAT;
	h->precision = options->precision;
	if (!nn_isa_available(isa))
		return mr_fail(st, MR_UNSUPPORTED, "this CPU does not run %s", nn_isa_name(isa));
	switch (options->precision)
	{
		case nn_float32:
			return MR_OK;
		case nn_bfloat16:
			h->low = nn_low_isa(isa, nn_low_bf16) != nn_isa_auto ? nn_low_bf16 : nn_low_w16;
			break;
		case nn_int8:
			h->low = nn_low_u8;
			break;
		default:
			return mr_fail(st, MR_INVALID, "an encoder's precision is float32, bfloat16 or int8, not %s",
						   nn_dtype_name(options->precision));
	}
	h->low_isa = (int32_t) nn_low_isa(isa, h->low);
	return MR_OK;
}

static void
set_head(txt_encoder_head *h, const txt_hf *hf)
{
	h->magic = TXT_ENCODER_MAGIC;
	h->version = TXT_ENCODER_VERSION;
	h->head_bytes = sizeof(*h);
	h->n_parameters = hf->info.n_parameters;
	h->family = hf->info.family;
	h->layers = hf->info.layers;
	h->hidden = hf->info.hidden;
	h->heads = hf->info.heads;
	h->intermediate = hf->info.intermediate;
	h->vocabulary = hf->info.vocabulary;
	h->max_tokens = hf->info.max_tokens;
	h->embed_tokens = hf->info.embed_tokens;
	h->pooling = hf->info.pooling;
	h->normalize = hf->info.normalize;
	h->act = hf->act;
	h->eps = hf->eps;
	h->padding = hf->padding;
	h->has_relative = hf->relative.data != NULL;
}

static mr_code
write_all(writer *w, const void *tokenizer)
{
	txt_encoder_head *h = w->h;
	const txt_hf *hf = w->hf;
	mr_code		rc = write_words(w);

	write_positions(w);
	write_norm(w, h->norm, &hf->scale, &hf->shift);
	if (h->has_relative)
		write_relative(w);
	memcpy(w->out + h->tokenizer, tokenizer, h->tokenizer_len);
	for (int i = 0; rc == MR_OK && i < h->layers; i++)
	{
		const txt_layer *l = &hf->layer[i];

		write_norm(w, h->layer[i].norm, &l->attended_scale, &l->attended_shift);
		write_norm(w, h->layer[i].norm + 2 * sizeof(float) * (uint64_t) h->hidden, &l->scale, &l->shift);
		for (int p = 0; rc == MR_OK && p < TXT_N_PRODUCTS; p++)
			rc = write_product(w, i, p);
	}
	return rc;
}

mr_code
txt_encoder_build(const mr_env *env, const txt_hf *hf, const void *tokenizer, size_t tokenizer_len,
				  const txt_encoder_options *options, void **out, size_t *out_len, mr_status *st)
{
	txt_encoder_head *head = mr_alloc(env, sizeof(*head));
	writer		w = {.env = env, .st = st, .hf = hf};
	uint64_t	end = sizeof(*head);
	size_t		wide;
	const char *fault;
	mr_code		rc;

	if (head == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory");
	memset(head, 0, sizeof(*head));
	set_head(head, hf);
	head->tokenizer_len = tokenizer_len;
	rc = choose_kernels(head, options, st);
	if (rc == MR_OK && (fault = txt_encoder_fault(head)) != NULL)
		rc = mr_fail(st, MR_UNSUPPORTED, "encoders with such %s are not run", fault);
	if (rc == MR_OK)
	{
		end = (end + NN_ALIGN - 1) / NN_ALIGN * NN_ALIGN;
		txt_encoder_sections(head, place, &end);
		head->size = end;
		wide = (size_t) (3 * head->hidden > head->intermediate ? 3 * head->hidden : head->intermediate);
		w.out = mr_alloc(env, end);
		w.weight = mr_alloc(env, sizeof(float) * (size_t) head->hidden * wide);	/* of the widest product */
		w.scale = mr_alloc(env, sizeof(float) * wide);
		w.bias = mr_alloc(env, sizeof(float) * wide);
		w.q = head->low == nn_low_u8 ? mr_alloc(env, (size_t) head->hidden * wide) : NULL;
		if (w.out == NULL || w.weight == NULL || w.scale == NULL || w.bias == NULL || (head->low == nn_low_u8 && w.q == NULL))
			rc = mr_fail(st, MR_NOMEM, "out of memory");
	}
	if (rc == MR_OK)
	{
		memset(w.out, 0, end);
		memcpy(w.out, head, sizeof(*head));
		w.h = (txt_encoder_head *) (void *) w.out;
		rc = write_all(&w, tokenizer);
	}
	mr_free(env, head);
	mr_free(env, w.weight);
	mr_free(env, w.scale);
	mr_free(env, w.bias);
	mr_free(env, w.q);
	if (rc != MR_OK)
	{
		mr_free(env, w.out);
		return rc;
	}
	*out = w.out;
	*out_len = end;
	return MR_OK;
}

/* ---- from the folder's files ---- */

mr_code
txt_encoder_compile(const mr_env *env, const void *bundle, size_t len, const txt_encoder_options *options,
					void **out, size_t *out_len, mr_status *st)
{
	txt_hf	   *hf = mr_alloc(env, sizeof(*hf));
	txt_bundle	b;
	void	   *tokenizer = NULL;
	size_t		tokenizer_len;
	mr_code		rc;

	if (hf == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory");
	rc = txt_bundle_open(bundle, len, &b, st);
	if (rc == MR_OK)
		rc = txt_hf_read(env, &b, hf, st);
	if (rc == MR_OK)
		rc = txt_hf_tokenizer(env, hf, &tokenizer, &tokenizer_len, st);
	if (rc == MR_OK)
	{
		rc = hf->graph ? txt_graph_build(env, hf, tokenizer, tokenizer_len, options, out, out_len, st) :
			txt_encoder_build(env, hf, tokenizer, tokenizer_len, options, out, out_len, st);
		mr_free(env, tokenizer);
	}
	mr_free(env, hf);
	return rc;
}
