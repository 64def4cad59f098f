/*
 * bpe.c
 *	  Byte pair encoding: the bytes of a word, of which the pair with the least
 *	  rank is merged, the leftmost first, until no pair is in the list.
 *
 * Symbols are a doubly linked list.  Short words look through their pairs; long
 * ones keep them in a heap, so that n bytes without a space take n log n steps
 * and 44 n bytes of memory.
 */
#include "text/text_int.h"

#define SHORT_WORD 48			/* symbols */

typedef struct symbol
{
	int32_t		id;				/* -1: merged into the one before */
	int32_t		previous,
				next;			/* -1: none */
	uint32_t	at,
				len;
} symbol;

/* A symbol and the one behind it, which were a pair of the list when this was made. */
typedef struct pair
{
	uint32_t	rank;
	int32_t		left;
	uint32_t	merge;			/* its place in the list's table */
} pair;

static const txt_merge *
find_merge(const txt_tokenizer *t, int32_t left, int32_t right)
{
	uint32_t	mask = (uint32_t) t->head->count[TXT_SECTION_MERGES] - 1;

	for (uint32_t i = txt_hash((uint64_t) (uint32_t) left << 32 | (uint32_t) right) & mask;; i = (i + 1) & mask)
	{
		const txt_merge *m = &t->merges[i];

		if (m->rank == 0)
			return NULL;
		if (m->left == left && m->right == right)
			return m;
	}
}

static void
merge(symbol *s, int32_t left, int32_t right, int32_t id)
{
	s[left].id = id;
	s[left].len += s[right].len;
	s[left].next = s[right].next;
	if (s[left].next >= 0)
		s[s[left].next].previous = left;
	s[right].id = -1;
}

static void
merge_short(const txt_tokenizer *t, symbol *s)
{
	for (;;)
	{
		const txt_merge *best = NULL;
		int32_t		at = -1;

		for (int32_t i = 0; s[i].next >= 0; i = s[i].next)
		{
			const txt_merge *m = find_merge(t, s[i].id, s[s[i].next].id);

			if (m && (best == NULL || m->rank < best->rank))
			{
				best = m;
				at = i;
			}
		}
		if (best == NULL)
			return;
		merge(s, at, s[at].next, best->id);
	}
}

static inline bool
before(const pair *a, const pair *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void
sift_down(pair *heap, size_t n, size_t i)
{
	pair		x = heap[i];

	for (size_t child; (child = 2 * i + 1) < n; i = child)
	{
		if (child + 1 < n && before(&heap[child + 1], &heap[child]))
			child++;
		if (!before(&heap[child], &x))
			break;
		heap[i] = heap[child];
	}
	heap[i] = x;
}

static void
push(pair *heap, size_t *n, pair x)
{
	size_t		i = (*n)++;

	for (; i > 0 && before(&x, &heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = x;
}

static void
push_pair(const txt_tokenizer *t, const symbol *s, int32_t left, pair *heap, size_t *n)
{
	int32_t		right = left >= 0 ? s[left].next : -1;
	const txt_merge *m = right >= 0 ? find_merge(t, s[left].id, s[right].id) : NULL;

	if (m)
		push(heap, n, (pair) {m->rank, left, (uint32_t) (m - t->merges)});
}

/* The heap begins with less than n pairs; each merge takes one and adds two at most, so it holds 2 n. */
static bool
merge_long(const txt_tokenizer *t, txt_work *w, symbol *s, int32_t n, pair *heap)
{
	size_t		n_heap = 0;

	for (int32_t i = 0; i + 1 < n; i++)
	{
		if (!txt_go_on(w, 16))
			return false;
		push_pair(t, s, i, heap, &n_heap);
	}
	while (n_heap > 0)
	{
		pair		p = heap[0];
		const txt_merge *m = &t->merges[p.merge];

		heap[0] = heap[--n_heap];
		if (n_heap > 0)
			sift_down(heap, n_heap, 0);
		if (!txt_go_on(w, 16))
			return false;
		/* either may have been merged since: what is a pair still has the same ids */
		if (s[p.left].id != m->left || s[p.left].next < 0 || s[s[p.left].next].id != m->right)
			continue;
		merge(s, p.left, s[p.left].next, m->id);
		push_pair(t, s, s[p.left].previous, heap, &n_heap);
		push_pair(t, s, p.left, heap, &n_heap);
	}
	return true;
}

bool
txt_bpe(const txt_tokenizer *t, txt_work *w, txt_span span)
{
	symbol	   *s = txt_scratch(w, span.len * (sizeof(symbol) + (span.len > SHORT_WORD ? 2 * sizeof(pair) : 0)));
	int32_t		n = 0;

	if (s == NULL)
		return false;
	for (uint32_t i = 0; i < span.len; i++)
	{
		int32_t		id;

		if (!txt_go_on(w, 1))
			return false;
		id = t->byte_id[(unsigned char) w->text.data[span.at + i]];
		if (id < 0)
			id = t->head->unknown;
		if (id < 0)
			continue;			/* as the library: a byte that the vocabulary lacks leaves nothing */
		s[n] = (symbol) {id, n - 1, n + 1, span.at + i, 1};
		n++;
	}
	if (n == 0)
		return true;
	s[n - 1].next = -1;
	if (n <= SHORT_WORD)
		merge_short(t, s);
	else if (!merge_long(t, w, s, n, (pair *) (void *) (s + span.len)))
		return false;
	for (int32_t i = 0; i >= 0; i = s[i].next)
		if (!txt_go_on(w, 1) || !txt_add_token(w, s[i].id, s[i].at, (size_t) s[i].at + s[i].len))
			return false;
	return true;
}
