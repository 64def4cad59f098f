/*
 * ridge_train.c
 *	  Ridge regression, solved exactly:
 *
 *	 minimise  sum_i w_i (y_i - b - beta.x_i)^2 + alpha |beta|^2
 *
 * (with "standardize", of beta times the columns' deviations).  With fewer
 * columns than rows by the normal equations, each column scaled to 1; with
 * more by the dual ones, beta = X'a, (X X' + alpha) a = y (Saunders, Gammerman,
 * Vovk, 1998).  A singular system has the solution of least norm.
 *
 * Memory: two square matrices of doubles of the lesser of rows and columns.
 */
#include "learn/learner.h"

#include <math.h>
#include <string.h>

#define PART	512				/* features that the dual takes at once */
#define STRIDE	(PART + 8)		/* a power of two would share cache sets */

typedef struct problem
{
	const mr_env *env;
	const lrn_params *params;
	const lrn_matrix *m;
	const lrn_target *t;
	double	   *mean;			/* cols; 0 unless centred */
	bool		centred;		/* for the intercept, or as a StandardScaler does */
	double	   *scale;			/* cols: deviation with "standardize", else 1 */
	double	   *beta;			/* cols */
	double		bias;			/* what a row of means answers */
	mr_status  *st;
} problem;

/* ---- the normal equations ---- */

static mr_code
solve_primal(problem *p)
{
	int			d = p->m->cols;
	lrn_moments s;
	double	   *size;
	mr_code		code = lrn_moments_of(p->env, p->m, p->t->value, p->t->weight,
									  p->params->progress, p->params->progress_arg, &s, p->st);

	if (code)
		return code;
	size = mr_alloc(p->env, (size_t) d * sizeof(double));
	if (size == NULL)
	{
		code = lrn_out_of_memory(p->st);
		goto done;
	}
	for (int i = 0; i < d; i++)
	{
		double	   *row = s.product + (size_t) i * s.ld;

		if (p->params->standardize && sqrt(row[i] / s.mass) > 1e-12 * fabs(s.mean[i]))
			p->scale[i] = sqrt(row[i] / s.mass);
		else
			p->scale[i] = 1;
		/* Sums about 0. */
		for (int j = 0; j <= i && !p->centred; j++)
			row[j] += s.mass * s.mean[i] * s.mean[j];
		if (!p->centred)
			s.cross[i] += s.mass * s.mean[i] * s.extra_mean;
		p->mean[i] = p->centred ? s.mean[i] : 0;
		row[i] += p->params->alpha * p->scale[i] * p->scale[i];
		/* A constant column without penalty: its weight is 0. */
		size[i] = row[i] > 0 ? sqrt(row[i]) : 1;
		for (int j = 0; j <= i; j++)
			row[j] /= size[i] * size[j];
		p->beta[i] = s.cross[i] / size[i];
	}
	code = lrn_solve(p->env, s.product, d, p->beta, p->st);
	for (int j = 0; j < d; j++)
		p->beta[j] /= size[j];
	p->bias = p->params->fit_intercept ? s.extra_mean : 0;
done:
	mr_free(p->env, size);
	lrn_moments_free(p->env, &s);
	return code;
}

/* ---- the dual ---- */

/*
 * z[row][feature of the part] = sqrt(w) (x - mean) / scale; eight columns at a
 * time fill whole cache lines.
 */
static void
fill_part(const problem *p, const double *root, int first, int n, double *z)
{
	for (int j0 = 0; j0 < n; j0 += 8)
		for (int64_t i = 0; i < p->m->rows; i++)
			for (int j = j0; j < j0 + 8; j++)
				z[(size_t) i * STRIDE + (size_t) j] = j >= n ? 0 :
					root[i] * ((double) p->m->col[first + j][i] - p->mean[first + j]) / p->scale[first + j];
}

