/*
 * open.c
 *	  Compiled bytes, checked: whatever they hold, encoding stays within them.
 */
#include "text/text_int.h"

static const size_t element[TXT_N_SECTIONS] = {
	[TXT_SECTION_TEXT_AT] = sizeof(uint32_t),
	[TXT_SECTION_TEXT] = 1,
	[TXT_SECTION_EDGES] = sizeof(txt_edge),
	[TXT_SECTION_NODE_ID] = sizeof(int32_t),
	[TXT_SECTION_SCORES] = sizeof(double),
	[TXT_SECTION_MERGES] = sizeof(txt_merge),
	[TXT_SECTION_BYTE_ID] = sizeof(int32_t),
	[TXT_SECTION_ADDED] = sizeof(txt_added),
	[TXT_SECTION_CHARSMAP] = sizeof(uint32_t),
	[TXT_SECTION_CHARSMAP_TEXT] = 1,
};

static mr_code
damaged(mr_status *st, const char *what)
{
	return mr_fail(st, MR_CORRUPT, "compiled tokenizer is damaged: %s", what);
}

static bool
is_power(uint64_t n)
{
	return n > 0 && (n & (n - 1)) == 0;
}

static bool
is_token(int32_t id, int64_t n_tokens)
{
	return id >= 0 && id < n_tokens;
}

/* Indexes of tables; an open-addressing table must have a free place, or looking would not end. */
static const char *
check_tables(const txt_tokenizer *t)
{
	const txt_head *h = t->head;
	int64_t		n_tokens = (int64_t) h->count[TXT_SECTION_TEXT_AT] - 1;
	int64_t		n_nodes = (int64_t) h->count[TXT_SECTION_NODE_ID];
	int64_t		n_added = (int64_t) h->count[TXT_SECTION_ADDED];
	uint64_t	free_edges = 0,
				free_merges = 0;

	for (int64_t i = 0; i < n_tokens; i++)
		if (t->text_at[i] > t->text_at[i + 1])
			return "texts";
	if (t->text_at[n_tokens] > h->count[TXT_SECTION_TEXT])
		return "texts";
	for (uint64_t i = 0; i < h->count[TXT_SECTION_EDGES]; i++)
	{
		free_edges += t->edges[i].key == 0;
		if ((int64_t) t->edges[i].child >= n_nodes)
			return "edges";
	}
	/* an id is a token's or, below the other roots, an added token's, of which there are no more */
	for (int64_t i = 0; i < n_nodes; i++)
		if (t->node_id[i] >= n_tokens)
			return "nodes";
	if (n_added > n_tokens)
		return "added tokens";
	for (int64_t i = 0; i < n_added; i++)
		if (!is_token(t->added[i].id, n_tokens))
			return "added tokens";
	for (uint32_t i = 0; i < TXT_MAX_TEMPLATE; i++)
		if ((i < h->n_before && !is_token(h->before[i], n_tokens)) || (i < h->n_after && !is_token(h->after[i], n_tokens)))
			return "template";
	for (uint64_t i = 0; i < h->count[TXT_SECTION_MERGES]; i++)
	{
		free_merges += t->merges[i].rank == 0;
		if (!is_token(t->merges[i].id, n_tokens))
			return "merges";
	}
	for (uint64_t i = 0; i < h->count[TXT_SECTION_BYTE_ID]; i++)
		if (t->byte_id[i] >= n_tokens)
			return "bytes";
	if (free_edges == 0 || (h->model == TXT_BPE && free_merges == 0))
		return "tables";
	return NULL;
}

static bool
steps_good(const txt_step *s, uint32_t n, int low, int high)
{
	for (uint32_t i = 0; i < n; i++)
		if (s[i].op < low || s[i].op > high || s[i].a_len > sizeof(s[i].a) || s[i].b_len > sizeof(s[i].b) ||
			((s[i].op == TXT_REPLACE || s[i].op == TXT_METASPACE) && s[i].a_len == 0))
			return false;
	return true;
}

