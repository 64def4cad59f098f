/*
 * neighbour_lists.c
 *	  Lists of neighbours that are kept: without what is gone, and with what is new.
 *
 * Items are named by their numbers, which ascend.  No memory of its own.
 */
#include "quality/latent_int.h"

#include <math.h>
#include <string.h>

#define AT_ONCE	16384			/* pairs or items between two questions whether to stop */

int64_t
qlt_place(const int64_t *item, int64_t n, int64_t wanted)
{
	uint64_t	after,
				before;
	int64_t		lo,
				hi;

	if (n == 0 || wanted < item[0] || wanted > item[n - 1])
		return -1;
	/* As many places from either end as the numbers differ, at most: of numbers without gaps that is the place. */
	after = (uint64_t) wanted - (uint64_t) item[0];
	before = (uint64_t) item[n - 1] - (uint64_t) wanted;
	lo = before < (uint64_t) n ? n - 1 - (int64_t) before : 0;
	hi = after < (uint64_t) n ? (int64_t) after + 1 : n;
	while (lo < hi)
	{
		int64_t		mid = (lo + hi) / 2;

		if (item[mid] < wanted)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < n && item[lo] == wanted ? lo : -1;
}

bool
qlt_ascending(const int64_t *item, int64_t n)
{
	for (int64_t i = 1; i < n; i++)
		if (item[i - 1] >= item[i])
			return false;
	return true;
}

static void
copy_list(const qlt_lists *from, int64_t i, qlt_lists *to)
{
	size_t		k = (size_t) from->k;

	to->item[to->n] = from->item[i];
	memcpy(to->neighbour + (size_t) to->n * k, from->neighbour + (size_t) i * k, k * sizeof(int64_t));
	memcpy(to->distance + (size_t) to->n * k, from->distance + (size_t) i * k, k * sizeof(float));
	to->n++;
}

mr_code
qlt_lists_keep(const qlt_work *w, const qlt_lists *from, const int64_t *current, int64_t n_current, qlt_lists *to, mr_status *st)
{
	to->n = 0;
	to->k = from->k;
	for (int64_t i = 0; i < from->n; i++)
	{
		const int64_t *list = from->neighbour + (size_t) i * (size_t) from->k;
		bool		keep = qlt_place(current, n_current, from->item[i]) >= 0;

		for (int j = 0; j < from->k && keep && list[j] != 0; j++)
			keep = qlt_place(current, n_current, list[j]) >= 0;
		if (keep)
			copy_list(from, i, to);
		if (i % (AT_ONCE / 16) == 0 && mr_interrupted(w->env))
			return qlt_latent_canceled(st);
	}
	return MR_OK;
}

/* One more in a list of k, unless it is there, or farther than all of it. */
static void
put(int64_t *list, float *distances, int k, int64_t item, float distance)
{
	int			i = k - 1;

	if (distance > distances[i] || (distance == distances[i] && (list[i] != 0 && item >= list[i])))
		return;
	for (int j = 0; j < k && list[j] != 0; j++)
		if (list[j] == item)
			return;
	for (; i > 0 && (distances[i - 1] > distance || list[i - 1] == 0 || (distances[i - 1] == distance && list[i - 1] > item)); i--)
	{
		list[i] = list[i - 1];
		distances[i] = distances[i - 1];
	}
	list[i] = item;
	distances[i] = distance;
}

mr_code
qlt_lists_grow(const qlt_work *w, const qlt_lists *from, const int64_t *fresh, int64_t n_fresh, const int64_t *of,
			   const int64_t *neighbour, const float *distance, int64_t pairs, qlt_lists *to, mr_status *st)
{
	size_t		k = (size_t) from->k;

	to->n = 0;
	to->k = from->k;
	for (int64_t i = 0, j = 0; i < from->n || j < n_fresh;)
	{
		if (j == n_fresh || (i < from->n && from->item[i] < fresh[j]))
			copy_list(from, i++, to);
		else
		{
			to->item[to->n] = fresh[j++];
			for (size_t a = 0; a < k; a++)
			{
				to->neighbour[(size_t) to->n * k + a] = 0;
				to->distance[(size_t) to->n * k + a] = INFINITY;
			}
			to->n++;
		}
		if (to->n % AT_ONCE == 0 && mr_interrupted(w->env))
			return qlt_latent_canceled(st);
	}
	for (int64_t i = 0; i < pairs; i++)
	{
		int64_t		place = qlt_place(to->item, to->n, of[i]);

		if (place >= 0)
			put(to->neighbour + (size_t) place * k, to->distance + (size_t) place * k, to->k, neighbour[i], distance[i]);
		if (i % AT_ONCE == 0 && mr_interrupted(w->env))
			return qlt_latent_canceled(st);
	}
	return MR_OK;
}
