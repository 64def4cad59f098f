/*
 * sketch_numbers.c
 *	  A sketch of numbers: moments, and quantiles by compactors.
 *
 * KLL with a sampler below (Karnin, Lang, Liberty, "Optimal quantile
 * approximation in streams", 2016).  Level i holds values that stand for
 * 2^(shift + i) each.  A level that is full is sorted, every second value
 * moves up with twice the weight (even or odd places: a seeded coin), the rest
 * is forgotten.  Lower levels are smaller by 2/3 each.  When all levels are in
 * use the lowest is given up: from then on one value of each block of 2^shift
 * is drawn, so that most values cost nothing but their part in the moments.
 *
 * Each compaction of weight w changes a rank by -w, 0 or w, with mean 0; a
 * drawn block of w values adds at most w^2 / 4 of variance.  error2 sums these
 * bounds, through merges too.  The weights always sum to the count.
 */
#include "learn/sketch_int.h"

#include <math.h>
#include <string.h>

#define LANES			8
#define LEAST_CAPACITY	128
#define SORT_RUN		8

/* ---- randomness ---- */

static uint64_t
draw(sketch_numbers *d)
{
	uint64_t	z = (d->random += 0x9E3779B97F4A7C15u);

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

/* ---- sorting ---- */

/*
 * Merge two sorted runs of n into out, from both ends at once: neither end can
 * pass n values of a run, so there are no bounds to look at, and no branch.
 */
static void
merge_equal(const double *x, ptrdiff_t n, double *out)
{
	const double *l = x,
			   *r = x + n,
			   *last_l = x + n - 1,
			   *last_r = x + 2 * n - 1;

	for (ptrdiff_t o = 0; o < n; o++)
	{
		double		a = *l,
					b = *r,
					c = *last_l,
					d = *last_r;
		bool		right = b < a,
					left = d < c;

		out[o] = right ? b : a;
		out[2 * n - 1 - o] = left ? c : d;
		r += right;
		l += !right;
		last_l -= left;
		last_r -= !left;
	}
}

/* The same for runs of n and m. */
static void
merge_any(const double *x, ptrdiff_t n, ptrdiff_t m, double *out)
{
	const double *l = x,
			   *r = x + n,
			   *end = x + n + m;

	while (l < x + n && r < end)
		*out++ = *r < *l ? *r++ : *l++;
	memcpy(out, l, (size_t) (x + n - l) * sizeof(double));
	memcpy(out + (x + n - l), r, (size_t) (end - r) * sizeof(double));
}

/* Batcher's network: 19 exchanges, each a minimum and a maximum. */
static void
sort_eight(double *x)
{
	double		v[SORT_RUN];

#define EXCHANGE(i, j) do { \
		double		a = v[i], b = v[j]; \
		v[i] = b < a ? b : a; \
		v[j] = a < b ? b : a; \
	} while (0)

	memcpy(v, x, sizeof(v));
	EXCHANGE(0, 1); EXCHANGE(2, 3); EXCHANGE(4, 5); EXCHANGE(6, 7);
	EXCHANGE(0, 2); EXCHANGE(1, 3); EXCHANGE(4, 6); EXCHANGE(5, 7);
	EXCHANGE(1, 2); EXCHANGE(5, 6); EXCHANGE(0, 4); EXCHANGE(3, 7);
	EXCHANGE(1, 5); EXCHANGE(2, 6); EXCHANGE(1, 4); EXCHANGE(3, 6);
	EXCHANGE(2, 4); EXCHANGE(3, 5); EXCHANGE(3, 4);
	memcpy(x, v, sizeof(v));
#undef EXCHANGE
}

void
lrn_sort_doubles(double *x, double *tmp, int n)
{
	double	   *from = x,
			   *to = tmp;
	int			whole = 0;

	for (; whole + SORT_RUN <= n; whole += SORT_RUN)
		sort_eight(x + whole);
	for (int i = whole + 1; i < n; i++)
	{
		double		v = x[i];
		int			j = i;

		for (; j > whole && v < x[j - 1]; j--)
			x[j] = x[j - 1];
		x[j] = v;
	}
	for (int run = SORT_RUN; run < n; run *= 2)
	{
		double	   *swap = from;

		for (int a = 0; a < n; a += 2 * run)
			if (a + 2 * run <= n)
				merge_equal(from + a, run, to + a);
			else
			{
				int			l = n - a < run ? n - a : run;

				merge_any(from + a, l, n - a - l, to + a);
			}
		from = to;
		to = swap;
	}
	if (from != x)
		memcpy(x, from, (size_t) n * sizeof(double));
}

