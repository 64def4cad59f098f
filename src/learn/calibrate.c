/*
 * calibrate.c
 *	  Training with calibration, for every classifier.
 *
 * The model is trained on all rows.  What its scores mean is learnt from scores
 * of rows that were not trained on: k times it is trained without a k-th of the
 * rows, stratified and shuffled by random_state, and scores those.  As
 * scikit-learn's CalibratedClassifierCV with ensemble=False does.
 */
#include "learn/calibrate.h"
#include "learn/learner.h"
#include "learn/split.h"

#include <math.h>
#include <string.h>

typedef struct folds
{
	const mr_env *env;
	const lrn_learner *learner;
	const lrn_params *p;
	const lrn_matrix *m;
	const lrn_target *t;
	lrn_split	split;
	int32_t    *part;			/* fold of each row */
	float	   *score;			/* rows x n_classes */
	/* the rows of a fold's training */
	float	  **col;
	float	   *cells;
	int32_t    *class_id;
	float	   *weight;
	mr_status  *st;
} folds;

double
lrn_calibration_memory(const lrn_params *p, int64_t rows, int cols, int n_classes)
{
	/* part, class, weight, splitting and fitting; scores; the fold's copy */
	return p->calibration == LRN_CALIBRATION_NONE ? 0 :
		(double) rows * (4.0 * n_classes + 4.0 * cols + 60) + cols * 8.0;
}

/* As many folds as asked for, but no more than the rarest class has rows. */
static mr_code
count_folds(folds *f)
{
	int64_t		least = f->m->rows;
	int64_t    *count = mr_alloc(f->env, (size_t) f->t->n_classes * sizeof(int64_t));

	if (count == NULL)
		return lrn_out_of_memory(f->st);
	memset(count, 0, (size_t) f->t->n_classes * sizeof(int64_t));
	for (int64_t i = 0; i < f->m->rows; i++)
		count[f->t->class_id[i]]++;
	for (int c = 0; c < f->t->n_classes; c++)
		if (count[c] > 0 && count[c] < least)
			least = count[c];
	mr_free(f->env, count);
	if (least < 2)
	{
		mr_fail(f->st, MR_INVALID, "a class has too few rows to calibrate probabilities");
		mr_detail(f->st, "Calibration needs two rows of each class; one class has a single row.");
		mr_hint(f->st, "Leave such classes out of the query, or set \"calibration\": null.");
		return MR_INVALID;
	}
	f->split = (lrn_split) {.folds = least < f->p->cv ? (int) least : f->p->cv, .class_id = f->t->class_id,
		.n_classes = f->t->n_classes, .seed = f->p->random_state};
	return MR_OK;
}

/* Rows outside the fold, copied; their number, or -1: canceled. */
static int64_t
copy_training_rows(folds *f, int fold)
{
	int64_t		rows = f->m->rows,
				n = 0;

	for (int64_t i = 0; i < rows; i++)
		if (lrn_split_role(&f->split, f->part[i], fold) == LRN_TRAIN)
		{
			f->class_id[n] = f->t->class_id[i];
			if (f->t->weight)
				f->weight[n] = f->t->weight[i];
			n++;
		}
	for (int c = 0; c < f->m->cols; c++)
	{
		float	   *to = f->cells + (size_t) c * (size_t) rows;

		f->col[c] = to;
		for (int64_t i = 0; i < rows; i++)
			if (lrn_split_role(&f->split, f->part[i], fold) == LRN_TRAIN)
				*to++ = f->m->col[c][i];
		if (mr_interrupted(f->env))
			return -1;
	}
	return n;
}

/* Scores of the fold's rows by a model that has not seen them. */
static mr_code
score_fold(folds *f, int fold, const lrn_model *model)
{
	const int	slice = 64;
	size_t		d = (size_t) f->m->cols,
				k = (size_t) f->t->n_classes;
	float	   *rows = mr_alloc(f->env, slice * (d + k) * sizeof(float));
	float	   *out = rows + slice * d;
	int64_t		which[64];
	int			n = 0;
	mr_code		code = rows ? MR_OK : lrn_out_of_memory(f->st);

	for (int64_t i = 0; i <= f->m->rows && code == MR_OK; i++)
	{
		if (n == slice || (i == f->m->rows && n > 0))
		{
			lrn_scores(model, rows, n, out);
			for (int r = 0; r < n; r++)
				memcpy(f->score + (size_t) which[r] * k, out + (size_t) r * k, k * sizeof(float));
			n = 0;
			if (mr_interrupted(f->env))
				code = lrn_canceled(f->st);
		}
		if (i == f->m->rows || lrn_split_role(&f->split, f->part[i], fold) != LRN_TEST)
			continue;
		for (size_t c = 0; c < d; c++)
			rows[(size_t) n * d + c] = f->m->col[c][i];
		which[n++] = i;
	}
	mr_free(f->env, rows);
	return code;
}

