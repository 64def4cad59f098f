/*
 * logistic_newton.c
 *	  Newton's method for logistic regression with few unknowns, as
 *	  scikit-learn's solver "newton-cholesky": a step costs more than one of
 *	  L-BFGS, but a handful of them is enough.
 *
 * The second derivatives for classes a and b are the sum over rows of
 * w p_a ([a = b] - p_b) z z', z being the centred columns and a 1: for each pair
 * of classes a weighted sum of products, which the kernel gram() makes.  The
 * softmax does not change when all intercepts do: a speck on their diagonal
 * keeps the system definite and the steps where they are.
 */
#include "learn/logistic.h"

#include <math.h>
#include <string.h>

#define STRIDE		(LRN_BLOCK + 8) /* doubles; a power of two would share cache sets */
#define MAX_HALVES	30

static size_t
doubles_of(int k, int d)
{
	size_t		vectors = ((size_t) d + 4) & ~(size_t) 3,
				ld = lrn_padded(d + 1),
				unknowns = (size_t) k * ((size_t) d + 1);

	return (size_t) k * LRN_BLOCK + 2 * vectors * STRIDE + 2 * LRN_BLOCK +
		(size_t) k * ((size_t) k + 1) / 2 * ld * ld + unknowns * lrn_padded((int) unknowns) + 4 * unknowns;
}

double
lrn_newton_memory(int k, int d)
{
	double		unknowns = (double) k * (d + 1);

	return 8.0 * (k * (double) LRN_BLOCK + (d + 4) * 2.0 * STRIDE + k * (k + 1.0) / 2 * (d + 17) * (d + 17) +
				  unknowns * (unknowns + 20)) + lrn_solve_memory((int) fmin(unknowns, 1e6));
}

/* inverse and z for the rows of a block. */
static void
fill_block(const lrn_logistic *p, float *const *col, int64_t first, int64_t row, int n)
{
	lrn_hessian *s = p->hessian;
	double	   *ones = s->z + (size_t) p->d * STRIDE;

	for (int r = 0; r < n; r++)
	{
		double		w = p->class_weight[p->y[row + r]];

		if (p->row_weight)
			w *= (double) p->row_weight[row + r];
		s->inverse[r] = w > 0 ? 1 / w : 0;
		ones[r] = p->intercept ? 1 : 0;
	}
	for (int r = n; r & 7; r++)
		s->inverse[r] = ones[r] = 0;
	for (int j = 0; j < p->d; j++)
		p->kernels->widen(col[j] + first, n, p->mean[j], NULL, s->z + (size_t) j * STRIDE);
}

mr_code
lrn_hessian_add(const lrn_logistic *p, float *const *col, int64_t first, int64_t row, int n)
{
	lrn_hessian *s = p->hessian;
	size_t		len = ((size_t) n + 7) & ~(size_t) 7;
	double	   *pair = s->pair;

	fill_block(p, col, first, row, n);
	for (int a = 0; a < p->k; a++)
		for (int b = 0; b <= a; b++, pair += s->ld * s->ld)
		{
			const double *pa = s->share + (size_t) a * LRN_BLOCK,
					   *pb = s->share + (size_t) b * LRN_BLOCK;
			mr_code		code;

			p->kernels->times(pa, pb, s->h, len);
			p->kernels->times(s->h, s->inverse, s->h, len);
			for (size_t r = 0; r < len; r++)
				s->h[r] = a == b ? pa[r] - s->h[r] : -s->h[r];
			for (int j = 0; j <= p->d; j++)
				p->kernels->times(s->h, s->z + (size_t) j * STRIDE, s->hz + (size_t) j * STRIDE, len);
			code = lrn_gram(p->env, s->hz, s->z, STRIDE, (int) len, p->d + 1, pair, s->ld, p->st);
			if (code)
				return code;
		}
	return MR_OK;
}

/* Where class c's weight of column j (d: the intercept) stands among the unknowns. */
static size_t
place(const lrn_logistic *p, int c, int j)
{
	size_t		k = (size_t) p->k,
				d = (size_t) p->d;

	return j < p->d ? (size_t) c * d + (size_t) j : k * d + (size_t) c;
}