/* ---- compactors ---- */

static int
capacity(const sketch_numbers *d, int level)
{
	double		c = LRN_SKETCH_K;

	for (int i = level + 1; i < d->n_levels; i++)
		c = c * 2 / 3;
	return c < LEAST_CAPACITY ? LEAST_CAPACITY : (int) c;
}

mr_code
lrn_numbers_room(lrn_sketch *s, int level, int size)
{
	sketch_level *l = &s->numbers->level[level];
	int			grown = l->size ? l->size : 32;
	double	   *x;

	if (size <= l->size)
		return MR_OK;
	while (grown < size)
		grown *= 2;
	x = mr_alloc(&s->env, (size_t) grown * sizeof(double));
	if (x == NULL)
		return MR_NOMEM;
	if (l->n)
		memcpy(x, l->x, (size_t) l->n * sizeof(double));
	mr_free(&s->env, l->x);
	l->x = x;
	l->size = grown;
	return MR_OK;
}

/* Put n sorted values into a sorted level. */
static mr_code
insert_sorted(lrn_sketch *s, int level, const double *x, int n)
{
	sketch_level *l = &s->numbers->level[level];
	mr_code		rc = lrn_numbers_room(s, level, l->n + n);
	int			i = l->n - 1,
				j = n - 1,
				o = l->n + n - 1;

	if (rc != MR_OK)
		return rc;
	while (i >= 0 && j >= 0)
	{
		double		a = l->x[i],
					b = x[j];
		bool		old = a > b;

		l->x[o--] = old ? a : b;
		i -= old;
		j -= !old;
	}
	for (; j >= 0; j--)
		l->x[j] = x[j];
	l->n += n;
	return MR_OK;
}

/* Half of a level's values, an even number of them, move up; an odd one stays. */
static mr_code
compact(lrn_sketch *s, int level)
{
	sketch_numbers *d = s->numbers;
	sketch_level *l = &d->level[level];
	int			half = l->n / 2,
				odd = (int) (draw(d) >> 63);
	double		weight = ldexp(1, d->shift + level);
	double		last = l->n > 0 ? l->x[l->n - 1] : 0;
	double		scratch[2 * LRN_SKETCH_K + 2];
	mr_code		rc;

	/* The odd one is the last in the order of arrival at level 0, the largest above. */
	if (level == 0 && half > 0)
		lrn_sort_doubles(l->x, scratch, 2 * half);
	for (int i = 0; i < half; i++)
		l->x[i] = l->x[2 * i + odd];
	rc = insert_sorted(s, level + 1, l->x, half);
	l->n %= 2;
	if (l->n)
		l->x[0] = last;
	if (half > 0)
		d->error2 += weight * weight;
	return rc;
}

static mr_code sample(lrn_sketch *s, double x, uint64_t weight);

/* The lowest level is given up: blocks become twice as long. */
static mr_code
raise_shift(lrn_sketch *s)
{
	sketch_numbers *d = s->numbers;
	sketch_level *lowest = &d->level[0];
	sketch_level was;
	uint64_t	weight = (uint64_t) 1 << d->shift;
	mr_code		rc;
	bool		left_over;
	double		x;

	if (d->n_levels == 1)
		d->n_levels = 2;
	rc = compact(s, 0);
	if (rc != MR_OK)
		return rc;
	left_over = lowest->n > 0;
	x = left_over ? lowest->x[0] : 0;
	was = *lowest;
	was.n = 0;
	memmove(&d->level[0], &d->level[1], (SKETCH_LEVELS - 1) * sizeof(sketch_level));
	d->level[SKETCH_LEVELS - 1] = was;
	d->n_levels--;
	d->shift++;
	/* What is held of the open block stays with the chance it has earned. */
	d->pick = draw(d) & (2 * weight - 1);
	return left_over ? sample(s, x, weight) : MR_OK;
}

