/*
 * infer_pg.c
 *	  extract_descriptors(), classify() and their set-wise forms.
 *
 * (f(x)).* runs f once per column: classify() and try_extract_descriptors()
 * remember their last argument and answer, so that the work is done once.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "registry/run.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(millrace_resolve_model);
PG_FUNCTION_INFO_V1(millrace_extract_descriptors);
PG_FUNCTION_INFO_V1(millrace_extract_descriptors_set);
PG_FUNCTION_INFO_V1(millrace_try_extract_descriptors);
PG_FUNCTION_INFO_V1(millrace_classify);
PG_FUNCTION_INFO_V1(millrace_predict);
PG_FUNCTION_INFO_V1(millrace_classify_rows);
PG_FUNCTION_INFO_V1(millrace_class_probabilities);

#define MEMO_COLUMNS 4096

/* millrace.resolve_model(model text, task text) -> text 'name:version' */
Datum
millrace_resolve_model(PG_FUNCTION_ARGS)
{
	char	   *task;

	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	task = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (strcmp(task, "descriptors") == 0)
		PG_RETURN_TEXT_P(reg_resolve_arg(fcinfo, 0, REG_ANY)->reference_text);
	if (strcmp(task, "classifier") == 0)
		PG_RETURN_TEXT_P(reg_resolve_arg(fcinfo, 0, REG_CLASSIFY)->reference_text);
	if (strcmp(task, "encoder") == 0)
		PG_RETURN_TEXT_P(reg_resolve_arg(fcinfo, 0, REG_ENCODE)->reference_text);
	if (strcmp(task, "detector") == 0)
		PG_RETURN_TEXT_P(reg_resolve_arg(fcinfo, 0, REG_DETECT)->reference_text);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown task \"%s\"", task),
			 errhint("Tasks are \"descriptors\", \"classifier\", \"encoder\" and \"detector\".")));
	PG_RETURN_NULL();
}

/* ---- descriptors ---- */

static Datum
describe(const reg_model *m, bytea *image)
{
	mr_status	st;
	float	   *values;
	ArrayType  *result = reg_new_reals(m->n_outputs, &values);

	if (reg_extract(m, (const uint8 *) VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image), values, &st) != MR_OK)
		mr_pg_raise(&st);
	return PointerGetDatum(result);
}

/* extract_descriptors(image bytea, model text) -> real[] */
Datum
millrace_extract_descriptors(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(describe(reg_resolve_arg(fcinfo, 1, REG_DESCRIBE), PG_GETARG_BYTEA_PP(0)));
}

/* extract_descriptors(images bytea[], model text) -> setof real[], in order */
Datum
millrace_extract_descriptors_set(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ArrayType  *images;
	const reg_model *m;
	MemoryContext per_image;
	ArrayIterator it;
	Datum		image;
	bool		isnull;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	images = PG_GETARG_ARRAYTYPE_P(0);
	m = reg_resolve_arg(fcinfo, 1, REG_DESCRIBE);
	per_image = AllocSetContextCreate(CurrentMemoryContext, "millrace image row", ALLOCSET_DEFAULT_SIZES);
	it = array_create_iterator(images, 0, NULL);
	while (array_iterate(it, &image, &isnull))
	{
		MemoryContext old = MemoryContextSwitchTo(per_image);
		Datum		value = isnull ? (Datum) 0 : describe(m, DatumGetByteaPP(image));

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_image);
		CHECK_FOR_INTERRUPTS();
	}
	array_free_iterator(it);
	MemoryContextDelete(per_image);
	return (Datum) 0;
}

/* The last answer of try_extract_descriptors(). */
static struct
{
	bool		valid;
	uint8		content[32];
	uint8		model_sha[32];
	char		reference[REG_NAME_SIZE + 16];
	float		ms;
	mr_status	st;
	float	   *values;			/* in TopMemoryContext; NULL: failed */
	int			n;
} extraction;

