/*
 * neighbours.c
 *	  The k nearest points of each query, all pairs compared.
 *
 * Points lie in groups of QLT_GROUP, feature by feature.  A block of queries meets a tile of points that stays in the
 * cache; a distance below a query's worst so far goes into its list of twice k, and a full list is cut to its k least.
 * A list's entry is one number, the distance's bits before the point's: numbers that are not negative sort as their
 * bits do, and equal distances by point.  Queries that are near a point go into one buffer, which is cut to the
 * k nearest of each point when it is full: it holds at most twice as many.
 */
#include "quality/latent_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK		64			/* queries */
#define TILE_BYTES	131072		/* of points */
#define MOST_GROUPS	32			/* in a tile */

typedef struct list
{
	uint64_t   *entry;
	int			n;
	float		worst;			/* a nearer one enters */
} list;

static uint64_t
entry_of(float distance, int64_t point)
{
	uint32_t	bits;

	memcpy(&bits, &distance, sizeof(bits));
	return (uint64_t) bits << 32 | (uint64_t) point;
}

static float
distance_of(uint64_t entry)
{
	uint32_t	bits = (uint32_t) (entry >> 32);
	float		distance;

	memcpy(&distance, &bits, sizeof(distance));
	return distance;
}

/* The k least to the front, in any order (Hoare's quickselect, by the median of three). */
static void
select_least(uint64_t *a, int n, int k)
{
	int			lo = 0,
				hi = n - 1;

	while (lo < hi)
	{
		uint64_t	x = a[lo],
					y = a[lo + (hi - lo) / 2],
					z = a[hi],
					pivot = x < y ? (y < z ? y : x < z ? z : x) : (x < z ? x : y < z ? z : y);
		int			i = lo,
					j = hi;

		while (i <= j)
		{
			while (a[i] < pivot)
				i++;
			while (a[j] > pivot)
				j--;
			if (i <= j)
			{
				uint64_t	swap = a[i];

				a[i++] = a[j];
				a[j--] = swap;
			}
		}
		if (k - 1 <= j)
			hi = j;
		else if (k - 1 >= i)
			lo = i;
		else
			return;
	}
}

static void
cut(list *l, int k)
{
	uint64_t	last = 0;

	select_least(l->entry, l->n, k);
	l->n = k;
	for (int i = 0; i < k; i++)
		last = l->entry[i] > last ? l->entry[i] : last;
	l->worst = distance_of(last);
}

/* Ascending: shell sort with Ciura's gaps. */
static void
sort_entries(uint64_t *a, int n)
{
	static const int gaps[] = {701, 301, 132, 57, 23, 10, 4, 1};

	for (size_t g = 0; g < sizeof(gaps) / sizeof(gaps[0]); g++)
		for (int i = gaps[g]; i < n; i++)
		{
			uint64_t	v = a[i];
			int			j = i;

			for (; j >= gaps[g] && a[j - gaps[g]] > v; j -= gaps[g])
				a[j] = a[j - gaps[g]];
			a[j] = v;
		}
}

/* Queries near points. */
typedef struct reach
{
	float	   *within;			/* of points, filled up with -1 */
	qlt_near   *near;
	int64_t		n;
	int64_t		room;
} reach;

typedef struct search
{
	const qlt_work *w;
	const qlt_kernels *kernels;
	const qlt_vectors *queries;
	int64_t		n;				/* points */
	size_t		d;
	int			k;
	int			room;			/* of a list */
	bool		skip_self;
	int64_t		first;
	float	   *x;				/* groups x d x QLT_GROUP */
	uint64_t   *entries;		/* BLOCK x room */
	float		distance[QLT_QUERIES * MOST_GROUPS * QLT_GROUP];
	int32_t		at[MOST_GROUPS * QLT_GROUP];
	reach	   *reach;			/* NULL: not asked for */
} search;

static int
compare_near(const void *a, const void *b)
{
	const qlt_near *x = a,
			   *y = b;

	if (x->point != y->point)
		return x->point < y->point ? -1 : 1;
	if (x->distance != y->distance)
		return x->distance < y->distance ? -1 : 1;
	return x->query < y->query ? -1 : x->query > y->query;
}

