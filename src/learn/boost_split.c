/*
 * boost_split.c
 *	  The best split of a leaf, read from its histogram.
 *
 * Gain of a split: G_l^2/(H_l+l2) + G_r^2/(H_r+l2) - G^2/(H+l2), second-order
 * as in Chen and Guestrin (2016).  Numbers: every border, with the missing
 * values on either side where there are any.  Categories: one against the
 * rest where there are few; else the bins are sorted by gradient over hessian
 * (Fisher, 1958) and the best prefix from either end goes left, with
 * LightGBM's limits against overfitting.
 */
#include "learn/boost.h"

#include <math.h>
#include <string.h>

/* LightGBM's max_cat_to_onehot, cat_smooth, cat_l2, max_cat_threshold, min_data_per_group. */
#define FEW_CATEGORIES	4
#define CAT_SMOOTH		10.0
#define CAT_L2			10.0
#define MOST_LEFT		32
#define GROUP_ROWS		100

static double
score_of(double g, double h, double l2)
{
	return h + l2 > 0 ? g * g / (h + l2) : 0;
}

static double
gain_of(const boost_builder *b, boost_sum left, boost_sum total, double l2)
{
	boost_sum	right = total - left;

	return score_of((double) left[0] * b->g_unit, boost_hessian(b, left), l2) +
		score_of((double) right[0] * b->g_unit, boost_hessian(b, right), l2);
}

static bool
may_stand(const boost_builder *b, const boost_leaf *leaf, boost_sum s)
{
	return boost_rows(b, s) >= b->min_rows && boost_hessian(b, s) >= leaf->min_hessian;
}

/* Borders of a column of numbers, by the kernel of this instruction set. */
static void
split_numbers(const boost_builder *b, int c, const boost_sum *hist, const boost_leaf *leaf, boost_split *best)
{
	const boost_column *col = &b->column[c];
	lrn_boost_scan scan = {
		.total = {leaf->sum[0], leaf->sum[1]},
		.row_bits = b->row_bits, .g_unit = b->g_unit, .h_unit = b->h_unit,
		.l2 = b->p->l2_regularization, .min_rows = (int64_t) b->min_rows,
		.min_hessian = leaf->min_hessian
	};
	boost_sum	missing = hist[col->n_bins];
	int			turns = boost_rows(b, missing) > 0 ? 2 : 1;

	/* First the missing values go right, then left. */
	for (int turn = 0; turn < turns; turn++)
	{
		scan.start[0] = turn ? missing[0] : 0;
		scan.start[1] = turn ? missing[1] : 0;
		scan.gain = best->gain;
		scan.bin = -1;
		b->kernels->boost_scan(&scan, (const int64_t *) hist, col->n_bins);
		if (scan.bin < 0)
			continue;
		*best = (boost_split) {.column = c, .gain = scan.gain, .bin = scan.bin};
		best->left = (boost_sum) {scan.start[0], scan.start[1]};
		for (int bin = 0; bin <= scan.bin; bin++)
		{
			best->left += hist[bin];
			boost_put(&best->set, (unsigned) bin);
		}
		if (turn || (turns == 1 && 2 * boost_rows(b, best->left) > boost_rows(b, leaf->sum)))
			boost_put(&best->set, (unsigned) col->n_bins);
	}
}

/* Bins that the leaf's rows never had follow the larger side. */
static void
place_absent(const boost_builder *b, const boost_sum *hist, const boost_leaf *leaf, boost_split *best)
{
	const boost_column *col = &b->column[best->column];

	if (2 * boost_rows(b, best->left) > boost_rows(b, leaf->sum))
		for (int bin = 0; bin <= col->n_bins; bin++)
			if (boost_rows(b, hist[bin]) == 0)
				boost_put(&best->set, (unsigned) bin);
}

