/*
 * train.c
 *	  What all algorithms share before and after training: checks of the data,
 *	  the memory that will be needed, class weights, accuracy on the training
 *	  rows.
 */
#include "learn/learn_int.h"

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
		if (missing && p->algorithm != LRN_RANDOM_FOREST)
		{
			mr_fail(st, MR_INVALID, "column %s has missing values", column_name(m, c, name, sizeof(name)));
			mr_detail(st, "%lld of %lld values are missing; %s has no rule for them.",
					  (long long) missing, (long long) m->rows, lrn_algorithm_name(p->algorithm));
			mr_hint(st, "Replace NULL in the query with coalesce(), drop the rows, or train a random_forest.");
			return MR_INVALID;
		}
		if (mr_interrupted(env))
			return lrn_canceled(st);
	}
	return MR_OK;
}

static mr_code
check_labels(const lrn_matrix *m, const int32_t *y, int n_classes, mr_status *st)
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
	double		r = (double) rows,
				d = cols,
				k = n_classes,
				need = 0;

	switch (p->algorithm)
	{
		case LRN_RANDOM_FOREST:
			/* ranks and distinct values; items and keys twice; draws; votes */
			need = r * d * 8 + r * 36 + k * 40;
			if (p->oob_score > 0 || (p->oob_score < 0 && r * k * 4 <= 256.0 * 1048576))
				need += r * k * 4;
			if (p->criterion == LRN_ENTROPY)
				need += fmin(r + 1, 1048576) * 8;
			break;
		case LRN_LOGISTIC_REGRESSION:
			/* L-BFGS keeps ten pairs and six vectors */
			need = (d + 1) * k * 8 * 27 + (k + d) * LRN_BLOCK * 8 + k * 16;
			break;
		case LRN_PCA:
			need = (d + 16) * (d + 16) * 8 + (d + 16) * LRN_BLOCK * 8 + (double) lrn_eigen_memory(cols, cols) + d * d * 8;
			break;
	}
	return need > (double) (SIZE_MAX / 4) ? SIZE_MAX : (size_t) need;
}

/* Share of the training rows that the finished model classifies right. */
static mr_code
train_accuracy(const mr_env *env, const lrn_matrix *m, const int32_t *y, int n_classes,
			   const uint8_t *file, size_t len, double *accuracy, mr_status *st)
{
	uint8_t    *flat = NULL;
	size_t		flat_len;
	lrn_model	model;
	int64_t		slice,
				right = 0;
	float	   *rows,
			   *proba;
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
	proba = mr_alloc(env, (size_t) slice * (size_t) n_classes * sizeof(float));
	if (rows == NULL || proba == NULL)
		code = lrn_out_of_memory(st);
	for (int64_t first = 0; first < m->rows && code == MR_OK; first += slice)
	{
		int64_t		n = m->rows - first < slice ? m->rows - first : slice;

		for (int c = 0; c < m->cols; c++)
			for (int64_t i = 0; i < n; i++)
				rows[(size_t) i * (size_t) m->cols + (size_t) c] = m->col[c][first + i];
		lrn_predict_proba(&model, rows, n, proba);
		for (int64_t i = 0; i < n; i++)
		{
			const float *p = proba + (size_t) i * (size_t) n_classes;
			int			best = 0;

			for (int c = 1; c < n_classes; c++)
				if (p[c] > p[best])
					best = c;
			right += best == y[first + i];
		}
		if (mr_interrupted(env))
			code = lrn_canceled(st);
	}
	*accuracy = (double) right / (double) m->rows;
	mr_free(env, rows);
	mr_free(env, proba);
	mr_free(env, flat);
	return code;
}

mr_code
lrn_train(const mr_env *env, const lrn_params *p, const lrn_matrix *m,
		  const int32_t *y, int n_classes, lrn_report *report,
		  uint8_t **file, size_t *len, mr_status *st)
{
	lrn_report	unused;
	size_t		need;
	mr_code		code;

	if (report == NULL)
		report = &unused;
	*report = (lrn_report) {.train_accuracy = NAN, .oob_score = NAN, .loss = NAN, .variance_kept = NAN};
	report->outputs = n_classes;
	code = check_matrix(env, p, m, st);
	if (code == MR_OK && lrn_is_classifier(p->algorithm))
		code = check_labels(m, y, n_classes, st);
	if (code)
		return code;
	need = lrn_train_memory(p, m->rows, m->cols, n_classes);
	if (p->max_memory && need > p->max_memory)
		return lrn_over_limit(st, need, p->max_memory);

	switch (p->algorithm)
	{
		case LRN_RANDOM_FOREST:
			code = lrn_forest_train(env, p, m, y, n_classes, report, file, len, st);
			break;
		case LRN_LOGISTIC_REGRESSION:
			code = lrn_logistic_train(env, p, m, y, n_classes, report, file, len, st);
			break;
		case LRN_PCA:
			code = lrn_pca_train(env, p, m, report, file, len, st);
			break;
		default:
			return mr_fail(st, MR_INTERNAL, "algorithm %d does not exist", (int) p->algorithm);
	}
	if (code || !lrn_is_classifier(p->algorithm))
		return code;
	code = train_accuracy(env, m, y, n_classes, *file, *len, &report->train_accuracy, st);
	if (code)
	{
		mr_free(env, *file);
		*file = NULL;
	}
	return code;
}
