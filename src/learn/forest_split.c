/*
 * forest_split.c
 *	  The best exact split of a node over a random subset of the features.
 *
 * For each feature looked at, the node's rows become keys (rank, class,
 * count), are sorted by rank and scanned once.  Scores are what remains of
 * the weighted impurity when constants are dropped (larger is better):
 *	 Gini:    sum l_c^2 / W_l + sum r_c^2 / W_r
 *	 entropy: sum l_c ln l_c - W_l ln W_l + the same for the right
 *	 squared error: as Gini, with sums of weight x value for l and r
 * kept up to date in O(1) a row however many classes there are.  Missing
 * values are tried on both sides (as scikit-learn does since 1.4); where a
 * node has none, they will follow the larger child.
 */
#include "learn/forest.h"

#include <math.h>
#include <string.h>

#define SMALL 24				/* insertion sort up to here */
#define MANY 100000				/* keys that take long enough to ask for interrupts in between */

static inline void
look_for_stop(forest_builder *b, uint32_t n)
{
	if (n > MANY)
		b->stop |= mr_interrupted(b->env);
}

static void
insertion_sort(uint64_t *a, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++)
	{
		uint64_t	k = a[i];
		uint32_t	j = i;

		for (; j > 0 && a[j - 1] > k; j--)
			a[j] = a[j - 1];
		a[j] = k;
	}
}

/*
 * Sort by rank.  Ranks of a node spread fairly evenly between their least
 * and greatest, so one scatter into about n buckets leaves little to do;
 * crowded buckets recurse over a narrower range, at most 32 / 4 times.
 * Returns where the sorted keys are: a or tmp; unsorted once b->stop is set.
 */
static uint64_t *
sort_keys(forest_builder *b, uint64_t *a, uint64_t *tmp, uint32_t n, uint32_t low, uint32_t high)
{
	uint32_t	bucket[4097];
	uint32_t	range = high - low;
	int			bits,
				want,
				shift;
	uint32_t	n_buckets,
				sum = 0;

	if (n <= SMALL)
	{
		insertion_sort(a, n);
		return a;
	}
	if (range == 0)
		return a;
	bits = 32 - __builtin_clz(range);
	want = 32 - __builtin_clz(n);
	want = want > 12 ? 12 : want;
	shift = bits > want ? bits - want : 0;
	n_buckets = (range >> shift) + 1;
	memset(bucket, 0, (n_buckets + 1) * sizeof(uint32_t));
	for (uint32_t i = 0; i < n; i++)
		bucket[(((uint32_t) (a[i] >> 32) - low) >> shift) + 1]++;
	for (uint32_t i = 0; i < n_buckets; i++)
	{
		sum += bucket[i];
		bucket[i] = sum;
	}
	for (uint32_t i = 0; i < n; i++)
		tmp[bucket[((uint32_t) (a[i] >> 32) - low) >> shift]++] = a[i];
	look_for_stop(b, n);
	if (shift == 0 || b->stop)
		return tmp;
	/* bucket[i] is now the end of bucket i. */
	for (uint32_t i = 0, start = 0; i < n_buckets; i++)
	{
		uint32_t	end = bucket[i];

		if (end - start > SMALL)
		{
			uint32_t	first = low + (i << shift);
			uint64_t   *s = sort_keys(b, tmp + start, a + start, end - start, first,
									  first + ((1u << shift) - 1));

			if (b->stop)
				return tmp;
			if (s != tmp + start)
				memcpy(tmp + start, s, (end - start) * sizeof(uint64_t));
		}
		start = end;
	}
	insertion_sort(tmp, n);
	return tmp;
}

static inline double
nlogn(const forest_builder *b, double x)
{
	if (b->nlogn && x < b->n_nlogn)
		return b->nlogn[(uint32_t) x];
	return x > 0 ? x * log(x) : 0;
}

double
forest_score_of(const forest_builder *b, const double *w, double weight)
{
	double		s = 0;

	if (weight <= 0)
		return 0;
	for (int c = 0; c < b->n_classes; c++)
		s += b->entropy ? nlogn(b, w[c]) : w[c] * w[c];
	return b->entropy ? s - nlogn(b, weight) : s / weight;
}