static void
split_categories(const boost_builder *b, int c, const boost_sum *hist, const boost_leaf *leaf, boost_split *best)
{
	const boost_column *col = &b->column[c];
	double		l2 = b->p->l2_regularization;
	double		ratio[256];
	uint8_t		order[256];
	int			n = 0,
				present = 0;
	bool		found = false;

	for (int bin = 0; bin <= col->n_bins; bin++)
		present += boost_rows(b, hist[bin]) > 0;
	if (present <= FEW_CATEGORIES)
	{
		for (int bin = 0; bin <= col->n_bins; bin++)
		{
			double		gain;

			if (!may_stand(b, leaf, hist[bin]) || !may_stand(b, leaf, leaf->sum - hist[bin]))
				continue;
			gain = gain_of(b, hist[bin], leaf->sum, l2);
			if (!(gain > best->gain))
				continue;
			*best = (boost_split) {.column = c, .gain = gain, .left = hist[bin]};
			boost_put(&best->set, (unsigned) bin);
			found = true;
		}
		if (found)
			place_absent(b, hist, leaf, best);
		return;
	}

	/* Sorted by insertion: stable, ties by bin. */
	for (int bin = 0; bin <= col->n_bins; bin++)
	{
		double		r;
		int			at = n;

		if (boost_rows(b, hist[bin]) < CAT_SMOOTH)
			continue;
		r = (double) hist[bin][0] * b->g_unit / (boost_hessian(b, hist[bin]) + CAT_SMOOTH);
		for (; at > 0 && ratio[at - 1] > r; at--)
		{
			ratio[at] = ratio[at - 1];
			order[at] = order[at - 1];
		}
		ratio[at] = r;
		order[at] = (uint8_t) bin;
		n++;
	}
	for (int end = 0; end < 2; end++)
	{
		int			most = n - 1 < MOST_LEFT ? n - 1 : MOST_LEFT;
		boost_sum	left = {0, 0};
		uint32_t	group = 0;

		for (int i = 0; i < most; i++)
		{
			int			bin = order[end ? n - 1 - i : i];
			double		gain;

			left += hist[bin];
			group += boost_rows(b, hist[bin]);
			if (!may_stand(b, leaf, left) || group < GROUP_ROWS)
				continue;
			if (!may_stand(b, leaf, leaf->sum - left) || boost_rows(b, leaf->sum - left) < GROUP_ROWS)
				break;
			group = 0;
			gain = gain_of(b, left, leaf->sum, l2 + CAT_L2);
			if (!(gain > best->gain))
				continue;
			*best = (boost_split) {.column = c, .gain = gain, .left = left};
			for (int k = 0; k <= i; k++)
				boost_put(&best->set, order[end ? n - 1 - k : k]);
			found = true;
		}
	}
	if (found)
		place_absent(b, hist, leaf, best);
}

mr_code
boost_best_split(boost_builder *b, const boost_sum *hist, boost_leaf *leaf, mr_status *st)
{
	double		now = score_of((double) leaf->sum[0] * b->g_unit, boost_hessian(b, leaf->sum),
							   b->p->l2_regularization);
	/* Rounding alone can gain a little: that is no split. */
	boost_split best = {.column = -1, .gain = now * (1 + 1e-10) + b->p->min_split_gain};

	/*
	 * LightGBM counts a side's rows by its share of the hessian.  The count is
	 * exact here, but that limit is kept too: it spares rows that are already
	 * right, and costs accuracy where it is missing.
	 */
	leaf->min_hessian = fmax(b->p->min_child_weight,
							 (b->min_rows - 0.5) * boost_hessian(b, leaf->sum) / boost_rows(b, leaf->sum));
	for (int c = 0; c < b->n_columns; c++)
	{
		const boost_sum *h = hist + (size_t) c * BOOST_STRIDE;

		if (!b->use[c])
			continue;
		if (b->column[c].category)
			split_categories(b, c, h, leaf, &best);
		else
			split_numbers(b, c, h, leaf, &best);
		if (boost_work(b, b->column[c].n_bins, st))
			return MR_CANCELED;
	}
	leaf->best = best;
	leaf->best.gain -= now;
	return MR_OK;
}
