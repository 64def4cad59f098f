/*
 * cross_validate_pg.c
 *	  millrace.cross_validate(): an algorithm trained and measured on the folds
 *	  of a query's rows, or on a hold-out of them.
 *
 * The query is read once; a fold trains on a copy of its rows, so the data
 * take twice their memory, and the training may take what is then left of
 * millrace.train_memory.  Nothing is stored.  A class without rows in a fold's
 * training part is unknown to that fold's model, as a label of new rows is.
 */
#include "postgres.h"

#include <math.h>

#include "core/core_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "learn/settings.h"
#include "miscadmin.h"
#include "registry/evaluate.h"
#include "registry/options.h"
#include "registry/progress.h"
#include "registry/train.h"
#include "registry/train_json.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_cross_validate);

#define MAX_FOLDS 1000

typedef struct validation
{
	train_options o;
	lrn_split	split;
	char	   *group;			/* columns, or NULL */
	char	   *order_by;
	int			stratified;		/* -1: not said */
	eval_settings set;
	train_data *data;
	int32	   *part;
	Size		limit;
} validation;

/* What only this function knows; all else is the algorithm's. */
static bool
is_own(const char *name)
{
	static const char *const own[] = {"folds", "test_share", "stratified", "group", "order_by", "bins", "sample"};

	for (int i = 0; i < (int) lengthof(own); i++)
		if (strcmp(own[i], name) == 0)
			return true;
	return false;
}

/* The members of an object that are, or are not, our own. */
static Jsonb *
part_of(Jsonb *options, bool own)
{
	JsonbParseState *state = NULL;
	JsonbIterator *it;
	JsonbValue	key,
				v;

	if (!JB_ROOT_IS_OBJECT(options))
		return options;			/* refused by whoever reads it */
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	it = JsonbIteratorInit(&options->root);
	(void) JsonbIteratorNext(&it, &key, true);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		char	   *name = pnstrdup(key.val.string.val, key.val.string.len);

		(void) JsonbIteratorNext(&it, &v, true);
		if (is_own(name) == own)
		{
			pushJsonbValue(&state, WJB_KEY, &key);
			pushJsonbValue(&state, WJB_VALUE, &v);
		}
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static void
read_options(Jsonb *options, lrn_algorithm algorithm, validation *v)
{
	int64		folds = 0,
				bins = v->set.bins;
	bool		stratified = false;
	JsonbValue	said = {.type = jbvNull};
	const reg_option list[] = {
		REG_OPTION_IN("folds", INTEGER, &folds, 2, MAX_FOLDS),
		REG_OPTION("test_share", NUMBER, &v->split.test_share),
		REG_OPTION("stratified", JSON, &said),
		REG_OPTION("group", TEXT, &v->group),
		REG_OPTION("order_by", TEXT, &v->order_by),
		REG_OPTION_IN("bins", INTEGER, &bins, 1, 1000),
		REG_OPTION_IN("sample", INTEGER, &v->set.sample, 1, 1e12),
	REG_OPTION_END};

	train_read_options(part_of(options, false), algorithm, &v->o);
	reg_read_options(part_of(options, true), "cross_validate()", list);
	if (folds && v->split.test_share != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options \"folds\" and \"test_share\" exclude each other"),
				 errhint("\"test_share\" makes one hold-out.")));
	v->split.folds = v->split.test_share != 0 ? 1 : folds ? (int) folds : 5;
	v->split.seed = v->o.params.random_state;
	v->set.bins = (int) bins;
	v->stratified = -1;
	if (said.type != jbvNull)
	{
		if (said.type != jbvBool)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"stratified\" must be true or false")));
		stratified = said.val.boolean;
		v->stratified = stratified;
	}
	if (stratified && (v->order_by || v->o.params.task != LRN_CLASSIFY))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("folds %s cannot be stratified", v->order_by ? "by time" : "of a regression")));
	if (v->group && v->order_by)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options \"group\" and \"order_by\" exclude each other")));
}

static void
split_rows(validation *v)
{
	train_data *data = v->data;
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};

	v->split.group = data->group;
	v->split.order = data->order;
	if (data->labels && v->stratified != 0 && data->order == NULL)
	{
		v->split.class_id = data->y;
		v->split.n_classes = data->labels->n;
	}
	v->part = palloc_extended(data->matrix.rows * sizeof(int32), MCXT_ALLOC_HUGE);
	if (lrn_split_rows(&env, &v->split, data->matrix.rows, v->part, &st) != MR_OK)
		mr_pg_raise(&st);
}

