/*
 * train_options_pg.c
 *	  The options of train_model() and tune_model().
 */
#include "postgres.h"

#include <math.h>

#include "core/core_pg.h"
#include "registry/model.h"
#include "registry/train.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

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

mr_code
train_set_param(lrn_params *p, const char *name, const JsonbValue *v, mr_status *st)
{
	lrn_value	value = {LRN_TEXT, 0, "(an array or object)"};

	switch (v->type)
	{
		case jbvNull:
			value.kind = LRN_NULL;
			break;
		case jbvBool:
			value.kind = LRN_BOOL;
			value.number = v->val.boolean;
			break;
		case jbvNumeric:
			value.kind = LRN_NUMBER;
			value.number = DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(v->val.numeric)));
			break;
		case jbvString:
			value.text = pnstrdup(v->val.string.val, v->val.string.len);
			break;
		default:
			break;
	}
	return lrn_params_set(p, name, &value, st);
}

/* An option of ours; false: it is none, so it is the algorithm's. */
static bool
read_option(train_options *o, const char *name, const JsonbValue *v)
{
	if (strcmp(name, "backbone") == 0 && o->params.algorithm == LRN_PCA)
		o->backbone = option_model(name, v);
	else if (strcmp(name, "descriptors_of") == 0)
		o->descriptors_of = option_model(name, v);
	else if (strcmp(name, "sample_weight") == 0)
	{
		if (v->type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"sample_weight\" must be the name of a column of the query")));
		o->weight = pnstrdup(v->val.string.val, v->val.string.len);
	}
	else if (strcmp(name, "one_hot") == 0)
	{
		if (v->type != jbvBool)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"one_hot\" must be true or false")));
		o->one_hot = v->val.boolean;
	}
	else if (strcmp(name, "class_weight") == 0 && v->type == jbvBinary && JsonContainerIsObject(v->val.binary.data))
		o->class_weight_object = v->val.binary.data;	/* known once the labels are */
	else
		return false;
	return true;
}

void
train_read_options(Jsonb *options, lrn_algorithm algorithm, train_options *out)
{
	JsonbIterator *it;
	JsonbValue	v;

	memset(out, 0, sizeof(*out));
	lrn_params_init(&out->params, algorithm);
	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object")));
	it = JsonbIteratorInit(&options->root);
	(void) JsonbIteratorNext(&it, &v, true);	/* the object itself */
	while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
	{
		char	   *name = pnstrdup(v.val.string.val, v.val.string.len);
		mr_status	st = {0};

		(void) JsonbIteratorNext(&it, &v, true);
		if (!read_option(out, name, &v) && train_set_param(&out->params, name, &v, &st) != MR_OK)
			mr_pg_raise(&st);
	}
	if (out->weight && !lrn_takes(algorithm, LRN_TAKES_WEIGHTS))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("algorithm \"%s\" takes no sample weights", lrn_algorithm_name(algorithm)),
				 errhint("Leave out option \"sample_weight\".")));
	if (out->class_weight_object)
	{
		lrn_params	probe = out->params;
		mr_status	st = {0};

		/* An algorithm without class weights says so itself. */
		if (out->params.task != LRN_CLASSIFY ||
			lrn_params_set(&probe, "class_weight", &(lrn_value) {LRN_TEXT, 0, "balanced"}, &st) != MR_OK)
		{
			(void) lrn_params_set(&probe, "class_weight", &(lrn_value) {LRN_TEXT, 0, "(an object)"}, &st);
			mr_pg_raise(&st);
		}
	}
}

bool
train_check_target(const lrn_params *p, const char *target)
{
	bool		has_target = p->task == LRN_CLASSIFY || p->task == LRN_REGRESS;
	const char *algorithm = lrn_algorithm_name(p->algorithm);

	if (has_target && target == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("algorithm \"%s\" needs a target", algorithm),
				 errhint("Name the query's column that holds the %s.", p->task == LRN_REGRESS ? "numbers to predict" : "labels")));
	if (!has_target && target != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("algorithm \"%s\" takes no target", algorithm),
				 errhint("Pass NULL, and leave column \"%s\" out of the query.", target)));
	return has_target;
}

/* {"label": weight, ...} -> weights by class id; labels not named weigh 1. */
void
train_class_weights(train_options *o, const train_data *data)
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
