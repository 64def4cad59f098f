/*
 * logistic_train.c
 *	  Logistic regression with an L2 penalty, as scikit-learn's lbfgs solver
 *	  defines it:
 *
 *	 minimise  sum_i s_i loss_i / S  +  |W|^2 / (2 C S),   S = sum of weights
 *
 * with a softmax over all classes, or one sigmoid where there are two; the
 * intercept is not penalised.  The minimum is searched in coordinates u of
 * centred and scaled columns, which changes how fast it is found but not where
 * it lies: the penalty keeps speaking of w (with "standardize", of w times the
 * column's deviation, which equals a StandardScaler in front).  A column's
 * scale makes its curvature, that of the loss and that of the penalty
 * together, about 1.  Few unknowns are solved for by Newton's method, many by
 * L-BFGS.
 */
#include "learn/logistic.h"

#include <math.h>
#include <string.h>

/* u (k x d, then k intercepts) -> weights and intercepts of the raw columns. */
static void
unfold(const lrn_logistic *p, const double *u, double *w, double *b)
{
	int			k = p->k,
				d = p->d;

	for (int c = 0; c < k; c++)
	{
		b[c] = p->intercept ? u[(size_t) k * (size_t) d + (size_t) c] : 0;
		for (int j = 0; j < d; j++)
		{
			size_t		at = (size_t) c * (size_t) d + (size_t) j;

			w[at] = u[at] / p->scale[j];
			b[c] -= w[at] * p->mean[j];
		}
	}
}

/* One block: its loss, and what it adds to the derivatives. */
static mr_code
add_block(lrn_logistic *p, int64_t first, double *loss)
{
	int			n = (int) (p->m->rows - first < LRN_BLOCK ? p->m->rows - first : LRN_BLOCK);
	bool		tail = first == p->tail_first;
	float	   *const *col = tail ? p->tail : p->m->col;
	int64_t		at = tail ? 0 : first;

	*loss += p->kernels->logistic_block(col, at, n, p->d, p->y + (first - at), p->class_weight,
										p->row_weight ? p->row_weight + (first - at) : NULL, p->k, p->w, p->b,
										p->grad, p->scratch, p->hessian ? p->hessian->share : NULL);
	return p->hessian ? lrn_hessian_add(p, col, at, first, n) : MR_OK;
}

mr_code
lrn_logistic_value(void *arg, const double *u, double *f, double *g)
{
	lrn_logistic *p = arg;
	size_t		k = (size_t) p->k,
				d = (size_t) p->d;
	double		loss = 0,
				penalty = 0;
	int64_t		work = 0;

	unfold(p, u, p->w, p->b);
	memset(p->grad, 0, k * (d + 1) * sizeof(double));
	for (int64_t first = 0; first < p->m->rows; first += LRN_BLOCK)
	{
		mr_code		code = add_block(p, first, &loss);

		if (code)
			return code;
		work += LRN_BLOCK * (int64_t) (k * (d + 8)) * (p->hessian ? (int64_t) (k * d) / 4 + 1 : 1);
		if (work > 1000000)
		{
			work = 0;
			if (mr_interrupted(p->env))
				return lrn_canceled(p->st);
		}
	}
	for (size_t c = 0; c < k; c++)
	{
		const double *raw = p->grad + c * (d + 1);

		for (size_t j = 0; j < d; j++)
		{
			size_t		at = c * d + j;

			penalty += p->penalty[j] * u[at] * u[at];
			g[at] = ((raw[j] - p->mean[j] * raw[d]) / p->scale[j] + p->penalty[j] * u[at]) / p->sum_weight;
		}
		if (p->intercept)
			g[k * d + c] = raw[d] / p->sum_weight;
	}
	*f = (loss + penalty / 2) / p->sum_weight;
	return MR_OK;
}