/* ---- one fold ---- */

typedef struct fold
{
	uint32	   *train;
	uint32	   *test;
	int64		n_train;
	int64		n_test;
	lrn_matrix	m;				/* copies of the rows to train on */
	lrn_target	t;
	eval_labels labels;			/* of its model, then those it has not seen */
	lrn_report	report;
	lrn_model	model;
	double		train_seconds;
	eval_predictor predictor;
	eval_tally	tally;
	eval_figures figures;
} fold;

static void *
copy_rows(const void *from, const uint32 *row, int64 n)
{
	const uint32 *x = from;		/* int32 or float: four bytes a row */
	uint32	   *to;

	if (from == NULL)
		return NULL;
	to = palloc_extended(Max(n, 1) * sizeof(uint32), MCXT_ALLOC_HUGE);
	for (int64 i = 0; i < n; i++)
		to[i] = x[row[i]];
	return to;
}

static void
take_rows(const validation *v, int number, fold *f)
{
	const train_data *data = v->data;
	int64		rows = data->matrix.rows;
	float	  **col = palloc(Max(data->matrix.cols, 1) * sizeof(float *));

	f->train = palloc_extended(rows * sizeof(uint32), MCXT_ALLOC_HUGE);
	f->test = palloc_extended(rows * sizeof(uint32), MCXT_ALLOC_HUGE);
	for (int64 i = 0; i < rows; i++)
		switch (lrn_split_role(&v->split, v->part[i], number))
		{
			case LRN_TRAIN:
				f->train[f->n_train++] = (uint32) i;
				break;
			case LRN_TEST:
				f->test[f->n_test++] = (uint32) i;
				break;
			case LRN_UNUSED:
				break;
		}
	for (int c = 0; c < data->matrix.cols; c++)
	{
		CHECK_FOR_INTERRUPTS();
		col[c] = copy_rows(data->matrix.col[c], f->train, f->n_train);
	}
	f->m = data->matrix;
	f->m.rows = f->n_train;
	f->m.col = col;
	f->t.value = copy_rows(data->value, f->train, f->n_train);
	f->t.weight = copy_rows(data->weight, f->train, f->n_train);
}

/* Classes that have rows to train on, numbered without gaps; class weights too. */
static void
number_classes(const validation *v, fold *f, lrn_params *p)
{
	const train_data *data = v->data;
	int			n = data->labels->n;
	int32	   *class_id = copy_rows(data->y, f->train, f->n_train);
	bool	   *seen = palloc0(Max(n, 1) * sizeof(bool));
	double	   *weight = palloc(Max(n, 1) * sizeof(double));

	for (int64 i = 0; i < f->n_train; i++)
		seen[class_id[i]] = true;
	f->labels.n = n;
	f->labels.label = palloc(Max(n, 1) * sizeof(char *));
	f->labels.of_class = palloc(Max(n, 1) * sizeof(int32));
	for (int c = 0; c < n; c++)
		if (seen[c])
			f->labels.of_class[c] = f->labels.known++;
	for (int c = 0, unknown = f->labels.known; c < n; c++)
	{
		if (!seen[c])
			f->labels.of_class[c] = unknown++;
		f->labels.label[f->labels.of_class[c]] = data->labels->text[c];
		if (p->class_weights)
			weight[f->labels.of_class[c]] = p->class_weights[c];
	}
	for (int64 i = 0; i < f->n_train; i++)
		class_id[i] = f->labels.of_class[class_id[i]];
	f->t.class_id = class_id;
	f->t.n_classes = f->labels.known;
	if (p->class_weights)
		p->class_weights = weight;
}

