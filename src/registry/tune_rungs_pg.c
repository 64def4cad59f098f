/*
 * tune_rungs_pg.c
 *	  The race of a tuning's trials: all at once, or rung by rung.
 *
 * Successive halving (Jamieson and Talwalkar 2016) gives all trials a small
 * resource, and each further rung gives the better ones factor times as much.
 * A search without it is one rung.
 */
#include "postgres.h"

#include <math.h>

#include "core/core_pg.h"
#include "registry/tune.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

void
tune_plan_rungs(tuning *t)
{
	double		most,
				least;

	t->rungs = 1;
	if (t->search != TUNE_HALVING)
		return;
	if (strcmp(t->resource, "rows") == 0)
	{
		int			classes = t->data->labels ? t->data->labels->n : 1;

		most = (double) t->data->matrix.rows * (t->holdout > 0 ? 1 - t->holdout : 1 - 1.0 / (double) t->folds);
		least = t->min_resource > 0 ? t->min_resource : fmax(50, 2.0 * (double) t->folds * classes);
	}
	else
	{
		most = t->max_resource;
		least = fmax(t->min_resource, 1);
	}
	for (double trials = (double) t->n_trials; trials >= (double) t->factor && most / (double) t->factor >= least; t->rungs++)
	{
		trials = floor(trials / (double) t->factor);
		most /= (double) t->factor;
	}
}

/* What a rung gives to its trials. */
static double
resource_of(const tuning *t, int rung)
{
	double		share = pow((double) t->factor, rung - (t->rungs - 1));

	return strcmp(t->resource, "rows") == 0 ? share : fmax(1, round(t->max_resource * share));
}

void
tune_give_resource(const tuning *t, tune_job *job, int rung)
{
	double		r = resource_of(t, rung);
	JsonbValue	v = {.type = jbvNumeric};
	mr_status	st = {0};

	if (t->search != TUNE_HALVING)
		return;
	if (strcmp(t->resource, "rows") == 0)
	{
		job->s->share = r;
		return;
	}
	v.val.numeric = DatumGetNumeric(DirectFunctionCall1(float8_numeric, Float8GetDatum(r)));
	for (int i = 0; i < job->s->n_active; i++)
		if (train_set_param(&job->params[job->active[i]], t->resource, &v, &st) != MR_OK)
			mr_pg_raise(&st);
}

/* A rung's cells into the trial; false: it is out of the race. */
static bool
collect(tuning *t, const tune_job *job, int i, int rung)
{
	tune_trial *tr = &t->trials[i];
	const tune_cell *cell = &job->cell[(Size) i * t->folds];
	double		sum = 0,
				square = 0;
	bool		late = false;

	for (int f = 0; f < t->folds; f++)
	{
		tr->seconds += cell[f].seconds;
		late |= cell[f].state == TUNE_TIMEOUT || cell[f].state == TUNE_OPEN;
		sum += cell[f].score;
		if (cell[f].state == TUNE_FAILED && tr->error == NULL)
			tr->error = pstrdup(cell[f].error);
	}
	if (tr->error || late)
	{
		tr->state = tr->error ? "failed" : "timeout";
		return false;
	}
	if (tr->scores == NULL)
		tr->scores = palloc(t->folds * sizeof(double));
	tr->rung = rung;
	tr->resource = t->search == TUNE_HALVING ? resource_of(t, rung) : NAN;
	tr->mean = sum / (double) t->folds;
	for (int f = 0; f < t->folds; f++)
	{
		tr->scores[f] = cell[f].score;
		square += (cell[f].score - tr->mean) * (cell[f].score - tr->mean);
	}
	tr->sd = sqrt(square / (double) t->folds);
	return true;
}

/* Whether trial a is to be preferred: further, better, earlier. */
static bool
is_better(const tuning *t, int a, int b)
{
	const tune_trial *x = &t->trials[a],
			   *y = &t->trials[b];
	int			sign = lrn_score_sign(t->metric);

	if (x->rung != y->rung)
		return x->rung > y->rung;
	return x->mean != y->mean ? sign * x->mean > sign * y->mean : a < b;
}

/* Keep the best of the active trials: an insertion sort, they are few. */
static void
keep_best(tuning *t, tune_job *job, int keep)
{
	for (int i = 1; i < job->s->n_active; i++)
		for (int k = i; k > 0 && is_better(t, job->active[k], job->active[k - 1]); k--)
		{
			int32		swap = job->active[k];

			job->active[k] = job->active[k - 1];
			job->active[k - 1] = swap;
		}
	for (int i = keep; i < job->s->n_active; i++)
		t->trials[job->active[i]].state = "stopped";
	job->s->n_active = Min(keep, job->s->n_active);
}

void
tune_run_rungs(tuning *t, tune_job *job, struct ParallelContext *pcxt)
{
	tune_shared *s = job->s;

	s->n_active = 0;
	for (int i = 0; i < t->n_trials; i++)
		if (t->trials[i].state == NULL)
			job->active[s->n_active++] = i;
	for (int rung = 0; rung < t->rungs && s->n_active > 0; rung++)
	{
		int			alive = 0;
		int			asked = s->n_active,
					launched;

		tune_give_resource(t, job, rung);
		for (int i = 0; i < s->n_active; i++)
			memset(&job->cell[(Size) job->active[i] * t->folds], 0, t->folds * sizeof(tune_cell));
		launched = tune_rung(pcxt, job, rung > 0);
		t->workers_launched = Max(t->workers_launched, launched);
		for (int i = 0; i < s->n_active; i++)
			if (collect(t, job, job->active[i], rung))
				job->active[alive++] = job->active[i];
		s->n_active = alive;
		if (rung < t->rungs - 1)
			keep_best(t, job, Max(1, asked / (int) t->factor));
	}
	for (int i = 0; i < s->n_active; i++)
		t->trials[job->active[i]].state = "done";
}

int
tune_best_trial(const tuning *t)
{
	int			best = -1;

	for (int i = 0; i < t->n_trials; i++)
		if (t->trials[i].scores && strcmp(t->trials[i].state, "failed") != 0 && (best < 0 || is_better(t, i, best)))
			best = i;
	if (best >= 0)
		return best;
	for (int i = 0; i < t->n_trials; i++)
		if (t->trials[i].error)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("all trials failed"),
					 errdetail("Trial %d: %s", i + 1, t->trials[i].error)));
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("no trial was finished within the timeout of %g seconds", t->timeout),
			 errhint("Raise \"timeout\", or read fewer rows.")));
	return -1;
}