/* Room for as many as a tile can add: the k nearest of each point stay, and what is not nearer than these does not come any more. */
static mr_code
make_room(search *s, mr_status *st)
{
	reach	   *r = s->reach;
	int64_t		tile = QLT_QUERIES * MOST_GROUPS * QLT_GROUP,
				kept = 0;
	int			of_point = 0;

	if (r->n + tile <= r->room)
		return MR_OK;
	if (r->n > 0)
	{
		qsort(r->near, (size_t) r->n, sizeof(qlt_near), compare_near);
		for (int64_t i = 0; i < r->n; i++)
		{
			of_point = i > 0 && r->near[i].point == r->near[i - 1].point ? of_point + 1 : 0;
			if (of_point >= s->k)
				continue;
			if (of_point == s->k - 1)
				r->within[r->near[i].point] = r->near[i].distance;
			r->near[kept++] = r->near[i];
		}
		r->n = kept;
	}
	if (r->n + tile > r->room / 2)
	{
		int64_t		room = r->room * 2 > 2 * tile ? r->room * 2 : 2 * tile;
		qlt_near   *more = NULL;
		mr_code		code = qlt_check_limit(s->w, (double) room * 2 * sizeof(qlt_near), st);

		if (code)
			return code;
		more = mr_alloc(s->w->env, (size_t) room * sizeof(qlt_near));
		if (more == NULL)
			return qlt_latent_no_memory(st);
		if (r->n > 0)
			memcpy(more, r->near, (size_t) r->n * sizeof(qlt_near));
		mr_free(s->w->env, r->near);
		r->near = more;
		r->room = room;
	}
	return MR_OK;
}

/* Queries from .. from + QLT_QUERIES - 1 (the last one repeated where there are fewer) meet groups of points. */
static void
meet(search *s, list *lists, int64_t from, int count, int64_t group, int groups)
{
	const float *q[QLT_QUERIES];
	size_t		stride = (size_t) groups * QLT_GROUP;

	for (int a = 0; a < QLT_QUERIES; a++)
		q[a] = s->queries->x + (size_t) (from + (a < count ? a : count - 1)) * s->d;
	s->kernels->distances(s->x + (size_t) group * s->d * QLT_GROUP, groups, (int) s->d, q, s->distance, stride);
	for (int a = 0; a < count; a++)
	{
		list	   *l = &lists[a];
		const float *distance = s->distance + (size_t) a * stride;
		int			found = s->kernels->below(distance, (int) stride, l->worst, s->at);

		for (int i = 0; i < found; i++)
		{
			int64_t		point = group * QLT_GROUP + s->at[i];

			if (point >= s->n || (s->skip_self && point == s->first + from + a) || !(distance[s->at[i]] < l->worst))
				continue;
			l->entry[l->n++] = entry_of(distance[s->at[i]], point);
			if (l->n == s->room)
				cut(l, s->k);
		}
		if (s->reach)
		{
			reach	   *r = s->reach;

			found = s->kernels->below_each(distance, r->within + group * QLT_GROUP, (int) stride, s->at);
			for (int i = 0; i < found; i++)
				r->near[r->n++] = (qlt_near) {(int32_t) (group * QLT_GROUP + s->at[i]), (int32_t) (from + a), distance[s->at[i]]};
		}
	}
}

static mr_code
search_block(search *s, int64_t from, int count, int32_t *index, float *distance, mr_status *st)
{
	list		lists[BLOCK];
	int64_t		groups = (s->n + QLT_GROUP - 1) / QLT_GROUP,
				step = TILE_BYTES / (int64_t) (s->d * QLT_GROUP * sizeof(float));

	step = step < 1 ? 1 : step > MOST_GROUPS ? MOST_GROUPS : step;
	for (int a = 0; a < count; a++)
		lists[a] = (list) {s->entries + (size_t) a * (size_t) s->room, 0, INFINITY};
	for (int64_t g = 0; g < groups; g += step)
	{
		for (int a = 0; a < count; a += QLT_QUERIES)
		{
			mr_code		code = s->reach ? make_room(s, st) : MR_OK;

			if (code)
				return code;
			meet(s, lists + a, from + a, count - a < QLT_QUERIES ? count - a : QLT_QUERIES, g,
				 (int) (groups - g < step ? groups - g : step));
		}
		if (mr_interrupted(s->w->env))
			return qlt_latent_canceled(st);
	}
	for (int a = 0; a < count; a++)
	{
		list	   *l = &lists[a];

		if (l->n > s->k)
			cut(l, s->k);
		sort_entries(l->entry, l->n);
		for (int i = 0; i < s->k; i++)
		{
			size_t		to = (size_t) (from + a) * (size_t) s->k + (size_t) i;

			index[to] = i < l->n ? (int32_t) (l->entry[i] & 0xFFFFFFFF) : -1;
			distance[to] = i < l->n ? distance_of(l->entry[i]) : INFINITY;
		}
	}
	return MR_OK;
}

