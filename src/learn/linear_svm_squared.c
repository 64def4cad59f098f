/*
 * linear_svm_squared.c
 *	  Squared hinge loss: smooth, minimised by L-BFGS.
 *
 * The search runs over u of centred and scaled columns, as in logistic
 * regression: that changes how fast the minimum is found, not where it lies,
 * since the penalty keeps speaking of w and b.  Objective and gradient are
 * divided by the sum of all C_i.
 */
#include "learn/linear_svm.h"

#include <math.h>
#include <string.h>

typedef struct search
{
	lsvm_problem *p;
	double		sum;			/* of all C_i */
	double	   *centre;			/* d, of x'; 0 without intercept */
	double	   *spread;			/* d */
	double	   *w;				/* d: for x' */
	double	   *raw;			/* d: for x */
	double	   *grad;			/* d + 1 */
	double	   *scratch;		/* LRN_BLOCK */
	float	  **tail;			/* the last, padded block: d columns */
	int32_t    *tail_y;
	float	   *tail_weight;
	int64_t		tail_first;
} search;

/* u -> w, and b as returned. */
static double
unfold(const search *s, const double *u)
{
	int			d = s->p->d;
	double		b = s->p->params->fit_intercept ? u[d] : 0;

	for (int j = 0; j < d; j++)
	{
		s->w[j] = u[j] / s->spread[j];
		b -= s->w[j] * s->centre[j];
	}
	return b;
}

static mr_code
objective(void *arg, const double *u, double *f, double *g)
{
	search	   *s = arg;
	lsvm_problem *p = s->p;
	int			d = p->d;
	double		b = unfold(s, u),
				raw_b = b,
				loss = 0,
				penalty = 0,
				gb;
	int64_t		work = 0;

	for (int j = 0; j < d; j++)
	{
		s->raw[j] = s->w[j] * p->scale[j];
		raw_b -= s->raw[j] * p->shift[j];
		penalty += s->w[j] * s->w[j];
	}
	memset(s->grad, 0, (size_t) (d + 1) * sizeof(double));
	for (int64_t first = 0; first < p->m->rows; first += LRN_BLOCK)
	{
		int			n = p->m->rows - first < LRN_BLOCK ? (int) (p->m->rows - first) : LRN_BLOCK;

		if (first == s->tail_first)
			loss += p->kernels->hinge_block(s->tail, 0, n, d, s->tail_y, p->class, p->weight ? s->tail_weight : NULL,
											p->positive, p->negative, s->raw, raw_b, s->grad, s->scratch);
		else
			loss += p->kernels->hinge_block(p->m->col, first, n, d, p->y, p->class, p->weight,
											p->positive, p->negative, s->raw, raw_b, s->grad, s->scratch);
		work += LRN_BLOCK * (int64_t) (d + 4);
		if (work > 1000000)
		{
			work = 0;
			if (mr_interrupted(p->env))
				return lrn_canceled(p->st);
		}
	}
	gb = s->grad[d] + b;
	for (int j = 0; j < d; j++)
	{
		double		gw = p->scale[j] * (s->grad[j] - p->shift[j] * s->grad[d]) + s->w[j];

		/* b moves with w where columns are centred. */
		g[j] = (gw - (p->params->fit_intercept ? s->centre[j] * gb : 0)) / s->spread[j] / s->sum;
	}
	if (p->params->fit_intercept)
	{
		penalty += b * b;
		g[d] = gb / s->sum;
	}
	*f = (loss + penalty / 2) / s->sum;
	return MR_OK;
}

/* The last rows, copied so that eights can be read past them. */
static void
copy_tail(search *s, float *cells)
{
	const lsvm_problem *p = s->p;
	int64_t		n = p->m->rows % 8 ? p->m->rows % LRN_BLOCK : 0;

	s->tail_first = n ? p->m->rows - n : -1;
	memset(cells, 0, (size_t) p->d * LRN_BLOCK * sizeof(float));
	memset(s->tail_y, 0, LRN_BLOCK * sizeof(int32_t));
	memset(s->tail_weight, 0, LRN_BLOCK * sizeof(float));
	for (int j = 0; j < p->d; j++)
	{
		s->tail[j] = cells + (size_t) j * LRN_BLOCK;
		if (n)
			memcpy(s->tail[j], p->m->col[j] + s->tail_first, (size_t) n * sizeof(float));
	}
	if (n)
	{
		memcpy(s->tail_y, p->y + s->tail_first, (size_t) n * sizeof(int32_t));
		if (p->weight)
			memcpy(s->tail_weight, p->weight + s->tail_first, (size_t) n * sizeof(float));
	}
}

double
lsvm_squared_memory(int cols)
{
	double		d = cols;

	/* L-BFGS keeps ten pairs and six vectors */
	return (d + 1) * 8 * 33 + (d + 8) * LRN_BLOCK * 8;
}

mr_code
lsvm_solve_squared(lsvm_problem *p, double *w, double *b, lrn_report *report)
{
	size_t		d = (size_t) p->d;
	search		s = {.p = p};
	double	   *memory = mr_alloc(p->env, (LRN_BLOCK + 6 * (d + 1)) * sizeof(double));
	float	   *cells = mr_alloc(p->env, d * LRN_BLOCK * sizeof(float));
	double	   *u;
	int			iterations = 0;
	bool		converged = false;
	mr_code		code;

	s.tail = mr_alloc(p->env, d * sizeof(float *));
	s.tail_y = mr_alloc(p->env, LRN_BLOCK * sizeof(int32_t));
	s.tail_weight = mr_alloc(p->env, LRN_BLOCK * sizeof(float));
	if (memory == NULL || cells == NULL || s.tail == NULL || s.tail_y == NULL || s.tail_weight == NULL)
	{
		code = lrn_out_of_memory(p->st);
		goto done;
	}
	memset(memory, 0, (LRN_BLOCK + 6 * (d + 1)) * sizeof(double));
	s.scratch = memory;			/* first: 64-byte aligned */
	s.centre = s.scratch + LRN_BLOCK;
	s.spread = s.centre + d;
	s.w = s.spread + d;
	s.raw = s.w + d;
	s.grad = s.raw + d;
	u = s.grad + d + 1;
	copy_tail(&s, cells);
	for (int64_t i = 0; i < p->m->rows; i++)
		s.sum += (p->y[i] == p->class ? p->positive : p->negative) * (p->weight ? (double) p->weight[i] : 1);
	for (size_t j = 0; j < d; j++)
	{
		double		mean = (p->mean[j] - p->shift[j]) * p->scale[j],
					deviation = p->deviation[j] * p->scale[j];

		s.centre[j] = p->params->fit_intercept ? mean : 0;
		s.spread[j] = sqrt(deviation * deviation + (p->params->fit_intercept ? 0 : mean * mean) + 1 / (2 * s.sum));
	}
	code = lrn_lbfgs(p->env, p->params->fit_intercept ? d + 1 : d, u, objective, &s, p->params->max_iter,
					 p->params->tol, NULL, NULL, &iterations, &converged, &report->loss, p->st);
	if (code)
		goto done;
	*b = unfold(&s, u);
	memcpy(w, s.w, d * sizeof(double));
	report->iterations += iterations;
	report->converged &= converged;
done:
	mr_free(p->env, memory);
	mr_free(p->env, cells);
	mr_free(p->env, s.tail);
	mr_free(p->env, s.tail_y);
	mr_free(p->env, s.tail_weight);
	return code;
}
