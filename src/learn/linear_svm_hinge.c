/*
 * linear_svm_hinge.c
 *	  Hinge loss: its dual by coordinate descent.
 *
 * Hsieh, Chang, Lin, Keerthi and Sundararajan, "A dual coordinate descent
 * method for large-scale linear SVM" (ICML 2008), with shrinking, as in
 * liblinear: 0 <= a_i <= C_i, and w = sum_i y_i a_i x_i is kept.  Rows come in a
 * new seeded order each time.  The intercept is the weight of a column of ones.
 */
#include "learn/linear_svm.h"

#include <math.h>
#include <string.h>

#define BLOCK	1024			/* rows between interrupts */

typedef struct descent
{
	lsvm_problem *p;
	size_t		width;			/* floats of a row: features, the one, padding */
	int			n;				/* rows of positive C */
	float	   *x;				/* n x width */
	float	   *sign;			/* n: y */
	double	   *C;				/* n */
	double	   *a;				/* n */
	double	   *square;			/* n: x.x */
	int32_t    *order;			/* n */
	double	   *w;				/* width */
	lrn_rng		rng;
	double		most,			/* projected gradients of the last epoch */
				least;
} descent;

static size_t
width_of(int cols)
{
	return ((size_t) cols + 1 + 7) & ~(size_t) 7;
}

double
lsvm_hinge_memory(int64_t rows, int cols)
{
	return (double) rows * ((double) width_of(cols) * 4 + 32) + (double) width_of(cols) * 8 + 1024;
}

static mr_code
gather_rows(descent *s)
{
	const lsvm_problem *p = s->p;

	s->n = 0;
	for (int64_t i = 0; i < p->m->rows; i++)
	{
		bool		in = p->y[i] == p->class;
		double		C = (in ? p->positive : p->negative) * (p->weight ? (double) p->weight[i] : 1);
		float	   *x = s->x + (size_t) s->n * s->width;
		double		square = 0;

		if (!(C > 0))
			continue;
		memset(x, 0, s->width * sizeof(float));
		for (int j = 0; j < p->d; j++)
		{
			x[j] = (float) ((p->m->col[j][i] - p->shift[j]) * p->scale[j]);
			square += (double) x[j] * x[j];
		}
		if (p->params->fit_intercept)
		{
			x[p->d] = 1;
			square += 1;
		}
		s->sign[s->n] = in ? 1 : -1;
		s->C[s->n] = C;
		s->a[s->n] = 0;
		s->square[s->n] = square;
		s->order[s->n] = s->n;
		s->n++;
		if (i % BLOCK == 0 && mr_interrupted(p->env))
			return lrn_canceled(p->st);
	}
	return MR_OK;
}

/* All active rows once; rows that will not move, judged by the last epoch, go to the end. */
static mr_code
epoch(descent *s, int *active)
{
	double		upper = s->most > 0 ? s->most : INFINITY,
				lower = s->least < 0 ? s->least : -INFINITY,
				work = 0;

	s->most = -INFINITY;
	s->least = INFINITY;
	for (int k = *active - 1; k > 0; k--)
	{
		int			other = (int) lrn_rng_below(&s->rng, (uint32_t) k + 1);
		int32_t		swap = s->order[k];

		s->order[k] = s->order[other];
		s->order[other] = swap;
		if (k % (64 * BLOCK) == 0 && mr_interrupted(s->p->env))
			return lrn_canceled(s->p->st);
	}
	for (int k = 0; k < *active; k++)
	{
		int32_t		i = s->order[k];
		const float *x = s->x + (size_t) i * s->width;
		double		g = s->sign[i] * s->p->kernels->row_dot(x, s->w, s->width) - 1,
					projected = g,
					a = s->a[i];

		if (a == 0 && g > upper && s->square[i] > 0)
			projected = NAN;
		else if (a == s->C[i] && g < lower)
			projected = NAN;
		if (isnan(projected))
		{
			s->order[k--] = s->order[--*active];
			s->order[*active] = i;
			continue;
		}
		if ((a == 0 && g > 0) || (a == s->C[i] && g < 0))
			projected = 0;
		s->most = fmax(s->most, projected);
		s->least = fmin(s->least, projected);
		if (fabs(projected) > 1e-12 && s->square[i] > 0)
		{
			s->a[i] = fmin(fmax(a - g / s->square[i], 0), s->C[i]);
			s->p->kernels->row_axpy(s->w, x, (s->a[i] - a) * s->sign[i], s->width);
		}
		work += (double) s->width * 2 + 20;
		if (work > 2e6)
		{
			work = 0;
			if (mr_interrupted(s->p->env))
				return lrn_canceled(s->p->st);
		}
	}
	return MR_OK;
}

mr_code
lsvm_solve_hinge(lsvm_problem *p, double *w, double *b, lrn_report *report)
{
	size_t		n = (size_t) p->m->rows;
	descent		s = {.p = p, .width = width_of(p->d), .most = INFINITY, .least = -INFINITY};
	double	   *doubles = mr_alloc(p->env, (s.width + 3 * n) * sizeof(double));
	int			active,
				epochs = 0;
	bool		converged = false;
	mr_code		code = MR_OK;

	s.x = mr_alloc(p->env, n * s.width * sizeof(float));
	s.sign = mr_alloc(p->env, n * sizeof(float));
	s.order = mr_alloc(p->env, n * sizeof(int32_t));
	if (doubles == NULL || s.x == NULL || s.sign == NULL || s.order == NULL)
	{
		code = lrn_out_of_memory(p->st);
		goto done;
	}
	s.w = doubles;				/* first: 64-byte aligned */
	s.C = s.w + s.width;
	s.a = s.C + n;
	s.square = s.a + n;
	memset(s.w, 0, s.width * sizeof(double));
	lrn_rng_seed(&s.rng, p->params->random_state, (uint64_t) p->class);
	code = gather_rows(&s);
	if (code)
		goto done;
	active = s.n;
	while (epochs < p->params->max_iter && !converged)
	{
		code = epoch(&s, &active);
		if (code)
			goto done;
		epochs++;
		if (active > 0 && s.most - s.least > p->params->tol)
			continue;
		converged = active == s.n;
		/* Those set aside are looked at again. */
		active = s.n;
		s.most = INFINITY;
		s.least = -INFINITY;
	}
	memcpy(w, s.w, (size_t) p->d * sizeof(double));
	*b = p->params->fit_intercept ? s.w[p->d] : 0;
	report->iterations += epochs;
	report->converged &= converged;
done:
	mr_free(p->env, doubles);
	mr_free(p->env, s.x);
	mr_free(p->env, s.sign);
	mr_free(p->env, s.order);
	return code;
}
