/*
 * forest_random.c
 *	  The split of an extra tree (Geurts, Ernst and Wehenkel, 2006): of each
 *	  feature looked at, one cut drawn evenly between the node's least and
 *	  greatest value; missing values go to a side drawn as well, as in
 *	  scikit-learn.  Two passes over the node's ranks, nothing is sorted.
 */
#include "learn/forest.h"

#include <string.h>

/* The last rank in low .. high whose value is at most t. */
static uint32_t
rank_below(const forest_column *col, uint32_t low, uint32_t high, float t)
{
	while (low < high)
	{
		uint32_t	middle = low + (high - low + 1) / 2;

		if (col->value[middle] <= t)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* Evenly from low to below high. */
static float
draw_cut(lrn_rng *rng, float low, float high)
{
	double		u = (double) (lrn_rng_next(rng) >> 11) * 0x1p-53;
	float		t = (float) ((double) low + u * ((double) high - (double) low));

	return t >= low && t < high ? t : low;
}

/* Weigh the rows of rank at most cut into b->left; returns how many they are. */
static uint32_t
weigh_left(forest_builder *b, const forest_item *items, uint32_t n, const uint32_t *rank,
		   uint32_t cut, bool missing_left, double *weight)
{
	uint32_t	n_left = 0;

	memset(b->left, 0, (size_t) b->n_classes * sizeof(double));
	*weight = 0;
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t	c = ITEM_CLASS(items[i]);
		double		w;

		if (rank[i] > cut && !(missing_left && rank[i] == FOREST_MISSING))
			continue;
		w = forest_by_row(b) ? b->row_weight[i] : b->class_weight[c] * ITEM_COUNT(items[i]);
		b->left[c] += b->regress ? b->row_value[i] : w;
		*weight += w;
		n_left++;
	}
	return n_left;
}

bool
forest_try_random(forest_builder *b, const forest_item *items, uint32_t n, double weight,
				  int feature, forest_split *best)
{
	const forest_column *col = &b->column[feature];
	uint32_t   *rank = (uint32_t *) b->key;
	uint32_t	low = UINT32_MAX,
				high = 0,
				missing = 0,
				cut,
				n_left;
	bool		missing_left = false;
	float		threshold;
	double		w_left,
				score;

	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t	r = col->rank[ITEM_ROW(items[i])];

		rank[i] = r;
		if (r == FOREST_MISSING)
		{
			missing++;
			continue;
		}
		low = r < low ? r : low;
		high = r > high ? r : high;
	}
	if (missing == n || (missing == 0 && low == high))
		return false;
	threshold = draw_cut(&b->rng, col->value[low], col->value[high]);
	if (missing)
		missing_left = lrn_rng_below(&b->rng, 2);
	cut = rank_below(col, low, high, threshold);

	n_left = weigh_left(b, items, n, rank, cut, missing_left, &w_left);
	if (n_left < b->min_leaf || n - n_left < b->min_leaf)
		return true;
	score = forest_score(b, b->left, w_left, weight);
	if (score > best->score)
	{
		best->score = score;
		best->feature = feature;
		best->rank = cut;
		best->threshold = threshold;
		best->missing_left = missing ? missing_left : n_left > n - n_left;
	}
	return true;
}
