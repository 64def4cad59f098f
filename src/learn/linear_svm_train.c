/*
 * linear_svm_train.c
 *	  linear_svm: a linear machine for each class against the rest, one for
 *	  two classes, as scikit-learn's LinearSVC (liblinear) defines them.
 *
 * As there, a class's weight counts for its own rows in its own machine, and
 * the intercept is penalised like a weight.
 */
#include "learn/learner.h"
#include "learn/linear_svm.h"

#include <math.h>
#include <string.h>

static double
memory_needed(const lrn_params *p, int64_t rows, int cols, int n_classes)
{
	double		d = cols,
				k = n_classes;

	return (k + 6) * (d + 1) * 8 + k * 16 +
		(p->loss == LRN_HINGE ? lsvm_hinge_memory(rows, cols) : lsvm_squared_memory(cols));
}

/* What the penalty speaks of: columns as they are, or standardised. */
static mr_code
scale_columns(lsvm_problem *p)
{
	for (int j = 0; j < p->d; j++)
	{
		lrn_column	c;
		mr_code		code = lrn_column_of(p->env, p->m->col[j], NULL, p->m->rows, &c, p->st);

		if (code)
			return code;
		p->mean[j] = c.mean;
		p->deviation[j] = c.deviation;
		p->shift[j] = p->params->standardize ? c.mean : 0;
		p->scale[j] = p->params->standardize && c.deviation > 0 ? 1 / c.deviation : 1;
	}
	return MR_OK;
}

/* Positive for class c; rows of weight 0 count for nothing. */
static mr_code
check_weights(const lsvm_problem *p, const lrn_target *t, const double *class_weight, mr_status *st)
{
	int32_t		first = -1;

	for (int64_t i = 0; i < p->m->rows; i++)
		if (class_weight[p->y[i]] > 0 && (t->weight == NULL || t->weight[i] > 0))
		{
			if (first >= 0 && p->y[i] != first)
				return MR_OK;
			first = p->y[i];
		}
	return mr_fail(st, MR_INVALID, "fewer than two classes have rows of positive weight");
}

static mr_code
train(const mr_env *env, const lrn_params *params, const lrn_matrix *m,
	  const lrn_target *t, lrn_report *report, uint8_t **file, size_t *len, mr_status *st)
{
	int			k = t->n_classes,
				machines = k == 2 ? 1 : k;
	size_t		d = (size_t) m->cols;
	lrn_info	info = {LRN_LINEAR_SVM, LRN_CLASSIFY, m->cols, k, k};
	lsvm_problem p = {.env = env, .params = params, .m = m, .y = t->class_id, .weight = t->weight,
		.kernels = lrn_kernels_for(LRN_ISA_AUTO), .d = m->cols, .st = st};
	size_t		doubles = 4 * d + (size_t) machines * (d + 1) + 2 * (size_t) k;
	double	   *memory = mr_alloc(env, doubles * sizeof(double)),
			   *w,
			   *b,
			   *counts,
			   *class_weight;
	mr_code		code;

	if (memory == NULL)
		return lrn_out_of_memory(st);
	memset(memory, 0, doubles * sizeof(double));
	p.shift = memory;
	p.scale = p.shift + d;
	p.mean = p.scale + d;
	p.deviation = p.mean + d;
	w = p.deviation + d;
	b = w + (size_t) machines * d;
	counts = b + machines;
	class_weight = counts + k;
	for (int64_t i = 0; i < m->rows; i++)
		counts[p.y[i]]++;
	lrn_class_weights(params, params->class_weight, counts, (double) m->rows, k, class_weight);
	code = check_weights(&p, t, class_weight, st);
	if (code == MR_OK)
		code = scale_columns(&p);
	report->converged = true;
	for (int c = 0; c < machines && code == MR_OK; c++)
	{
		double	   *row = w + (size_t) c * d;

		p.class = machines == 1 ? 1 : c;
		p.positive = params->C * class_weight[p.class];
		p.negative = params->C * (machines == 1 ? class_weight[0] : 1);
		code = params->loss == LRN_HINGE ? lsvm_solve_hinge(&p, row, &b[c], report) :
			lsvm_solve_squared(&p, row, &b[c], report);
		/* Back to the columns as they are. */
		for (size_t j = 0; j < d && code == MR_OK; j++)
		{
			row[j] *= p.scale[j];
			b[c] -= row[j] * p.shift[j];
			if (!isfinite(row[j]))
				code = mr_fail(st, MR_INVALID, "training did not give finite weights");
		}
		if (params->progress && code == MR_OK)
			params->progress(params->progress_arg, c + 1, machines, NAN);
	}
	if (code == MR_OK && !isfinite(b[0]))
		code = mr_fail(st, MR_INVALID, "training did not give finite weights");
	report->loss = NAN;			/* each machine has its own */
	report->memory = lrn_train_memory(params, m->rows, m->cols, k);
	if (code == MR_OK)
		code = lrn_linear_write(env, &info, NULL, w, machines, b, NULL, NULL, file, len, st);
	mr_free(env, memory);
	return code;
}

static const lrn_choice losses[] =
{
	{"squared_hinge", LRN_SQUARED_HINGE},
	{"hinge", LRN_HINGE},
	{.name = NULL}
};

static const lrn_param parameters[] =
{
	LRN_PARAM_RANDOM_STATE,
	LRN_PARAM_CLASS_WEIGHTS,
	LRN_PARAM(C, POSITIVE, .init = 1),
	LRN_PARAM(loss, CHOICE, .init = LRN_SQUARED_HINGE, .choices = losses),
	LRN_PARAM(tol, POSITIVE, .init = 1e-4),
	LRN_PARAM(max_iter, INT, .init = 1000, .low = 1, .high = 1000000),
	LRN_PARAM(fit_intercept, BOOL, .init = true),
	LRN_PARAM(standardize, BOOL),
	LRN_PARAM_CALIBRATION(LRN_CALIBRATION_SIGMOID),
	LRN_PARAM_END
};

const lrn_learner lrn_linear_svm = {
	.algorithm = LRN_LINEAR_SVM,
	.name = "linear_svm",
	.tasks = LRN_CAN(LRN_CLASSIFY),
	.takes = LRN_TAKES_WEIGHTS | LRN_GIVES_SCORES,
	.params = parameters,
	.memory = memory_needed,
	.train = train,
	.sane = lrn_classifier_sane,
	LRN_LINEAR_MODEL,
};
