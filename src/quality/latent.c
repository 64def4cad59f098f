/*
 * latent.c
 *	  What the steps of latent space share: kernels, checks, and vectors at a common scale.
 */
#include "quality/latent_int.h"

#include <math.h>
#include <string.h>

const qlt_kernels *
qlt_kernels_for(nn_isa isa)
{
#if defined(__x86_64__)
	if (isa == nn_isa_auto || !nn_isa_available(isa))
		isa = nn_isa_best();
	if (isa >= nn_isa_avx512)
		return &qlt_kernels_avx512;
	if (isa == nn_isa_avx2)
		return &qlt_kernels_avx2;
#endif
	return &qlt_kernels_portable;
}

mr_code
qlt_latent_no_memory(mr_status *st)
{
	return mr_fail(st, MR_NOMEM, "out of memory");
}

mr_code
qlt_latent_canceled(mr_status *st)
{
	return mr_fail(st, MR_CANCELED, "canceled");
}

mr_code
qlt_check_limit(const qlt_work *w, double bytes, mr_status *st)
{
	if (w->max_memory == 0 || bytes <= (double) w->max_memory)
		return MR_OK;
	mr_fail(st, MR_LIMIT, "this needs %.0f MB of memory, more than the limit of %.0f MB", ceil(bytes / 1048576),
			floor((double) w->max_memory / 1048576));
	mr_hint(st, "Take a sample of the points, or raise the limit, millrace.train_memory.");
	return MR_LIMIT;
}

mr_code
qlt_check(const qlt_work *w, const qlt_vectors *v, mr_status *st)
{
	if (v->dims < 1)
		return mr_fail(st, MR_INVALID, "vectors must have at least one dimension");
	if (v->n > INT32_MAX / 2)
		return mr_fail(st, MR_LIMIT, "%lld vectors are more than can be numbered", (long long) v->n);
	for (int64_t i = 0; i < v->n; i++)
	{
		const float *row = v->x + (size_t) i * (size_t) v->dims;

		for (int j = 0; j < v->dims; j++)
			if (!isfinite(row[j]))
			{
				mr_fail(st, MR_INVALID, "a vector must not contain %s", isnan(row[j]) ? "NaN" : "infinity");
				mr_detail(st, "Element %d of vector %lld is %s.", j + 1, (long long) i + 1, isnan(row[j]) ? "NaN" : "infinite");
				return MR_INVALID;
			}
		if (i % 1024 == 0 && mr_interrupted(w->env))
			return qlt_latent_canceled(st);
	}
	return MR_OK;
}

mr_code
qlt_columns(const qlt_work *w, const qlt_vectors *v, float *columns, float **col, mr_status *st)
{
	size_t		n = (size_t) v->n,
				d = (size_t) v->dims;

	for (size_t j = 0; j < d; j++)
		col[j] = columns + j * n;
	for (size_t i = 0; i < n; i++)
	{
		for (size_t j = 0; j < d; j++)
			col[j][i] = v->x[i * d + j];
		if (i % 1024 == 0 && mr_interrupted(w->env))
			return qlt_latent_canceled(st);
	}
	return MR_OK;
}

mr_code
qlt_normalise(const qlt_work *w, const qlt_vectors *v, float *out, mr_status *st)
{
	size_t		d = (size_t) v->dims;
	double	   *mean = mr_alloc(w->env, d * sizeof(double)),
				top = 0;

	if (mean == NULL)
		return qlt_latent_no_memory(st);
	memset(mean, 0, d * sizeof(double));
	/* means, then the largest number, then the rows */
	for (int pass = 0; pass < 3; pass++)
	{
		for (int64_t i = 0; i < v->n; i++)
		{
			const float *row = v->x + (size_t) i * d;
			float	   *to = out + (size_t) i * d;

			for (size_t j = 0; j < d; j++)
				if (pass == 0)
					mean[j] += (double) row[j] / (double) v->n;
				else if (pass == 1)
					top = fmax(top, fabs((double) row[j] - mean[j]));
				else
					to[j] = top > 0 ? (float) (((double) row[j] - mean[j]) / top) : 0;
			if (i % 1024 == 0 && mr_interrupted(w->env))
			{
				mr_free(w->env, mean);
				return qlt_latent_canceled(st);
			}
		}
	}
	mr_free(w->env, mean);
	return MR_OK;
}

double
qlt_log(double x)
{
	int			e;
	double		m = frexp(x, &e),
				s,
				z,
				sum = 0;

	if (m < 0.70710678118654752)
	{
		m *= 2;
		e--;
	}
	s = (m - 1) / (m + 1);
	z = s * s;
	for (int k = 21; k >= 1; k -= 2)
		sum = sum * z + 1.0 / k;
	return e * 0.69314718055994531 + 2 * s * sum;
}

/* The angle is brought into the first eighth of the circle by exchanges and signs, which are exact. */
void
qlt_root_of_unity(int p, int n, double *cosine, double *sine)
{
	int			eighths = (int) ((int64_t) p * 8 / n);
	int64_t		rest = (int64_t) p * 8 - (int64_t) eighths * n;
	double		a,
				c = 0,
				s = 0,
				swap;

	if (eighths & 1)
		rest = n - rest;
	a = 0.78539816339744831 * (double) rest / n;
	for (int k = 9; k >= 1; k--)
	{
		c = 1 - c * a * a / ((2 * k - 1) * (2 * k));
		s = 1 - s * a * a / ((2 * k) * (2 * k + 1));
	}
	s *= a;
	/* now of the angle within its quarter; beyond its middle the two change places */
	if (eighths & 1)
	{
		swap = c;
		c = s;
		s = swap;
	}
	for (int quarter = eighths / 2; quarter > 0; quarter--)
	{
		swap = c;
		c = -s;
		s = swap;
	}
	*cosine = c;
	*sine = s;
}
