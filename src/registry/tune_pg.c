/*
 * tune_pg.c
 *	  millrace.tune_model(): search for parameters, cross-validated; the best
 *	  becomes a version.
 *
 * The query is read once, as the caller.  Every trial trains and is scored on
 * the same folds, with the same seed; the outcome does not depend on the number
 * of workers.  The rows of the tuning are written at its end: an error or a
 * cancel leaves nothing.
 */
#include "postgres.h"

#include <math.h>

#include "core/core_pg.h"
#include "fmgr.h"
#include "learn/learn_int.h"
#include "learn/settings.h"
#include "miscadmin.h"
#include "registry/model.h"
#include "registry/options.h"
#include "registry/progress.h"
#include "registry/train_json.h"
#include "registry/tune.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(millrace_tune_model);

#define MAX_WORKERS 64

const char *const tune_search_names[] = {"random", "grid", "halving"};

/* Options of train_model() that tune_model() hands on. */
static const char *const handed_on[] = {"task", "sample_weight", "one_hot", "class_weight", "descriptors_of"};

static void
split_options(tuning *t)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < (int) lengthof(handed_on); i++)
	{
		JsonbValue *v = getKeyJsonValueFromContainer(&t->options->root, handed_on[i], (int) strlen(handed_on[i]), NULL);

		if (v == NULL)
			continue;
		json_push_key(&state, handed_on[i]);
		pushJsonbValue(&state, WJB_VALUE, v);
	}
	t->train_options = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static void
read_options(tuning *t)
{
	char	   *search = "random";
	JsonbValue	ignored;
	const reg_option list[] = {
		REG_OPTION("search", TEXT, &search),
		REG_OPTION_IN("n_trials", INTEGER, &t->n_trials, 1, TUNE_MAX_TRIALS),
		REG_OPTION_IN("cv", INTEGER, &t->folds, 2, TUNE_MAX_FOLDS),
		REG_OPTION_IN("holdout", NUMBER, &t->holdout, 0.001, 0.999),
		REG_OPTION("stratify", BOOL, &t->stratify),
		REG_OPTION("group", TEXT, &t->group),
		REG_OPTION("order", TEXT, &t->order),
		REG_OPTION("metric", TEXT, &t->metric_name),
		REG_OPTION_IN("seed", INTEGER, &t->seed, 0, 4294967295.0),
		REG_OPTION("timeout", SECONDS, &t->timeout),
		REG_OPTION("max_memory", MEMORY, &t->max_memory),
		REG_OPTION_IN("workers", INTEGER, &t->workers, 0, MAX_WORKERS),
		REG_OPTION_IN("factor", INTEGER, &t->factor, 2, 100),
		REG_OPTION("resource", TEXT, &t->resource),
		REG_OPTION_IN("min_resource", NUMBER, &t->min_resource, 1, 1e9),
		REG_OPTION_IN("max_resource", NUMBER, &t->max_resource, 1, 1e9),
		/* handed_on */
		REG_OPTION("task", JSON, &ignored),
		REG_OPTION("sample_weight", JSON, &ignored),
		REG_OPTION("one_hot", JSON, &ignored),
		REG_OPTION("class_weight", JSON, &ignored),
		REG_OPTION("descriptors_of", JSON, &ignored),
		REG_OPTION_END
	};

	t->n_trials = 20;
	t->folds = 5;
	t->stratify = true;
	t->factor = 3;
	t->resource = "rows";
	reg_read_options(t->options, "tune_model()", list);
	if (t->holdout > 0)
		t->folds = 1;
	while (t->search <= TUNE_HALVING && strcmp(tune_search_names[t->search], search) != 0)
		t->search++;
	if (t->search > TUNE_HALVING)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"search\" must be \"random\", \"grid\" or \"halving\"")));
}

static double
number_of(const JsonbValue *v)
{
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(v->val.numeric)));
}

