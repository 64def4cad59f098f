/*
 * similarity_best.c
 *	  The k least of very many candidates.
 *
 * The list takes what is below the k-th least found so far; when it is full all but the k least are thrown
 * out, by selection, in time linear in its length.
 */
#include "text/similarity.h"

#include <math.h>

static inline bool
before(sim_candidate a, sim_candidate b)
{
	return a.estimate < b.estimate || (a.estimate == b.estimate && a.number < b.number);
}

static inline void
exchange(sim_candidate *a, sim_candidate *b)
{
	sim_candidate t = *a;

	*a = *b;
	*b = t;
}

/* Hoare's selection: afterwards no candidate before place k comes after the one there. */
static void
select_least(sim_candidate *list, ptrdiff_t n, ptrdiff_t k)
{
	ptrdiff_t	low = 0,
				high = n - 1;

	while (low < high)
	{
		sim_candidate pivot = list[low + (high - low) / 2];
		ptrdiff_t	i = low,
					j = high;

		do
		{
			while (before(list[i], pivot))
				i++;
			while (before(pivot, list[j]))
				j--;
			if (i <= j)
				exchange(&list[i++], &list[j--]);
		} while (i <= j);
		/* low .. j are not after the pivot, i .. high not before it */
		if (k <= j)
			high = j;
		else if (k >= i)
			low = i;
		else
			return;
	}
}

static void
keep_least(sim_best *b)
{
	if (b->n < b->k)
		return;
	if (b->n > b->k)
		select_least(b->list, (ptrdiff_t) b->n, (ptrdiff_t) b->k - 1);
	b->n = b->k;
	b->most = b->list[b->k - 1].estimate;
}

void
sim_best_init(sim_best *b, sim_candidate *list, size_t room, size_t k)
{
	b->list = list;
	b->room = room;
	b->k = k;
	b->n = 0;
	b->most = INFINITY;
}

void
sim_best_scan(sim_best *b, const sim_query *q, const void *blocks, size_t stride, int n_blocks, uint32_t first,
			  sim_candidate least)
{
	if (b->n + (size_t) n_blocks * SIM_BLOCK > b->room)
		keep_least(b);
	b->n += sim_scan_signs(q, blocks, stride, n_blocks, first, least, b->most, b->list + b->n);
}

size_t
sim_best_finish(sim_best *b)
{
	if (b->n > b->k)
		keep_least(b);
	else if (b->n > 1)
		for (size_t i = 0; i + 1 < b->n; i++)
			if (before(b->list[b->n - 1], b->list[i]))
				exchange(&b->list[i], &b->list[b->n - 1]);
	return b->n;
}
