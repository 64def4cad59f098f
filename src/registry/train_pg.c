/*
 * train_pg.c
 *	  millrace.train_model(): a query becomes a model version.
 *
 * Reads as the caller (train_data_pg.c), trains in a memory context of its
 * own within millrace.train_memory, registers through reg_register().  Either
 * all of it happens or nothing: it is one statement of one transaction.
 */
#include "postgres.h"

#include <math.h>
#include <time.h>

#include "core/core_pg.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "learn/settings.h"
#include "miscadmin.h"
#include "registry/model.h"
#include "registry/progress.h"
#include "registry/train.h"
#include "registry/train_json.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_train_model);

static void
push_components(JsonbParseState **state, const lrn_report *r, const uint8 *bytes, size_t size)
{
	double	   *ratio = palloc(r->outputs * sizeof(double));
	mr_status	st = {0};

	if (lrn_pca_variance(bytes, size, NULL, ratio, &st) != MR_OK)
		mr_pg_raise(&st);
	json_push_integer(state, "components", r->outputs);
	json_push_number(state, "variance_kept", r->variance_kept);
	json_push_key(state, "explained_variance_ratio");
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (int c = 0; c < r->outputs; c++)
		json_push_number_element(state, ratio[c]);
	pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

static Jsonb *
make_metrics(const train_result *t)
{
	const train_data *data = t->data;
	const lrn_report *r = &t->report;
	lrn_algorithm algorithm = t->o->params.algorithm;
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	json_push_integer(&state, "rows", data->matrix.rows);
	json_push_integer(&state, "features", data->matrix.cols);
	json_push_number(&state, "train_seconds", t->train_seconds);
	if (data->unlabelled)
		json_push_integer(&state, "rows_without_label", data->unlabelled);
	if (data->labels)
	{
		json_push_integer(&state, "classes", data->labels->n);
		json_push_key(&state, "class_counts");
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		for (int c = 0; c < data->labels->n; c++)
			json_push_integer(&state, data->labels->text[c], data->label_counts[c]);
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
		json_push_number(&state, "train_accuracy", r->train_accuracy);
		json_push_number(&state, "oob_accuracy", r->oob_score);
		json_push_number(&state, "loss", r->loss);
	}
	json_push_number(&state, "train_rmse", r->train_rmse);
	if (r->nodes > 0)
	{
		json_push_integer(&state, "nodes", r->nodes);
		json_push_integer(&state, "depth", r->depth);
	}
	else if (algorithm != LRN_PCA)
	{
		json_push_integer(&state, "iterations", r->iterations);
		json_push_bool(&state, "converged", r->converged);
	}
	if (t->metric)
	{
		json_push_string(&state, "tuned_for", t->metric);
		json_push_number(&state, "cv_score", t->score);
	}
	if (algorithm == LRN_KMEANS)
		json_push_number(&state, "inertia", r->loss);
	if (algorithm == LRN_PCA)
		push_components(&state, r, t->bytes, t->size);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Enough to do it again, and to know which rows were seen. */
static Jsonb *
make_training(const train_result *t)
{
	JsonbParseState *state = NULL;
	char		text[4096];

	if (lrn_params_json(&t->o->params, text, sizeof(text)) >= sizeof(text))
		elog(ERROR, "parameters do not fit");
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	json_push_string(&state, "algorithm", lrn_algorithm_name(t->o->params.algorithm));
	json_push_string(&state, "query", t->query);
	json_push_string(&state, "target", t->target);
	json_push_json(&state, "options", t->options);
	json_push_json(&state, "parameters", json_of(text));
	json_push_integer(&state, "rows", t->data->matrix.rows);
	json_push_string(&state, "snapshot", t->snapshot);
	json_push_number(&state, "read_seconds", t->read_seconds);
	json_push_number(&state, "train_seconds", t->train_seconds);
	json_push_number(&state, "cpu_seconds", t->cpu_seconds);
	json_push_integer(&state, "peak_bytes", (int64) (t->data->memory + t->report.memory));
	if (t->tuning)
		json_push_integer(&state, "tuning", t->tuning);
	json_push_string(&state, "millrace", MILLRACE_VERSION);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static Jsonb *
make_spec(const train_data *data, const train_options *o)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	json_push_key(&state, "features");
	train_push_features(data, &state);
	if (o->backbone)
		json_push_string(&state, "backbone", o->backbone->reference);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static ArrayType *
make_labels(const train_data *data)
{
	Datum	   *label = palloc(Max(data->labels->n, 1) * sizeof(Datum));

	for (int c = 0; c < data->labels->n; c++)
		label[c] = CStringGetTextDatum(data->labels->text[c]);
	return construct_array(label, data->labels->n, TEXTOID, -1, false, TYPALIGN_INT);
}

/* A model whose numbers are the features must give as many as there are. */
static void
check_width(const reg_model *m, const char *option, int features)
{
	if (m && m->n_outputs != features)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" gives %d descriptors, the query has %d features",
						m->reference, m->n_outputs, features),
				 errdetail("Option \"%s\" says that the features are this model's descriptors.", option)));
}

double
train_seconds_since(instr_time start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return INSTR_TIME_GET_DOUBLE(now);
}