double
forest_score(const forest_builder *b, const double *left, double w_left, double weight)
{
	double		w_right = weight - w_left,
				s_left = 0,
				s_right = 0;

	for (int c = 0; c < b->n_classes; c++)
	{
		double		l = left[c],
					r = b->total[c] - l;

		s_left += b->entropy ? nlogn(b, l) : l * l;
		s_right += b->entropy ? nlogn(b, r) : r * r;
	}
	if (b->entropy)
		return s_left - nlogn(b, w_left) + s_right - nlogn(b, w_right);
	return s_left / w_left + s_right / w_right;
}

/*
 * Scan sorted keys (without the missing ones) for the best cut.  left holds
 * what is on the left from the start, w_left its weight: nothing, or the
 * missing rows.  A cut after the last key separates present from missing.
 */
static inline __attribute__((always_inline)) bool
scan(forest_builder *b, const forest_item *items, const uint64_t *key, uint32_t n, uint32_t n_all,
	 double weight, double w_left, const bool entropy, const forest_weighing weighing, forest_split *best)
{
	const double *total = b->total;
	double	   *left = b->left;
	uint32_t	n_left = w_left > 0 ? n_all - n : 0;
	double		s_left = 0,
				s_right = 0;
	bool		found = false;

	for (int c = 0; c < b->n_classes; c++)
	{
		double		l = left[c],
					r = total[c] - l;

		s_left += entropy ? nlogn(b, l) : l * l;
		s_right += entropy ? nlogn(b, r) : r * r;
	}
	for (uint32_t i = 0; i < n; i++)
	{
		uint64_t	k = key[i];
		double		w,
					w_right,
					score;

		if (weighing == FOREST_VALUES)
		{
			w = b->row_weight[(uint32_t) k];
			left[0] += b->row_value[(uint32_t) k];
		}
		else
		{
			uint64_t	it = weighing == FOREST_ROW_WEIGHTS ? items[(uint32_t) k] : k;
			uint32_t	c = ITEM_CLASS(it);
			double		l = left[c],
						r = total[c] - l;

			w = weighing == FOREST_COUNTS ? ITEM_COUNT(it) :
				weighing == FOREST_CLASS_WEIGHTS ? b->class_weight[c] * ITEM_COUNT(it) :
				b->row_weight[(uint32_t) k];
			if (entropy)
			{
				s_left += nlogn(b, l + w) - nlogn(b, l);
				s_right += nlogn(b, r - w) - nlogn(b, r);
			}
			else
			{
				s_left += w * (l + l + w);
				s_right -= w * (r + r - w);
			}
			left[c] = l + w;
		}
		w_left += w;
		n_left++;
		if (n_left < b->min_leaf)
			continue;
		if (n_all - n_left < b->min_leaf)
			break;
		if (i + 1 < n && (uint32_t) (key[i + 1] >> 32) == (uint32_t) (k >> 32))
			continue;
		w_right = weight - w_left;
		if (weighing == FOREST_VALUES)
		{
			double		l = left[0],
						r = total[0] - l;

			score = l * l / w_left + r * r / w_right;
		}
		else if (entropy)
			score = s_left - nlogn(b, w_left) + s_right - nlogn(b, w_right);
		else
			score = s_left / w_left + s_right / w_right;
		if (score > best->score)
		{
			best->score = score;
			best->rank = (uint32_t) (k >> 32);
			found = true;
		}
	}
	return found;
}

/* Each combination, compiled on its own. */
static bool
scan_any(forest_builder *b, const forest_item *items, const uint64_t *key, uint32_t n, uint32_t n_all,
		 double weight, double w_left, forest_split *best)
{
#define SCAN(entropy, weighing) scan(b, items, key, n, n_all, weight, w_left, entropy, weighing, best)
	switch (b->weighing)
	{
		case FOREST_COUNTS:
			return b->entropy ? SCAN(true, FOREST_COUNTS) : SCAN(false, FOREST_COUNTS);
		case FOREST_CLASS_WEIGHTS:
			return b->entropy ? SCAN(true, FOREST_CLASS_WEIGHTS) : SCAN(false, FOREST_CLASS_WEIGHTS);
		case FOREST_ROW_WEIGHTS:
			return b->entropy ? SCAN(true, FOREST_ROW_WEIGHTS) : SCAN(false, FOREST_ROW_WEIGHTS);
		case FOREST_VALUES:
			break;
	}
	return SCAN(false, FOREST_VALUES);
#undef SCAN
}

