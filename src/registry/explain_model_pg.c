/*
 * explain_model_pg.c
 *	  explain() and feature_importances(): what a model's answers rest on.
 *
 * A prediction file has no covers; explanations read the model bytes.  The
 * session keeps those of the model explained last, checked, with the names of
 * its features, in a context of its own until another model is explained.
 */
#include "postgres.h"

#include <math.h>

#include "core/core_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "learn/shap.h"
#include "registry/features.h"
#include "registry/run.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(millrace_explain);
PG_FUNCTION_INFO_V1(millrace_feature_importances);

/* The model explained last. */
static struct
{
	MemoryContext cxt;			/* NULL: none */
	uint8		sha256[32];
	uint64		spec_hash;
	mr_env		env;
	bool		has_trees;
	lrn_trees	trees;
	lrn_coefficients linear;
	lrn_info	info;
	int			margins;
	text	  **names;			/* n_features */
} last;

/* One name a number: those of arrays and one-hot columns tell which. */
static text **
number_names(const reg_model *m)
{
	text	  **name = palloc(m->n_inputs * sizeof(text *));
	reg_features *features = reg_features_of(m);

	for (int i = 0; i < m->n_inputs; i++)
		name[i] = NULL;
	for (int f = 0; features && f < features->n; f++)
	{
		const reg_feature *one = &features->feature[f];

		for (int i = 0; i < one->width && one->first + i < m->n_inputs; i++)
			name[one->first + i] = cstring_to_text(
				one->one_hot && i < one->n_values ? psprintf("%s=%s", one->name, one->value[i]) :
				one->type == REG_FEATURE_ARRAY ? psprintf("%s[%d]", one->name, i + 1) : one->name);
	}
	for (int i = 0; i < m->n_inputs; i++)
		if (name[i] == NULL)
			name[i] = cstring_to_text(psprintf("%d", i + 1));
	return name;
}

/* Read and understand a model's bytes into last. */
static void
remember(const reg_model *m)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace explained model",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Snapshot	snapshot = RegisterSnapshot(GetCatalogSnapshot(reg_models_oid()));
	mr_status	st = {0};
	uint8	   *bytes;
	size_t		size;
	mr_code		code;

	if (last.cxt)
		MemoryContextDelete(last.cxt);
	memset(&last, 0, sizeof(last));
	reg_model_bytes(m, snapshot, &bytes, &size);
	UnregisterSnapshot(snapshot);
	last.env = mr_pg_env(cxt);
	code = lrn_trees_open(&last.env, bytes, size, &last.trees, &st);
	last.has_trees = code == MR_OK;
	if (code == MR_OK)
	{
		last.info = last.trees.info;
		last.margins = last.trees.n_margins;
	}
	else if (code == MR_UNSUPPORTED)
	{
		code = lrn_linear_open_coefficients(&last.env, bytes, size, &last.info, &last.linear, &st);
		last.margins = last.linear.rows;
	}
	if (code == MR_UNSUPPORTED)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("model \"%s\" (%s) cannot be explained", m->reference, reg_kind_name(m->kind)),
				 errhint("Models of trees and linear models can; millrace.permutation_importance() takes any.")));
	if (code != MR_OK)
		mr_pg_raise(&st);
	last.names = number_names(m);
	memcpy(last.sha256, m->sha256, sizeof(last.sha256));
	last.spec_hash = m->loaded->spec_hash;
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(cxt, TopMemoryContext);
	last.cxt = cxt;
}

static const reg_model *
explained_model(FunctionCallInfo fcinfo)
{
	const reg_model *m;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("model must not be null")));
	m = reg_resolve_arg(fcinfo, 0, REG_CLASSIFY);
	if (m->kind == REG_ONNX)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("model \"%s\" (%s) cannot be explained", m->reference, reg_kind_name(m->kind)),
				 errdetail("What is imported from ONNX runs as a network, whose trees and coefficients are not told apart."),
				 errhint("millrace.permutation_importance() and millrace.partial_dependence() take any model.")));
	if (last.cxt == NULL || memcmp(last.sha256, m->sha256, sizeof(last.sha256)) != 0 ||
		last.spec_hash != m->loaded->spec_hash)
		remember(m);
	return m;
}

/* The label that a margin speaks for; NULL where there are none. */
static text *
margin_label(const reg_model *m, int margin)
{
	if (m->n_labels == 2 && last.margins == 1)
		return m->label_texts[1];
	return m->n_labels == last.margins ? m->label_texts[margin] : NULL;
}

/* explain(model text, features real[]) -> table (feature, label, value, contribution) */
Datum
millrace_explain(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const reg_model *m;
	const float *row;
	int64		rows;
	int			columns;
	double	   *out;
	mr_status	st = {0};

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(1))
		return (Datum) 0;
	m = explained_model(fcinfo);
	row = reg_floats(PG_GETARG_ARRAYTYPE_P(1), 1, !reg_takes_missing(m), "features", &rows, &columns);
	reg_check_columns(m, columns);
	out = palloc_array(double, (Size) (columns + 1) * last.margins);
	if (!last.has_trees)
		lrn_linear_contributions(&last.info, &last.linear, row, out);
	else if (lrn_shap(&last.trees, row, 1, out, &st) != MR_OK)
		mr_pg_raise(&st);
	for (int k = 0; k < last.margins; k++)
		for (int f = 0; f <= columns; f++)
		{
			text	   *label = margin_label(m, k);
			bool		base = f == columns;
			Datum		value[4] = {base ? (Datum) 0 : PointerGetDatum(last.names[f]), PointerGetDatum(label),
				base ? (Datum) 0 : Float4GetDatum(row[f]), Float8GetDatum(out[(Size) f * last.margins + k])};
			bool		null[4] = {base, label == NULL, base || isnan(row[f]), false};

			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, value, null);
		}
	return (Datum) 0;
}

/* millrace.feature_importances(model text) -> table (feature, importance) */
Datum
millrace_feature_importances(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const reg_model *m;
	double	   *share;
	mr_status	st = {0};

	InitMaterializedSRF(fcinfo, 0);
	m = explained_model(fcinfo);
	share = palloc_array(double, m->n_inputs);
	if (!last.has_trees)
		lrn_linear_importances(&last.info, &last.linear, share);
	else if (lrn_tree_importances(&last.trees, share, &st) != MR_OK)
		mr_pg_raise(&st);
	for (int f = 0; f < m->n_inputs; f++)
	{
		Datum		value[2] = {PointerGetDatum(last.names[f]), Float8GetDatum(share[f])};
		bool		null[2] = {false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, value, null);
	}
	return (Datum) 0;
}
