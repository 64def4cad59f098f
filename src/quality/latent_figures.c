/*
 * latent_figures.c
 *	  Figures of lists of neighbours: how many of one's own label are near, and who is far from everybody.
 */
#include "quality/latent_int.h"

#include <math.h>
#include <string.h>

#define EVERY	4096			/* points between two looks at the clock */

/* Lists may come from a table: nothing in them points outside. */
static mr_code
check_lists(const qlt_work *w, int64_t n, int k, const int32_t *index, mr_status *st)
{
	for (int64_t i = 0; i < n; i++)
	{
		for (int j = 0; j < k; j++)
		{
			int32_t		to = index[(size_t) i * (size_t) k + (size_t) j];

			if (to < -1 || to >= n || to == i)
				return mr_fail(st, MR_INVALID, "neighbour %d of point %lld is not another one of %lld points", j + 1, (long long) i + 1, (long long) n);
		}
		if (i % EVERY == 0 && mr_interrupted(w->env))
			return qlt_latent_canceled(st);
	}
	return MR_OK;
}

mr_code
qlt_agreement(const qlt_work *w, int64_t n, int k, const int32_t *index, const int32_t *label, int at_most, float *share, mr_status *st)
{
	mr_code		code = check_lists(w, n, k, index, st);

	for (int64_t i = 0; i < n && code == MR_OK; i++)
	{
		int			same = 0,
					all = 0;

		for (int j = 0; j < k && j < at_most; j++)
		{
			int32_t		to = index[(size_t) i * (size_t) k + (size_t) j];

			if (to < 0)
				continue;
			all++;
			same += label[to] == label[i];
		}
		share[i] = all ? (float) same / (float) all : NAN;
		if (i % EVERY == 0 && mr_interrupted(w->env))
			code = qlt_latent_canceled(st);
	}
	return code;
}

mr_code
qlt_confusion(const qlt_work *w, int64_t n, int k, const int32_t *index, const int32_t *class, int classes, int at_most,
			  int64_t *pairs, mr_status *st)
{
	mr_code		code = check_lists(w, n, k, index, st);

	for (int64_t i = 0; i < n && code == MR_OK; i++)
	{
		for (int j = 0; j < k && j < at_most; j++)
		{
			int32_t		to = index[(size_t) i * (size_t) k + (size_t) j];

			if (to >= 0)
				pairs[(size_t) class[i] * (size_t) classes + (size_t) class[to]]++;
		}
		if (i % EVERY == 0 && mr_interrupted(w->env))
			code = qlt_latent_canceled(st);
	}
	return code;
}

/* The k-th least, 0-based: quickselect, in place. */
static double
kth(double *a, int64_t n, int64_t k)
{
	int64_t		lo = 0,
				hi = n - 1;

	while (lo < hi)
	{
		double		pivot = a[lo + (hi - lo) / 2];
		int64_t		i = lo,
					j = hi;

		while (i <= j)
		{
			while (a[i] < pivot)
				i++;
			while (a[j] > pivot)
				j--;
			if (i <= j)
			{
				double		swap = a[i];

				a[i++] = a[j];
				a[j--] = swap;
			}
		}
		if (k <= j)
			hi = j;
		else if (k >= i)
			lo = i;
		else
			break;
	}
	return a[k];
}

/* From how far a point's neighbours are to how dense it is about it. */
static mr_code
densities(const qlt_work *w, int64_t n, double floor, double *mean, mr_status *st)
{
	double		least = 0;

	if (floor > 0 && n > 0)
	{
		double	   *copy = mr_alloc(w->env, (size_t) n * sizeof(double));
		int64_t		apart = 0;

		if (copy == NULL)
			return qlt_latent_no_memory(st);
		for (int64_t i = 0; i < n; i++)
			if (mean[i] > 0)
				copy[apart++] = mean[i];
		least = apart ? floor * kth(copy, apart, apart / 2) : 0;
		mr_free(w->env, copy);
	}
	for (int64_t i = 0; i < n; i++)
		mean[i] = 1 / (fmax(mean[i], least) + 1e-10);
	return mr_interrupted(w->env) ? qlt_latent_canceled(st) : MR_OK;
}

mr_code
qlt_outlier_factors(const qlt_work *w, int64_t n, int k, const int32_t *index, const float *distance, double floor, double *factor,
					mr_status *st)
{
	double	   *density = mr_alloc(w->env, (size_t) n * sizeof(double) + 1),
			   *reach = mr_alloc(w->env, (size_t) n * sizeof(double) + 1);
	mr_code		code = density && reach ? check_lists(w, n, k, index, st) : qlt_latent_no_memory(st);

	/* how far the last neighbour is, then how dense it is about a point, then how dense about its neighbours */
	for (int pass = 0; pass < 3 && code == MR_OK; pass++)
	{
		for (int64_t i = 0; i < n && code == MR_OK; i++)
		{
			double		sum = 0;
			int			count = 0;

			for (int j = 0; j < k; j++)
			{
				size_t		at = (size_t) i * (size_t) k + (size_t) j;
				double		d = (double) distance[at];

				if (index[at] < 0)
					continue;
				count++;
				sum = pass == 0 ? d : sum + (pass == 1 ? fmax(reach[index[at]], d) : density[index[at]]);
			}
			if (pass == 0)
				reach[i] = sum;
			else if (pass == 1)
				density[i] = count ? sum / count : 0;
			else
				factor[i] = count ? sum / count / density[i] : 1;
			if (i % EVERY == 0 && mr_interrupted(w->env))
				code = qlt_latent_canceled(st);
		}
		if (pass == 1 && code == MR_OK)
			code = densities(w, n, floor, density, st);
	}
	mr_free(w->env, density);
	mr_free(w->env, reach);
	return code;
}

mr_code
qlt_outlier_limit(const qlt_work *w, int64_t n, const double *factor, double deviations, double *limit, mr_status *st)
{
	double	   *a,
				median;

	*limit = INFINITY;
	if (n == 0)
		return MR_OK;
	a = mr_alloc(w->env, (size_t) n * sizeof(double));
	if (a == NULL)
		return qlt_latent_no_memory(st);
	for (int64_t i = 0; i < n; i++)
		a[i] = qlt_log(factor[i]);
	median = kth(a, n, n / 2);
	for (int64_t i = 0; i < n; i++)
		a[i] = fabs(a[i] - median);
	*limit = exp(median + deviations * 1.4826 * kth(a, n, n / 2));
	mr_free(w->env, a);
	return mr_interrupted(w->env) ? qlt_latent_canceled(st) : MR_OK;
}
