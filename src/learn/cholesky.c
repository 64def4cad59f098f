/*
 * cholesky.c
 *	  Symmetric systems: by Cholesky's factor where the matrix is safely
 *	  positive, else by its eigenpairs, leaving out those that are zero.
 */
#include "learn/learn_int.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Row by row, by dot products of rows.  *positive false: stopped half-way. */
static mr_code
factorise(const mr_env *env, const lrn_kernels *kern, double *a, int n, size_t ld,
		  double least, bool *positive, mr_status *st)
{
	int64_t		work = 0;

	for (int i = 0; i < n; i++)
	{
		double	   *row = a + (size_t) i * ld;

		for (int j = 0; j < i; j++)
		{
			const double *other = a + (size_t) j * ld;

			row[j] = (row[j] - kern->dot(row, other, (size_t) j)) / other[j];
		}
		row[i] -= kern->dot(row, row, (size_t) i);
		*positive = row[i] > least;
		if (!*positive)
			return MR_OK;
		row[i] = sqrt(row[i]);
		work += (int64_t) i * i;
		if (work > 5000000)
		{
			work = 0;
			if (mr_interrupted(env))
				return lrn_canceled(st);
		}
	}
	return MR_OK;
}

static void
substitute(const double *a, int n, size_t ld, double *x)
{
	for (int i = 0; i < n; i++)
	{
		const double *row = a + (size_t) i * ld;

		for (int j = 0; j < i; j++)
			x[i] -= row[j] * x[j];
		x[i] /= row[i];
	}
	for (int i = n - 1; i >= 0; i--)
	{
		const double *row = a + (size_t) i * ld;

		x[i] /= row[i];
		for (int j = 0; j < i; j++)
			x[j] -= row[j] * x[i];
	}
}

/* x = sum over the eigenvalues that are not zero of v (v'x) / lambda. */
static mr_code
pseudo_solve(const mr_env *env, double *a, int n, double *x, mr_status *st)
{
	size_t		d = (size_t) n;
	double	   *values = mr_alloc(env, (2 * d + d * d) * sizeof(double)),
			   *sum,
			   *vectors;
	mr_code		code;

	if (values == NULL)
		return lrn_out_of_memory(st);
	sum = values + d;
	vectors = sum + d;
	memset(sum, 0, d * sizeof(double));
	code = lrn_eigen(env, a, n, n, values, vectors, st);
	for (size_t c = 0; c < d && code == MR_OK; c++)
	{
		const double *v = vectors + c * d;
		double		along = 0;

		if (!(values[c] > 4 * DBL_EPSILON * (double) n * values[0]))
			break;
		for (size_t i = 0; i < d; i++)
			along += v[i] * x[i];
		for (size_t i = 0; i < d; i++)
			sum[i] += v[i] * (along / values[c]);
		if (c % 256 == 0 && mr_interrupted(env))
			code = lrn_canceled(st);
	}
	if (code == MR_OK)
		memcpy(x, sum, d * sizeof(double));
	mr_free(env, values);
	return code;
}

double
lrn_solve_memory(int n)
{
	return (double) n * n * 8 + (double) lrn_eigen_memory(n, n) + (double) n * 24;
}

mr_code
lrn_solve(const mr_env *env, double *a, int n, double *x, mr_status *st)
{
	size_t		ld = lrn_padded(n);
	double		top = 0;
	bool		positive = true;
	double	   *diagonal = mr_alloc(env, (size_t) n * sizeof(double));
	mr_code		code;

	if (diagonal == NULL)
		return lrn_out_of_memory(st);
	/* The upper triangle keeps what the factor overwrites. */
	for (size_t i = 0; i < (size_t) n; i++)
	{
		for (size_t j = 0; j < i; j++)
			a[j * ld + i] = a[i * ld + j];
		diagonal[i] = a[i * ld + i];
		top = fmax(top, diagonal[i]);
	}
	code = factorise(env, lrn_kernels_for(LRN_ISA_AUTO), a, n, ld, 64 * DBL_EPSILON * n * top, &positive, st);
	if (code == MR_OK && positive)
		substitute(a, n, ld, x);
	else if (code == MR_OK)
	{
		for (size_t i = 0; i < (size_t) n; i++)
		{
			for (size_t j = 0; j < i; j++)
				a[i * ld + j] = a[j * ld + i];
			a[i * ld + i] = diagonal[i];
		}
		code = pseudo_solve(env, a, n, x, st);
	}
	mr_free(env, diagonal);
	return code;
}