/* Halving by a parameter: its largest value, from the options or its default. */
static void
check_resource(tuning *t, const tune_space *space)
{
	char		text[4096];
	JsonbValue *v;

	if (t->search != TUNE_HALVING || strcmp(t->resource, "rows") == 0)
		return;
	(void) lrn_params_json(&t->o.params, text, sizeof(text));
	v = getKeyJsonValueFromContainer(&json_of(text)->root, t->resource, (int) strlen(t->resource), NULL);
	if (v == NULL || v->type != jbvNumeric)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"resource\" must be \"rows\" or a number among the parameters of %s",
						lrn_algorithm_name(t->o.params.algorithm)),
				 errhint("For trees it may be \"n_estimators\".")));
	if (tune_space_has(space, t->resource))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameter \"%s\" cannot be both the resource and in the space", t->resource),
				 errhint("Option \"max_resource\" says how large it becomes.")));
	if (t->max_resource == 0)
		t->max_resource = number_of(v);
	t->max_resource = floor(t->max_resource);
}

/* Parameters of a combination; false: it is no good, and the trial says why. */
static bool
set_params(const tuning *t, tune_trial *tr, lrn_params *p)
{
	JsonbIterator *it = JsonbIteratorInit(&tr->parameters->root);
	JsonbValue	v;
	mr_status	st = {0};

	*p = t->o.params;
	(void) JsonbIteratorNext(&it, &v, true);
	while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
	{
		char	   *name = pnstrdup(v.val.string.val, v.val.string.len);

		(void) JsonbIteratorNext(&it, &v, true);
		if (train_set_param(p, name, &v, &st) != MR_OK)
		{
			tr->state = "failed";
			tr->error = pstrdup(st.message);
			return false;
		}
	}
	return true;
}

static lrn_params *
make_trials(tuning *t, const tune_space *space)
{
	int			n = (int) t->n_trials;
	Jsonb	  **all = t->search == TUNE_GRID ? tune_grid(space, &n) : tune_draw(space, (uint64) t->seed, &n);
	lrn_params *params = palloc0(n * sizeof(lrn_params));

	t->n_trials = n;
	t->trials = palloc0(n * sizeof(tune_trial));
	for (int i = 0; i < n; i++)
	{
		tune_trial *tr = &t->trials[i];

		tr->parameters = all[i];
		tr->mean = tr->sd = tr->resource = NAN;
		(void) set_params(t, tr, &params[i]);
	}
	return params;
}

/* Parts of the rows for the folds, and what decides who is in a share of them. */
static void
split_rows(tuning *t, tune_job *job)
{
	int64		rows = t->data->matrix.rows;
	int32	   *part = palloc_extended(rows * sizeof(int32), MCXT_ALLOC_HUGE);
	uint32	   *draw = palloc_extended(rows * sizeof(uint32), MCXT_ALLOC_HUGE);
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace split", ALLOCSET_DEFAULT_SIZES);
	mr_env		env = mr_pg_env(cxt);
	mr_status	st = {0};
	lrn_rng		rng;
	lrn_split	s = {
		.folds = (int) t->folds,.test_share = t->holdout,.group = t->data->group,.order = t->data->order,.seed = (uint64) t->seed
	};

	if (t->stratify && t->data->y && !t->order)
	{
		s.class_id = t->data->y;
		s.n_classes = t->data->labels->n;
	}
	if (lrn_split_rows(&env, &s, rows, part, &st) != MR_OK)
		mr_pg_raise(&st);
	MemoryContextDelete(cxt);
	lrn_rng_seed(&rng, (uint64) t->seed, 0x73686172650000);
	for (int64 i = 0; i < rows; i++)
		draw[i] = (uint32) (lrn_rng_next(&rng) >> 32);
	job->part = part;
	job->draw = draw;
}

