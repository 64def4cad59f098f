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

#include "core/core_pg.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "learn/settings.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "registry/model.h"
#include "registry/registry.h"
#include "registry/train_data.h"
#include "registry/train_json.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(millrace_train_model);

/* What the options say beyond the algorithm's parameters. */
typedef struct train_options
{
	lrn_params	params;
	JsonbContainer *class_weight_object;	/* weights by label, or NULL */
	const reg_model *backbone;
	const reg_model *descriptors_of;
} train_options;

static const reg_model *
option_model(const char *name, const JsonbValue *v)
{
	if (v->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" must be a model reference", name),
				 errhint("Write 'name', 'name@alias' or 'name:version'.")));
	return reg_resolve(pnstrdup(v->val.string.val, v->val.string.len), REG_DESCRIBE);
}

/*
 * Names that are not scikit-learn's go to option_model(); all others to
 * lrn_params_set(), which knows them or raises.
 */
static void
read_options(Jsonb *options, lrn_algorithm algorithm, train_options *out)
{
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;

	memset(out, 0, sizeof(*out));
	lrn_params_init(&out->params, algorithm);
	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object")));
	it = JsonbIteratorInit(&options->root);
	(void) JsonbIteratorNext(&it, &v, true);	/* the object itself */
	while ((token = JsonbIteratorNext(&it, &v, true)) == WJB_KEY)
	{
		char	   *name = pnstrdup(v.val.string.val, v.val.string.len);
		lrn_value	value = {LRN_TEXT, 0, NULL};
		mr_status	st = {0};

		(void) JsonbIteratorNext(&it, &v, true);
		if (strcmp(name, "backbone") == 0 && algorithm == LRN_PCA)
		{
			out->backbone = option_model(name, &v);
			continue;
		}
		if (strcmp(name, "descriptors_of") == 0)
		{
			out->descriptors_of = option_model(name, &v);
			continue;
		}
		switch (v.type)
		{
			case jbvNull:
				value.kind = LRN_NULL;
				break;
			case jbvBool:
				value.kind = LRN_BOOL;
				value.number = v.val.boolean;
				break;
			case jbvNumeric:
				value.kind = LRN_NUMBER;
				value.number = DatumGetFloat8(DirectFunctionCall1(numeric_float8,
																  NumericGetDatum(v.val.numeric)));
				break;
			case jbvString:
				value.text = pnstrdup(v.val.string.val, v.val.string.len);
				break;
			default:
				/* Weights by label: known once the labels are. */
				if (strcmp(name, "class_weight") == 0 && out->params.task == LRN_CLASSIFY &&
					JsonContainerIsObject(v.val.binary.data))
				{
					out->class_weight_object = v.val.binary.data;
					continue;
				}
				value.text = "(an array or object)";
				break;
		}
		if (lrn_params_set(&out->params, name, &value, &st) != MR_OK)
			mr_pg_raise(&st);
	}
}

/* {"label": weight, ...} -> weights by class id; labels not named weigh 1. */
static void
class_weights(train_options *o, const train_data *data)
{
	double	   *weight;
	JsonbIterator *it;
	JsonbValue	v;

	if (o->class_weight_object == NULL)
		return;
	weight = palloc(Max(data->labels->n, 1) * sizeof(double));
	for (int c = 0; c < data->labels->n; c++)
		weight[c] = 1;
	it = JsonbIteratorInit(o->class_weight_object);
	(void) JsonbIteratorNext(&it, &v, true);
	while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
	{
		char	   *label = pnstrdup(v.val.string.val, v.val.string.len);
		int			c = 0;
		double		w = NAN;

		(void) JsonbIteratorNext(&it, &v, true);
		while (c < data->labels->n && strcmp(data->labels->text[c], label) != 0)
			c++;
		if (c == data->labels->n)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("class_weight names label \"%s\", which no row has", label)));
		if (v.type == jbvNumeric)
			w = DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(v.val.numeric)));
		if (!(w >= 0) || isinf(w))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("class_weight of label \"%s\" must be a number of at least 0", label)));
		weight[c] = w;
	}
	o->params.class_weight = LRN_WEIGHT_GIVEN;
	o->params.class_weights = weight;
}

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
make_metrics(const train_data *data, const lrn_report *r, const uint8 *bytes, size_t size,
			 lrn_algorithm algorithm, double train_seconds)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	json_push_integer(&state, "rows", data->matrix.rows);
	json_push_integer(&state, "features", data->matrix.cols);
	json_push_number(&state, "train_seconds", train_seconds);
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
	if (algorithm == LRN_PCA)
		push_components(&state, r, bytes, size);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Enough to do it again, and to know which rows were seen. */
