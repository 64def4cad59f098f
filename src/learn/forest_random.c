/*
 * forest_random.c
 *	  The split of an extra tree (Geurts, Ernst and Wehenkel, 2006): of each
 *	  feature looked at, one cut drawn evenly between the node's least and
 *	  greatest value; missing values go to a side drawn as well, as in
 *	  scikit-learn.  Two passes over the node's values, nothing is sorted or
 *	  ranked.
 */
#include "learn/forest.h"

#include <math.h>
#include <string.h>

/* Evenly from low to below high. */
static float
draw_cut(lrn_rng *rng, float low, float high)
{
	double		u = (double) (lrn_rng_next(rng) >> 11) * 0x1p-53;
	float		t = (float) ((double) low + u * ((double) high - (double) low));

	return t >= low && t < high ? t : low;
}

/* Weigh the rows on the left of the cut into b->left; returns how many they are. */
static uint32_t
weigh_left(forest_builder *b, const forest_item *items, uint32_t n, const float *value,
		   float threshold, bool missing_left, double *weight)
{
	uint32_t	n_left = 0;

	memset(b->left, 0, (size_t) b->n_classes * sizeof(double));
	*weight = 0;
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t	c = ITEM_CLASS(items[i]);
		uint32_t	in = forest_goes_left(value[i], threshold, missing_left);
		double		w = forest_by_row(b) ? b->row_weight[i] : b->class_weight[c] * ITEM_COUNT(items[i]);

		b->left[c] += in * (b->regress ? b->row_value[i] : w);
		*weight += in * w;
		n_left += in;
	}
	return n_left;
}

/* The same where weights are how often rows were drawn: whole numbers. */
static uint32_t
count_left(forest_builder *b, const forest_item *items, uint32_t n, const float *value,
		   float threshold, bool missing_left, double *weight)
{
	uint32_t   *count = b->count,
				n_left = 0,
				sum = 0;

	memset(count, 0, 2 * (size_t) b->n_classes * sizeof(uint32_t));
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t	in = forest_goes_left(value[i], threshold, missing_left);

		/* Two sums a class, which do not wait for each other. */
		count[2 * ITEM_CLASS(items[i]) + i % 2] += -in & ITEM_COUNT(items[i]);
		n_left += in;
	}
	for (int c = 0; c < b->n_classes; c++)
	{
		b->left[c] = count[2 * c] + count[2 * c + 1];
		sum += count[2 * c] + count[2 * c + 1];
	}
	*weight = sum;
	return n_left;
}

bool
forest_try_random(forest_builder *b, const forest_item *items, uint32_t n, double weight,
				  int feature, forest_split *best)
{
	const float *x = b->m->col[feature];
	float	   *value = (float *) b->key,
				low = INFINITY,
				high = -INFINITY,
				threshold;
	uint32_t	missing = 0,
				n_left;
	bool		missing_left = false;
	double		w_left,
				score;

	for (uint32_t i = 0; i < n; i++)
	{
		float		v = x[ITEM_ROW(items[i])] + 0.0f;	/* no -0 */

		value[i] = v;
		missing += v != v;
		low = v < low ? v : low;
		high = v > high ? v : high;
	}
	if (missing == n || (missing == 0 && low == high))
		return false;
	threshold = draw_cut(&b->rng, low, high);
	if (missing)
		missing_left = lrn_rng_below(&b->rng, 2);

	n_left = b->weighing == FOREST_COUNTS ?
		count_left(b, items, n, value, threshold, missing_left, &w_left) :
		weigh_left(b, items, n, value, threshold, missing_left, &w_left);
	if (n_left < b->min_leaf || n - n_left < b->min_leaf)
		return true;
	score = forest_score(b, b->left, w_left, weight);
	if (score > best->score)
	{
		best->score = score;
		best->feature = feature;
		best->threshold = threshold;
		best->missing_left = missing ? missing_left : n_left > n - n_left;
	}
	return true;
}
