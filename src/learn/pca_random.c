/*
 * pca_random.c
 *	  Leading principal components by a randomised range finder with power
 *	  iterations (Halko, Martinsson, Tropp, "Finding structure with randomness",
 *	  2011, algorithms 4.4 and 5.1), as scikit-learn's svd_solver 'randomized'.
 *
 * The centred rows are copied once, in groups of LRN_LANES; every product with
 * the l = components + oversamples vectors is float32, every basis is made
 * orthonormal in double after each product, and the l x l problem at the end is
 * solved in double.  The data's columns are the last side that is orthonormal,
 * so that the components are so exactly.
 *
 * Memory: the copy, and for each of the l vectors 12 bytes a row and 12 to 20 a
 * column.
 */
#include "learn/pca.h"

#include <math.h>
#include <string.h>

#define BLOCK_GROUPS	32		/* 1024 rows: sums of so many are float32 */

typedef struct finder
{
	const mr_env *env;
	const lrn_kernels *kernels;
	int64_t		rows;
	int64_t		groups;
	int			d;
	int			d4;				/* rounded up to 4: features in a group */
	int			l;				/* vectors, a multiple of 8 */
	float	   *x;				/* groups x d4 x LRN_LANES */
	float	   *w;				/* d4 x l: one side's vectors, as products take them */
	float	   *y;				/* l x rows */
	double	   *z;				/* d4 x l */
	double	   *basis;			/* l x the longer side */
	lrn_rng		rng;
	mr_status  *st;
} finder;

/* Nearly normal, and the same on every machine: no logarithm is involved. */
static double
normal(lrn_rng *rng)
{
	double		sum = 0;

	for (int i = 0; i < 12; i++)
		sum += (double) (lrn_rng_next(rng) >> 11) * 0x1p-53;
	return sum - 6;
}

/*
 * Make the l vectors of basis (each of length n) orthonormal, by Gram and
 * Schmidt, twice; one that depends on those before it is drawn anew.
 */
static mr_code
orthonormalise(finder *f, size_t n)
{
	for (int c = 0; c < f->l; c++)
	{
		double	   *v = f->basis + (size_t) c * n;

		for (int turn = 0; turn < 4; turn++)
		{
			double		before = sqrt(f->kernels->dot(v, v, n)),
						after;

			for (int again = 0; again < 2; again++)
				for (int o = 0; o < c; o++)
				{
					const double *other = f->basis + (size_t) o * n;

					f->kernels->axpy(-f->kernels->dot(v, other, n), other, v, n);
					if (mr_interrupted(f->env))
						return lrn_canceled(f->st);
				}
			after = sqrt(f->kernels->dot(v, v, n));
			if (after > 1e-6 * before && after > 0)
			{
				for (size_t i = 0; i < n; i++)
					v[i] /= after;
				break;
			}
			for (size_t i = 0; i < n; i++)
				v[i] = turn < 3 ? normal(&f->rng) : 0;
		}
		if (mr_interrupted(f->env))
			return lrn_canceled(f->st);
	}
	return MR_OK;
}

/* y = X w, then its basis when wanted. */
static mr_code
forward(finder *f, bool orthonormal)
{
	size_t		n = (size_t) f->groups * LRN_LANES;
	int64_t		step = 1 + 2000000 / ((int64_t) f->d4 * f->l * LRN_LANES);

	for (int64_t g = 0; g < f->groups; g += step)
	{
		f->kernels->project(f->x + (size_t) g * (size_t) f->d4 * LRN_LANES, f->groups - g < step ? f->groups - g : step,
							f->d4, f->w, f->l, f->y + (size_t) g * LRN_LANES, n);
		if (mr_interrupted(f->env))
			return lrn_canceled(f->st);
	}
	for (size_t c = 0; c < (size_t) f->l; c++)
	{
		for (size_t i = c * n; i < (c + 1) * n; i++)
			f->basis[i] = (double) f->y[i];
		if (mr_interrupted(f->env))
			return lrn_canceled(f->st);
	}
	if (orthonormal)
	{
		mr_code		code = orthonormalise(f, n);

		if (code)
			return code;
		for (size_t i = 0; i < (size_t) f->l * n; i++)
			f->y[i] = (float) f->basis[i];
	}
	return mr_interrupted(f->env) ? lrn_canceled(f->st) : MR_OK;
}