static void
train(const validation *v, int number, fold *f)
{
	lrn_params	p = v->o.params;
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};
	Size		taken = v->data->memory * 2;
	uint8_t    *bytes = NULL,
			   *file = NULL;
	size_t		size,
				len;
	instr_time	start;

	if (v->data->labels)
		number_classes(v, f, &p);
	p.max_memory = v->limit > taken ? v->limit - taken : 1;
	p.fit_only = true;
	p.oob_score = 0;
	p.progress = reg_progress_step;
	reg_progress_phase(REG_PHASE_TRAINING);
	INSTR_TIME_SET_CURRENT(start);
	if (lrn_train(&env, &p, &f->m, &f->t, &f->report, &bytes, &size, &st) != MR_OK ||
		lrn_compile(&env, bytes, size, &file, &len, &st) != MR_OK ||
		lrn_open(file, len, &f->model, &st) != MR_OK)
	{
		if (st.code == MR_LIMIT && st.hint[0] == '\0')
			mr_hint(&st, "Raise millrace.train_memory, or read fewer rows: the data are held twice.");
		if (st.code != MR_CANCELED && st.detail[0] == '\0')
			mr_detail(&st, "This was fold %d.", number + 1);
		mr_pg_raise(&st);
	}
	f->train_seconds = train_seconds_since(start);
}

static void
test(const validation *v, fold *f)
{
	const train_data *data = v->data;
	eval_settings set = v->set;
	eval_source source = {.col = data->matrix.col,.rows = f->n_test,.row = f->test};

	reg_progress_phase(REG_PHASE_EVALUATING);
	set.memory = v->limit > data->memory * 2 ? (v->limit - data->memory * 2) / 2 : 0;
	eval_predictor_of_learner(&f->model, &f->predictor);
	eval_tally_begin(&f->tally, data->labels ? &f->labels : NULL, &set, f->n_test, data->y, data->value, f->test);
	eval_run(&f->predictor, &source, eval_tally_take, &f->tally);
	eval_figures_of(&f->tally, &f->figures);
}

static void
put_fold(ReturnSetInfo *result, int number, const fold *f)
{
	bool		classes = f->tally.labels != NULL;
	Datum		values[] = {
		Int32GetDatum(number + 1), Int64GetDatum(f->n_train), Int64GetDatum(f->n_test),
		JsonbPGetDatum(eval_figures_json(&f->tally, &f->figures)),
		classes ? JsonbPGetDatum(eval_per_class_json(&f->tally, &f->figures)) : (Datum) 0,
		Float8GetDatum(f->train_seconds), Float8GetDatum(f->predictor.seconds * 1e6 / (double) f->n_test)
	};
	bool		nulls[lengthof(values)] = {[4] = !classes};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* (algorithm text, query text, target text, options jsonb) -> rows by fold */
Datum
millrace_cross_validate(PG_FUNCTION_ARGS)
{
	static const char *const argument[] = {"algorithm", "query", "target"};
	validation	v = {.set = EVAL_SETTINGS};
	train_request request = {0};
	lrn_algorithm algorithm;
	char	   *name;
	mr_status	st = {0};
	MemoryContext cxt,
				old;

	for (int i = 0; i < 3; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", argument[i])));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (lrn_algorithm_find(name, &algorithm, &st) != MR_OK)
		mr_pg_raise(&st);
	read_options(PG_ARGISNULL(3) ? json_of("{}") : PG_GETARG_JSONB_P(3), algorithm, &v);
	request.query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	request.target = text_to_cstring(PG_GETARG_TEXT_PP(2));
	request.group = v.group;
	request.order = v.order_by;
	(void) train_check_target(&v.o.params, request.target);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);

	reg_progress_begin("cross_validate", name, name, 0);
	v.limit = (Size) lrn_train_memory_kb * 1024;
	v.data = train_read_data(&v.o, &request);
	if (v.data->memory > v.limit / 2)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the rows and a fold's copy of them exceed millrace.train_memory"),
				 errhint("Raise millrace.train_memory, or read fewer rows with TABLESAMPLE or LIMIT.")));
	if (v.data->labels)
		train_class_weights(&v.o, v.data);
	split_rows(&v);
	cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace fold", ALLOCSET_DEFAULT_SIZES);
	for (int number = 0; number < v.split.folds; number++)
	{
		fold		f = {0};

		old = MemoryContextSwitchTo(cxt);
		take_rows(&v, number, &f);
		train(&v, number, &f);
		test(&v, &f);
		put_fold((ReturnSetInfo *) fcinfo->resultinfo, number, &f);
		MemoryContextSwitchTo(old);
		MemoryContextReset(cxt);
	}
	reg_progress_end();
	return (Datum) 0;
}