mr_code
txt_open(const void *bytes, size_t len, txt_tokenizer *t, mr_status *st)
{
	const txt_head *h = bytes;
	const char *base = bytes;
	const char *fault;
	uint64_t	end = sizeof(txt_head);

	memset(t, 0, sizeof(*t));
	if (len < sizeof(txt_head) || h->magic != TXT_MAGIC)
		return damaged(st, "not a compiled tokenizer");
	if (h->version != TXT_COMPILER_VERSION)
		return mr_fail(st, MR_CORRUPT, "compiled tokenizer is of version %u, not %u", h->version, TXT_COMPILER_VERSION);
	if (h->size != len)
		return damaged(st, "size");
	for (int k = 0; k < TXT_N_SECTIONS; k++)
	{
		if (h->at[k] % 8 != 0 || h->at[k] < end || h->at[k] > len || h->count[k] > (len - h->at[k]) / element[k])
			return damaged(st, "sections");
		end = h->at[k] + h->count[k] * element[k];
	}
	if (h->model < TXT_WORDPIECE || h->model > TXT_UNIGRAM || h->count[TXT_SECTION_TEXT_AT] < 2 ||
		h->count[TXT_SECTION_NODE_ID] <= TXT_ROOT_NORMAL || h->count[TXT_SECTION_NODE_ID] > 1 << 24 ||
		!is_power(h->count[TXT_SECTION_EDGES]) || h->count[TXT_SECTION_EDGES] > UINT32_MAX ||
		(h->model == TXT_BPE && (!is_power(h->count[TXT_SECTION_MERGES]) || h->count[TXT_SECTION_BYTE_ID] != 256)) ||
		(h->model == TXT_UNIGRAM && h->count[TXT_SECTION_SCORES] != h->count[TXT_SECTION_TEXT_AT] - 1) ||
		h->continuation >= h->count[TXT_SECTION_NODE_ID] || h->unknown >= (int64_t) h->count[TXT_SECTION_TEXT_AT] - 1 ||
		(h->model != TXT_BPE && h->unknown < 0) || h->n_normalize > TXT_MAX_STEPS || h->n_split > TXT_MAX_STEPS ||
		h->n_before > TXT_MAX_TEMPLATE || h->n_after > TXT_MAX_TEMPLATE ||
		!steps_good(h->normalize, h->n_normalize, TXT_BERT, TXT_CHARSMAP) ||
		!steps_good(h->split, h->n_split, TXT_SPLIT_BERT, TXT_METASPACE) ||
		(h->count[TXT_SECTION_CHARSMAP_TEXT] > 0 && base[h->at[TXT_SECTION_CHARSMAP_TEXT] + h->count[TXT_SECTION_CHARSMAP_TEXT] - 1] != '\0'))
		return damaged(st, "head");
	t->head = h;
	t->text_at = (const uint32_t *) (const void *) (base + h->at[TXT_SECTION_TEXT_AT]);
	t->text = base + h->at[TXT_SECTION_TEXT];
	t->edges = (const txt_edge *) (const void *) (base + h->at[TXT_SECTION_EDGES]);
	t->node_id = (const int32_t *) (const void *) (base + h->at[TXT_SECTION_NODE_ID]);
	t->scores = (const double *) (const void *) (base + h->at[TXT_SECTION_SCORES]);
	t->merges = (const txt_merge *) (const void *) (base + h->at[TXT_SECTION_MERGES]);
	t->byte_id = (const int32_t *) (const void *) (base + h->at[TXT_SECTION_BYTE_ID]);
	t->added = (const txt_added *) (const void *) (base + h->at[TXT_SECTION_ADDED]);
	t->charsmap = (const uint32_t *) (const void *) (base + h->at[TXT_SECTION_CHARSMAP]);
	t->charsmap_text = base + h->at[TXT_SECTION_CHARSMAP_TEXT];
	fault = check_tables(t);
	return fault ? damaged(st, fault) : MR_OK;
}

const char *
txt_token_text(const txt_tokenizer *t, int32_t id, size_t *len)
{
	if (id < 0 || id >= txt_vocabulary(t))
		return NULL;
	*len = t->text_at[id + 1] - t->text_at[id];
	return t->text + t->text_at[id];
}

int
txt_vocabulary(const txt_tokenizer *t)
{
	return (int) t->head->count[TXT_SECTION_TEXT_AT] - 1;
}