/* w = orthonormal basis of X' y. */
static mr_code
backward(finder *f)
{
	size_t		n = (size_t) f->groups * LRN_LANES,
				d = (size_t) f->d,
				l = (size_t) f->l;
	int			step = 4 + (int) (2000000 / ((int64_t) f->l * BLOCK_GROUPS * LRN_LANES)) / 4 * 4;
	mr_code		code;

	memset(f->z, 0, (size_t) f->d4 * l * sizeof(double));
	for (int64_t g = 0; g < f->groups; g += BLOCK_GROUPS)
		for (int j = 0; j < f->d4; j += step)
		{
			f->kernels->project_back(f->x + (size_t) g * (size_t) f->d4 * LRN_LANES,
									 f->groups - g < BLOCK_GROUPS ? f->groups - g : BLOCK_GROUPS, f->d4,
									 j, j + step < f->d4 ? j + step : f->d4,
									 f->y + (size_t) g * LRN_LANES, n, f->z, f->l);
			if (mr_interrupted(f->env))
				return lrn_canceled(f->st);
		}
	for (size_t j = 0; j < d; j++)
		for (size_t c = 0; c < l; c++)
			f->basis[c * d + j] = f->z[j * l + c];
	code = orthonormalise(f, d);
	for (size_t j = 0; j < d; j++)
		for (size_t c = 0; c < l; c++)
			f->w[j * l + c] = (float) f->basis[c * d + j];
	return code;
}

/* The rows about the means, in groups; *total: sum of the columns' variances. */
static mr_code
copy_rows(finder *f, const lrn_matrix *m, double *mean, double *total)
{
	size_t		d4 = (size_t) f->d4;

	memset(f->x + (size_t) (f->groups - 1) * d4 * LRN_LANES, 0, d4 * LRN_LANES * sizeof(float));
	*total = 0;
	for (size_t j = 0; j < d4; j++)
	{
		lrn_column	c;
		mr_code		code;

		if (j >= (size_t) f->d)
		{
			for (int64_t i = 0; i < f->groups * LRN_LANES; i++)
				f->x[((size_t) (i / LRN_LANES) * d4 + j) * LRN_LANES + (size_t) (i % LRN_LANES)] = 0;
			continue;
		}
		code = lrn_column_of(f->env, m->col[j], NULL, m->rows, &c, f->st);
		if (code)
			return code;
		mean[j] = c.mean;
		*total += c.square / (double) (m->rows - 1);
		for (int64_t i = 0; i < m->rows; i++)
		{
			f->x[((size_t) (i / LRN_LANES) * d4 + j) * LRN_LANES + (size_t) (i % LRN_LANES)] =
				(float) ((double) m->col[j][i] - c.mean);
			if (i % 65536 == 0 && mr_interrupted(f->env))
				return lrn_canceled(f->st);
		}
	}
	return MR_OK;
}

/* Variances along the basis w's best directions, and these as components. */
static mr_code
solve_small(finder *f, int k, const double *basis, double *values, double *vectors)
{
	size_t		n = (size_t) f->groups * LRN_LANES,
				l = (size_t) f->l,
				ld = lrn_padded(f->l),
				d = (size_t) f->d;
	double	   *g = mr_alloc(f->env, (ld * ld + l * l + l) * sizeof(double)),
			   *v;
	mr_code		code = MR_OK;

	if (g == NULL)
		return lrn_out_of_memory(f->st);
	v = g + ld * ld;
	for (size_t a = 0; a < l && code == MR_OK; a++)
	{
		for (size_t b = 0; b <= a; b++)
			g[a * ld + b] = f->kernels->dot(f->basis + a * n, f->basis + b * n, n) / (double) (f->rows - 1);
		if (mr_interrupted(f->env))
			code = lrn_canceled(f->st);
	}
	if (code == MR_OK)
		code = lrn_eigen(f->env, g, f->l, f->l, v + l * l, v, f->st);
	for (size_t c = 0; c < (size_t) k && code == MR_OK; c++)
	{
		values[c] = v[l * l + c];
		memset(vectors + c * d, 0, d * sizeof(double));
		for (size_t a = 0; a < l; a++)
			f->kernels->axpy(v[c * l + a], basis + a * d, vectors + c * d, d);
		if (mr_interrupted(f->env))
			code = lrn_canceled(f->st);
	}
	mr_free(f->env, g);
	return code;
}