/* Weigh the missing rows into b->left; returns their weight. */
static double
weigh_missing(forest_builder *b, const forest_item *items, const uint64_t *key, uint32_t n)
{
	double		sum = 0;

	for (uint32_t i = 0; i < n; i++)
	{
		uint64_t	k = key[i];
		double		w;

		if (forest_by_row(b))
		{
			w = b->row_weight[(uint32_t) k];
			b->left[ITEM_CLASS(items[(uint32_t) k])] += b->regress ? b->row_value[(uint32_t) k] : w;
		}
		else
		{
			w = b->class_weight[ITEM_CLASS(k)] * ITEM_COUNT(k);
			b->left[ITEM_CLASS(k)] += w;
		}
		sum += w;
	}
	return sum;
}

/* The middle of the two where there is a float32 between them. */
float
forest_threshold(const forest_column *col, uint32_t rank, uint32_t next)
{
	float		a = col->value[rank],
				z,
				t;

	if (next >= col->n_distinct)
		return INFINITY;		/* everything present goes left */
	z = col->value[next];
	t = (float) (((double) a + (double) z) / 2);
	return t >= a && t < z ? t : a;
}

/*
 * Look at one feature; returns whether its values differ within the node.
 * b->key and b->key_tmp are scratch.
 */
static bool
try_feature(forest_builder *b, const forest_item *items, uint32_t n, double weight,
			int feature, forest_split *best)
{
	const forest_column *col = &b->column[feature];
	const uint32_t *rank = col->rank;
	uint64_t   *key = b->key,
			   *sorted;
	uint32_t	low = UINT32_MAX,
				high = 0,
				present = 0,
				missing = 0;
	bool		found = false,
				missing_left = false;
	const bool	by_row = forest_by_row(b);
	size_t		classes = (size_t) b->n_classes * sizeof(double);

	for (uint32_t i = 0; i < n; i++)
	{
		uint64_t	it = items[i];
		uint32_t	r = rank[ITEM_ROW(it)];
		uint64_t	k = (uint64_t) r << 32 | (by_row ? i : (uint32_t) it);

		if (r == FOREST_MISSING)
		{
			b->key_tmp[n - ++missing] = k;
			continue;
		}
		low = r < low ? r : low;
		high = r > high ? r : high;
		key[present++] = k;
	}
	if (present == 0 || (missing == 0 && low == high))
		return false;

	/* Missing ones wait at the tail of key while key_tmp is used. */
	if (missing)
		memcpy(key + present, b->key_tmp + present, missing * sizeof(uint64_t));
	look_for_stop(b, n);
	sorted = sort_keys(b, key, b->key_tmp, present, low, high);

	look_for_stop(b, n);
	if (b->stop)
		return true;

	memset(b->left, 0, classes);
	if (scan_any(b, items, sorted, present, n, weight, 0, best))
		found = true;
	if (missing)
	{
		double		w_missing;

		memset(b->left, 0, classes);
		w_missing = weigh_missing(b, items, key + present, missing);
		/* The cut after the last key would leave nothing on the right. */
		if (scan_any(b, items, sorted, present, n, weight, w_missing, best))
			found = missing_left = true;
	}
	if (found)
	{
		uint32_t	next = col->n_distinct;
		uint32_t	n_left = 0;

		for (uint32_t i = 0; i < present; i++)
		{
			uint32_t	r = (uint32_t) (sorted[i] >> 32);

			if (r > best->rank)
			{
				next = r;
				break;
			}
			n_left++;
		}
		best->feature = feature;
		best->threshold = forest_threshold(col, best->rank, next);
		best->missing_left = missing ? missing_left : n_left > n - n_left;
	}
	return true;
}

mr_code
forest_best_split(forest_builder *b, const forest_item *items, uint32_t n, double weight,
				  forest_split *best, mr_status *st)
{
	int			visited = 0;
	bool		differs = false;

	best->feature = -1;
	best->score = -INFINITY;
	/* Constant features count as looked at, unless nothing else was seen. */
	for (int i = b->m->cols; i > 0 && (visited < b->mtry || !differs); i--)
	{
		uint32_t	pick = lrn_rng_below(&b->rng, (uint32_t) i);
		int			feature = b->feature_order[pick];
		mr_code		code;

		b->feature_order[pick] = b->feature_order[i - 1];
		b->feature_order[i - 1] = feature;
		if (b->random_cuts ? forest_try_random(b, items, n, weight, feature, best) :
			try_feature(b, items, n, weight, feature, best))
			differs = true;
		visited++;
		code = b->stop ? lrn_canceled(st) : forest_work(b, (int64_t) n * 6 + b->n_classes, st);
		if (code)
			return code;
	}
	return MR_OK;
}