/* millrace.try_extract_descriptors(image bytea, model text) -> millrace.extraction */
Datum
millrace_try_extract_descriptors(PG_FUNCTION_ARGS)
{
	const reg_model *m = reg_resolve_arg(fcinfo, 1, REG_DESCRIBE);
	bytea	   *image;
	bytea	   *sha;
	Datum		values[6] = {0};
	bool		nulls[6] = {false};
	float	   *numbers;
	TupleDesc	desc;
	HeapTuple	tuple;
	mr_code		code;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	image = PG_GETARG_BYTEA_PP(0);
	sha = palloc(VARHDRSZ + 32);
	SET_VARSIZE(sha, VARHDRSZ + 32);
	reg_sha256(VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image), (uint8 *) VARDATA(sha));

	if (!extraction.valid || memcmp(extraction.content, VARDATA(sha), 32) != 0 ||
		memcmp(extraction.model_sha, m->sha256, 32) != 0 ||
		strcmp(extraction.reference, m->reference) != 0)
	{
		instr_time	start;
		instr_time	end;

		extraction.valid = false;
		if (extraction.values == NULL || extraction.n != m->n_outputs)
		{
			if (extraction.values)
				pfree(extraction.values);
			extraction.values = NULL;
			extraction.values = MemoryContextAllocHuge(TopMemoryContext, sizeof(float) * m->n_outputs);
			extraction.n = m->n_outputs;
		}
		memset(&extraction.st, 0, sizeof(extraction.st));
		INSTR_TIME_SET_CURRENT(start);
		code = reg_extract(m, (const uint8 *) VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image),
						   extraction.values, &extraction.st);
		INSTR_TIME_SET_CURRENT(end);
		INSTR_TIME_SUBTRACT(end, start);
		extraction.st.code = code;
		extraction.ms = (float) INSTR_TIME_GET_MILLISEC(end);
		memcpy(extraction.content, VARDATA(sha), 32);
		memcpy(extraction.model_sha, m->sha256, 32);
		strlcpy(extraction.reference, m->reference, sizeof(extraction.reference));
		extraction.valid = true;
	}

	values[1] = PointerGetDatum(m->reference_text);
	values[2] = PointerGetDatum(sha);
	values[3] = Float4GetDatum(extraction.ms);
	if (extraction.st.code == MR_OK)
	{
		values[0] = PointerGetDatum(reg_new_reals(extraction.n, &numbers));
		memcpy(numbers, extraction.values, sizeof(float) * extraction.n);
		nulls[4] = nulls[5] = true;
	}
	else
	{
		nulls[0] = true;
		values[4] = CStringGetTextDatum(unpack_sql_state(mr_pg_sqlstate(extraction.st.code)));
		values[5] = CStringGetTextDatum(extraction.st.message);
	}
	desc = lookup_rowtype_tupdesc(get_func_rettype(fcinfo->flinfo->fn_oid), -1);
	tuple = heap_form_tuple(desc, values, nulls);
	ReleaseTupleDesc(desc);
	PG_RETURN_DATUM(HeapTupleGetDatum(tuple));
}

/* ---- classes ---- */

/* What a call site of classify() keeps. */
typedef struct class_site
{
	void	   *model;			/* reg_resolve_site()'s */
	TupleDesc	desc;			/* of the answer */
} class_site;

static class_site *
site_of(FunctionCallInfo fcinfo)
{
	class_site *site = fcinfo->flinfo->fn_extra;

	if (site == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		site = palloc0(sizeof(class_site));
		site->desc = lookup_rowtype_tupdesc_copy(get_func_rettype(fcinfo->flinfo->fn_oid), -1);
		fcinfo->flinfo->fn_extra = site;
		MemoryContextSwitchTo(old);
	}
	return site;
}

/* The last answer of classify(). */
static struct
{
	bool		valid;
	uint8		model_sha[32];
	int			columns;
	int32		label;
	float		confidence;
	float		row[MEMO_COLUMNS];
} classified;

