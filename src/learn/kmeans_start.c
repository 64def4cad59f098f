/*
 * kmeans_start.c
 *	  The first centres: k-means++ with greedy local trials (Arthur and
 *	  Vassilvitskii, "k-means++: the advantages of careful seeding", 2007), as
 *	  scikit-learn does it.
 */
#include "learn/kmeans.h"

#include <math.h>
#include <string.h>

#define MAX_TRIALS	16			/* 2 + ln(65535), in fours */

int
lrn_kmeans_trials(int k)
{
	return 2 + (int) log((double) k);
}

/* Weighted sum of v over the rows of a block, in fixed order. */
static double
block_sum(const lrn_kmeans_run *r, const float *v, int64_t first)
{
	double		s[4] = {0, 0, 0, 0};
	int64_t		end = first + LRN_KMEANS_BLOCK < r->n ? first + LRN_KMEANS_BLOCK : r->n;

	if (r->weight)
		for (int64_t i = first; i < end; i++)
			s[i & 3] += (double) r->weight[i] * (double) v[i];
	else
	{
		int64_t		i = first;

		for (; i + 4 <= end; i += 4)
			for (int l = 0; l < 4; l++)
				s[l] += (double) v[i + l];
		for (; i < end; i++)
			s[0] += (double) v[i];
	}
	return (s[0] + s[2]) + (s[1] + s[3]);
}

static double
potential(const lrn_kmeans_run *r, const float *v, double *blocks)
{
	double		sum = 0;

	for (int64_t first = 0; first < r->n; first += LRN_KMEANS_BLOCK)
	{
		double		s = block_sum(r, v, first);

		if (blocks)
			blocks[first / LRN_KMEANS_BLOCK] = s;
		sum += s;
	}
	return sum;
}

/* A row drawn by its share of the potential, whose sums by blocks are given. */
static int64_t
draw(lrn_kmeans_run *r, const float *v, const double *blocks, double total)
{
	double		at = (double) (lrn_rng_next(&r->rng) >> 11) * 0x1p-53 * total;
	int64_t		b = 0,
				last = (r->n - 1) / LRN_KMEANS_BLOCK,
				i;

	while (b < last && at >= blocks[b])
		at -= blocks[b++];
	for (i = b * LRN_KMEANS_BLOCK; i < r->n - 1 && i < (b + 1) * LRN_KMEANS_BLOCK - 1; i++)
	{
		double		w = lrn_kmeans_weight(r, i) * (v ? (double) v[i] : 1);

		if (at < w)
			break;
		at -= w;
	}
	return i;
}

/* trial[t][row] for t < n candidates, four at a time. */
static mr_code
try_candidates(lrn_kmeans_run *r, const int64_t *row, int n)
{
	size_t		stride = (size_t) r->groups * LRN_LANES;
	int64_t		step = lrn_kmeans_step(r, 8);

	for (int t = 0; t < n; t += 4)
	{
		float	   *c = r->packed;

		for (int j = 0; j < r->d; j++)
			for (int a = 0; a < 4; a++)
				c[j * 4 + a] = lrn_kmeans_value(r, row[t + a < n ? t + a : t], j);
		for (int64_t g = 0; g < r->groups; g += step)
		{
			int64_t		take = r->groups - g < step ? r->groups - g : step;

			r->kernels->kmeans_candidates(r->x + (size_t) g * (size_t) r->d * LRN_LANES, take, r->d, c,
										  r->closest + g * LRN_LANES,
										  r->trial + (size_t) t * stride + (size_t) g * LRN_LANES, stride);
			if (mr_interrupted(r->env))
				return lrn_canceled(r->st);
		}
	}
	return MR_OK;
}

/* Each next centre is the best of a few rows drawn far from those there are. */
mr_code
lrn_kmeans_start(lrn_kmeans_run *r)
{
	size_t		stride = (size_t) r->groups * LRN_LANES;
	int64_t		row[MAX_TRIALS];

	for (size_t i = 0; i < stride; i++)
		r->closest[i] = INFINITY;
	for (int c = 0; c < r->k; c++)
	{
		int			n = c == 0 ? 1 : r->trials,
					best = 0;
		double		total,
					least = INFINITY;
		mr_code		code;

		if (c == 0)
		{
			/* By weight alone. */
			for (size_t i = 0; i < stride; i++)
				r->trial[i] = 1;
			total = potential(r, r->trial, r->blocks);
			row[0] = draw(r, NULL, r->blocks, total);
		}
		else
		{
			total = potential(r, r->closest, r->blocks);
			for (int t = 0; t < n; t++)
				row[t] = draw(r, r->closest, r->blocks, total);
		}
		code = try_candidates(r, row, n);
		if (code)
			return code;
		for (int t = 0; t < n && n > 1; t++)
		{
			double		p = potential(r, r->trial + (size_t) t * stride, NULL);

			if (p < least)
			{
				least = p;
				best = t;
			}
			if (mr_interrupted(r->env))
				return lrn_canceled(r->st);
		}
		memcpy(r->closest, r->trial + (size_t) best * stride, stride * sizeof(float));
		for (int j = 0; j < r->d; j++)
			r->centre[(size_t) c * (size_t) r->d + (size_t) j] = (double) lrn_kmeans_value(r, row[best], j);
	}
	return MR_OK;
}
