/*
 * tsne_pg.c
 *	  millrace.tsne() and millrace.tsne_fit(): maps of vectors.
 */
#include "quality/latent_pg.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(millrace_tsne);
PG_FUNCTION_INFO_V1(millrace_tsne_fit);

static void
read_options(Jsonb *given, qlt_tsne_options *o)
{
	JsonbIterator *it = JsonbIteratorInit(&given->root);
	JsonbIteratorToken tok;
	JsonbValue	v;
	mr_status	st = {0};

	qlt_tsne_init(o);
	if (!JB_ROOT_IS_OBJECT(given))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options of t-SNE must be a JSON object")));
	while ((tok = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		char	   *name,
				   *value;

		if (tok != WJB_KEY)
			continue;
		name = pnstrdup(v.val.string.val, v.val.string.len);
		(void) JsonbIteratorNext(&it, &v, true);
		if (v.type == jbvString)
			value = pnstrdup(v.val.string.val, v.val.string.len);
		else if (v.type == jbvNumeric)
			value = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)));
		else
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" of t-SNE must be a number or a string", name)));
		if (qlt_tsne_set(o, name, value, &st))
			mr_pg_raise(&st);
	}
}

static ArrayType *
fit(FunctionCallInfo fcinfo, qlt_tsne_report *report)
{
	qlt_vectors v = qlt_vectors_of(PG_GETARG_ARRAYTYPE_P(0), PG_GETARG_INT32(1), "vectors");
	qlt_tsne_options o;
	qlt_call	call;
	ArrayType  *map;

	read_options(PG_GETARG_JSONB_P(2), &o);
	qlt_call_begin(&call);
	map = qlt_new_array(v.n * o.n_components, FLOAT4OID, sizeof(float4));
	if (qlt_tsne(&call.w, &o, &v, (float *) ARR_DATA_PTR(map), report, &call.st))
		mr_pg_raise(&call.st);
	qlt_call_end(&call);
	return map;
}

/* (vectors real[], dims int, options jsonb) -> real[] */
Datum
millrace_tsne(PG_FUNCTION_ARGS)
{
	qlt_tsne_report report;

	PG_RETURN_ARRAYTYPE_P(fit(fcinfo, &report));
}

/* The same -> (map real[], kl_divergence double precision, perplexity double precision, iterations int) */
Datum
millrace_tsne_fit(PG_FUNCTION_ARGS)
{
	qlt_tsne_report report;
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = PointerGetDatum(fit(fcinfo, &report));
	values[1] = Float8GetDatum(report.kl_divergence);
	values[2] = Float8GetDatum(report.perplexity);
	values[3] = Int32GetDatum(report.iterations);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
