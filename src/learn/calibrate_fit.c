/*
 * calibrate_fit.c
 *	  The two maps from scores to probabilities.
 *
 * Sigmoid: Platt's, with his smoothed targets, by the Newton method of Lin, Lin
 * and Weng, "A note on Platt's probabilistic outputs for support vector
 * machines" (2007).  Isotonic: the non-descending function nearest in squares,
 * by pooling adjacent violators; as scikit-learn's, equal scores are averaged
 * first and inner points of a level are left out.
 */
#include "learn/calibrate.h"
#include "learn/sort.h"

#include <math.h>
#include <string.h>

#define MAX_STEPS	100
#define ASK_EVERY	65536		/* rows between interrupts */

static inline double
weight_of(const lrn_scored_rows *rows, int64_t i)
{
	return rows->weight ? (double) rows->weight[i] : 1;
}

static inline double
score_of(const lrn_scored_rows *rows, int64_t i)
{
	return rows->score[(size_t) i * (size_t) rows->stride];
}

/* Smoothed targets of rows in and out of the class. */
typedef struct targets
{
	double		in,
				out,
				scale;			/* scores are divided by it */
} targets;

/* Cross-entropy of 1 / (1 + exp(a s + b)), and what Newton's method needs. */
static mr_code
cross_entropy(const mr_env *env, const lrn_scored_rows *rows, const targets *t, double a, double b,
			  double *value, double gradient[2], double hessian[3], mr_status *st)
{
	*value = 0;
	for (int i = 0; i < 2; i++)
		gradient[i] = 0;
	/* A little on the diagonal keeps it invertible. */
	hessian[0] = hessian[2] = 1e-12;
	hessian[1] = 0;
	for (int64_t i = 0; i < rows->n; i++)
	{
		double		w = weight_of(rows, i),
					s = score_of(rows, i) / t->scale,
					wanted = rows->class_id[i] == rows->class ? t->in : t->out,
					z = a * s + b,
					e = exp(-fabs(z)),
					p = (z >= 0 ? e : 1) / (1 + e),
					q = (z >= 0 ? 1 : e) / (1 + e);

		*value += w * (log1p(e) + (z >= 0 ? wanted * z : (wanted - 1) * z));
		gradient[0] += w * s * (wanted - p);
		gradient[1] += w * (wanted - p);
		hessian[0] += w * s * s * p * q;
		hessian[1] += w * s * p * q;
		hessian[2] += w * p * q;
		if (i % ASK_EVERY == 0 && mr_interrupted(env))
			return lrn_canceled(st);
	}
	return MR_OK;
}

mr_code
lrn_fit_sigmoid(const mr_env *env, const lrn_scored_rows *rows, lrn_map *map, mr_status *st)
{
	double		in = 0,
				out = 0,
				a = 0,
				b,
				value,
				g[2],
				h[3];
	targets		t = {.scale = 0};
	mr_code		code;

	*map = (lrn_map) {0};
	for (int64_t i = 0; i < rows->n; i++)
	{
		*(rows->class_id[i] == rows->class ? &in : &out) += weight_of(rows, i);
		t.scale = fmax(t.scale, fabs(score_of(rows, i)));
	}
	if (t.scale == 0)
		t.scale = 1;
	t.in = (in + 1) / (in + 2);
	t.out = 1 / (out + 2);
	b = log((out + 1) / (in + 1));
	code = cross_entropy(env, rows, &t, a, b, &value, g, h, st);
	for (int step = 0; step < MAX_STEPS && code == MR_OK; step++)
	{
		double		det = h[0] * h[2] - h[1] * h[1],
					da,
					db,
					slope,
					length = 1,
					reached = value;

		/* Per unit of weight: the same answer for any number of rows. */
		if (fmax(fabs(g[0]), fabs(g[1])) <= 1e-10 * (in + out) || !(det > 0))
			break;
		da = -(h[2] * g[0] - h[1] * g[1]) / det;
		db = -(h[0] * g[1] - h[1] * g[0]) / det;
		slope = g[0] * da + g[1] * db;
		while (length > 1e-10)
		{
			code = cross_entropy(env, rows, &t, a + length * da, b + length * db, &reached, g, h, st);
			if (code || reached < value + 1e-4 * length * slope)
				break;
			length /= 2;
		}
		if (code || !(reached < value))
			break;
		a += length * da;
		b += length * db;
		value = reached;
	}
	map->a = a / t.scale;
	map->b = b;
	if (code == MR_OK && !(isfinite(map->a) && isfinite(map->b)))
		return mr_fail(st, MR_INVALID, "calibration did not give finite numbers");
	return code;
}