/* The pairs' sums in scaled coordinates, with the penalty, as one matrix. */
static void
assemble(const lrn_logistic *p, size_t n)
{
	lrn_hessian *s = p->hessian;
	size_t		ld = lrn_padded((int) n);
	const double *pair = s->pair;
	int			last = p->intercept ? p->d : p->d - 1;
	double		trace = 0;

	for (int a = 0; a < p->k; a++)
		for (int b = 0; b <= a; b++, pair += s->ld * s->ld)
			for (int i = 0; i <= last; i++)
				for (int j = 0; j <= last; j++)
				{
					double		v = i >= j ? pair[(size_t) i * s->ld + (size_t) j] : pair[(size_t) j * s->ld + (size_t) i];
					size_t		at = place(p, a, i),
								by = place(p, b, j);

					v /= (i < p->d ? p->scale[i] : 1) * (j < p->d ? p->scale[j] : 1);
					if (a == b && i == j && i < p->d)
						v += p->penalty[i];
					if (at >= by)
						s->matrix[at * ld + by] = v / p->sum_weight;
					else
						s->matrix[by * ld + at] = v / p->sum_weight;
				}
	for (size_t i = 0; i < n; i++)
		trace += s->matrix[i * ld + i];
	for (int c = 0; c < p->k && p->intercept && p->k > 1; c++)
		s->matrix[place(p, c, p->d) * (ld + 1)] += 1e-8 * trace / (double) n;
}

static mr_code
value(lrn_logistic *p, const double *u, double *f, double *g)
{
	lrn_hessian *s = p->hessian;

	memset(s->pair, 0, (size_t) p->k * ((size_t) p->k + 1) / 2 * s->ld * s->ld * sizeof(double));
	return lrn_logistic_value(p, u, f, g);
}

static double
largest(const double *g, size_t n)
{
	double		top = 0;

	for (size_t i = 0; i < n; i++)
		top = fmax(top, fabs(g[i]));
	return top;
}

/* Halve the step until the value falls enough; *f and u, g follow it if so. */
static mr_code
search(lrn_logistic *p, size_t n, double *u, double *g, const double *step, double *trial, double *f, bool *moved)
{
	double		slope = p->kernels->dot(g, step, n),
				t = 1;

	*moved = false;
	for (int i = 0; i < MAX_HALVES && !*moved; i++, t /= 2)
	{
		double		ft;
		double	   *trial_g = trial + n;
		mr_code		code;

		for (size_t j = 0; j < n; j++)
			trial[j] = u[j] + t * step[j];
		code = value(p, trial, &ft, trial_g);
		if (code)
			return code;
		/* The tolerance lets the last steps end despite rounding of f. */
		*moved = ft <= *f + 1e-4 * t * slope + 1e-15 * fabs(*f);
		if (*moved)
		{
			memcpy(u, trial, n * sizeof(double));
			memcpy(g, trial_g, n * sizeof(double));
			*f = ft;
		}
	}
	return MR_OK;
}

static mr_code
iterate(lrn_logistic *p, size_t n, double *u, const lrn_params *params, lrn_report *report,
		double *g, double *step, double *trial)
{
	double		f;
	bool		moved = true;
	mr_code		code = value(p, u, &f, g);

	report->converged = false;
	for (report->iterations = 0; code == MR_OK; report->iterations++)
	{
		double		before = f;

		/* No lower value is found, or it is as low as doubles can tell. */
		if (largest(g, n) <= params->tol || !moved)
		{
			report->converged = true;
			break;
		}
		if (report->iterations == params->max_iter)
			break;
		for (size_t i = 0; i < n; i++)
			step[i] = -g[i];
		assemble(p, n);
		code = lrn_solve(p->env, p->hessian->matrix, (int) n, step, p->st);
		if (code)
			break;
		if (!(p->kernels->dot(g, step, n) < 0))
			for (size_t i = 0; i < n; i++)
				step[i] = -g[i];
		code = search(p, n, u, g, step, trial, &f, &moved);
		if (code == MR_OK && params->progress)
			params->progress(params->progress_arg, report->iterations + 1, params->max_iter, f);
		moved = moved && before - f > 64 * 2.220446049250313e-16 * fmax(fabs(f), 1);
	}
	report->loss = f;
	return code;
}

mr_code
lrn_logistic_newton(lrn_logistic *p, size_t n, double *u, const lrn_params *params, lrn_report *report)
{
	size_t		vectors = ((size_t) p->d + 4) & ~(size_t) 3,
				k = (size_t) p->k,
				all = doubles_of(p->k, p->d);
	lrn_hessian s = {.ld = lrn_padded(p->d + 1)};
	double	   *memory = mr_alloc(p->env, all * sizeof(double)),
			   *g;
	mr_code		code;

	if (memory == NULL)
		return lrn_out_of_memory(p->st);
	memset(memory, 0, all * sizeof(double));
	s.share = memory;
	s.z = s.share + k * LRN_BLOCK;
	s.hz = s.z + vectors * STRIDE;
	s.h = s.hz + vectors * STRIDE;
	s.inverse = s.h + LRN_BLOCK;
	s.pair = s.inverse + LRN_BLOCK;
	s.matrix = s.pair + k * (k + 1) / 2 * s.ld * s.ld;
	g = s.matrix + n * lrn_padded((int) n);
	p->hessian = &s;
	code = iterate(p, n, u, params, report, g, g + n, g + 2 * n);
	p->hessian = NULL;
	mr_free(p->env, memory);
	return code;
}
