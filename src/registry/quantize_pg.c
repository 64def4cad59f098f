/*
 * quantize_pg.c
 *	  millrace.quantize_model(): a network becomes a version of itself in int8.
 *
 * The query runs as the caller, in a read-only cursor; every so-many-th row is
 * set aside in a tuplestore, which spills to disk beyond work_mem, all others
 * calibrate.  Then the quantised network is built and held against the original
 * on the rows set aside, again for each layer that has to stay float32.  Memory:
 * both networks and a histogram for each tensor, whatever the number of rows.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "image/image_pg.h"
#include "miscadmin.h"
#include "nn/nn_pg.h"
#include "nn/quantize.h"
#include "portability/instr_time.h"
#include "registry/model.h"
#include "registry/options.h"
#include "registry/train_data.h"
#include "registry/train_json.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(millrace_quantize_model);

#define BATCH 16				/* rows of a fetch: images can be large */

typedef struct quantize_options
{
	nn_quant_options nn;
	const char *method;
	double		holdout;		/* share of the rows */
	char	   *description;
} quantize_options;

typedef struct job
{
	const reg_model *model;
	quantize_options options;
	mr_env		env;			/* the quantizer's: lives as long as it */
	nn_quantizer *q;
	int			n_inputs;
	void	   *inputs[NN_MAX_PORTS];	/* one sample */
	MemoryContext row_cxt;		/* of the row at work */
	Tuplestorestate *holdout;
	TupleDesc	desc;
	int64		rows;			/* read so far, of both parts */
	int64		calibrated;
} job;

/* ---- options ---- */

/* Names of layers; in the current context. */
static void
keep_option(const JsonbValue *v, nn_quant_options *o)
{
	JsonbContainer *array = v->val.binary.data;
	const char **names;

	if (v->type != jbvBinary || !JsonContainerIsArray(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"keep\" must be an array of layer names")));
	o->n_keep = JsonContainerSize(array);
	names = palloc(Max(o->n_keep, 1) * sizeof(char *));
	for (int i = 0; i < o->n_keep; i++)
	{
		JsonbValue *name = getIthJsonbValueFromContainer(array, i);

		if (name->type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"keep\" must be an array of layer names")));
		names[i] = pnstrdup(name->val.string.val, name->val.string.len);
	}
	o->keep = names;
}

static void
read_options(Jsonb *options, quantize_options *o)
{
	int64		max_kept = nn_quant_defaults.max_kept;
	JsonbValue	keep = {.type = jbvNull};
	const reg_option list[] = {
		REG_OPTION("method", TEXT, &o->method),
		REG_OPTION_IN("percentile", NUMBER, &o->nn.percentile, 50, 100),
		REG_OPTION_IN("holdout", NUMBER, &o->holdout, 0.001, 0.9),
		REG_OPTION_IN("min_cosine", NUMBER, &o->nn.min_cosine, -1, 1),
		REG_OPTION_IN("max_layers_kept", INTEGER, &max_kept, 0, 1000000),
		REG_OPTION("keep", JSON, &keep),
		REG_OPTION("keep_first", BOOL, &o->nn.keep_first),
		REG_OPTION("keep_last", BOOL, &o->nn.keep_last),
		REG_OPTION("description", TEXT, &o->description),
		REG_OPTION_END
	};

	o->nn = nn_quant_defaults;
	o->method = "percentile";
	o->holdout = 0.2;
	reg_read_options(options, "quantize_model()", list);
	o->nn.max_kept = (int) max_kept;
	if (!nn_quant_method_by_name(o->method, &o->nn.method))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"method\" must be minmax, percentile or entropy")));
	if (keep.type != jbvNull)
		keep_option(&keep, &o->nn);
}

/* ---- rows to samples ---- */