/* Vectors in all; never more than either side has. */
static int
vectors_of(const lrn_params *p, int64_t rows, int cols)
{
	double		l = p->n_components + p->n_oversamples,
				most = rows < cols ? (double) rows : cols;

	return ((int) fmin(l, most) + 7) & ~7;
}

double
lrn_pca_random_memory(const lrn_params *p, int64_t rows, int cols)
{
	double		n = (double) rows + LRN_LANES,
				d = cols + 4,
				l = vectors_of(p, rows, cols);

	return n * d * 4 + l * (n * 4 + d * 20 + fmax(n, d) * 8) + 3 * (l + 16) * (l + 16) * 8 + (double) lrn_eigen_memory((int) l, (int) l);
}

mr_code
lrn_pca_random(const mr_env *env, const lrn_params *p, const lrn_matrix *m, int k,
			   double *mean, double *values, double *vectors, double *total, int *iterations, mr_status *st)
{
	finder		f = {.env = env, .kernels = lrn_kernels_for(LRN_ISA_AUTO), .rows = m->rows,
		.groups = (m->rows + LRN_LANES - 1) / LRN_LANES, .d = m->cols, .d4 = (m->cols + 3) & ~3,
	.l = vectors_of(p, m->rows, m->cols), .st = st};
	size_t		n = (size_t) f.groups * LRN_LANES,
				d4 = (size_t) f.d4,
				l = (size_t) f.l,
				d = (size_t) f.d;
	int			least = m->rows < m->cols ? (int) m->rows : m->cols;
	double	   *last = NULL;
	mr_code		code;

	*iterations = p->iterated_power ? p->iterated_power : k < 0.1 * least ? 7 : 4;
	f.x = mr_alloc(env, n * d4 * sizeof(float));
	f.w = mr_alloc(env, d4 * l * sizeof(float));
	f.y = mr_alloc(env, n * l * sizeof(float));
	f.z = mr_alloc(env, d4 * l * sizeof(double));
	f.basis = mr_alloc(env, l * (n > d ? n : d) * sizeof(double));
	last = mr_alloc(env, l * d * sizeof(double));
	if (f.x == NULL || f.w == NULL || f.y == NULL || f.z == NULL || f.basis == NULL || last == NULL)
	{
		code = lrn_out_of_memory(st);
		goto done;
	}
	code = copy_rows(&f, m, mean, total);
	lrn_rng_seed(&f.rng, p->random_state, 0);
	memset(f.w, 0, d4 * l * sizeof(float));
	for (size_t i = 0; i < d * l; i++)
		f.w[i] = (float) normal(&f.rng);
	for (int i = 0; i <= *iterations && code == MR_OK && *total > 0; i++)
	{
		code = forward(&f, true);
		if (code == MR_OK)
			code = backward(&f);
		if (code == MR_OK && p->progress)
			p->progress(p->progress_arg, i + 1, *iterations + 1, NAN);
	}
	if (code == MR_OK)
	{
		memcpy(last, f.basis, l * d * sizeof(double));
		code = forward(&f, false);
	}
	if (code == MR_OK)
		code = solve_small(&f, k, last, values, vectors);
done:
	mr_free(env, f.x);
	mr_free(env, f.w);
	mr_free(env, f.y);
	mr_free(env, f.z);
	mr_free(env, f.basis);
	mr_free(env, last);
	return code;
}
