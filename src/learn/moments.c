/*
 * moments.c
 *	  Means of columns and sums of their products, in one pass, in double.
 *
 * Blocks of rows become doubles about a provisional mean (of a few rows spread
 * over all), so that the exact one can be put in at the end without loss:
 * sum (x - m)(x - m)' = sum (x - a)(x - a)' - W (m - a)(m - a)'.
 */
#include "learn/learn_int.h"

#include <math.h>
#include <string.h>

#define ROWS		512			/* of a block */
#define STRIDE		(ROWS + 8)	/* doubles; a power of two would share cache sets */
#define PANEL		32			/* columns that stay in the second-level cache */
#define SAMPLE		256			/* rows of the provisional mean */

double
lrn_moments_memory(int cols)
{
	double		ld = lrn_padded(cols);

	return (ld + 3) * STRIDE * 8 + ld * ld * 8 + 4 * ld * 8;
}

static double
provisional_mean(const float *x, int64_t rows)
{
	int64_t		step = rows > SAMPLE ? rows / SAMPLE : 1,
				n = 0;
	double		sum = 0;

	for (int64_t i = 0; i < rows; i += step, n++)
		sum += (double) x[i];
	return sum / (double) n;
}

mr_code
lrn_column_of(const mr_env *env, const float *x, const float *weight, int64_t rows, lrn_column *c, mr_status *st)
{
	const lrn_kernels *kern = lrn_kernels_for(LRN_ISA_AUTO);
	double		z[ROWS] __attribute__((aligned(64))),
				root[ROWS] __attribute__((aligned(64))),
				a = provisional_mean(x, rows),
				sum = 0,
				square = 0,
				top = 0;

	*c = (lrn_column) {0};
	for (int r = 0; r < ROWS; r++)
		root[r] = 1;
	for (int64_t first = 0; first < rows; first += ROWS)
	{
		int			n = (int) (rows - first < ROWS ? rows - first : ROWS);
		size_t		len = ((size_t) n + 7) & ~(size_t) 7;

		for (int r = 0; r < n && weight; r++)
			root[r] = sqrt((double) weight[first + r]);
		for (size_t r = (size_t) n; r < len; r++)
			root[r] = 0;
		kern->widen(x + first, n, a, NULL, z);
		for (int r = 0; r < n; r++)
			top = fabs(z[r]) > top ? fabs(z[r]) : top;
		if (weight)
			kern->widen(x + first, n, a, root, z);
		c->mass += kern->dot(root, root, len);
		sum += kern->dot(z, root, len);
		square += kern->dot(z, z, len);
		if (first % (1024 * ROWS) == 0 && mr_interrupted(env))
			return lrn_canceled(st);
	}
	c->mean = a + sum / c->mass;
	c->square = fmax(square - sum * sum / c->mass, 0);
	c->top = top + fabs(sum / c->mass);
	c->deviation = sqrt(c->square / c->mass);
	if (!(c->deviation > 1e-12 * fabs(c->mean)))
		c->deviation = 0;
	return MR_OK;
}

/* c += z z' for the lower triangle, panel by panel. */
mr_code
lrn_gram(const mr_env *env, const double *a, const double *b, size_t stride, int len, int n,
		 double *c, size_t ld, mr_status *st)
{
	const lrn_kernels *kern = lrn_kernels_for(LRN_ISA_AUTO);
	int64_t		work = 0;

	n = (n + 3) & ~3;
	for (int j = 0; j < n; j += PANEL)
		for (int i = j; i < n; i += PANEL)
		{
			kern->gram(a, b, stride, len, i, i + PANEL < n ? i + PANEL : n,
					   j, j + PANEL < n ? j + PANEL : n, c, ld);
			work += (int64_t) PANEL * PANEL * len;
			if (work > 10000000)
			{
				work = 0;
				if (mr_interrupted(env))
					return lrn_canceled(st);
			}
		}
	return MR_OK;
}