/* A run of scores that share one value. */
typedef struct pool
{
	double		mean;
	double		weight;
	int64_t		first;			/* of its points */
} pool;

mr_code
lrn_fit_isotonic(const mr_env *env, const lrn_scored_rows *rows, lrn_map *map, mr_status *st)
{
	size_t		n = (size_t) rows->n;
	uint64_t   *key = mr_alloc(env, (n + 1) * sizeof(uint64_t));
	uint32_t   *at = mr_alloc(env, (n + 1) * sizeof(uint32_t));
	float	   *x = mr_alloc(env, (n + 1) * sizeof(float));
	double	   *y = NULL;
	pool	   *pools = NULL;
	int64_t		points = 0,
				n_pools = 0;
	mr_code		code = key && at && x ? MR_OK : lrn_out_of_memory(st);

	*map = (lrn_map) {0};
	for (size_t i = 0; i < n && code == MR_OK; i++)
	{
		key[i] = lrn_key_of(score_of(rows, (int64_t) i));
		at[i] = (uint32_t) i;
	}
	if (code == MR_OK)
		code = lrn_sort_keys(env, key, at, n, st);
	if (code == MR_OK && (pools = mr_alloc(env, (n + 1) * sizeof(pool))) == NULL)
		code = lrn_out_of_memory(st);
	for (size_t i = 0; i < n && code == MR_OK;)
	{
		pool		p = {.first = points};
		uint64_t	this = key[i];

		/* Equal scores are one point; rows without weight are none. */
		for (; i < n && key[i] == this; i++)
		{
			double		w = weight_of(rows, at[i]);

			p.weight += w;
			p.mean += w * (rows->class_id[at[i]] == rows->class);
		}
		if (p.weight == 0)
			continue;
		p.mean /= p.weight;
		x[points++] = (float) lrn_number_of(this);
		/* What is not above its neighbour below joins it. */
		while (n_pools > 0 && pools[n_pools - 1].mean >= p.mean)
		{
			pool	   *below = &pools[--n_pools];

			p.mean = (below->mean * below->weight + p.mean * p.weight) / (below->weight + p.weight);
			p.weight += below->weight;
			p.first = below->first;
		}
		pools[n_pools++] = p;
		if (points % ASK_EVERY == 0 && mr_interrupted(env))
			code = lrn_canceled(st);
	}
	mr_free(env, key);
	mr_free(env, at);
	if (code == MR_OK && (y = mr_alloc(env, (size_t) (2 * n_pools + 1) * sizeof(double))) == NULL)
		code = lrn_out_of_memory(st);
	if (code)
	{
		mr_free(env, x);
		mr_free(env, pools);
		return code;
	}
	/* First and last point of each pool, moved to the front. */
	for (int64_t i = 0; i < n_pools; i++)
	{
		int64_t		last = (i + 1 < n_pools ? pools[i + 1].first : points) - 1;

		for (int64_t end = pools[i].first;; end = last)
		{
			x[map->n] = x[end];
			y[map->n++] = fmin(fmax(pools[i].mean, 0), 1);
			if (end == last)
				break;
		}
	}
	mr_free(env, pools);
	map->x = x;
	map->y = y;
	return MR_OK;
}