/* Mean, scale and penalty of each column. */
static mr_code
standardise(lrn_logistic *p, const lrn_params *params)
{
	double		share = p->k == 1 ? 0.5 : 1.0 / p->k,
				curvature = share * (1 - share);	/* of the loss, a row */
	bool		centred = p->intercept || params->standardize;

	for (int j = 0; j < p->d; j++)
	{
		lrn_column	c;
		double		square,
					penalty;
		mr_code		code = lrn_column_of(p->env, p->m->col[j], p->row_weight, p->m->rows, &c, p->st);

		if (code)
			return code;
		/* Without an intercept only a StandardScaler may shift. */
		p->mean[j] = centred ? c.mean : 0;
		penalty = params->standardize && c.deviation > 0 ? c.deviation * c.deviation / params->C : 1 / params->C;
		/* What the loss sees: squares about the mean, or about 0. */
		square = c.deviation * c.deviation + (centred ? 0 : c.mean * c.mean);
		p->scale[j] = sqrt(square + penalty / (p->sum_weight * curvature));
		p->penalty[j] = penalty / (p->scale[j] * p->scale[j]);
	}
	return MR_OK;
}

/* The last rows, copied so that a block of eight can be read past them. */
static void
copy_tail(lrn_logistic *p, float *tail)
{
	int64_t		n = p->m->rows % 8 ? p->m->rows % LRN_BLOCK : 0;

	p->tail_first = n ? p->m->rows - n : -1;
	for (int j = 0; j < p->d; j++)
	{
		p->tail[j] = tail + (size_t) j * LRN_BLOCK;
		if (n)
		{
			memset(p->tail[j], 0, LRN_BLOCK * sizeof(float));
			memcpy(p->tail[j], p->m->col[j] + p->tail_first, (size_t) n * sizeof(float));
		}
	}
}

/* Few unknowns: a pass with second derivatives costs a few without. */
#define NEWTON_UNKNOWNS	64

static bool
is_newton(const lrn_params *p, int k, int d)
{
	if (p->solver != LRN_SOLVER_AUTO)
		return p->solver == LRN_SOLVER_NEWTON;
	return (double) k * (d + 1) <= NEWTON_UNKNOWNS;
}