/* Options with which train_model() makes the same model. */
static Jsonb *
options_of_best(const tuning *t, const tune_trial *best)
{
	JsonbParseState *state = NULL;
	Jsonb	   *part[] = {t->train_options, best->parameters};

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < 2; i++)
	{
		JsonbIterator *it = JsonbIteratorInit(&part[i]->root);
		JsonbValue	v;

		(void) JsonbIteratorNext(&it, &v, true);
		while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
		{
			pushJsonbValue(&state, WJB_KEY, &v);
			(void) JsonbIteratorNext(&it, &v, true);
			pushJsonbValue(&state, WJB_VALUE, &v);
		}
	}
	if (t->search == TUNE_HALVING && strcmp(t->resource, "rows") != 0)
		json_push_integer(&state, t->resource, (int64) t->max_resource);
	json_push_integer(&state, "random_state", (int64) t->o.params.random_state);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* What a process may take beyond the rows; raises when not even a fold fits. */
static size_t
memory_of_trial(const tuning *t, const tune_job *job)
{
	size_t		limit = (size_t) lrn_train_memory_kb * 1024;
	size_t		fold = tune_fold_memory(job);

	if (t->max_memory > 0)
		limit = Min(limit, t->data->memory + fold + (size_t) t->max_memory);
	if (t->data->memory + fold >= limit)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("tuning needs more than millrace.train_memory"),
				 errdetail("The rows take %zu kB, a fold of them %zu kB; the limit is %zu kB.",
						   t->data->memory >> 10, fold >> 10, limit >> 10),
				 errhint("Raise millrace.train_memory, or read fewer rows.")));
	return limit - t->data->memory - fold;
}

/* Find the best trial and train it on all rows. */
static int
search(tuning *t, lrn_params *params, train_result *r)
{
	tune_shared *s = palloc0(sizeof(tune_shared));
	tune_job	job = {.s = s,.matrix = t->data->matrix,.target = train_target(t->data),.params = params};
	lrn_params	p;
	lrn_target	target = train_target(t->data);
	mr_env		env;
	mr_status	st = {0};
	uint8_t    *bytes;
	struct ParallelContext *pcxt;
	instr_time	start;
	int			best;

	s->rows = t->data->matrix.rows;
	s->cols = t->data->matrix.cols;
	s->n_classes = target.n_classes;
	s->folds = (int) t->folds;
	s->ordered = t->order != NULL;
	s->n_trials = (int) t->n_trials;
	s->share = 1;
	s->metric = t->metric;
	s->deadline = t->timeout > 0 ? TimestampTzPlusMilliseconds(t->started, (int64) (t->timeout * 1000)) : 0;
	s->leader = MyProcPid;
	strlcpy(s->model, t->name, sizeof(s->model));
	pg_atomic_init_u32(&s->next, 0);
	pg_atomic_init_u32(&s->finished, 0);
	s->max_memory = memory_of_trial(t, &job);
	split_rows(t, &job);
	tune_plan_rungs(t);
	job.active = palloc(t->n_trials * sizeof(int32));
	job.cell = palloc_extended(t->n_trials * t->folds * sizeof(tune_cell), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	reg_progress_phase(REG_PHASE_TUNING);
	pcxt = tune_begin(&job, t->data, (int) t->workers);
	tune_run_rungs(t, &job, pcxt);
	best = tune_best_trial(t);

	reg_progress_phase(REG_PHASE_TRAINING);
	p = job.params[best];
	if (t->search == TUNE_HALVING && strcmp(t->resource, "rows") != 0)
	{
		job.s->n_active = 1;
		job.active[0] = best;
		tune_give_resource(t, &job, t->rungs - 1);
		p = job.params[best];
	}
	p.max_memory = (size_t) lrn_train_memory_kb * 1024 - t->data->memory;
	p.progress = reg_progress_step;
	env = mr_pg_env(AllocSetContextCreate(CurrentMemoryContext, "millrace training", ALLOCSET_DEFAULT_SIZES));
	INSTR_TIME_SET_CURRENT(start);
	if (lrn_train(&env, &p, &t->data->matrix, &target, &r->report, &bytes, &r->size, &st) != MR_OK)
		mr_pg_raise(&st);
	r->bytes = bytes;
	r->train_seconds = train_seconds_since(start);
	t->o.params = p;
	tune_end(pcxt);
	return best;
}

/* What the arguments alone can be refused for. */
static lrn_params *
prepare(tuning *t, const char *algorithm_name)
{
	lrn_algorithm algorithm;
	tune_space *space;
	const char *unknown;
	mr_status	st = {0};
	bool		regression;

	PreventCommandIfReadOnly("tune_model()");
	reg_check_name(t->name, "model name");
	if (lrn_algorithm_find(algorithm_name, &algorithm, &st) != MR_OK)
		mr_pg_raise(&st);
	read_options(t);
	split_options(t);
	train_read_options(t->train_options, algorithm, &t->o);
	t->o.params.random_state = (uint64) t->seed;
	regression = t->o.params.task == LRN_REGRESS;
	if (!regression && t->o.params.task != LRN_CLASSIFY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("algorithm \"%s\" has no target, so its trials cannot be compared", algorithm_name)));
	if (lrn_score_find(t->metric_name ? t->metric_name : regression ? "rmse" : "accuracy", regression, &t->metric, &st) != MR_OK)
		mr_pg_raise(&st);
	space = tune_read_space(t->space);
	unknown = tune_unknown_parameter(space, &t->o.params);
	if (unknown)
	{
		(void) lrn_params_set(&t->o.params, unknown, &(lrn_value) {LRN_NULL, 0, NULL}, &st);
		mr_pg_raise(&st);
	}
	if (tune_space_has(space, "task") || tune_space_has(space, "random_state"))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameter \"%s\" cannot be in the space", tune_space_has(space, "task") ? "task" : "random_state"),
				 errhint("Options \"task\" and \"seed\" are for all trials.")));
	check_resource(t, space);
	return make_trials(t, space);
}

