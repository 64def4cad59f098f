/*
 * hidden_pg.c
 *	  Texts into token vectors and embeddings: tokenised, sorted by length,
 *	  packed into batches and run.  See text_pg.h.
 *
 * Texts are taken in windows of WINDOW_TOKENS, so that memory does not grow with
 * their number.  A sequence's numbers do not depend on the batch it is in
 * (encoder.h), so neither window nor batch shows in the result.
 *
 * Memory: the tokenizer's buffers are kept for this backend's next texts, while they
 * are small; a window is the current context's; weights and activations are the
 * registry's (reg_scratch).
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "core/core_pg.h"
#include "miscadmin.h"
#include "nn/nn_pg.h"
#include "text/text_pg.h"
#include "utils/memutils.h"

#define BATCH_TOKENS 1024		/* a batch of these keeps the kernels busy and the caches warm */
#define WINDOW_TOKENS (64 * BATCH_TOKENS)
#define KEPT_BYTES ((Size) 4 << 20)

/* ---- tokens ---- */

static MemoryContext work_cxt = NULL;
static mr_env work_env;
static txt_work *work = NULL;

static txt_work *
tokenizer_work(void)
{
	mr_status	st = {0};

	if (work_cxt && MemoryContextMemAllocated(work_cxt, true) > KEPT_BYTES)
	{
		work = NULL;
		MemoryContextReset(work_cxt);
	}
	if (work)
		return work;
	if (work_cxt == NULL)
		work_cxt = AllocSetContextCreate(TopMemoryContext, "millrace tokenizer", ALLOCSET_DEFAULT_SIZES);
	work_env = mr_pg_env(work_cxt);
	work = txt_work_create(&work_env, &st);
	if (work == NULL)
		mr_pg_raise(&st);
	return work;
}

txt_tokens
txt_tokens_of(const txt_model *m, txt_string text, bool special, int max_tokens)
{
	txt_limits	limits = {.special = special,.max_tokens = max_tokens};
	mr_status	st = {0};
	txt_tokens	tokens;

	if (txt_encode_cut(&m->encoder.tokenizer, tokenizer_work(), text.data, text.len, &limits, &tokens, &st) != MR_OK)
		mr_pg_raise(&st);
	return tokens;
}

/* ---- sequences ---- */

typedef struct sequence
{
	int			text;			/* the caller's number of it */
	int			n;
	int			at;				/* its first token in the window */
	bool		truncated;
} sequence;

typedef struct window
{
	const txt_model *m;
	int			layer;
	txt_hidden_sink sink;
	void	   *arg;
	sequence   *sequence;
	int			n;
	int			size;
	txt_token  *token;
	int			tokens;
	int			tokens_size;
	int			longest;
	int32_t    *ids;			/* of the batch at hand */
	int32_t    *start;
	int			ids_size;
} window;

static void
window_init(window *w, const txt_model *m, int layer, txt_hidden_sink sink, void *arg)
{
	*w = (window) {.m = m,.layer = layer,.sink = sink,.arg = arg,.size = 16,.tokens_size = 1024};
	w->sequence = palloc_array(sequence, w->size);
	w->token = palloc_array(txt_token, w->tokens_size);
}

static void
window_free(window *w)
{
	pfree(w->sequence);
	pfree(w->token);
	if (w->ids)
	{
		pfree(w->ids);
		pfree(w->start);
	}
}

/* Room for a sequence of n tokens, which the caller fills in. */
static txt_token *
window_add(window *w, int text, int n, bool truncated)
{
	if (w->n == w->size)
		w->sequence = repalloc_array(w->sequence, sequence, w->size *= 2);
	while (w->tokens + n > w->tokens_size)
		w->token = repalloc_array(w->token, txt_token, w->tokens_size *= 2);
	w->sequence[w->n++] = (sequence) {text, n, w->tokens, truncated};
	w->tokens += n;
	w->longest = Max(w->longest, n);
	return w->token + w->tokens - n;
}

/* The longest first; the order of the rest does not matter, but shall be one. */
static int
by_length(const void *a, const void *b)
{
	const sequence *x = a,
			   *y = b;

	return x->n != y->n ? (x->n > y->n ? -1 : 1) : x->at < y->at ? -1 : x->at > y->at;
}