static Jsonb *
make_training(const char *algorithm, const char *query, const char *target, Jsonb *options,
			  const lrn_params *params, const char *snapshot, const train_data *data,
			  double read_seconds, double train_seconds)
{
	JsonbParseState *state = NULL;
	char		text[4096];

	if (lrn_params_json(params, text, sizeof(text)) >= sizeof(text))
		elog(ERROR, "parameters do not fit");
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	json_push_string(&state, "algorithm", algorithm);
	json_push_string(&state, "query", query);
	json_push_string(&state, "target", target);
	json_push_json(&state, "options", options);
	json_push_json(&state, "parameters", json_of(text));
	json_push_integer(&state, "rows", data->matrix.rows);
	json_push_string(&state, "snapshot", snapshot);
	json_push_number(&state, "read_seconds", read_seconds);
	json_push_number(&state, "train_seconds", train_seconds);
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

static double
seconds_since(instr_time start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return INSTR_TIME_GET_DOUBLE(now);
}

/*
 * millrace.train_model(name text, algorithm text, query text, target text,
 *						options jsonb) -> int
 */
Datum
millrace_train_model(PG_FUNCTION_ARGS)
{
	static const char *const argument[] = {"name", "algorithm", "query"};
	char	   *name,
			   *algorithm_name,
			   *query,
			   *target = NULL;
	Jsonb	   *options;
	lrn_algorithm algorithm;
	train_options o;
	train_data *data;
	lrn_target	wanted = {0};
	bool		has_target;
	lrn_report	report;
	reg_new		new = {0};
	reg_parent	parent[1];
	mr_status	st = {0};
	mr_env		env;
	uint8_t    *bytes = NULL;
	size_t		size = 0,
				limit = (size_t) lrn_train_memory_kb * 1024;
	instr_time	start;
	double		read_seconds,
				train_seconds;
	char	   *snapshot;
	MemoryContext cxt;

	for (int i = 0; i < 3; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", argument[i])));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	algorithm_name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	query = text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (!PG_ARGISNULL(3))
		target = text_to_cstring(PG_GETARG_TEXT_PP(3));
	options = PG_ARGISNULL(4) ? json_of("{}") : PG_GETARG_JSONB_P(4);

	/* What can be refused before the query runs is refused now. */
	PreventCommandIfReadOnly("train_model()");
	reg_check_name(name, "model name");
	if (lrn_algorithm_find(algorithm_name, &algorithm, &st) != MR_OK)
		mr_pg_raise(&st);
	read_options(options, algorithm, &o);
	has_target = o.params.task == LRN_CLASSIFY || o.params.task == LRN_REGRESS;
	if (has_target && target == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("algorithm \"%s\" needs a target", algorithm_name),
				 errhint("Name the query's column that holds the labels.")));
	if (!has_target && target != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("algorithm \"%s\" takes no target", algorithm_name),
				 errhint("Pass NULL, and leave column \"%s\" out of the query.", target)));
	if (o.backbone && o.backbone->kind != REG_ONNX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" cannot be a backbone", o.backbone->reference),
				 errdetail("It is no network that turns images into numbers.")));

	cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace training", ALLOCSET_DEFAULT_SIZES);
	snapshot = DatumGetCString(DirectFunctionCall1(pg_snapshot_out,
												   DirectFunctionCall1(pg_current_snapshot, (Datum) 0)));

	INSTR_TIME_SET_CURRENT(start);
	data = train_read(&(train_request) {.query = query,.target = target,.regression = o.params.task == LRN_REGRESS,
					  .limit = limit,.algorithm = algorithm_name,
					  .categories = lrn_takes(algorithm, LRN_TAKES_CATEGORIES)});
	read_seconds = seconds_since(start);
	check_width(o.backbone, "backbone", data->matrix.cols);
	check_width(o.descriptors_of, "descriptors_of", data->matrix.cols);
	if (data->labels)
		class_weights(&o, data);
	o.params.max_memory = limit > data->memory ? limit - data->memory : 1;

	INSTR_TIME_SET_CURRENT(start);
	env = mr_pg_env(cxt);
	wanted.class_id = data->y;
	wanted.value = data->value;
	wanted.n_classes = data->labels ? data->labels->n : 0;
	if (lrn_train(&env, &o.params, &data->matrix, has_target ? &wanted : NULL,
				  &report, &bytes, &size, &st) != MR_OK)
	{
		if (st.code == MR_LIMIT && st.hint[0] == '\0')
			mr_hint(&st, "Raise millrace.train_memory, or read fewer rows.");
		mr_pg_raise(&st);
	}
	train_seconds = seconds_since(start);
	if (!report.converged)
		ereport(WARNING,
				(errmsg("%s did not converge in %d iterations", algorithm_name, report.iterations),
				 errhint("Raise \"max_iter\", or try \"standardize\": true.")));

	new.name = name;
	new.bytes = bytes;
	new.size = size;
	new.spec = make_spec(data, &o);
	new.labels = data->labels ? make_labels(data) : NULL;
	new.metrics = make_metrics(data, &report, bytes, size, algorithm, train_seconds);
	new.training = make_training(algorithm_name, query, target, options, &o.params, snapshot, data,
								 read_seconds, train_seconds);
	new.origin = "train";
	new.parents = parent;
	/* A backbone becomes a parent by the spec. */
	if (o.descriptors_of)
		parent[new.n_parents++] = (reg_parent) {o.descriptors_of->name, o.descriptors_of->version, "descriptors_of"};
	train_data_free(data);
	PG_RETURN_INT32(reg_register(&new));
}
