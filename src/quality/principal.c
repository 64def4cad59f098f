/*
 * principal.c
 *	  The directions of largest variance, by the learning room's solvers: the covariance matrix where vectors are short,
 *	  a randomised range finder where they are long.
 */
#include "learn/pca.h"
#include "quality/latent_int.h"

#include <math.h>
#include <string.h>

#define SHORT	512				/* dimensions whose covariance matrix is taken */

double
qlt_principal_memory(int64_t n, int dims, int k)
{
	lrn_params	p;
	double		square = (double) lrn_padded(dims) * (double) lrn_padded(dims) * 8;

	lrn_params_init(&p, LRN_PCA);
	p.n_components = k;
	return (double) n * dims * 4 + (double) dims * ((double) k + 2) * 8 +
		(dims <= SHORT ? 2 * square + lrn_moments_memory(dims) + (double) lrn_eigen_memory(dims, k) : lrn_pca_random_memory(&p, n, dims));
}

static mr_code
covariance(const qlt_work *w, const lrn_matrix *m, int k, double *mean, double *values, double *vectors, double *total, mr_status *st)
{
	lrn_moments s;
	mr_code		code = lrn_moments_of(w->env, m, NULL, NULL, NULL, NULL, &s, st);

	if (code)
		return code;
	*total = 0;
	for (int i = 0; i < m->cols; i++)
	{
		for (int j = 0; j <= i; j++)
			s.product[(size_t) i * s.ld + (size_t) j] /= (double) (m->rows - 1);
		*total += s.product[(size_t) i * s.ld + (size_t) i];
	}
	memcpy(mean, s.mean, (size_t) m->cols * sizeof(double));
	if (*total > 0)
		code = lrn_eigen(w->env, s.product, m->cols, k, values, vectors, st);
	lrn_moments_free(w->env, &s);
	return code;
}

/* Scores along k unit vectors, whose largest entry shall be positive. */
static mr_code
project(const qlt_work *w, const qlt_vectors *v, int k, int width, const double *mean, double *vectors, float *scores, mr_status *st)
{
	size_t		d = (size_t) v->dims;

	for (int c = 0; c < k; c++)
	{
		double	   *vector = vectors + (size_t) c * d;
		size_t		top = 0;

		for (size_t j = 1; j < d; j++)
			if (fabs(vector[j]) > fabs(vector[top]))
				top = j;
		for (size_t j = 0; vector[top] < 0 && j < d; j++)
			vector[j] = j == top ? vector[j] : -vector[j];
		vector[top] = fabs(vector[top]);
	}
	for (int64_t i = 0; i < v->n; i++)
	{
		for (int c = 0; c < k; c++)
		{
			double		sum = 0;

			for (size_t j = 0; j < d; j++)
				sum += ((double) v->x[(size_t) i * d + j] - mean[j]) * vectors[(size_t) c * d + j];
			scores[(size_t) i * (size_t) width + (size_t) c] = (float) sum;
		}
		if (i % 16 == 0 && mr_interrupted(w->env))
			return qlt_latent_canceled(st);
	}
	return MR_OK;
}

mr_code
qlt_principal(const qlt_work *w, const qlt_vectors *v, int k, uint64_t seed, float *scores, double *deviation, mr_status *st)
{
	const mr_env *env = w->env;
	size_t		n = (size_t) v->n,
				d = (size_t) v->dims;
	int64_t		least = v->n - 1 < v->dims ? v->n - 1 : v->dims;
	int			found = k < least ? k : (int) least,
				iterations;
	float	  **col = mr_alloc(env, d * sizeof(float *)),
			   *columns = mr_alloc(env, n * d * sizeof(float) + 64);
	double	   *numbers = mr_alloc(env, (d * (size_t) (k + 2) + (size_t) k) * sizeof(double)),
			   *mean = numbers,
			   *values = mean + d,
			   *vectors = values + d,
				total = 0;
	lrn_matrix	m = {v->n, v->dims, col, NULL, NULL};
	mr_code		code = MR_OK;

	memset(scores, 0, n * (size_t) k * sizeof(float));
	memset(deviation, 0, (size_t) k * sizeof(double));
	if (col == NULL || columns == NULL || numbers == NULL)
		code = qlt_latent_no_memory(st);
	if (code == MR_OK)
		code = qlt_columns(w, v, columns, col, st);
	if (code == MR_OK && found > 0)
	{
		lrn_params	p;

		lrn_params_init(&p, LRN_PCA);
		p.n_components = found;
		p.random_state = seed;
		code = v->dims <= SHORT ? covariance(w, &m, found, mean, values, vectors, &total, st) :
			lrn_pca_random(env, &p, &m, found, mean, values, vectors, &total, &iterations, st);
		if (code == MR_OK && total > 0)
			code = project(w, v, found, k, mean, vectors, scores, st);
		/* less than rounding leaves of the whole is no direction */
		for (int c = 0; c < found && total > 0; c++)
			deviation[c] = values[c] > 1e-12 * total ? sqrt(values[c]) : 0;
	}
	mr_free(env, col);
	mr_free(env, columns);
	mr_free(env, numbers);
	return code;
}
