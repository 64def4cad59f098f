/*
 * scorer_pg.c
 *	  Texts embedded once, matched in many pairs.  See score_pg.h.
 *
 * Memory: a text's entry, its bytes and its vectors are chunks of the scorer's
 * context, so that each can be forgotten by itself.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/core_pg.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "text/score_pg.h"
#include "utils/memutils.h"

struct txt_scored
{
	txt_string	text;
	dlist_node	node;			/* scorer's list: the longest unused first */
	bool		waiting;		/* in the list of those to embed */
	int			uses;
	Size		bytes;			/* of the vectors */
	txt_vectors vectors;		/* rows NULL: not embedded yet */
};

typedef struct scored_entry
{
	txt_string	text;
	txt_scored *scored;
	char		status;
} scored_entry;

#define SH_PREFIX		scored
#define SH_ELEMENT_TYPE	scored_entry
#define SH_KEY_TYPE		txt_string
#define SH_KEY			text
#define SH_HASH_KEY(tb, k)	hash_bytes((const unsigned char *) (k).data, (int) (k).len)
#define SH_EQUAL(tb, a, b)	((a).len == (b).len && memcmp((a).data, (b).data, (a).len) == 0)
#define SH_SCOPE		static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct txt_scorer
{
	MemoryContext cxt;
	const txt_model *model;
	const txt_score_settings *settings;
	scored_hash *table;
	dlist_head	order;
	txt_scored **waiting;
	int			n_waiting,
				waiting_size;
	Size		waiting_bytes;
	Size		bytes;			/* of all texts and vectors */
	float	   *best;			/* work memory of a match */
	int			best_size;
};

txt_scorer *
txt_scorer_create(MemoryContext parent, const txt_model *m, const txt_score_settings *settings)
{
	MemoryContext cxt = AllocSetContextCreate(parent, "millrace scorer", ALLOCSET_DEFAULT_SIZES);
	txt_scorer *s = MemoryContextAllocZero(cxt, sizeof(txt_scorer));

	s->cxt = cxt;
	s->model = m;
	s->settings = settings;
	s->table = scored_create(cxt, 64, NULL);
	dlist_init(&s->order);
	return s;
}

void
txt_scorer_free(txt_scorer *s)
{
	if (s)
		MemoryContextDelete(s->cxt);
}

void
txt_scorer_model(txt_scorer *s, const txt_model *m)
{
	s->model = m;
}

txt_scored *
txt_scorer_add(txt_scorer *s, text *source)
{
	txt_string	text = txt_string_of(source);
	scored_entry *e = scored_lookup(s->table, text);
	txt_scored *t;
	bool		found;

	if (e)
		t = e->scored;
	else
	{
		char	   *copy = MemoryContextAlloc(s->cxt, Max(text.len, 1));

		t = MemoryContextAllocZero(s->cxt, sizeof(txt_scored));
		memcpy(copy, text.data, text.len);
		t->text = (txt_string) {copy, text.len};
		e = scored_insert(s->table, t->text, &found);
		e->text = t->text;
		e->scored = t;
		s->bytes += text.len + sizeof(txt_scored);
		dlist_push_tail(&s->order, &t->node);
	}
	if (text.data != VARDATA_ANY(source))
		pfree(unconstify(char *, text.data));
	return t;
}

void
txt_scorer_want(txt_scorer *s, txt_scored *t)
{
	dlist_delete(&t->node);
	dlist_push_tail(&s->order, &t->node);
	if (t->vectors.rows || t->waiting)
		return;
	if (s->n_waiting == s->waiting_size)
	{
		s->waiting_size = Max(64, s->waiting_size * 2);
		s->waiting = s->waiting ? repalloc_huge(s->waiting, s->waiting_size * sizeof(txt_scored *)) :
			MemoryContextAlloc(s->cxt, s->waiting_size * sizeof(txt_scored *));
	}
	s->waiting[s->n_waiting++] = t;
	s->waiting_bytes += Min(t->text.len, (Size) s->settings->max_tokens * 4);
	t->waiting = true;
}

