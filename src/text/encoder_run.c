/*
 * encoder_run.c
 *	  Running an encoder: rows of tokens through its layers.
 *
 * Rows of all sequences lie one behind the other, without padding.  They are
 * worked on in pieces: whole sequences of together about PIECE rows, or one longer
 * sequence.  A piece goes through all layers before the next one begins, so that
 * its rows stay in the caches while the weights stream by; the rows themselves
 * live in the caller's result.  A layer, for rows x of a piece:
 *
 *		qkv = x Wqkv + b			one product
 *		attended = attention		per sequence and head
 *		x = norm(attended Wa + b + x)			\  by chunks of
 *		x = norm(act(x Wu + b) Wd + b + x)		/  at most CHUNK rows
 *
 * Every kernel treats rows alone (attention: sequences), so a sequence has the same
 * bits in any batch.  Long products are cut by rows to ask for interrupts.
 */
#include "core/denormals.h"
#include "text/encoder_graph.h"
#include "text/encoder_int.h"

#define PIECE 112				/* rows: with their intermediate ones they fill L2; 56 to 224 differ by a few percent */
#define CHUNK 112
#define SLICE_MS 5				/* of work between two looks for interrupts */

typedef struct runner
{
	const txt_encoder *e;
	const txt_encoder_head *h;
	const mr_env *env;
	mr_status  *st;
	float	   *qkv,			/* of a piece */
			   *attended,
			   *sum,			/* of a chunk */
			   *mask;			/* of a head: MPNet's bias, row by row */
	void	   *up;				/* of a chunk; where qkv was */
	nn_elem		up_elem;		/* what the next product reads without converting */
	size_t		qkv_ld,
				attended_ld,
				up_ld;
	void	   *scratch;
} runner;

/* ---- work memory ---- */

/* Rows whose pitch is a multiple of 4 KB would fight for one set of L1. */
static size_t
pitch_of(int n)
{
	size_t		pitch = (size_t) nn_blocks(n) * NN_LANES;

	return pitch % 1024 == 0 ? pitch + NN_LANES : pitch;
}

/* So many bytes of work memory behind those used; without base they are only counted. */
static void *
take(char *base, size_t *used, size_t bytes)
{
	void	   *p = base ? base + *used : NULL;

	*used += (bytes + NN_ALIGN - 1) / NN_ALIGN * NN_ALIGN;
	return p;
}

static nn_attend
attention_of(const runner *r, int keys)
{
	size_t		dim = (size_t) (r->h->hidden / r->h->heads);
	nn_attend	at = {
		.heads = r->h->heads, .queries = keys, .keys = keys, .dim = (int) dim, .vdim = (int) dim,
		.scale = 1 / sqrtf((float) dim),
		.q_row = r->qkv_ld, .k_row = r->qkv_ld, .v_row = r->qkv_ld, .y_row = r->attended_ld,
		.q_head = dim, .k_head = dim, .v_head = dim, .y_head = dim,
		.m_row = {(size_t) keys, 0}, .m_head = {0, 0}
	};

	return at;
}

