/*
 * train.c
 *	  What all algorithms share before and after training: checks of the data,
 *	  the memory that will be needed, class weights, accuracy on the training
 *	  rows.
 */
#include "learn/calibrate.h"
#include "learn/learner.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A column as messages name it, in a static-size buffer of the caller. */
static const char *
column_name(const lrn_matrix *m, int c, char *buf, size_t size)
{
	if (m->name && m->name[c])
		snprintf(buf, size, "\"%s\"", m->name[c]);
	else
		snprintf(buf, size, "%d", c + 1);
	return buf;
}

/* Neither missing nor infinite: no exponent is all ones.  Four at a time, as this reads all there is. */
static bool
all_finite(const float *x, int64_t n)
{
	typedef int32_t group __attribute__((vector_size(16), aligned(4), may_alias));
	const int32_t exponent = 0x7f800000;
	group		odd = {0};
	int64_t		i = 0;
	bool		finite = true;

	for (; i + 4 <= n; i += 4)
		odd |= (*(const group *) (x + i) & exponent) == exponent;
	for (int lane = 0; lane < 4; lane++)
		finite &= odd[lane] == 0;
	for (; i < n; i++)
		finite &= isfinite(x[i]) != 0;
	return finite;
}

/* Infinity is refused by all, missing values by those without a rule for them. */
static mr_code
check_matrix(const mr_env *env, const lrn_params *p, const lrn_matrix *m, mr_status *st)
{
	char		name[100];

	if (m->rows < 1 || m->cols < 1)
		return mr_fail(st, MR_INVALID, "there is nothing to train on: %lld rows of %d columns",
					   (long long) m->rows, m->cols);
	if (m->cols > LRN_MAX_FEATURES)
		return mr_fail(st, MR_LIMIT, "%d feature columns are too many", m->cols);
	if (m->rows > INT32_MAX)
		return mr_fail(st, MR_LIMIT, "%lld rows are too many", (long long) m->rows);
	for (int c = 0; c < m->cols; c++)
	{
		const float *x = m->col[c];
		int64_t		missing = 0,
					infinite = 0;

		if (mr_interrupted(env))
			return lrn_canceled(st);
		if (all_finite(x, m->rows))
			continue;
		for (int64_t i = 0; i < m->rows; i++)
		{
			missing += isnan(x[i]) != 0;
			infinite += isinf(x[i]) != 0;
		}
		if (infinite)
		{
			mr_fail(st, MR_INVALID, "column %s holds infinity", column_name(m, c, name, sizeof(name)));
			mr_detail(st, "%lld of %lld values are infinite or too large for real.",
					  (long long) infinite, (long long) m->rows);
			mr_hint(st, "Turn such values into NULL in the query, or drop their rows.");
			return MR_INVALID;
		}
		if (missing && !lrn_takes(p->algorithm, LRN_TAKES_MISSING))
		{
			mr_fail(st, MR_INVALID, "column %s has missing values", column_name(m, c, name, sizeof(name)));
			mr_detail(st, "%lld of %lld values are missing; %s has no rule for them.",
					  (long long) missing, (long long) m->rows, lrn_algorithm_name(p->algorithm));
			mr_hint(st, "Replace NULL in the query with coalesce(), drop the rows, or train a random_forest.");
			return MR_INVALID;
		}
	}
	return MR_OK;
}

static mr_code
check_classes(const lrn_matrix *m, const int32_t *y, int n_classes, mr_status *st)
{
	int32_t		first = -1;
	bool		differ = false;

	if (n_classes > LRN_MAX_CLASSES)
		return mr_fail(st, MR_LIMIT, "%d classes are too many", n_classes);
	for (int64_t i = 0; i < m->rows; i++)
	{
		if (y[i] < 0 || y[i] >= n_classes)
			return mr_fail(st, MR_INTERNAL, "class %d of row %lld is out of range", y[i], (long long) i);
		differ |= i > 0 && y[i] != first;
		first = i == 0 ? y[i] : first;
	}
	if (n_classes < 2 || !differ)
	{
		mr_fail(st, MR_INVALID, "all rows have the same class");
		mr_hint(st, "A classifier needs rows of at least two classes.");
		return MR_INVALID;
	}
	return MR_OK;
}