static size_t
workspace(const window *w, int tokens)
{
	return TYPEALIGN(64, txt_encoder_workspace(&w->m->encoder, tokens));
}

static size_t
memory_needed(const window *w, int tokens)
{
	return workspace(w, tokens) + sizeof(float) * (size_t) tokens * w->m->encoder.info.hidden;
}

static void
run_batch(window *w, const sequence *s, int n, int tokens)
{
	mr_env		env = mr_pg_env(NULL);
	mr_status	st = {0};
	char	   *memory = reg_scratch(memory_needed(w, tokens));
	float	   *hidden = (float *) (memory + workspace(w, tokens));
	txt_batch	batch = {.n = n,.ids = w->ids,.start = w->start};

	w->start[0] = 0;
	for (int i = 0; i < n; i++)
	{
		for (int k = 0; k < s[i].n; k++)
			w->ids[w->start[i] + k] = w->token[s[i].at + k].id;
		w->start[i + 1] = w->start[i] + s[i].n;
	}
	reg_stat_start(w->m->reg, n);
	if (txt_encoder_run(&w->m->encoder, &env, memory, &batch, w->layer, hidden, &st) != MR_OK)
		mr_pg_raise(&st);
	reg_stat_end(w->m->reg, n);
	for (int i = 0; i < n; i++)
		w->sink(w->arg, s[i].text, w->token + s[i].at, w->ids + w->start[i], s[i].n, s[i].truncated,
				hidden + (size_t) w->start[i] * w->m->encoder.info.hidden);
}

/* Run what has been added, and begin anew. */
static void
window_run(window *w)
{
	size_t		limit = nn_pg_options().max_memory;
	int			budget = BATCH_TOKENS;

	while (budget > w->longest && memory_needed(w, budget) > limit)
		budget /= 2;
	budget = Max(budget, w->longest);
	if (w->ids_size < budget)
	{
		if (w->ids)
		{
			pfree(w->ids);
			pfree(w->start);
		}
		w->ids = palloc_array(int32_t, budget);
		w->start = palloc_array(int32_t, budget + 1);
		w->ids_size = budget;
	}
	qsort(w->sequence, w->n, sizeof(sequence), by_length);
	for (int first = 0, n, tokens; first < w->n; first += n)
	{
		CHECK_FOR_INTERRUPTS();
		if (w->sequence[first].n == 0)
		{
			/* no text, no template: nothing to run */
			n = 1;
			w->sink(w->arg, w->sequence[first].text, NULL, NULL, 0, w->sequence[first].truncated, NULL);
			continue;
		}
		tokens = 0;
		for (n = 0; first + n < w->n && w->sequence[first + n].n > 0 && tokens + w->sequence[first + n].n <= budget; n++)
			tokens += w->sequence[first + n].n;
		run_batch(w, w->sequence + first, n, tokens);
	}
	w->n = w->tokens = w->longest = 0;
}

void
txt_hidden(const txt_model *m, const txt_string *texts, int n, int layer, int max_tokens, txt_hidden_sink sink, void *arg)
{
	const txt_encoder_info *info = &m->encoder.info;
	window		w;

	max_tokens = max_tokens > 0 ? Min(max_tokens, info->max_tokens) : info->embed_tokens;
	reg_stat_ask(m->reg);
	window_init(&w, m, layer, sink, arg);
	for (int i = 0; i < n; i++)
	{
		txt_tokens	t = txt_tokens_of(m, texts[i], true, max_tokens);

		memcpy(window_add(&w, i, t.n, t.truncated), t.token, t.n * sizeof(txt_token));
		if (w.tokens >= WINDOW_TOKENS)
			window_run(&w);
		CHECK_FOR_INTERRUPTS();
	}
	window_run(&w);
	window_free(&w);
	reg_stat_ask(NULL);
}

/* ---- embeddings ---- */

typedef struct pooling
{
	const txt_model *m;
	txt_embedding_sink sink;
	void	   *arg;
	float	   *embedding;
} pooling;