static size_t
larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* Lay out work memory for so many tokens; returns its bytes. */
static size_t
lay_out(runner *r, const txt_encoder *e, int tokens, char *base)
{
	const txt_encoder_head *h = e->head;
	size_t		used = 0;
	int			longest = tokens < h->max_tokens ? tokens : h->max_tokens;
	int			piece = tokens < PIECE ? tokens : longest > PIECE ? longest : PIECE,
				chunk = piece < CHUNK ? piece : CHUNK;
	nn_attend	attend;
	size_t		scratch;

	r->e = e;
	r->h = h;
	r->qkv_ld = pitch_of(3 * h->hidden);
	r->attended_ld = pitch_of(h->hidden);
	r->up_ld = pitch_of(h->intermediate);
	attend = attention_of(r, longest);
	scratch = e->kernels->attend_scratch(&attend);
	for (int p = 0; p < TXT_N_PRODUCTS; p++)
	{
		int			k,
					n;

		txt_product_shape(h, p, &k, &n);
		scratch = larger(scratch, h->low == nn_low_u8 ? txt_int8_scratch(e, chunk, k, n) :
						 e->low ? e->low->gemm_scratch(chunk, k, n) : e->kernels->gemm_scratch(chunk, k, n));
	}
	r->qkv = take(base, &used, sizeof(float) * larger((size_t) piece * r->qkv_ld, (size_t) chunk * r->up_ld));
	r->up = r->qkv;
	r->up_elem = h->low == nn_low_bf16 ? nn_elem_bf16 : nn_elem_f32;
	r->attended = take(base, &used, sizeof(float) * (size_t) piece * r->attended_ld);
	r->sum = take(base, &used, sizeof(float) * (size_t) chunk * (size_t) h->hidden);
	r->mask = h->has_relative ? take(base, &used, sizeof(float) * (size_t) longest * (size_t) longest) : NULL;
	r->scratch = take(base, &used, scratch);
	return used;
}

size_t
txt_encoder_workspace(const txt_encoder *e, int tokens)
{
	runner		r;

	if (e->graph)
		return txt_graph_workspace(e, tokens);
	return tokens < 1 ? 0 : lay_out(&r, e, tokens, NULL);
}

/* ---- steps ---- */

static const float *
floats_at(const runner *r, uint64_t at)
{
	return (const float *) (const void *) ((const char *) r->h + at);
}

static bool
go_on(runner *r)
{
	return !mr_interrupted(r->env) || (mr_fail(r->st, MR_CANCELED, "canceled"), false);
}

/* How many units of so many multiply-adds fit between two looks for interrupts. */
static int
slice_of(double rate, double macs, int n)
{
	double		fit = SLICE_MS * rate / macs;

	return fit >= n ? n : fit < 1 ? 1 : (int) fit;
}

static const nn_act no_act = {nn_act_none, 0, 0};

static nn_low_rows
rows_at(const nn_low_rows *x, int i)
{
	nn_low_rows y = *x;

	y.data = (char *) x->data + (size_t) i * x->ld * (size_t) nn_elem_bytes(x->q.elem);
	return y;
}

/* A slice of a product: y = act(x B + bias + res), m rows. */
static void
product_rows(runner *r, int layer, txt_product p, int m, const nn_low_rows *x, const nn_low_rows *res, const nn_low_rows *y,
			 nn_act act)
{
	const txt_encoder *e = r->e;
	const txt_encoder_layer *l = &r->h->layer[layer];
	const void *pack = floats_at(r, l->pack[p]);

	if (e->low == NULL)
		e->kernels->gemm(pack, m, x->data, x->ld, res ? res->data : NULL, res ? res->ld : 0, y->data, y->ld, act, r->scratch);
	else if (r->h->low != nn_low_u8)
		e->low->gemm(pack, m, x, res, y, act, r->scratch);
	else
	{
		int			parts = txt_product_parts(r->h, p),
					k,
					n;

		txt_product_shape(r->h, p, &k, &n);
		n /= parts;
		for (int i = 0; i < parts; i++)
		{
			nn_low_rows columns = *y;

			columns.data = (float *) y->data + (size_t) i * (size_t) n;
			txt_int8_product(e, (const char *) pack + (size_t) i * txt_encoder_pack_size(r->h, p),
							 floats_at(r, l->finish[p]) + (size_t) i * (size_t) (2 * n + k), m, k, n, x, res, &columns, act, r->scratch);
		}
	}
}