void
lrn_class_weights(const lrn_params *p, lrn_class_weight kind, const double *counts,
				  double n, int n_classes, double *w)
{
	int			present = 0;

	for (int c = 0; c < n_classes; c++)
		present += counts[c] > 0;
	for (int c = 0; c < n_classes; c++)
		switch (kind)
		{
			case LRN_WEIGHT_NONE:
				w[c] = 1;
				break;
			case LRN_WEIGHT_BALANCED:
			case LRN_WEIGHT_BALANCED_SUBSAMPLE:
				w[c] = counts[c] > 0 ? n / (present * counts[c]) : 0;
				break;
			case LRN_WEIGHT_GIVEN:
				w[c] = p->class_weights[c];
				break;
		}
}

size_t
lrn_train_memory(const lrn_params *p, int64_t rows, int cols, int n_classes)
{
	double		need = lrn_learner_of(p->algorithm)->memory(p, rows, cols, n_classes) +
		lrn_calibration_memory(p, rows, cols, n_classes);

	return need > (double) (SIZE_MAX / 4) ? SIZE_MAX : (size_t) need;
}

void *
lrn_budget_alloc(const mr_env *env, size_t limit, size_t *memory, size_t count, size_t size, mr_status *st)
{
	size_t		bytes,
				sum;
	void	   *p;

	if (!mr_mul_size(count, size, &bytes) || !mr_add_size(bytes, *memory, &sum))
	{
		mr_fail(st, MR_LIMIT, "training would need more memory than can be addressed");
		return NULL;
	}
	if (limit && sum > limit)
	{
		lrn_over_limit(st, sum, limit);
		return NULL;
	}
	p = mr_alloc(env, bytes ? bytes : 1);
	if (p == NULL)
	{
		lrn_out_of_memory(st);
		return NULL;
	}
	*memory = sum;
	return p;
}

/* The target must be whole: what can be wrong with it came from the query. */
static mr_code
check_target(const lrn_params *p, const lrn_matrix *m, const lrn_target *t, mr_status *st)
{
	double		sum = 0;

	if (p->task == LRN_CLASSIFY)
	{
		mr_code		code = check_classes(m, t->class_id, t->n_classes, st);

		if (code)
			return code;
	}
	else if (p->task == LRN_REGRESS)
	{
		for (int64_t i = 0; i < m->rows; i++)
			if (!isfinite(t->value[i]))
				return mr_fail(st, MR_INVALID, "the target of row %lld is not a finite number", (long long) i + 1);
	}
	if (t == NULL || t->weight == NULL)
		return MR_OK;
	if (!lrn_takes(p->algorithm, LRN_TAKES_WEIGHTS))
		return mr_fail(st, MR_INVALID, "algorithm \"%s\" takes no sample weights", lrn_algorithm_name(p->algorithm));
	for (int64_t i = 0; i < m->rows; i++)
	{
		if (!(t->weight[i] >= 0) || isinf(t->weight[i]))
			return mr_fail(st, MR_INVALID, "the weight of row %lld is not a number of at least 0", (long long) i + 1);
		sum += t->weight[i];
	}
	return sum > 0 ? MR_OK : mr_fail(st, MR_INVALID, "no row has a positive weight");
}

/* Sums over the training rows of what the finished model answers. */
typedef struct train_score
{
	int64_t		right;			/* rows classified right */
	double		square;			/* squared errors */
} train_score;

static void
score_row(const lrn_model *model, const float *answer, const lrn_target *t, int64_t row, train_score *s)
{
	if (model->info.task == LRN_REGRESS)
	{
		double		error = (double) answer[0] - (double) t->value[row];

		s->square += error * error;
	}
	else
	{
		int			best = 0;

		for (int c = 1; c < model->info.n_outputs; c++)
			if (answer[c] > answer[best])
				best = c;
		s->right += best == t->class_id[row];
	}
}

