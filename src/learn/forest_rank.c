/*
 * forest_rank.c
 *	  Columns to ranks: one radix sort a column, before the first tree.
 *
 * Memory: 4 bytes a cell for ranks, 4 a distinct value, and 16 a row while
 * sorting.
 */
#include "learn/forest.h"

#include <math.h>
#include <string.h>

#define BLOCK	4096			/* rows between interrupts */

/* Order-preserving map of a float's bits; -0 and +0 are made equal before. */
static inline uint32_t
sortable(float x)
{
	uint32_t	u;

	memcpy(&u, &x, sizeof(u));
	return u ^ ((uint32_t) ((int32_t) u >> 31) | 0x80000000u);
}

/* Sort n keys by their upper 32 bits: three passes of 11, 11 and 10 bits.  NULL: canceled. */
static uint64_t *
radix_sort(forest_builder *builder, uint64_t *a, uint64_t *b, size_t n, mr_status *st)
{
	static const int shift[3] = {32, 43, 54};
	size_t		count[2048];

	for (int pass = 0; pass < 3; pass++)
	{
		int			s = shift[pass];
		size_t		sum = 0;
		uint64_t   *swap;

		memset(count, 0, sizeof(count));
		for (size_t i = 0; i < n; i++)
			count[(a[i] >> s) & 2047]++;
		for (int i = 0; i < 2048; i++)
		{
			size_t		c = count[i];

			count[i] = sum;
			sum += c;
		}
		for (size_t i = 0; i < n; i++)
		{
			b[count[(a[i] >> s) & 2047]++] = a[i];
			if (i % BLOCK == 0 && forest_work(builder, BLOCK * 4, st))
				return NULL;
		}
		swap = a;
		a = b;
		b = swap;
	}
	return a;
}

static mr_code
rank_column(forest_builder *b, int c, uint64_t *key, uint64_t *tmp, mr_status *st)
{
	const float *x = b->m->col[c];
	forest_column *col = &b->column[c];
	size_t		rows = (size_t) b->m->rows;
	size_t		n = 0;
	uint32_t	distinct = 0;
	uint64_t   *sorted;

	col->rank = forest_alloc(b, rows, sizeof(uint32_t), st);
	if (col->rank == NULL)
		return st->code;
	for (size_t i = 0; i < rows; i++)
	{
		if (isnan(x[i]))
			col->rank[i] = FOREST_MISSING;
		else
			key[n++] = (uint64_t) sortable(x[i] + 0.0f) << 32 | (uint32_t) i;
		if (i % BLOCK == 0 && forest_work(b, BLOCK * 2, st))
			return MR_CANCELED;
	}
	sorted = radix_sort(b, key, tmp, n, st);
	if (sorted == NULL)
		return MR_CANCELED;
	for (size_t i = 0; i < n; i++)
		distinct += i == 0 || (sorted[i] >> 32) != (sorted[i - 1] >> 32);
	col->n_distinct = distinct;
	col->value = forest_alloc(b, distinct ? distinct : 1, sizeof(float), st);
	if (col->value == NULL)
		return st->code;
	distinct = 0;
	for (size_t i = 0; i < n; i++)
	{
		uint32_t	row = (uint32_t) sorted[i];

		if (i == 0 || (sorted[i] >> 32) != (sorted[i - 1] >> 32))
			col->value[distinct++] = x[row] + 0.0f;
		col->rank[row] = distinct - 1;
		if (i % BLOCK == 0 && forest_work(b, BLOCK * 6, st))
			return MR_CANCELED;
	}
	return MR_OK;
}

mr_code
forest_rank_columns(forest_builder *b, mr_status *st)
{
	size_t		rows = (size_t) b->m->rows;
	uint64_t   *key = forest_alloc(b, rows, sizeof(uint64_t), st);
	uint64_t   *tmp = key ? forest_alloc(b, rows, sizeof(uint64_t), st) : NULL;
	mr_code		code = tmp ? MR_OK : st->code;

	for (int c = 0; c < b->m->cols && code == MR_OK; c++)
		code = rank_column(b, c, key, tmp, st);
	mr_free(b->env, key);
	mr_free(b->env, tmp);
	b->memory -= (key ? rows * sizeof(uint64_t) : 0) + (tmp ? rows * sizeof(uint64_t) : 0);
	return code;
}