/* A list holds twice k, and not less than a few. */
static int
room_of(int k)
{
	return k < 32 ? 64 : 2 * k;
}

double
qlt_neighbours_memory(int64_t points, int64_t queries, int dims, int k)
{
	return ((double) points + QLT_GROUP) * dims * sizeof(float) + (double) BLOCK * room_of(k) * sizeof(uint64_t) + sizeof(search);
}

static mr_code
run(const qlt_work *w, const qlt_vectors *points, const qlt_vectors *queries, int k, bool skip_self, int64_t first, reach *r,
	int32_t *index, float *distance, mr_status *st)
{
	size_t		d = (size_t) points->dims;
	int64_t		groups = (points->n + QLT_GROUP - 1) / QLT_GROUP;
	search	   *s = mr_alloc(w->env, sizeof(search));
	mr_code		code = MR_OK;

	if (s == NULL)
		return qlt_latent_no_memory(st);
	*s = (search) {.w = w,.kernels = qlt_kernels_for(w->isa),.queries = queries,.n = points->n,.d = d,.k = k,
	.room = room_of(k),.skip_self = skip_self,.first = first,.reach = r};
	s->x = mr_alloc(w->env, (size_t) groups * d * QLT_GROUP * sizeof(float) + 64);
	s->entries = mr_alloc(w->env, BLOCK * (size_t) s->room * sizeof(uint64_t));
	if (s->x == NULL || s->entries == NULL)
		code = qlt_latent_no_memory(st);
	for (int64_t i = 0; i < groups * QLT_GROUP && code == MR_OK; i++)
	{
		for (size_t j = 0; j < d; j++)
			s->x[((size_t) (i / QLT_GROUP) * d + j) * QLT_GROUP + (size_t) (i % QLT_GROUP)] = i < points->n ? points->x[(size_t) i * d + j] : 0;
		if (i % 1024 == 0 && mr_interrupted(w->env))
			code = qlt_latent_canceled(st);
	}
	for (int64_t i = 0; i < queries->n && code == MR_OK; i += BLOCK)
		code = search_block(s, i, (int) (queries->n - i < BLOCK ? queries->n - i : BLOCK), index, distance, st);
	mr_free(w->env, s->x);
	mr_free(w->env, s->entries);
	mr_free(w->env, s);
	return code;
}

mr_code
qlt_neighbours(const qlt_work *w, const qlt_vectors *points, const qlt_vectors *queries, int k, bool skip_self,
			   int64_t first, int32_t *index, float *distance, mr_status *st)
{
	return run(w, points, queries, k, skip_self, first, NULL, index, distance, st);
}

mr_code
qlt_neighbours_both(const qlt_work *w, const qlt_vectors *points, const qlt_vectors *queries, int k, const float *within,
					int32_t *index, float *distance, qlt_near **near, int64_t *n_near, mr_status *st)
{
	int64_t		filled = (points->n + QLT_GROUP - 1) / QLT_GROUP * QLT_GROUP;
	reach		r = {.within = mr_alloc(w->env, (size_t) filled * sizeof(float) + 64)};
	mr_code		code;

	if (r.within == NULL)
		return qlt_latent_no_memory(st);
	for (int64_t i = 0; i < filled; i++)
		r.within[i] = i < points->n ? within[i] : -1;
	code = run(w, points, queries, k, false, 0, &r, index, distance, st);
	mr_free(w->env, r.within);
	*near = r.near;
	*n_near = r.n;
	return code;
}