static mr_code
score_training(const mr_env *env, const lrn_matrix *m, const lrn_target *t,
			   const uint8_t *file, size_t len, lrn_report *report, mr_status *st)
{
	uint8_t    *flat = NULL;
	size_t		flat_len;
	lrn_model	model;
	train_score score = {0};
	int64_t		slice;
	float	   *rows,
			   *answers;
	mr_code		code = lrn_compile(env, file, len, &flat, &flat_len, st);

	if (code)
		return code;
	code = lrn_open(flat, flat_len, &model, st);
	if (code)
	{
		mr_free(env, flat);
		return code;
	}
	slice = lrn_slice(&model);
	slice = slice > 1024 ? 1024 : slice;
	rows = mr_alloc(env, (size_t) slice * (size_t) m->cols * sizeof(float));
	answers = mr_alloc(env, (size_t) slice * (size_t) model.info.n_outputs * sizeof(float));
	if (rows == NULL || answers == NULL)
		code = lrn_out_of_memory(st);
	for (int64_t first = 0; first < m->rows && code == MR_OK; first += slice)
	{
		int64_t		n = m->rows - first < slice ? m->rows - first : slice;

		for (int c = 0; c < m->cols; c++)
			for (int64_t i = 0; i < n; i++)
				rows[(size_t) i * (size_t) m->cols + (size_t) c] = m->col[c][first + i];
		lrn_predict(&model, rows, n, answers);
		for (int64_t i = 0; i < n; i++)
			score_row(&model, answers + (size_t) i * (size_t) model.info.n_outputs, t, first + i, &score);
		if (mr_interrupted(env))
			code = lrn_canceled(st);
	}
	if (model.info.task == LRN_REGRESS)
		report->train_rmse = sqrt(score.square / (double) m->rows);
	else
		report->train_accuracy = (double) score.right / (double) m->rows;
	mr_free(env, rows);
	mr_free(env, answers);
	mr_free(env, flat);
	return code;
}

mr_code
lrn_train(const mr_env *env, const lrn_params *p, const lrn_matrix *m,
		  const lrn_target *t, lrn_report *report,
		  uint8_t **file, size_t *len, mr_status *st)
{
	const lrn_learner *l = lrn_learner_of(p->algorithm);
	lrn_report	unused;
	size_t		need;
	mr_code		code;

	if (report == NULL)
		report = &unused;
	*report = (lrn_report) {.train_accuracy = NAN, .train_rmse = NAN, .oob_score = NAN, .loss = NAN,
		.variance_kept = NAN};
	if (l == NULL)
		return mr_fail(st, MR_INTERNAL, "algorithm %d does not exist", (int) p->algorithm);
	if (p->calibration && p->task != LRN_CLASSIFY)
		return mr_fail(st, MR_INVALID, "\"calibration\" is for classifiers, not for task \"regression\"");
	report->outputs = p->task == LRN_CLASSIFY ? t->n_classes : 1;
	code = check_matrix(env, p, m, st);
	if (code == MR_OK)
		code = check_target(p, m, t, st);
	if (code)
		return code;
	need = lrn_train_memory(p, m->rows, m->cols, t ? t->n_classes : 0);
	if (p->max_memory && need > p->max_memory)
		return lrn_over_limit(st, need, p->max_memory);
	code = p->calibration && p->task == LRN_CLASSIFY ?
		lrn_train_calibrated(env, p, m, t, report, file, len, st) :
		l->train(env, p, m, t, report, file, len, st);
	if (code || p->task > LRN_REGRESS || p->fit_only || (l->takes & LRN_NO_TRAIN_SCORE))
		return code;
	code = score_training(env, m, t, *file, *len, report, st);
	if (code)
	{
		mr_free(env, *file);
		*file = NULL;
	}
	return code;
}