void
lrn_moments_free(const mr_env *env, lrn_moments *s)
{
	mr_free(env, s->memory);
	s->memory = NULL;
}

/* The sums about the provisional means a become those about the true ones. */
static void
recentre(lrn_moments *s, int d, const double *sum, double extra_sum, const double *a, double extra_a)
{
	for (int i = 0; i < d; i++)
	{
		double	   *row = s->product + (size_t) i * s->ld;

		for (int j = 0; j <= i; j++)
			row[j] -= sum[i] * sum[j] / s->mass;
		s->cross[i] -= sum[i] * extra_sum / s->mass;
		s->mean[i] = a[i] + sum[i] / s->mass;
	}
	s->extra_square -= extra_sum * extra_sum / s->mass;
	s->extra_mean = extra_a + extra_sum / s->mass;
}

mr_code
lrn_moments_of(const mr_env *env, const lrn_matrix *m, const float *extra, const float *weight,
			   lrn_progress progress, void *progress_arg, lrn_moments *s, mr_status *st)
{
	const lrn_kernels *kern = lrn_kernels_for(LRN_ISA_AUTO);
	int			d = m->cols;
	double	   *z,
			   *root,
			   *y,
			   *sum,
			   *a,
				extra_sum = 0,
				extra_a = 0;
	mr_code		code = MR_OK;

	memset(s, 0, sizeof(*s));
	s->ld = lrn_padded(d);
	s->memory = mr_alloc(env, (s->ld * s->ld + 2 * s->ld) * sizeof(double));
	z = mr_alloc(env, ((s->ld + 2) * STRIDE + 2 * s->ld) * sizeof(double));
	if (s->memory == NULL || z == NULL)
	{
		code = lrn_out_of_memory(st);
		goto done;
	}
	memset(s->memory, 0, (s->ld * s->ld + 2 * s->ld) * sizeof(double));
	memset(z, 0, ((s->ld + 2) * STRIDE + 2 * s->ld) * sizeof(double));
	s->product = s->memory;
	s->mean = s->product + s->ld * s->ld;
	s->cross = s->mean + s->ld;
	y = z + s->ld * STRIDE;
	root = y + STRIDE;
	sum = root + STRIDE;
	a = sum + s->ld;
	for (int j = 0; j < d; j++)
		a[j] = provisional_mean(m->col[j], m->rows);
	if (extra)
		extra_a = provisional_mean(extra, m->rows);
	for (int64_t first = 0; first < m->rows && code == MR_OK; first += ROWS)
	{
		int			n = (int) (m->rows - first < ROWS ? m->rows - first : ROWS),
					len = (n + 7) & ~7;

		for (int r = 0; r < len; r++)
			root[r] = r >= n ? 0 : weight ? sqrt((double) weight[first + r]) : 1;
		s->mass += kern->dot(root, root, (size_t) len);
		for (int j = 0; j < d; j++)
			kern->widen(m->col[j] + first, n, a[j], weight ? root : NULL, z + (size_t) j * STRIDE);
		for (int j = 0; j < d; j++)
			sum[j] += kern->dot(z + (size_t) j * STRIDE, root, (size_t) len);
		if (extra)
		{
			kern->widen(extra + first, n, extra_a, weight ? root : NULL, y);
			for (int j = 0; j < d; j++)
				s->cross[j] += kern->dot(z + (size_t) j * STRIDE, y, (size_t) len);
			extra_sum += kern->dot(y, root, (size_t) len);
			s->extra_square += kern->dot(y, y, (size_t) len);
		}
		code = lrn_gram(env, z, z, STRIDE, len, d, s->product, s->ld, st);
		if (code == MR_OK && progress)
			progress(progress_arg, first + n, m->rows, NAN);
		if (code == MR_OK && mr_interrupted(env))
			code = lrn_canceled(st);
	}
	if (code == MR_OK)
		recentre(s, d, sum, extra_sum, a, extra_a);
done:
	mr_free(env, z);
	if (code)
		lrn_moments_free(env, s);
	return code;
}