/* The same for any number of rows, in slices. */
static bool
product(runner *r, int layer, txt_product p, int m, const nn_low_rows *x, const nn_low_rows *res, const nn_low_rows *y, nn_act act)
{
	int			k,
				n,
				slice;

	txt_product_shape(r->h, p, &k, &n);
	slice = slice_of(r->e->low ? r->e->low->mac_rate : r->e->kernels->mac_rate, (double) k * n, m);
	for (int i = 0; i < m; i += slice)
	{
		nn_low_rows xi = rows_at(x, i),
					yi = rows_at(y, i),
					ri = {0};

		if (res)
			ri = rows_at(res, i);
		if (!go_on(r))
			return false;
		product_rows(r, layer, p, m - i < slice ? m - i : slice, &xi, res ? &ri : NULL, &yi, act);
	}
	return true;
}

/* Rows of embeddings: word + position and type, normalized. */
static bool
embed(runner *r, const int32_t *ids, int n, float *x)
{
	const txt_encoder_head *h = r->h;
	size_t		width = (size_t) h->hidden;
	const float *norm = floats_at(r, h->norm);
	int			next = 0;

	for (int i = 0; i < n; i++)
	{
		size_t		at = (size_t) (ids[i] == h->padding ? h->max_tokens : next++);
		const float *position = floats_at(r, h->positions) + at * width;
		float	   *to = x + (size_t) i * width;

		if (ids[i] < 0 || ids[i] >= h->vocabulary)
		{
			mr_fail(r->st, MR_INVALID, "token %d is not among the model's %d", ids[i], h->vocabulary);
			return false;
		}
		if (h->precision == nn_float32)
			r->e->kernels->binary_flat(nn_add, floats_at(r, h->words) + (size_t) ids[i] * width, position, to, width, no_act);
		else
		{
			const uint16_t *word = (const uint16_t *) (const void *) floats_at(r, h->words) + (size_t) ids[i] * width;

			for (size_t c = 0; c < width; c++)
				to[c] = nn_from_bf16(word[c]) + position[c];
		}
	}
	r->e->kernels->layernorm(x, norm, norm + width, x, (size_t) n, width, h->eps, false);
	return true;
}

/* The bias of a head for each query and key: a row is a window of what distances get. */
static void
set_mask(runner *r, int head, int n)
{
	int			last = r->h->max_tokens - 1;
	const float *by_distance = floats_at(r, r->h->relative) + (size_t) head * (2 * (size_t) last + 1) + last;

	for (int i = 0; i < n; i++)
		memcpy(r->mask + (size_t) i * (size_t) n, by_distance - i, sizeof(float) * (size_t) n);
}

/* Attention within a sequence of n rows. */
static bool
attend(runner *r, const float *qkv, int n, float *y)
{
	nn_attend	at = attention_of(r, n);
	int			slice = slice_of(r->e->kernels->mac_rate, 2.0 * n * at.dim, n);

	for (int head = 0; head < at.heads; head++)
	{
		const float *mask[2] = {r->mask, NULL};

		if (r->mask)
			set_mask(r, head, n);
		for (int i = 0; i < n; i += slice)
		{
			if ((head == 0 || slice < n) && !go_on(r))
				return false;
			r->e->kernels->attend(&at, head, i, i + slice < n ? i + slice : n, qkv, qkv + r->h->hidden,
								  qkv + 2 * (size_t) r->h->hidden, mask, y, r->scratch);
		}
	}
	return true;
}

/* From what was attended to the layer's end, for m <= CHUNK rows. */
static bool
feed_forward(runner *r, int layer, float *attended, int m, float *x)
{
	const txt_encoder_head *h = r->h;
	size_t		width = (size_t) h->hidden;
	const float *norm = floats_at(r, h->layer[layer].norm);
	nn_low_rows a = {attended, r->attended_ld, {0}},
				rows = {x, width, {0}},
				up = {r->up, r->up_ld, {.elem = r->up_elem}},
				sum = {r->sum, width, {0}};

	if (!product(r, layer, txt_p_attended, m, &a, &rows, &sum, no_act))
		return false;
	r->e->kernels->layernorm(r->sum, norm, norm + width, x, (size_t) m, width, h->eps, false);
	if (!product(r, layer, txt_p_up, m, &rows, NULL, &up, (nn_act) {(nn_act_kind) h->act, 0, 0}) ||
		!product(r, layer, txt_p_down, m, &up, &rows, &sum, no_act))
		return false;
	r->e->kernels->layernorm(r->sum, norm + 2 * width, norm + 3 * width, x, (size_t) m, width, h->eps, false);
	return true;
}