/* The query's columns against the network's inputs. */
static void
check_columns(const job *j, TupleDesc desc)
{
	const nn_model *m = nn_quantizer_model(j->q);

	if (desc->natts != j->n_inputs)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the calibration query has %d columns, model \"%s\" takes %d inputs",
						desc->natts, j->model->reference, j->n_inputs)));
	for (int i = 0; i < desc->natts; i++)
	{
		Oid			type = TupleDescAttr(desc, i)->atttypid;
		int			dtype = nn_input(m, i)->dtype;
		bool		fits = dtype == nn_float32 ? type == FLOAT4ARRAYOID || type == FLOAT8ARRAYOID :
			(dtype == nn_int64 || dtype == nn_int32) && (type == INT4ARRAYOID || type == INT8ARRAYOID);

		if (type == BYTEAOID && j->n_inputs == 1 && dtype == nn_float32)
		{
			if (j->model->loaded->spec.prep.width == 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("model \"%s\" does not take images", j->model->reference)));
			fits = true;
		}
		if (!fits)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of the calibration query has type %s", NameStr(TupleDescAttr(desc, i)->attname),
							format_type_be(type)),
					 errdetail("Input \"%s\" of model \"%s\" takes %s.", nn_input(m, i)->name, j->model->reference,
							   dtype == nn_float32 ? "images (bytea) or real[]" : "integer[] or bigint[]")));
	}
}

/* The numbers of an array as the network takes them. */
static void
read_array(const job *j, int i, Oid type, Datum value)
{
	const nn_tensor_info *t = nn_input(nn_quantizer_model(j->q), i);
	ArrayType  *array = DatumGetArrayTypeP(value);
	int64		n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	const char *data = ARR_DATA_PTR(array);

	if (n != t->elements)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("row " INT64_FORMAT " of the calibration query has " INT64_FORMAT " numbers, input \"%s\" of model \"%s\" takes " INT64_FORMAT,
						j->rows, n, t->name, j->model->reference, t->elements)));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("row " INT64_FORMAT " of the calibration query contains nulls", j->rows)));
	for (int64 k = 0; k < n; k++)
		switch (type)
		{
			case FLOAT4ARRAYOID:
				((float *) j->inputs[i])[k] = ((const float *) data)[k];
				break;
			case FLOAT8ARRAYOID:
				((float *) j->inputs[i])[k] = (float) ((const double *) data)[k];
				break;
			default:
				{
					int64		v = type == INT4ARRAYOID ? ((const int32 *) data)[k] : ((const int64 *) data)[k];

					if (t->dtype == nn_int64)
						((int64 *) j->inputs[i])[k] = v;
					else
						((int32 *) j->inputs[i])[k] = (int32) v;
				}
		}
}

static void
read_image(const job *j, Datum value)
{
	bytea	   *image = DatumGetByteaPP(value);
	mr_env		env = mr_pg_env(j->row_cxt);
	mr_status	st = {0};

	if (img_to_tensor(&env, (const uint8 *) VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image), img_current_limits(),
					  &j->model->loaded->spec.prep, j->inputs[0], &st) != MR_OK)
	{
		if (st.code != MR_CANCELED && st.detail[0] == '\0')
			mr_detail(&st, "This is row " INT64_FORMAT " of the calibration query.", j->rows);
		mr_pg_raise(&st);
	}
}

/* One row into j->inputs. */
static void
read_row(const job *j, HeapTuple tuple, TupleDesc desc)
{
	for (int i = 0; i < j->n_inputs; i++)
	{
		Oid			type = TupleDescAttr(desc, i)->atttypid;
		bool		isnull;
		Datum		value = heap_getattr(tuple, i + 1, desc, &isnull);

		if (isnull)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("row " INT64_FORMAT " of the calibration query is null", j->rows)));
		if (type == BYTEAOID)
			read_image(j, value);
		else
			read_array(j, i, type, value);
	}
}

/* The next row: to the hold-out, or to calibration. */
static void
take_row(job *j, HeapTuple tuple, TupleDesc desc)
{
	int64		n = j->rows++;
	double		share = j->options.holdout;
	mr_status	st = {0};
	MemoryContext old;

	if (floor((n + 1) * share) > floor(n * share))
	{
		tuplestore_puttuple(j->holdout, tuple);
		return;
	}
	old = MemoryContextSwitchTo(j->row_cxt);
	read_row(j, tuple, desc);
	MemoryContextSwitchTo(old);
	MemoryContextReset(j->row_cxt);
	if (nn_quantizer_observe(j->q, (const void *const *) j->inputs, &st) != MR_OK)
	{
		if (st.code == MR_INVALID)
			mr_detail(&st, "This is row " INT64_FORMAT " of the calibration query.", j->rows);
		mr_pg_raise(&st);
	}
	j->calibrated++;
}

