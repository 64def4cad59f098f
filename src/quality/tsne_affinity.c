/*
 * tsne_affinity.c
 *	  t-SNE's P: each point's nearest neighbours by a Gaussian whose width gives the perplexity, made symmetric.
 *
 * Width by bisection until the entropy is within 1e-5 of log(perplexity), as scikit-learn does (van der Maaten and
 * Hinton, "Visualizing data using t-SNE", 2008).  Only nearest neighbours have an affinity (van der Maaten,
 * "Accelerating t-SNE using tree-based algorithms", 2014).  Memory: the result, n numbers, and the affinities of a row.
 */
#include "quality/latent_int.h"

#include <math.h>
#include <string.h>

#define STEPS		100			/* of a bisection */
#define TOLERANCE	1e-5
#define FILL		1e38f		/* a distance with no affinity, k to a multiple of 8 */

/* One point's row: d of length padded, the affinities (adding up to 1) in p. */
static void
search_width(const qlt_kernels *kernels, float *d, int k, int padded, double perplexity, double *p)
{
	double		want = qlt_log(perplexity),
				least = d[0],
				mean = 0,
				beta,
				low = 0,
				high = INFINITY,
				sum = 1,
				sum_pd;

	for (int j = 0; j < k; j++)
	{
		d[j] = (float) ((double) d[j] - least);	/* nearest first: this changes no share, and keeps sum >= 1 */
		mean += (double) d[j] / k;
	}
	for (int j = k; j < padded; j++)
		d[j] = FILL;
	beta = mean > 0 ? 1 / mean : 1;
	for (int step = 0; step < STEPS; step++)
	{
		double		over;

		kernels->affinities(d, padded, beta, p, &sum, &sum_pd);
		over = qlt_log(sum) + beta * sum_pd / sum - want;
		if (fabs(over) <= TOLERANCE)
			break;
		if (over > 0)
		{
			low = beta;
			beta = isinf(high) ? beta * 2 : (beta + high) / 2;
		}
		else
		{
			high = beta;
			beta = (low + beta) / 2;
		}
	}
	for (int j = 0; j < k; j++)
		p[j] /= sum;
}

/* A row's neighbours by number, their affinities with them. */
static void
sort_row(int32_t *index, float *p, int k)
{
	for (int gap = k > 40 ? 57 : 10; gap > 0; gap = gap > 23 ? 23 : gap > 10 ? 10 : gap > 4 ? 4 : gap > 1 ? 1 : 0)
		for (int i = gap; i < k; i++)
		{
			int32_t		v = index[i];
			float		q = p[i];
			int			j = i;

			for (; j >= gap && index[j - gap] > v; j -= gap)
			{
				index[j] = index[j - gap];
				p[j] = p[j - gap];
			}
			index[j] = v;
			p[j] = q;
		}
}

/* Merge row i of P and of its transpose, both by number; returns the entries, written where to is given. */
static int64_t
merge_row(int32_t i, const int32_t *a, const float *pa, int64_t na, const int32_t *b, const float *pb, int64_t nb, float scale,
		  int32_t *to, float *p)
{
	int64_t		n = 0,
				x = 0,
				y = 0;

	while (x < na || y < nb)
	{
		bool		left = x < na && (y == nb || a[x] <= b[y]),
					right = y < nb && (x == na || b[y] <= a[x]);

		if (to)
		{
			to[n] = left ? a[x] : b[y];
			p[n] = ((left ? pa[x] : 0) + (right ? pb[y] : 0)) * scale;
		}
		x += left;
		y += right;
		n++;
	}
	while (n % QLT_LANES)
	{
		if (to)
		{
			to[n] = i;
			p[n] = 0;
		}
		n++;
	}
	return n;
}