/* ---- pieces ---- */

/* Rows of the first of the parts into which m rows are best cut. */
static int
chunk_of(int m)
{
	int			parts = (m + CHUNK - 1) / CHUNK;

	return (m + parts - 1) / parts;
}

/* Sequences [from, to) through a layer. */
static bool
run_layer(runner *r, int layer, const txt_batch *b, int from, int to, float *x)
{
	size_t		width = (size_t) r->h->hidden;
	int			rows = b->start[to] - b->start[from],
				chunk = chunk_of(rows);

	for (int i = 0; i < rows; i += chunk)
	{
		nn_low_rows in = {x + (size_t) i * width, width, {0}},
					qkv = {r->qkv + (size_t) i * r->qkv_ld, r->qkv_ld, {0}};

		if (!product(r, layer, txt_p_qkv, rows - i < chunk ? rows - i : chunk, &in, NULL, &qkv, no_act))
			return false;
	}
	for (int s = from; s < to; s++)
	{
		size_t		at = (size_t) (b->start[s] - b->start[from]);

		if (!attend(r, r->qkv + at * r->qkv_ld, b->start[s + 1] - b->start[s], r->attended + at * r->attended_ld))
			return false;
	}
	for (int i = 0; i < rows; i += chunk)
		if (!feed_forward(r, layer, r->attended + (size_t) i * r->attended_ld, rows - i < chunk ? rows - i : chunk,
						  x + (size_t) i * width))
			return false;
	return true;
}

static bool
run_piece(runner *r, const txt_batch *b, int from, int to, int layers, float *x)
{
	size_t		width = (size_t) r->h->hidden;

	for (int s = from; s < to; s++)
		if (!embed(r, b->ids + b->start[s], b->start[s + 1] - b->start[s],
				   x + (size_t) (b->start[s] - b->start[from]) * width))
			return false;
	for (int layer = 0; layer < layers; layer++)
		if (!run_layer(r, layer, b, from, to, x))
			return false;
	return go_on(r);
}

mr_code
txt_encoder_run(const txt_encoder *e, const mr_env *env, void *workspace, const txt_batch *batch, int layer,
				float *hidden, mr_status *st)
{
	runner		r;
	int			layers = layer < 0 ? e->info.layers : layer;
	unsigned	mode;
	bool		good = true;

	if (e->graph)
		return txt_graph_run(e, env, workspace, batch, layer, hidden, st);
	if (layers > e->info.layers)
		return mr_fail(st, MR_INVALID, "the model has %d layers, not %d", e->info.layers, layer);
	if (batch->n > 0 && batch->start[0] != 0)
		return mr_fail(st, MR_INVALID, "the first sequence does not begin at 0");
	for (int s = 0; s < batch->n; s++)
		if (batch->start[s + 1] <= batch->start[s] || batch->start[s + 1] - batch->start[s] > e->info.max_tokens)
			return mr_fail(st, MR_INVALID, "a sequence has %d tokens, not 1 to %d", batch->start[s + 1] - batch->start[s],
						   e->info.max_tokens);
	if (batch->n < 1)
		return MR_OK;
	lay_out(&r, e, batch->start[batch->n], workspace);
	r.env = env;
	r.st = st;
	mode = mr_denormals_off();
	for (int from = 0, to; good && from < batch->n; from = to)
	{
		for (to = from + 1; to < batch->n && batch->start[to + 1] - batch->start[from] <= PIECE;)
			to++;
		good = run_piece(&r, batch, from, to, layers, hidden + (size_t) batch->start[from] * (size_t) e->info.hidden);
	}
	mr_denormals_restore(mode);
	return good ? MR_OK : st->code;
}