static void
run_query(job *j, const char *query)
{
	MemoryContext caller = CurrentMemoryContext;
	Portal		portal;
	train_guard guard;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	train_guard_begin(&guard);
	portal = train_open(query);
	check_columns(j, portal->tupDesc);
	MemoryContextSwitchTo(caller);
	j->desc = CreateTupleDescCopy(portal->tupDesc);
	j->holdout = tuplestore_begin_heap(false, false, work_mem);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, BATCH);
		if (SPI_processed == 0)
			break;
		for (uint64 r = 0; r < SPI_processed; r++)
		{
			CHECK_FOR_INTERRUPTS();
			take_row(j, SPI_tuptable->vals[r], SPI_tuptable->tupdesc);
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	train_guard_end(&guard);
	SPI_finish();
	MemoryContextSwitchTo(caller);
	if (j->calibrated == 0 || j->calibrated == j->rows)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 j->rows == 0 ? errmsg("query returned no rows") :
				 errmsg("query returned " INT64_FORMAT " rows, too few to calibrate and to compare", j->rows),
				 j->rows == 0 ? 0 : errdetail("Option \"holdout\" sets one of %d rows aside.", (int) ceil(1 / j->options.holdout)),
				 errhint("Some hundred rows that look like those to come are a good number.")));
}

/* Build, compare on the hold-out, and again while layers have to be kept. */
static void
build(job *j)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(j->desc, &TTSOpsMinimalTuple);
	mr_status	st = {0};
	bool		again;

	do
	{
		int64		rows = j->rows;

		if (nn_quantizer_build(j->q, &st) != MR_OK)
			mr_pg_raise(&st);
		tuplestore_rescan(j->holdout);
		while (tuplestore_gettupleslot(j->holdout, true, false, slot))
		{
			bool		free_it;
			HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &free_it);
			MemoryContext old = MemoryContextSwitchTo(j->row_cxt);

			CHECK_FOR_INTERRUPTS();
			read_row(j, tuple, j->desc);
			MemoryContextSwitchTo(old);
			MemoryContextReset(j->row_cxt);
			if (free_it)
				heap_freetuple(tuple);
			if (nn_quantizer_compare(j->q, (const void *const *) j->inputs, &st) != MR_OK)
				mr_pg_raise(&st);
		}
		j->rows = rows;
		if (nn_quantizer_next(j->q, &again, &st) != MR_OK)
			mr_pg_raise(&st);
	} while (again);
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(j->holdout);
}

/* ---- what is registered ---- */

static Jsonb *
make_metrics(const job *j, double seconds)
{
	const nn_agreement *a = nn_quantizer_agreement(j->q);
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	json_push_key(&state, "quantization");
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	json_push_string(&state, "method", j->options.method);
	json_push_integer(&state, "rows", j->calibrated);
	json_push_integer(&state, "holdout_rows", a->rows);
	json_push_number(&state, "cosine", a->cosine / (double) a->rows);
	json_push_number(&state, "worst_cosine", a->min_cosine);
	if (j->model->n_outputs > 1)
		json_push_number(&state, "top1_agreement", (double) a->top1 / (double) a->rows);
	json_push_number(&state, "max_abs_error", a->max_error);
	json_push_number(&state, "max_abs_value", a->max_value);
	json_push_integer(&state, "layers", nn_quantizer_n_layers(j->q));
	json_push_key(&state, "layers_float32");
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < nn_quantizer_n_layers(j->q); i++)
	{
		bool		kept;
		const char *name = nn_quantizer_layer(j->q, i, &kept);

		if (kept)
			json_push_element(&state, name);
	}
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	json_push_number(&state, "seconds", seconds);
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static Jsonb *
make_training(const job *j, const char *query, Jsonb *options, const char *snapshot)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	json_push_string(&state, "query", query);
	json_push_json(&state, "options", options);
	json_push_integer(&state, "rows", j->rows);
	json_push_string(&state, "snapshot", snapshot);
	json_push_string(&state, "millrace", MILLRACE_VERSION);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static void