/* Bring every level within its capacity. */
static mr_code
compress(lrn_sketch *s)
{
	sketch_numbers *d = s->numbers;
	mr_code		rc;

	for (int i = 0; i < d->n_levels; i++)
		while (d->level[i].n > capacity(d, i))
		{
			if (i == d->n_levels - 1)
			{
				if (d->n_levels == SKETCH_LEVELS)
				{
					if ((rc = raise_shift(s)) != MR_OK)
						return rc;
					i = -1;		/* the levels have moved: look again */
					break;
				}
				d->n_levels++;
			}
			if ((rc = compact(s, i)) != MR_OK)
				return rc;
		}
	return MR_OK;
}

/* A value that stands for weight ones meets the sampler; at level 0 what it draws. */
static mr_code
sample(lrn_sketch *s, double x, uint64_t weight)
{
	sketch_numbers *d = s->numbers;
	mr_code		rc;

	while (weight > 0)
	{
		uint64_t	block = (uint64_t) 1 << d->shift;
		uint64_t	take = weight < block - d->seen ? weight : block - d->seen;

		if (d->seen == 0)
		{
			d->pick = d->shift ? draw(d) & (block - 1) : 0;
			d->held = x;
		}
		if (d->pick >= d->seen && d->pick < d->seen + take)
			d->held = x;
		d->seen += take;
		weight -= take;
		if (d->seen < block)
			break;
		d->seen = 0;
		d->error2 += d->shift ? (double) block * (double) block / 4 : 0;
		if ((rc = lrn_numbers_room(s, 0, d->level[0].n + 1)) != MR_OK)
			return rc;
		d->level[0].x[d->level[0].n++] = d->held;
		if (d->level[0].n > capacity(d, 0) && (rc = compress(s)) != MR_OK)
			return rc;
	}
	return MR_OK;
}

/* n values of weight one: as sample() one by one, by steps of whole blocks. */
static mr_code
sample_all(lrn_sketch *s, const double *x, int n)
{
	sketch_numbers *d = s->numbers;
	mr_code		rc;

	for (int i = 0; i < n;)
	{
		uint64_t	block = (uint64_t) 1 << d->shift;
		uint64_t	take;

		if (d->shift == 0)
		{
			int			room = capacity(d, 0) + 1 - d->level[0].n;
			int			some = n - i < room ? n - i : room;

			if ((rc = lrn_numbers_room(s, 0, d->level[0].n + some)) != MR_OK)
				return rc;
			memcpy(d->level[0].x + d->level[0].n, x + i, (size_t) some * sizeof(double));
			d->level[0].n += some;
			i += some;
			if (d->level[0].n > capacity(d, 0) && (rc = compress(s)) != MR_OK)
				return rc;
			continue;
		}
		/* To just before the value that is drawn, or that ends the block, in one step. */
		take = 0;
		if (d->seen > 0)
			take = (d->pick >= d->seen ? d->pick : block - 1) - d->seen;
		if (take > (uint64_t) (n - i))
			take = (uint64_t) (n - i);
		d->seen += take;
		i += (int) take;
		if (i < n && (rc = sample(s, x[i++], 1)) != MR_OK)
			return rc;
	}
	return MR_OK;
}

/* ---- moments ---- */

/* Chan, Golub, LeVeque (1979): joins (n, mean, m2) of two samples. */
static void
join_moments(sketch_numbers *d, int64_t n, int64_t m, double mean, double m2)
{
	double		total = (double) n + (double) m,
				delta = mean - d->mean;

	if (m == 0)
		return;
	d->mean += delta * ((double) m / total);
	d->m2 += m2 + delta * delta * ((double) n * (double) m / total);
}