/* Rows of P (n x k) and its transpose into e. */
static mr_code
symmetrise(const qlt_work *w, int64_t n, int k, const int32_t *index, const float *p, qlt_edges *e, mr_status *st)
{
	const mr_env *env = w->env;
	size_t		entries = (size_t) n * (size_t) k;
	int64_t    *start = mr_alloc(env, (size_t) (n + 2) * sizeof(int64_t));
	int32_t    *from = mr_alloc(env, entries * sizeof(int32_t));
	float	   *back = mr_alloc(env, entries * sizeof(float));
	mr_code		code = MR_OK;

	e->row = mr_alloc(env, (size_t) (n + 1) * sizeof(int64_t));
	if (start == NULL || from == NULL || back == NULL || e->row == NULL)
		code = qlt_latent_no_memory(st);
	else
	{
		/* transpose by counting: start[j + 2] counts, start[j + 1] then walks from row j's begin to its end */
		memset(start, 0, (size_t) (n + 2) * sizeof(int64_t));
		for (size_t at = 0; at < entries; at++)
			start[index[at] + 2]++;
		for (int64_t j = 0; j < n; j++)
			start[j + 2] += start[j + 1];
		for (int64_t i = 0; i < n && code == MR_OK; i++)
		{
			for (size_t at = (size_t) i * (size_t) k; at < ((size_t) i + 1) * (size_t) k; at++)
			{
				int64_t		to = start[index[at] + 1]++;

				from[to] = (int32_t) i;
				back[to] = p[at];
			}
			if (i % 1024 == 0 && mr_interrupted(env))
				code = qlt_latent_canceled(st);
		}
	}
	/* count, then write */
	for (int pass = 0; pass < 2 && code == MR_OK; pass++)
	{
		int64_t		total = 0;

		for (int64_t i = 0; i < n && code == MR_OK; i++)
		{
			if (pass == 0)
				e->row[i] = total;
			total += merge_row((int32_t) i, index + (size_t) i * (size_t) k, p + (size_t) i * (size_t) k, k, from + start[i],
							   back + start[i], start[i + 1] - start[i], (float) (0.5 / (double) n),
							   pass ? e->to + e->row[i] : NULL, pass ? e->p + e->row[i] : NULL);
			if (i % 1024 == 0 && mr_interrupted(env))
				code = qlt_latent_canceled(st);
		}
		if (pass == 0 && code == MR_OK)
		{
			e->row[n] = total;
			e->to = mr_alloc(env, (size_t) total * sizeof(int32_t));
			e->p = mr_alloc(env, (size_t) total * sizeof(float));
			if (e->to == NULL || e->p == NULL)
				code = qlt_latent_no_memory(st);
		}
	}
	mr_free(env, start);
	mr_free(env, from);
	mr_free(env, back);
	return code;
}

double
qlt_affinities_memory(int64_t n, int k)
{
	return (double) n * k * 8 + (2 * (double) n * k + QLT_LANES * (double) n) * 8 + (double) n * 16;
}

void
qlt_edges_free(const mr_env *env, qlt_edges *e)
{
	mr_free(env, e->row);
	mr_free(env, e->to);
	mr_free(env, e->p);
	*e = (qlt_edges) {0};
}

mr_code
qlt_affinities(const qlt_work *w, const qlt_kernels *kernels, int64_t n, int k, double perplexity, int32_t *index,
			   float *distance, qlt_edges *e, mr_status *st)
{
	int			padded = (k + 7) & ~7;
	double	   *p = mr_alloc(w->env, (size_t) padded * sizeof(double));
	float	   *d = mr_alloc(w->env, (size_t) padded * sizeof(float));
	mr_code		code = p && d ? MR_OK : qlt_latent_no_memory(st);

	*e = (qlt_edges) {.n = n};
	for (int64_t i = 0; i < n && code == MR_OK; i++)
	{
		float	   *row = distance + (size_t) i * (size_t) k;

		memcpy(d, row, (size_t) k * sizeof(float));
		search_width(kernels, d, k, padded, perplexity, p);
		for (int j = 0; j < k; j++)
			row[j] = (float) p[j];
		sort_row(index + (size_t) i * (size_t) k, row, k);
		if (mr_interrupted(w->env))
			code = qlt_latent_canceled(st);
	}
	if (code == MR_OK)
		code = symmetrise(w, n, k, index, distance, e, st);
	mr_free(w->env, p);
	mr_free(w->env, d);
	if (code)
		qlt_edges_free(w->env, e);
	return code;
}