static mr_code
train(const mr_env *env, const lrn_params *params, const lrn_matrix *m,
	  const lrn_target *t, lrn_report *report, uint8_t **file, size_t *len, mr_status *st)
{
	const int32_t *y = t->class_id;
	int			n_classes = t->n_classes;
	lrn_info	info = {LRN_LOGISTIC_REGRESSION, LRN_CLASSIFY, m->cols, n_classes, n_classes};
	lrn_logistic p = {.env = env, .m = m, .y = y, .row_weight = t->weight, .st = st};
	size_t		d = (size_t) m->cols,
				k = n_classes == 2 ? 1 : (size_t) n_classes,
				unknowns = k * (d + 1),
				doubles = 3 * d + 2 * unknowns + k * d + k + 2 * (size_t) n_classes + k * LRN_BLOCK + 8;
	double	   *memory = mr_alloc(env, doubles * sizeof(double));
	float	   *tail = mr_alloc(env, d * LRN_BLOCK * sizeof(float));
	double	   *u,
			   *counts,
			   *weight,
				mass = 0;
	mr_code		code = MR_OK;

	p.tail = mr_alloc(env, d * sizeof(float *));
	if (memory == NULL || tail == NULL || p.tail == NULL)
	{
		code = lrn_out_of_memory(st);
		goto done;
	}
	memset(memory, 0, doubles * sizeof(double));
	p.scratch = memory;			/* first: 64-byte aligned */
	p.mean = p.scratch + k * LRN_BLOCK;
	p.scale = p.mean + d;
	p.penalty = p.scale + d;
	u = p.penalty + d;
	p.grad = u + unknowns;
	p.w = p.grad + unknowns;
	p.b = p.w + k * d;
	counts = p.b + k;
	weight = counts + n_classes;

	p.kernels = lrn_kernels_for(LRN_ISA_AUTO);
	p.k = (int) k;
	p.d = (int) d;
	p.intercept = params->fit_intercept;
	for (int64_t i = 0; i < m->rows; i++)
		counts[y[i]] += t->weight ? (double) t->weight[i] : 1;
	for (int c = 0; c < n_classes; c++)
		mass += counts[c];
	lrn_class_weights(params, params->class_weight, counts, mass, n_classes, weight);
	p.class_weight = weight;
	for (int c = 0; c < n_classes; c++)
		p.sum_weight += counts[c] * weight[c];
	if (!(p.sum_weight > 0))
	{
		code = mr_fail(st, MR_INVALID, "no row has a class of positive weight");
		goto done;
	}
	code = standardise(&p, params);
	if (code)
		goto done;
	copy_tail(&p, tail);

	if (is_newton(params, (int) k, m->cols))
		code = lrn_logistic_newton(&p, params->fit_intercept ? unknowns : k * d, u, params, report);
	else
		code = lrn_lbfgs(env, params->fit_intercept ? unknowns : k * d, u, lrn_logistic_value, &p,
						 params->max_iter, params->tol, params->progress, params->progress_arg,
						 &report->iterations, &report->converged, &report->loss, st);
	if (code)
		goto done;
	unfold(&p, u, p.w, p.b);
	for (size_t i = 0; i < k * d; i++)
		if (!isfinite(p.w[i]))
		{
			code = mr_fail(st, MR_INVALID, "training did not give finite weights");
			goto done;
		}
	report->memory = lrn_train_memory(params, m->rows, m->cols, n_classes);
	code = lrn_linear_write(env, &info, NULL, p.w, (int) k, p.b, NULL, NULL, file, len, st);
done:
	mr_free(env, memory);
	mr_free(env, tail);
	mr_free(env, p.tail);
	return code;
}

static double
memory_needed(const lrn_params *p, int64_t rows, int cols, int n_classes)
{
	double		d = cols,
				k = n_classes == 2 ? 1 : n_classes,
				both = d * LRN_BLOCK * 4 + k * LRN_BLOCK * 8 + (d + 1) * (k * 3 + 4) * 8 + n_classes * 16;

	/* L-BFGS keeps ten pairs and four vectors */
	return both + (is_newton(p, (int) k, cols) ? lrn_newton_memory((int) k, cols) : (d + 1) * k * 8 * 24);
}

static const lrn_choice solvers[] =
{
	{"auto", LRN_SOLVER_AUTO},
	{"lbfgs", LRN_SOLVER_LBFGS},
	{"newton-cholesky", LRN_SOLVER_NEWTON},
	{.name = NULL}
};

static const lrn_param parameters[] =
{
	LRN_PARAM_RANDOM_STATE,
	LRN_PARAM_CLASS_WEIGHTS,
	LRN_PARAM(C, POSITIVE, .init = 1),
	LRN_PARAM(tol, POSITIVE, .init = 1e-4),
	LRN_PARAM(max_iter, INT, .init = 100, .low = 1, .high = 1000000),
	LRN_PARAM(fit_intercept, BOOL, .init = true),
	LRN_PARAM(standardize, BOOL),
	LRN_PARAM(solver, CHOICE, .init = LRN_SOLVER_AUTO, .choices = solvers),
	LRN_PARAM_CALIBRATION(LRN_CALIBRATION_NONE),
	LRN_PARAM_END
};

const lrn_learner lrn_logistic_regression = {
	.algorithm = LRN_LOGISTIC_REGRESSION,
	.name = "logistic_regression",
	.tasks = LRN_CAN(LRN_CLASSIFY),
	.takes = LRN_TAKES_WEIGHTS,
	.params = parameters,
	.memory = memory_needed,
	.train = train,
	.sane = lrn_classifier_sane,
	LRN_LINEAR_MODEL,
};