/* classify(descriptors real[], model text) -> millrace.classification */
Datum
millrace_classify(PG_FUNCTION_ARGS)
{
	class_site *site = site_of(fcinfo);
	const reg_model *m = reg_resolve_site(&site->model, fcinfo->flinfo->fn_mcxt,
										  PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1), REG_CLASSIFY);
	Datum		values[3];
	bool		nulls[3] = {false};
	const float *row;
	int64		rows;
	int			columns;
	int32		label;
	float		confidence;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	reg_stat_ask(m);
	row = reg_floats(PG_GETARG_ARRAYTYPE_P(0), 1, !reg_takes_missing(m), "descriptors", &rows, &columns);
	if (classified.valid && classified.columns == columns &&
		memcmp(classified.model_sha, m->sha256, 32) == 0 &&
		memcmp(classified.row, row, sizeof(float) * columns) == 0)
	{
		label = classified.label;
		confidence = classified.confidence;
		reg_stat_ask(NULL);
	}
	else
	{
		classified.valid = false;
		reg_classify(m, row, 1, columns, &label, &confidence);
		if (columns <= MEMO_COLUMNS)
		{
			memcpy(classified.model_sha, m->sha256, 32);
			memcpy(classified.row, row, sizeof(float) * columns);
			classified.columns = columns;
			classified.label = label;
			classified.confidence = confidence;
			classified.valid = true;
		}
	}
	values[0] = PointerGetDatum(m->label_texts[label]);
	values[1] = Float4GetDatum(confidence);
	values[2] = PointerGetDatum(m->reference_text);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(site->desc, values, nulls)));
}

/* predict(features real[], model text) -> real */
Datum
millrace_predict(PG_FUNCTION_ARGS)
{
	const reg_model *m = reg_resolve_arg(fcinfo, 1, REG_CLASSIFY);
	const float *row;
	int64		rows;
	int			columns;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	reg_stat_ask(m);
	row = reg_floats(PG_GETARG_ARRAYTYPE_P(0), 1, !reg_takes_missing(m), "features", &rows, &columns);
	PG_RETURN_FLOAT4(reg_predict(m, row, columns));
}

/* millrace.classify_rows(descriptors real[][], model text) -> setof classification, in order */
Datum
millrace_classify_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const reg_model *m;
	const float *values;
	int64		rows;
	int			columns;
	int32	   *label;
	float	   *confidence;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	m = reg_resolve_arg(fcinfo, 1, REG_CLASSIFY);
	reg_stat_ask(m);
	values = reg_floats(PG_GETARG_ARRAYTYPE_P(0), 2, !reg_takes_missing(m), "descriptors", &rows, &columns);
	if (rows == 0)
	{
		reg_stat_ask(NULL);
		return (Datum) 0;
	}
	label = palloc_array(int32, rows);
	confidence = palloc_array(float, rows);
	reg_classify(m, values, rows, columns, label, confidence);
	for (int64 i = 0; i < rows; i++)
	{
		Datum		row[3] = {PointerGetDatum(m->label_texts[label[i]]),
		Float4GetDatum(confidence[i]), PointerGetDatum(m->reference_text)};
		bool		nulls[3] = {false};

		CHECK_FOR_INTERRUPTS();
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row, nulls);
	}
	return (Datum) 0;
}

/* class_probabilities(descriptors real[], model text) -> table (label text, probability real) */
Datum
millrace_class_probabilities(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const reg_model *m;
	const float *values;
	float	   *proba;
	int64		rows;
	int			columns;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	m = reg_resolve_arg(fcinfo, 1, REG_CLASSIFY);
	reg_stat_ask(m);
	values = reg_floats(PG_GETARG_ARRAYTYPE_P(0), 1, !reg_takes_missing(m), "descriptors", &rows, &columns);
	proba = palloc_array(float, Max(m->n_outputs, 1));
	reg_class_probabilities(m, values, 1, columns, proba);
	for (int i = 0; i < m->n_labels; i++)
	{
		Datum		row[2] = {PointerGetDatum(m->label_texts[i]), Float4GetDatum(proba[i])};
		bool		nulls[2] = {false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row, nulls);
	}
	return (Datum) 0;
}
