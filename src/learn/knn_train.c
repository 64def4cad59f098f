/*
 * knn_train.c
 *	  Nearest neighbours: the model is the training rows.
 *
 * Predictions search them all (kernels_knn.h); so that one row stays below 10
 * ms, a model holds at most LRN_KNN_NUMBERS numbers.  Ties go to the earlier
 * row.  Memory: the model bytes and, while they grow, their half again.
 */
#include "learn/knn.h"

#include <math.h>
#include <string.h>

/*
 * Mean and scale of each column: StandardScaler's with "standardize", else 0
 * and one power of two that keeps squares of large numbers within float32.
 */
static mr_code
measure(const mr_env *env, const lrn_params *p, const lrn_matrix *m, double *shift, double *scale, mr_status *st)
{
	double		top = 0;
	int			exponent;

	for (int j = 0; j < m->cols; j++)
	{
		lrn_column	c;
		mr_code		code = lrn_column_of(env, m->col[j], NULL, m->rows, &c, st);

		if (code)
			return code;
		shift[j] = p->standardize ? c.mean : 0;
		scale[j] = p->standardize && c.deviation > 0 ? 1 / c.deviation : 1;
		top = fmax(top, fabs(c.mean) + c.top);
	}
	frexp(top, &exponent);
	if (!p->standardize && (exponent > 50 || exponent < -50) && top > 0)
		for (int j = 0; j < m->cols; j++)
			scale[j] = ldexp(1, -exponent);
	return MR_OK;
}

static double
memory_needed(const lrn_params *p, int64_t rows, int cols, int n_classes)
{
	return (double) rows * (cols + 1) * 4 * 2.5 + cols * 16.0 + 8192;
}

static mr_code
train(const mr_env *env, const lrn_params *p, const lrn_matrix *m,
	  const lrn_target *t, lrn_report *report, uint8_t **file, size_t *len, mr_status *st)
{
	size_t		d = (size_t) m->cols;
	bool		classify = p->task == LRN_CLASSIFY;
	lrn_points	k = {
		.info = {LRN_KNN, p->task, m->cols, classify ? t->n_classes : 0, classify ? t->n_classes : 1},
		.metric = p->metric,.weights = p->weights,.n_neighbors = p->n_neighbors,
		.rows = m->rows,.m = m,.t = t
	};
	double	   *shift;
	mr_code		code;

	if (m->cols > LRN_KNN_FEATURES || m->rows > LRN_KNN_NUMBERS / m->cols)
	{
		mr_fail(st, MR_LIMIT, "knn cannot hold %lld rows of %d features", (long long) m->rows, m->cols);
		mr_detail(st, "A model holds at most %d numbers, and %d features.", LRN_KNN_NUMBERS, LRN_KNN_FEATURES);
		mr_hint(st, "Train on fewer rows with TABLESAMPLE, or reduce the features with a pca.");
		return MR_LIMIT;
	}
	if (m->rows < p->n_neighbors)
	{
		mr_fail(st, MR_INVALID, "there are fewer rows than neighbours");
		mr_detail(st, "Parameter \"n_neighbors\" is %d, the query has %lld rows.", p->n_neighbors, (long long) m->rows);
		mr_hint(st, "Lower \"n_neighbors\".");
		return MR_INVALID;
	}
	shift = mr_alloc(env, 2 * d * sizeof(double));
	if (shift == NULL)
		return lrn_out_of_memory(st);
	k.shift = shift;
	k.scale = shift + d;
	code = measure(env, p, m, shift, shift + d, st);
	if (code == MR_OK)
		code = lrn_knn_write(env, &k, p->max_memory, file, len, st);
	report->converged = true;
	report->memory = lrn_train_memory(p, m->rows, m->cols, t->n_classes);
	mr_free(env, shift);
	return code;
}

static const lrn_choice weights_choices[] =
{
	{"uniform", LRN_WEIGHTS_UNIFORM},
	{"distance", LRN_WEIGHTS_DISTANCE},
	{.name = NULL}
};

static const lrn_choice metric_choices[] =
{
	{"euclidean", LRN_EUCLIDEAN},
	{"cosine", LRN_COSINE},
	{"manhattan", LRN_MANHATTAN},
	{.name = NULL}
};

static const lrn_param parameters[] =
{
	LRN_PARAM_TASK,
	LRN_PARAM(n_neighbors, INT, .init = 5, .low = 1, .high = LRN_KNN_MOST),
	LRN_PARAM(weights, CHOICE, .init = LRN_WEIGHTS_UNIFORM, .choices = weights_choices),
	LRN_PARAM(metric, CHOICE, .init = LRN_EUCLIDEAN, .choices = metric_choices),
	LRN_PARAM(standardize, BOOL),
	LRN_PARAM_CALIBRATION(LRN_CALIBRATION_NONE),
	LRN_PARAM_END
};

const lrn_learner lrn_knn = {
	.algorithm = LRN_KNN,
	.name = "knn",
	.tasks = LRN_CAN(LRN_CLASSIFY) | LRN_CAN(LRN_REGRESS),
	.takes = LRN_NO_TRAIN_SCORE,
	.params = parameters,
	.memory = memory_needed,
	.train = train,
	.sane = lrn_knn_sane,
	.check = lrn_knn_check,
	.compile = lrn_knn_compile,
	.open = lrn_knn_open,
	.export = lrn_knn_export,
	.row_ns = lrn_knn_row_ns,
	.predict = lrn_knn_predict,
};