Size
txt_scorer_waiting(const txt_scorer *s)
{
	return s->waiting_bytes;
}

static void
take_vectors(void *arg, int i, const txt_token *tokens, const int32_t *ids, int n, bool truncated, const float *hidden)
{
	txt_scorer *s = arg;
	txt_scored *t = s->waiting[i];
	int			width = s->model->encoder.info.hidden;
	Size		row = txt_score_stride(width) * sizeof(float);
	float	   *rows = MemoryContextAllocHuge(s->cxt, Max(n, 1) * (row + sizeof(float)));
	float	   *weight = (float *) ((char *) rows + n * row);

	txt_score_normalize(hidden, n, width, rows);
	t->vectors = (txt_vectors) {
		.n = n,
			.empty = txt_score_weights(tokens, n, s->settings->idf_name[0] ? &s->settings->idf : NULL, weight),
			.rows = rows,
			.weight = weight
	};
	t->bytes = Max(n, 1) * (row + sizeof(float));
	t->waiting = false;
	s->bytes += t->bytes;
}

/* What the package encodes: the text stripped. */
static txt_string
as_encoded(const txt_string *text)
{
	size_t		from,
				to;

	txt_strip(text->data, text->len, &from, &to);
	return (txt_string) {text->data + from, to - from};
}

void
txt_scorer_embed(txt_scorer *s)
{
	txt_string *texts;

	if (s->n_waiting == 0)
		return;
	texts = palloc_extended(s->n_waiting * sizeof(txt_string), MCXT_ALLOC_HUGE);
	for (int i = 0; i < s->n_waiting; i++)
		texts[i] = as_encoded(&s->waiting[i]->text);
	txt_hidden(s->model, texts, s->n_waiting, s->settings->layer, s->settings->max_tokens, take_vectors, s);
	pfree(texts);
	s->n_waiting = 0;
	s->waiting_bytes = 0;
}

txt_score
txt_scorer_raw(txt_scorer *s, const txt_scored *candidate, const txt_scored *reference)
{
	mr_env		env = mr_pg_env(s->cxt);
	mr_status	st = {0};
	int			n = candidate->vectors.n + reference->vectors.n;
	txt_score	score;

	if (n > s->best_size)
	{
		if (s->best)
			pfree(s->best);
		s->best = NULL;
		s->best_size = 0;
		s->best = MemoryContextAllocHuge(s->cxt, 2 * n * sizeof(float));
		s->best_size = 2 * n;
	}
	if (txt_score_pair(&env, s->model->encoder.isa, &candidate->vectors, &reference->vectors,
					   txt_score_stride(s->model->encoder.info.hidden), s->best, &score, &st) != MR_OK)
		mr_pg_raise(&st);
	return score;
}

txt_score
txt_scorer_score(txt_scorer *s, const txt_scored *candidate, const txt_scored *reference)
{
	txt_score	score = txt_scorer_raw(s, candidate, reference);

	return s->settings->rescale ? txt_score_rescale(score, &s->settings->baseline) : score;
}

static void
forget(txt_scorer *s, txt_scored *t)
{
	Assert(!t->waiting);
	s->bytes -= t->bytes + t->text.len + sizeof(txt_scored);
	scored_delete(s->table, t->text);
	dlist_delete(&t->node);
	if (t->vectors.rows)
		pfree(unconstify(float *, t->vectors.rows));
	pfree(unconstify(char *, t->text.data));
	pfree(t);
}

void
txt_scorer_use(txt_scored *t)
{
	t->uses++;
}

void
txt_scorer_used(txt_scorer *s, txt_scored *t)
{
	if (--t->uses == 0)
		forget(s, t);
}

void
txt_scorer_trim(txt_scorer *s, Size bytes)
{
	while (s->bytes > bytes && !dlist_is_empty(&s->order))
		forget(s, dlist_container(txt_scored, node, dlist_head_node(&s->order)));
}