static mr_code
train_fold(folds *f, int fold)
{
	int64_t		rows = copy_training_rows(f, fold);
	lrn_matrix	m = {.rows = rows, .cols = f->m->cols, .col = f->col, .name = f->m->name, .n_categories = f->m->n_categories};
	lrn_target	t = {.class_id = f->class_id, .n_classes = f->t->n_classes, .weight = f->t->weight ? f->weight : NULL};
	lrn_params	p = *f->p;
	lrn_report	report = {0};
	lrn_model	model;
	uint8_t    *bytes = NULL,
			   *flat = NULL;
	size_t		len,
				flat_len;
	mr_code		code;

	if (rows < 0)
		return lrn_canceled(f->st);
	p.calibration = LRN_CALIBRATION_NONE;
	p.progress = NULL;
	p.fit_only = true;
	code = f->learner->train(f->env, &p, &m, &t, &report, &bytes, &len, f->st);
	if (code == MR_OK)
		code = lrn_compile(f->env, bytes, len, &flat, &flat_len, f->st);
	if (code == MR_OK)
		code = lrn_open(flat, flat_len, &model, f->st);
	if (code == MR_OK)
		code = score_fold(f, fold, &model);
	mr_free(f->env, flat);
	mr_free(f->env, bytes);
	if (f->p->progress && code == MR_OK)
		f->p->progress(f->p->progress_arg, fold + 1, f->split.folds, NAN);
	return code;
}

/* A map for each class, or for the second of two, appended to the file. */
static mr_code
fit_maps(folds *f, uint8_t **file, size_t *len)
{
	int			k = f->t->n_classes,
				n = lrn_n_maps(k);
	lrn_map    *map = mr_alloc(f->env, (size_t) n * sizeof(lrn_map));
	mr_code		code = map ? MR_OK : lrn_out_of_memory(f->st);

	if (map)
		memset(map, 0, (size_t) n * sizeof(lrn_map));
	for (int c = 0; c < n && code == MR_OK; c++)
	{
		lrn_scored_rows rows = {.n = f->m->rows, .score = f->score + (n == 1 ? 1 : c), .stride = k,
		.class_id = f->t->class_id, .class = n == 1 ? 1 : c, .weight = f->t->weight};

		code = f->p->calibration == LRN_CALIBRATION_SIGMOID ?
			lrn_fit_sigmoid(f->env, &rows, &map[c], f->st) :
			lrn_fit_isotonic(f->env, &rows, &map[c], f->st);
	}
	if (code == MR_OK)
		code = lrn_calibration_add(f->env, f->p->calibration, map, file, len, f->st);
	for (int c = 0; map && c < n; c++)
	{
		mr_free(f->env, map[c].x);
		mr_free(f->env, map[c].y);
	}
	mr_free(f->env, map);
	return code;
}

mr_code
lrn_train_calibrated(const mr_env *env, const lrn_params *p, const lrn_matrix *m,
					 const lrn_target *t, lrn_report *report,
					 uint8_t **file, size_t *len, mr_status *st)
{
	size_t		rows = (size_t) m->rows;
	folds		f = {.env = env, .learner = lrn_learner_of(p->algorithm), .p = p, .m = m, .t = t, .st = st};
	mr_code		code = count_folds(&f);

	if (code)
		return code;
	code = f.learner->train(env, p, m, t, report, file, len, st);
	if (code)
		return code;
	f.part = mr_alloc(env, rows * sizeof(int32_t));
	f.score = mr_alloc(env, rows * (size_t) t->n_classes * sizeof(float));
	f.class_id = mr_alloc(env, rows * sizeof(int32_t));
	f.weight = mr_alloc(env, rows * sizeof(float));
	f.cells = mr_alloc(env, rows * (size_t) m->cols * sizeof(float));
	f.col = mr_alloc(env, (size_t) m->cols * sizeof(float *));
	code = f.part && f.score && f.class_id && f.weight && f.cells && f.col ? MR_OK : lrn_out_of_memory(st);
	if (code == MR_OK)
		code = lrn_split_rows(env, &f.split, m->rows, f.part, st);
	for (int fold = 0; fold < f.split.folds && code == MR_OK; fold++)
		code = train_fold(&f, fold);
	if (code == MR_OK)
		code = fit_maps(&f, file, len);
	mr_free(env, f.part);
	mr_free(env, f.score);
	mr_free(env, f.class_id);
	mr_free(env, f.weight);
	mr_free(env, f.cells);
	mr_free(env, f.col);
	if (code)
	{
		mr_free(env, *file);
		*file = NULL;
	}
	return code;
}