open_quantizer(job *j, MemoryContext cxt)
{
	nn_options	opt = nn_pg_options();
	mr_status	st = {0};
	uint8	   *bytes;
	size_t		size;
	const nn_model *network;

	reg_model_bytes(j->model, GetActiveSnapshot(), &bytes, &size);
	/* open dimensions become those of the first class */
	opt.n_classes = Min(j->model->loaded->spec.n_classes, 1);
	opt.classes = j->model->loaded->spec.classes;
	j->env = mr_pg_env(cxt);
	j->options.nn.output = j->model->loaded->output;
	if (nn_quantizer_open(&j->env, bytes, size, &opt, &j->options.nn, &j->q, &st) != MR_OK)
		mr_pg_raise(&st);
	network = nn_quantizer_model(j->q);
	j->n_inputs = nn_n_inputs(network);
	for (int i = 0; i < j->n_inputs; i++)
	{
		/* 64-byte aligned, 8 bytes an element at most */
		j->inputs[i] = mr_alloc(&j->env, (size_t) nn_input(network, i)->elements * 8 + 64);
		if (j->inputs[i] == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory")));
	}
}

/* millrace.quantize_model(model text, calibration text, options jsonb) -> text */
Datum
millrace_quantize_model(PG_FUNCTION_ARGS)
{
	static const char *const argument[] = {"model", "calibration"};
	job			j = {0};
	char	   *query,
			   *snapshot;
	Jsonb	   *options;
	reg_row		row;
	reg_new		new = {.origin = "quantize"};
	reg_parent	parent;
	size_t		size;
	instr_time	start,
				end;
	int			version;

	for (int i = 0; i < 2; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", argument[i])));
	PreventCommandIfReadOnly("quantize_model()");
	query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	options = PG_ARGISNULL(2) ? json_of("{}") : PG_GETARG_JSONB_P(2);
	read_options(options, &j.options);
	j.model = reg_resolve(text_to_cstring(PG_GETARG_TEXT_PP(0)), REG_DESCRIBE);
	if (j.model->kind != REG_ONNX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" (%s) is not a network", j.model->reference, reg_kind_name(j.model->kind)),
				 errdetail("Only networks are quantized.")));
	if (!reg_read_version(j.model->name, j.model->version, GetActiveSnapshot(), &row))
		elog(ERROR, "model \"%s\" has no row", j.model->reference);
	reg_load(j.model);
	snapshot = DatumGetCString(DirectFunctionCall1(pg_snapshot_out,
												   DirectFunctionCall1(pg_current_snapshot, (Datum) 0)));

	INSTR_TIME_SET_CURRENT(start);
	open_quantizer(&j, AllocSetContextCreate(CurrentMemoryContext, "millrace quantization", ALLOCSET_DEFAULT_SIZES));
	j.row_cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace calibration row", ALLOCSET_DEFAULT_SIZES);
	run_query(&j, query);
	build(&j);
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);

	parent = (reg_parent) {j.model->name, j.model->version, "quantized_from"};
	new.name = j.model->name;
	new.bytes = nn_quantizer_bytes(j.q, &size);
	new.size = size;
	new.spec = DatumGetJsonbP(DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(row.spec),
												  CStringGetTextDatum("shapes")));
	if (j.options.description)
		new.spec = reg_jsonb_set_text(new.spec, "description", j.options.description);
	new.labels = row.labels;
	new.metrics = make_metrics(&j, INSTR_TIME_GET_DOUBLE(end));
	new.training = make_training(&j, query, options, snapshot);
	new.parents = &parent;
	new.n_parents = 1;
	version = reg_register(&new);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s:%d", new.name, version)));
}