/* Sums in lanes of a fixed order, so that the loops become vectors. */
static void
add_moments(sketch_numbers *d, int64_t before, const double *x, int n)
{
	double		sum[LANES] = {0},
				lo[LANES],
				hi[LANES],
				square[LANES] = {0};
	double		mean = 0,
				m2 = 0;
	int			whole = n - n % LANES;

	for (int j = 0; j < LANES; j++)
		lo[j] = hi[j] = x[0];
	for (int i = 0; i < whole; i += LANES)
		for (int j = 0; j < LANES; j++)
		{
			double		v = x[i + j];

			sum[j] += v;
			lo[j] = v < lo[j] ? v : lo[j];
			hi[j] = v > hi[j] ? v : hi[j];
		}
	for (int i = whole; i < n; i++)
	{
		sum[0] += x[i];
		lo[0] = x[i] < lo[0] ? x[i] : lo[0];
		hi[0] = x[i] > hi[0] ? x[i] : hi[0];
	}
	for (int j = 0; j < LANES; j++)
	{
		mean += sum[j];
		d->min = lo[j] < d->min ? lo[j] : d->min;
		d->max = hi[j] > d->max ? hi[j] : d->max;
	}
	mean /= n;
	for (int i = 0; i < whole; i += LANES)
		for (int j = 0; j < LANES; j++)
			square[j] += (x[i + j] - mean) * (x[i + j] - mean);
	for (int i = whole; i < n; i++)
		square[0] += (x[i] - mean) * (x[i] - mean);
	for (int j = 0; j < LANES; j++)
		m2 += square[j];
	join_moments(d, before, n, mean, m2);
}

/* At most LRN_SKETCH_BLOCK values. */
static mr_code
add_block(lrn_sketch *s, const double *x, int n)
{
	sketch_numbers *d = s->numbers;
	double		clean[LRN_SKETCH_BLOCK];
	int			finite = 0,
				kept = 0;

	for (int i = 0; i < n; i++)
		finite += x[i] - x[i] == 0;
	if (finite < n)
	{
		/* Finite values first, then infinities, without the missing ones. */
		for (int i = 0; i < n; i++)
			if (x[i] - x[i] == 0)
				clean[kept++] = x[i];
		for (int i = 0; i < n; i++)
			if (isinf(x[i]))
			{
				clean[kept++] = x[i];
				d->min = fmin(d->min, x[i]);
				d->max = fmax(d->max, x[i]);
			}
		x = clean;
		s->missing += n - kept;
		n = kept;
	}
	if (finite > 0)
		add_moments(d, s->count - d->infinite, x, finite);
	s->count += n;
	d->infinite += n - finite;
	return sample_all(s, x, n);
}

mr_code
lrn_numbers_add(lrn_sketch *s, const double *x, int64_t n)
{
	for (int64_t i = 0; i < n; i += LRN_SKETCH_BLOCK)
	{
		mr_code		rc = add_block(s, x + i, (int) (n - i < LRN_SKETCH_BLOCK ? n - i : LRN_SKETCH_BLOCK));

		if (rc != MR_OK)
			return rc;
	}
	return MR_OK;
}

mr_code
lrn_numbers_merge(lrn_sketch *into, const lrn_sketch *other)
{
	sketch_numbers *d = into->numbers;
	const sketch_numbers *o = other->numbers;
	mr_code		rc = MR_OK;

	join_moments(d, into->count - d->infinite, other->count - o->infinite, o->mean, o->m2);
	d->min = fmin(d->min, o->min);
	d->max = fmax(d->max, o->max);
	d->infinite += o->infinite;
	d->error2 += o->error2;
	d->random ^= (o->random << 1) | 1;
	into->count += other->count;
	into->missing += other->missing;
	/* Light values of either side rise until both begin at the same weight. */
	while (rc == MR_OK && d->shift < o->shift)
		rc = raise_shift(into);
	for (int i = 0; rc == MR_OK && i < o->n_levels; i++)
	{
		const sketch_level *from = &o->level[i];
		int			level = i + o->shift - d->shift;

		/* sample() may raise the shift; then the next level has fallen with it. */
		if (level < 0)
			for (int j = 0; rc == MR_OK && j < from->n; j++)
				rc = sample(into, from->x[j], (uint64_t) 1 << (o->shift + i));
		else if (level == 0)
		{
			rc = lrn_numbers_room(into, 0, d->level[0].n + from->n);
			if (rc == MR_OK && from->n > 0)
				memcpy(d->level[0].x + d->level[0].n, from->x, (size_t) from->n * sizeof(double));
			d->level[0].n += rc == MR_OK ? from->n : 0;
		}
		else
		{
			d->n_levels = d->n_levels > level ? d->n_levels : level + 1;
			rc = insert_sorted(into, level, from->x, from->n);
		}
	}
	if (rc == MR_OK && o->seen > 0)
		rc = sample(into, o->held, o->seen);
	return rc == MR_OK ? compress(into) : rc;
}