/*
 * millrace.tune_model(name text, algorithm text, query text, target text,
 *					   space jsonb, options jsonb) -> int
 */
Datum
millrace_tune_model(PG_FUNCTION_ARGS)
{
	static const char *const argument[] = {"name", "algorithm", "query", "target", "space"};
	tuning		t = {0};
	train_result r = {.o = &t.o};
	lrn_params *params;
	instr_time	start;
	double		cpu = train_cpu_seconds();
	int			best,
				version;

	for (int i = 0; i < 5; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", argument[i])));
	INSTR_TIME_SET_CURRENT(t.start);
	t.started = GetCurrentTimestamp();
	t.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	t.query = text_to_cstring(PG_GETARG_TEXT_PP(2));
	t.target = text_to_cstring(PG_GETARG_TEXT_PP(3));
	t.space = PG_GETARG_JSONB_P(4);
	t.options = PG_ARGISNULL(5) ? json_of("{}") : PG_GETARG_JSONB_P(5);
	params = prepare(&t, text_to_cstring(PG_GETARG_TEXT_PP(1)));

	reg_progress_begin("tune_model", t.name, lrn_algorithm_name(t.o.params.algorithm), 0);
	r.snapshot = train_snapshot();
	INSTR_TIME_SET_CURRENT(start);
	r.data = t.data = train_read_data(&t.o, &(train_request) {.query = t.query,.target = t.target,.group = t.group,.order = t.order});
	r.read_seconds = train_seconds_since(start);
	if (t.data->labels)
	{
		train_class_weights(&t.o, t.data);
		for (int i = 0; i < t.n_trials && t.o.class_weight_object; i++)
		{
			params[i].class_weight = t.o.params.class_weight;
			params[i].class_weights = t.o.params.class_weights;
		}
	}
	best = search(&t, params, &r);

	r.name = t.name;
	r.query = t.query;
	r.target = t.target;
	r.options = options_of_best(&t, &t.trials[best]);
	r.cpu_seconds = train_cpu_seconds() - cpu;
	r.tuning = tune_next_id();
	r.metric = lrn_score_name(t.metric);
	r.score = t.trials[best].mean;
	version = train_store(&r);
	tune_write(&t, r.tuning, version, best, r.snapshot);
	reg_progress_end();
	PG_RETURN_INT32(version);
}
