/*
 * tune_trial_pg.c
 *	  One fold of one trial: train on its rows, score on the rest.
 *
 * Which process does it changes nothing: rows, parameters and random numbers
 * are the job's.  What is wrong with a combination is the cell's error; only a
 * cancel raises.  Memory: a context that is reset after each cell.
 */
#include "postgres.h"

#include <math.h>

#include "core/core_pg.h"
#include "miscadmin.h"
#include "registry/progress.h"
#include "registry/tune.h"
#include "utils/memutils.h"

#define SLICE 1024				/* rows predicted at once */

static TimestampTz deadline;
static bool (*asked_to_stop) (void *arg);

/* An env's interrupted(): a cancel, or no time left. */
static bool
stop(void *arg)
{
	return asked_to_stop(arg) || (deadline != 0 && GetCurrentTimestamp() >= deadline);
}

/* The rows of a part of a fold, in order. */
typedef struct fold_rows
{
	int32	   *row;
	int64		n;
} fold_rows;

static mr_code
select_rows(const mr_env *env, const tune_job *job, int fold, lrn_role role, fold_rows *out, mr_status *st)
{
	const tune_shared *s = job->s;
	lrn_split	split = {.folds = s->folds,.order = s->ordered ? &(double) {0} : NULL};
	uint32		below = s->share < 1 ? (uint32) (s->share * 4294967295.0) : PG_UINT32_MAX;

	out->n = 0;
	out->row = mr_alloc(env, s->rows * sizeof(int32));
	if (out->row == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory");
	for (int64 i = 0; i < s->rows; i++)
		if (lrn_split_role(&split, job->part[i], fold) == role && (role == LRN_TEST || job->draw[i] <= below))
			out->row[out->n++] = (int32) i;
	if (out->n == 0)
		return mr_fail(st, MR_INVALID, "fold %d has no rows to %s", fold + 1, role == LRN_TEST ? "test" : "train on");
	return MR_OK;
}

static mr_code
gather(const mr_env *env, const tune_job *job, const fold_rows *r, lrn_matrix *m, lrn_target *t, mr_status *st)
{
	int			cols = job->s->cols;
	float	  **col = mr_alloc(env, (size_t) cols * sizeof(float *));
	float	   *values = mr_alloc(env, (size_t) r->n * ((size_t) cols + 3) * sizeof(float));
	float	   *next = values;

	if (col == NULL || values == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory");
	for (int c = 0; c < cols; c++)
	{
		const float *from = job->matrix.col[c];

		if (mr_interrupted(env))
			return mr_fail(st, MR_CANCELED, "canceled");
		col[c] = next;
		for (int64 i = 0; i < r->n; i++)
			*next++ = from[r->row[i]];
	}
	*m = job->matrix;
	m->rows = r->n;
	m->col = col;
	*t = (lrn_target) {.n_classes = job->target.n_classes};
	if (job->target.class_id)
	{
		t->class_id = (int32 *) next;
		for (int64 i = 0; i < r->n; i++)
			memcpy(next++, &job->target.class_id[r->row[i]], sizeof(int32));
	}
	if (job->target.value)
	{
		t->value = next;
		for (int64 i = 0; i < r->n; i++)
			*next++ = job->target.value[r->row[i]];
	}
	if (job->target.weight)
	{
		t->weight = next;
		for (int64 i = 0; i < r->n; i++)
			*next++ = job->target.weight[r->row[i]];
	}
	return MR_OK;
}

static mr_code
score(const mr_env *env, const tune_job *job, const fold_rows *r, const lrn_model *model, double *out, mr_status *st)
{
	const tune_shared *s = job->s;
	size_t		n = (size_t) r->n;
	int			k = model->info.n_outputs;
	int64		slice = Max(1, Min(SLICE, lrn_slice(model)));
	int32	   *truth = mr_alloc(env, n * sizeof(int32));
	float	   *value = mr_alloc(env, n * sizeof(float));
	float	   *rows = mr_alloc(env, (size_t) slice * s->cols * sizeof(float));
	float	   *answers = mr_alloc(env, (size_t) slice * k * sizeof(float));
	lrn_scored	scored = {.rows = r->n,.n_classes = job->target.class_id ? s->n_classes : 0,.truth = truth,.value = value};
	void	   *work;

	scored.predicted = mr_alloc(env, n * sizeof(int32));
	scored.loss = mr_alloc(env, n * sizeof(double));
	if (s->metric == LRN_SCORE_ROC_AUC)
		scored.proba = mr_alloc(env, n * k * sizeof(float));
	if (!truth || !value || !rows || !answers || !scored.predicted || !scored.loss ||
		(s->metric == LRN_SCORE_ROC_AUC && !scored.proba))
		return mr_fail(st, MR_NOMEM, "out of memory");
	for (int64 i = 0; i < r->n; i++)
	{
		if (job->target.class_id)
			truth[i] = job->target.class_id[r->row[i]];
		else
			value[i] = job->target.value[r->row[i]];
	}
	for (int64 first = 0; first < r->n; first += slice)
	{
		int64		now = Min(slice, r->n - first);

		if (mr_interrupted(env))
			return mr_fail(st, MR_CANCELED, "canceled");
		for (int c = 0; c < s->cols; c++)
			for (int64 i = 0; i < now; i++)
				rows[i * s->cols + c] = job->matrix.col[c][r->row[first + i]];
		lrn_predict(model, rows, now, answers);
		lrn_score_enter(s->metric, &scored, first, now, answers);
	}
	work = mr_alloc(env, lrn_score_work(s->metric, &scored) + 1);
	if (work == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory");
	*out = lrn_score(s->metric, &scored, NULL, work);
	if (isnan(*out))
		return mr_fail(st, MR_INVALID, "%s is not defined on the rows of a fold", lrn_score_name(s->metric));
	return MR_OK;
}

static mr_code
train_and_score(const mr_env *env, const tune_job *job, int trial, int fold, double *out, mr_status *st)
{
	lrn_params	p = job->params[trial];
	fold_rows	train,
				test;
	lrn_matrix	m;
	lrn_target	t;
	uint8_t    *bytes,
			   *file;
	size_t		size,
				len;
	lrn_model	model;
	mr_code		code;

	p.fit_only = true;
	p.oob_score = 0;
	p.max_memory = job->s->max_memory;
	p.progress = NULL;
	if ((code = select_rows(env, job, fold, LRN_TRAIN, &train, st)) != MR_OK ||
		(code = select_rows(env, job, fold, LRN_TEST, &test, st)) != MR_OK ||
		(code = gather(env, job, &train, &m, &t, st)) != MR_OK ||
		(code = lrn_train(env, &p, &m, &t, NULL, &bytes, &size, st)) != MR_OK ||
		(code = lrn_compile(env, bytes, size, &file, &len, st)) != MR_OK ||
		(code = lrn_open(file, len, &model, st)) != MR_OK)
		return code;
	return score(env, job, &test, &model, out, st);
}

size_t
tune_fold_memory(const tune_job *job)
{
	return (size_t) job->s->rows * (((size_t) job->s->cols + 3) * sizeof(float) + 2 * sizeof(int32));
}

static void
run_cell(const tune_job *job, int trial, int fold, MemoryContext cxt)
{
	tune_cell  *cell = &job->cell[trial * job->s->folds + fold];
	mr_env		env = mr_pg_env(cxt);
	mr_status	st = {0};
	mr_code		code;
	instr_time	start;

	INSTR_TIME_SET_CURRENT(start);
	asked_to_stop = env.interrupted;
	deadline = job->s->deadline;
	env.interrupted = stop;
	code = stop(env.arg) ? MR_CANCELED : train_and_score(&env, job, trial, fold, &cell->score, &st);
	if (code == MR_CANCELED)
		CHECK_FOR_INTERRUPTS();
	cell->seconds = train_seconds_since(start);
	if (code != MR_OK && code != MR_CANCELED)
		snprintf(cell->error, sizeof(cell->error), "%s%s%s%s", st.message, st.detail[0] ? " (" : "", st.detail,
				 st.detail[0] ? ")" : "");
	cell->state = code == MR_OK ? TUNE_DONE : code == MR_CANCELED ? TUNE_TIMEOUT : TUNE_FAILED;
	MemoryContextReset(cxt);
}

void
tune_work(const tune_job *job)
{
	tune_shared *s = job->s;
	uint32		n = (uint32) s->n_active * (uint32) s->folds;
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace trial", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		uint32		i = pg_atomic_fetch_add_u32(&s->next, 1);

		CHECK_FOR_INTERRUPTS();
		if (i >= n)
			break;
		run_cell(job, job->active[i / s->folds], (int) (i % s->folds), cxt);
		pg_atomic_fetch_add_u32(&s->finished, 1);
		reg_progress_step(NULL, pg_atomic_read_u32(&s->finished), n, NAN);
	}
	MemoryContextDelete(cxt);
}