static void
pool(void *arg, int text, const txt_token *tokens, const int32_t *ids, int n, bool truncated, const float *hidden)
{
	pooling    *p = arg;
	int32_t		start[2] = {0, n};
	txt_batch	batch = {.n = 1,.ids = ids,.start = start};

	if (n > 0)
		txt_encoder_pool(&p->m->encoder, &batch, hidden, p->embedding);
	else
		memset(p->embedding, 0, sizeof(float) * p->m->encoder.info.hidden);
	for (int i = 0; i < p->m->encoder.info.hidden; i++)
		if (!isfinite(p->embedding[i]))
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("model \"%s\" gives a text a vector with numbers that are not finite", p->m->reg->reference),
					 errdetail("Some of its weights are too large for the precision it runs in.")));
	p->sink(p->arg, text, p->embedding, n, truncated);
}

static pooling
pooling_of(const txt_model *m, txt_embedding_sink sink, void *arg)
{
	return (pooling) {m, sink, arg, palloc_array(float, m->encoder.info.hidden)};
}

void
txt_embed(const txt_model *m, const txt_string *texts, int n, txt_embedding_sink sink, void *arg)
{
	pooling		p = pooling_of(m, sink, arg);

	txt_hidden(m, texts, n, -1, 0, pool, &p);
	pfree(p.embedding);
}

/* Pieces of one text: their sum, weighted by their tokens. */
typedef struct average
{
	double	   *sum;
	double		weight;
	int			hidden;
	int			template;		/* tokens of a piece that are not the text's */
} average;

static void
add_piece(void *arg, int piece, const float *embedding, int tokens, bool truncated)
{
	average    *a = arg;
	double		weight = Max(tokens - a->template, 1);

	a->weight += weight;
	for (int i = 0; i < a->hidden; i++)
		a->sum[i] += (double) embedding[i] * weight;
}

txt_pieces
txt_embed_pieces(const txt_model *m, txt_string text, int overlap, int max_pieces, float *out)
{
	const txt_encoder_info *info = &m->encoder.info;
	const int32_t *before,
			   *after;
	int			n_before,
				n_after;
	txt_tokens	t;
	txt_pieces	pieces = {0};
	average		a = {.hidden = info->hidden,.sum = palloc0(sizeof(double) * info->hidden)};
	pooling		p = pooling_of(m, add_piece, &a);
	txt_token  *token;
	int			room;
	double		length = 0;
	window		w;

	txt_template(&m->encoder.tokenizer, &before, &n_before, &after, &n_after);
	a.template = n_before + n_after;
	room = info->embed_tokens - a.template;
	if (overlap >= room)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"overlap\" must be less than %d, the tokens of a text that model \"%s\" takes at once",
						room, m->reg->reference)));
	reg_stat_ask(m->reg);
	t = txt_tokens_of(m, text, false, max_pieces < INT_MAX / room ? max_pieces * room : 0);
	/* the tokenizer's buffers are another text's soon */
	token = palloc_extended(Max(t.n, 1) * sizeof(txt_token), MCXT_ALLOC_HUGE);
	memcpy(token, t.token, t.n * sizeof(txt_token));
	window_init(&w, m, -1, pool, &p);
	do
	{
		int			from = pieces.n * (room - overlap);
		int			n = Min(room, t.n - from);
		txt_token  *piece = window_add(&w, pieces.n, a.template + n, false);

		for (int i = 0; i < n_before; i++)
			*piece++ = (txt_token) {before[i], 0, 0};
		memcpy(piece, token + from, n * sizeof(txt_token));
		for (int i = 0; i < n_after; i++)
			piece[n + i] = (txt_token) {after[i], 0, 0};
		pieces.n++;
		pieces.tokens = from + n;
		if (w.tokens >= WINDOW_TOKENS)
			window_run(&w);
	} while (pieces.tokens < t.n && pieces.n < max_pieces);
	window_run(&w);
	window_free(&w);
	reg_stat_ask(NULL);

	pieces.truncated = t.truncated || pieces.tokens < t.n;
	for (int i = 0; i < info->hidden; i++)
	{
		a.sum[i] /= a.weight;
		length += a.sum[i] * a.sum[i];
	}
	/* one piece is what embed() gives, to the bit */
	length = info->normalize && pieces.n > 1 && length > 0 ? sqrt(length) : 1;
	for (int i = 0; i < info->hidden; i++)
		out[i] = (float) (a.sum[i] / length);
	pfree(a.sum);
	pfree(p.embedding);
	pfree(token);
	return pieces;
}