double
train_cpu_seconds(void)
{
	struct timespec t;

	(void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

char *
train_snapshot(void)
{
	return DatumGetCString(DirectFunctionCall1(pg_snapshot_out,
											   DirectFunctionCall1(pg_current_snapshot, (Datum) 0)));
}

train_data *
train_read_data(const train_options *o, train_request *request)
{
	lrn_algorithm algorithm = o->params.algorithm;
	train_data *data;

	request->limit = (Size) lrn_train_memory_kb * 1024;
	request->algorithm = lrn_algorithm_name(algorithm);
	request->regression = o->params.task == LRN_REGRESS;
	request->weight = o->weight;
	request->categories = o->one_hot || lrn_takes(algorithm, LRN_TAKES_CATEGORIES);
	reg_progress_phase(REG_PHASE_READING);
	data = train_read(request);
	if (o->one_hot)
		train_one_hot(data, request->limit);
	check_width(o->backbone, "backbone", data->matrix.cols);
	check_width(o->descriptors_of, "descriptors_of", data->matrix.cols);
	return data;
}

lrn_target
train_target(const train_data *data)
{
	return (lrn_target)
	{
		.class_id = data->y,.n_classes = data->labels ? data->labels->n : 0,.value = data->value,.weight = data->weight
	};
}

int
train_store(const train_result *r)
{
	const train_options *o = r->o;
	reg_parent	parent[1];
	reg_new		new = {.name = r->name,.bytes = r->bytes,.size = r->size,.origin = "train",.parents = parent};

	reg_progress_phase(REG_PHASE_STORING);
	if (!r->report.converged)
		ereport(WARNING,
				(errmsg("%s did not converge in %d iterations", lrn_algorithm_name(o->params.algorithm),
						r->report.iterations),
				 errhint("Raise \"max_iter\", or try \"standardize\": true.")));
	new.spec = make_spec(r->data, o);
	new.labels = r->data->labels ? make_labels(r->data) : NULL;
	new.metrics = make_metrics(r);
	new.training = make_training(r);
	/* A backbone becomes a parent by the spec. */
	if (o->descriptors_of)
		parent[new.n_parents++] = (reg_parent) {o->descriptors_of->name, o->descriptors_of->version, "descriptors_of"};
	return reg_register(&new);
}

/*
 * millrace.train_model(name text, algorithm text, query text, target text,
 *						options jsonb) -> int
 */
Datum
millrace_train_model(PG_FUNCTION_ARGS)
{
	static const char *const argument[] = {"name", "algorithm", "query"};
	char	   *algorithm_name;
	lrn_algorithm algorithm;
	train_options o;
	train_result r = {.o = &o,.score = NAN};
	train_data *data;
	lrn_target	target;
	bool		has_target;
	mr_status	st = {0};
	mr_env		env;
	uint8_t    *bytes = NULL;
	instr_time	start;
	double		cpu = train_cpu_seconds();
	size_t		limit = (size_t) lrn_train_memory_kb * 1024;
	int			version;

	for (int i = 0; i < 3; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", argument[i])));
	r.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	algorithm_name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	r.query = text_to_cstring(PG_GETARG_TEXT_PP(2));
	r.target = PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3));
	r.options = PG_ARGISNULL(4) ? json_of("{}") : PG_GETARG_JSONB_P(4);

	/* What can be refused before the query runs is refused now. */
	PreventCommandIfReadOnly("train_model()");
	reg_check_name(r.name, "model name");
	if (lrn_algorithm_find(algorithm_name, &algorithm, &st) != MR_OK)
		mr_pg_raise(&st);
	train_read_options(r.options, algorithm, &o);
	has_target = train_check_target(&o.params, r.target);
	if (o.backbone && o.backbone->kind != REG_ONNX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" cannot be a backbone", o.backbone->reference),
				 errdetail("It is no network that turns images into numbers.")));

	reg_progress_begin("train_model", r.name, algorithm_name, 0);
	env = mr_pg_env(AllocSetContextCreate(CurrentMemoryContext, "millrace training", ALLOCSET_DEFAULT_SIZES));
	r.snapshot = train_snapshot();
	INSTR_TIME_SET_CURRENT(start);
	r.data = data = train_read_data(&o, &(train_request) {.query = r.query,.target = r.target});
	r.read_seconds = train_seconds_since(start);
	if (data->labels)
		train_class_weights(&o, data);

	o.params.max_memory = limit > data->memory ? limit - data->memory : 1;
	o.params.progress = reg_progress_step;
	reg_progress_phase(REG_PHASE_TRAINING);
	INSTR_TIME_SET_CURRENT(start);
	target = train_target(data);
	if (lrn_train(&env, &o.params, &data->matrix, has_target ? &target : NULL, &r.report, &bytes, &r.size, &st) != MR_OK)
	{
		if (st.code == MR_LIMIT && st.hint[0] == '\0')
			mr_hint(&st, "Raise millrace.train_memory, or read fewer rows.");
		mr_pg_raise(&st);
	}
	r.bytes = bytes;
	r.train_seconds = train_seconds_since(start);
	r.cpu_seconds = train_cpu_seconds() - cpu;
	version = train_store(&r);
	reg_progress_end();
	PG_RETURN_INT32(version);
}