static mr_code
solve_dual(problem *p)
{
	int			n = (int) p->m->rows;
	size_t		rows = (size_t) n,
				ld = lrn_padded(n);
	double	   *k = mr_alloc(p->env, ld * ld * sizeof(double)),
			   *z = mr_alloc(p->env, ld * STRIDE * sizeof(double)),
			   *a = mr_alloc(p->env, 2 * rows * sizeof(double)),
			   *root = a ? a + rows : NULL;
	lrn_column	c;
	mr_code		code = MR_OK;

	if (k == NULL || z == NULL || a == NULL)
	{
		code = lrn_out_of_memory(p->st);
		goto done;
	}
	memset(k, 0, ld * ld * sizeof(double));
	memset(z, 0, ld * STRIDE * sizeof(double));
	code = lrn_column_of(p->env, p->t->value, p->t->weight, n, &c, p->st);
	if (code)
		goto done;
	p->bias = p->params->fit_intercept ? c.mean : 0;
	for (size_t i = 0; i < rows; i++)
	{
		root[i] = p->t->weight ? sqrt((double) p->t->weight[i]) : 1;
		a[i] = root[i] * ((double) p->t->value[i] - p->bias);
	}
	for (int first = 0; first < p->m->cols && code == MR_OK; first += PART)
	{
		int			part = p->m->cols - first < PART ? p->m->cols - first : PART;

		for (int j = first; j < first + part && code == MR_OK; j++)
		{
			code = lrn_column_of(p->env, p->m->col[j], p->t->weight, n, &c, p->st);
			p->mean[j] = p->centred ? c.mean : 0;
			p->scale[j] = p->params->standardize && c.deviation > 0 ? c.deviation : 1;
		}
		if (code)
			break;
		fill_part(p, root, first, part, z);
		code = lrn_gram(p->env, z, z, STRIDE, (part + 7) & ~7, n, k, ld, p->st);
		if (code == MR_OK && mr_interrupted(p->env))
			code = lrn_canceled(p->st);
		if (code == MR_OK && p->params->progress)
			p->params->progress(p->params->progress_arg, first + part, p->m->cols, NAN);
	}
	for (size_t i = 0; i < rows; i++)
		k[i * ld + i] += p->params->alpha;
	if (code == MR_OK)
		code = lrn_solve(p->env, k, n, a, p->st);
	for (int j = 0; j < p->m->cols && code == MR_OK; j++)
	{
		const float *x = p->m->col[j];
		double		sum = 0;

		for (size_t i = 0; i < rows; i++)
			sum += a[i] * root[i] * ((double) x[i] - p->mean[j]);
		p->beta[j] = sum / (p->scale[j] * p->scale[j]);
		if (j % 64 == 0 && mr_interrupted(p->env))
			code = lrn_canceled(p->st);
	}
done:
	mr_free(p->env, k);
	mr_free(p->env, z);
	mr_free(p->env, a);
	return code;
}

static double
memory_needed(const lrn_params *p, int64_t rows, int cols, int n_classes)
{
	double		n = (double) rows,
				d = cols;

	if (rows < cols)
		return lrn_solve_memory((int) rows) + (n + 16) * (n + 16) * 8 + (n + 16) * STRIDE * 8 + n * 16 + d * 24;
	return lrn_moments_memory(cols) + lrn_solve_memory(cols) + d * 32;
}

static mr_code
train(const mr_env *env, const lrn_params *params, const lrn_matrix *m,
	  const lrn_target *t, lrn_report *report, uint8_t **file, size_t *len, mr_status *st)
{
	lrn_info	info = {LRN_RIDGE, LRN_REGRESS, m->cols, 0, 1};
	problem		p = {.env = env, .params = params, .m = m, .t = t,
	.centred = params->fit_intercept || params->standardize, .st = st};
	size_t		d = (size_t) m->cols;
	mr_code		code;

	p.mean = mr_alloc(env, 3 * d * sizeof(double));
	if (p.mean == NULL)
		return lrn_out_of_memory(st);
	p.scale = p.mean + d;
	p.beta = p.scale + d;
	code = m->rows < m->cols ? solve_dual(&p) : solve_primal(&p);
	for (size_t j = 0; j < d && code == MR_OK; j++)
		if (!isfinite(p.beta[j]) || fabs(p.beta[j]) > 3e38)
			code = mr_fail(st, MR_INVALID, "training did not give finite weights");
	report->iterations = 1;
	report->converged = true;
	report->memory = lrn_train_memory(params, m->rows, m->cols, 0);
	if (code == MR_OK)
		code = lrn_linear_write(env, &info, p.mean, p.beta, 1, &p.bias, NULL, NULL, file, len, st);
	mr_free(env, p.mean);
	return code;
}

static bool
is_sane(const lrn_info *info)
{
	return info->n_outputs == 1;
}

static const lrn_param parameters[] =
{
	LRN_PARAM_RANDOM_STATE,
	LRN_PARAM(alpha, REAL, .init = 1),
	LRN_PARAM(fit_intercept, BOOL, .init = true),
	LRN_PARAM(standardize, BOOL),
	LRN_PARAM_END
};

const lrn_learner lrn_ridge = {
	.algorithm = LRN_RIDGE,
	.name = "ridge",
	.tasks = LRN_CAN(LRN_REGRESS),
	.takes = LRN_TAKES_WEIGHTS,
	.params = parameters,
	.memory = memory_needed,
	.train = train,
	.sane = is_sane,
	LRN_LINEAR_MODEL,
};
