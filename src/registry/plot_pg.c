/*
 * plot_pg.c
 *	  millrace.plot_*(): evaluations, distributions and any query as SVG text.
 *
 * The tables of evaluations are read as the caller, who needs SELECT on them.
 * Queries run read-only, through a cursor, within millrace.train_memory.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "core/svg.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "learn/settings.h"
#include "learn/sort.h"
#include "miscadmin.h"
#include "registry/train_data.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(millrace_plot_curves);
PG_FUNCTION_INFO_V1(millrace_plot_confusion);
PG_FUNCTION_INFO_V1(millrace_plot_histogram);
PG_FUNCTION_INFO_V1(millrace_plot_histogram_query);
PG_FUNCTION_INFO_V1(millrace_plot_lines);

#define MAX_BINS	200

static text *
finish(mr_code code, char *svg, const mr_status *st)
{
	if (code != MR_OK)
		mr_pg_raise(st);
	return cstring_to_text(svg);
}

static char *
text_argument(FunctionCallInfo fcinfo, int argno)
{
	char	   *s = PG_NARGS() <= argno || PG_ARGISNULL(argno) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(argno));

	return s && s[0] ? s : NULL;
}

/* ---- evaluations ---- */

/* Numbers of a float8[] in the caller's context. */
static double *
numbers_of(Datum array, int64 *n)
{
	ArrayType  *a = DatumGetArrayTypePCopy(array);

	*n = ArrayGetNItems(ARR_NDIM(a), ARR_DIMS(a));
	return (double *) ARR_DATA_PTR(a);
}

/* What is wrong with an evaluation without the curve. */
static void
no_curve(int64 id, const char *curve)
{
	static const Oid types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(id)};

	if (SPI_execute_with_args("SELECT FROM millrace.evaluations WHERE id OPERATOR(pg_catalog.=) $1", 1, (Oid *) types,
							  values, NULL, true, 1) != SPI_OK_SELECT || SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("evaluation " INT64_FORMAT " does not exist", id),
				 errhint("SELECT id, name, version FROM millrace.evaluations lists them.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("evaluation " INT64_FORMAT " has no curve \"%s\"", id, curve),
			 errdetail("It is of a regression, of rows of one class, or was made with \"points\": 0.")));
}

/* (evaluation bigint, curve text, title text): roc, pr, calibration */
Datum
millrace_plot_curves(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {INT8OID, TEXTOID};
	Datum		values[2];
	char	   *curve,
			   *svg = NULL;
	svg_chart	chart = {.x_low = 0,.x_high = 1,.y_low = 0,.y_high = 1};
	svg_series *series;
	uint64		n;
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};
	MemoryContext cxt = CurrentMemoryContext,
				old;
	mr_code		code;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	curve = text_to_cstring(PG_GETARG_TEXT_PP(1));
	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_GETARG_DATUM(1);
	chart.title = text_argument(fcinfo, 2);
	SPI_connect();
	if (SPI_execute_with_args("SELECT c.label, c.x, c.y, pg_catalog.round((e.per_class OPERATOR(pg_catalog.->) c.label OPERATOR(pg_catalog.->>) "
							  "CASE c.curve WHEN 'roc' THEN 'roc_auc' WHEN 'pr' THEN 'pr_auc' ELSE 'calibration_error' END)::numeric, 3)::text, "
							  "e.name, e.version FROM millrace.evaluation_curves c JOIN millrace.evaluations e ON e.id OPERATOR(pg_catalog.=) c.evaluation "
							  "WHERE c.evaluation OPERATOR(pg_catalog.=) $1 AND c.curve OPERATOR(pg_catalog.=) $2 ORDER BY c.label COLLATE \"C\" NULLS FIRST",
							  2, (Oid *) types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "curves cannot be read");
	if (SPI_processed == 0)
		no_curve(PG_GETARG_INT64(0), curve);
	n = SPI_processed;
	old = MemoryContextSwitchTo(cxt);
	series = palloc0(n * sizeof(svg_series));
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		char	   *label = SPI_getvalue(row, desc, 1),
				   *value = SPI_getvalue(row, desc, 4);
		bool		isnull;

		series[i].name = label == NULL ? "all" : value ? psprintf("%.20s %s", label, value) : label;
		series[i].x = numbers_of(SPI_getbinval(row, desc, 2, &isnull), &series[i].n);
		series[i].y = numbers_of(SPI_getbinval(row, desc, 3, &isnull), &series[i].n);
		if (chart.title == NULL)
			chart.title = psprintf("%s:%s", SPI_getvalue(row, desc, 5), SPI_getvalue(row, desc, 6));
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
	if (strcmp(curve, "roc") == 0)
	{
		chart.x_label = "false positive rate";
		chart.y_label = "true positive rate";
		chart.diagonal = true;
	}
	else if (strcmp(curve, "pr") == 0)
	{
		chart.x_label = "recall";
		chart.y_label = "precision";
	}
	else
	{
		chart.x_label = "mean probability";
		chart.y_label = "frequency";
		chart.diagonal = chart.markers = true;
	}
	code = svg_lines(&env, &chart, series, (int) n, &svg, &st);
	PG_RETURN_TEXT_P(finish(code, svg, &st));
}

/* The member of an object that is an array of so many elements (-1: any). */
static JsonbContainer *
array_member(JsonbContainer *object, const char *name, int n)
{
	JsonbValue *v = getKeyJsonValueFromContainer(object, name, strlen(name), NULL);

	if (v == NULL || v->type != jbvBinary || !JsonContainerIsArray(v->val.binary.data) ||
		(n >= 0 && JsonContainerSize(v->val.binary.data) != (uint32) n))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a confusion matrix must be {\"labels\": [...], \"counts\": [[...], ...]}")));
	return v->val.binary.data;
}

/* (confusion jsonb, title text) */
Datum
millrace_plot_confusion(PG_FUNCTION_ARGS)
{
	Jsonb	   *confusion;
	JsonbContainer *labels,
			   *rows;
	const char **label;
	int64	   *count;
	char	   *svg = NULL;
	int			n;
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};
	mr_code		code;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	confusion = PG_GETARG_JSONB_P(0);
	labels = array_member(&confusion->root, "labels", -1);
	n = JsonContainerSize(labels);
	rows = array_member(&confusion->root, "counts", n);
	if (n < 1 || n > SVG_MAX_MATRIX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a confusion matrix of %d labels cannot be drawn", n),
				 errdetail("It may have 1 to %d.", SVG_MAX_MATRIX)));
	label = palloc(n * sizeof(char *));
	count = palloc((Size) n * n * sizeof(int64));
	for (int t = 0; t < n; t++)
	{
		JsonbValue *name = getIthJsonbValueFromContainer(labels, t),
				   *row = getIthJsonbValueFromContainer(rows, t);

		if (name->type != jbvString || row->type != jbvBinary || !JsonContainerIsArray(row->val.binary.data) ||
			JsonContainerSize(row->val.binary.data) != (uint32) n)
			(void) array_member(&confusion->root, "", 0);	/* raises */
		label[t] = pnstrdup(name->val.string.val, name->val.string.len);
		for (int p = 0; p < n; p++)
		{
			JsonbValue *v = getIthJsonbValueFromContainer(row->val.binary.data, p);

			if (v->type != jbvNumeric)
				(void) array_member(&confusion->root, "", 0);
			count[(Size) t * n + p] = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(v->val.numeric)));
		}
	}
	code = svg_matrix(&env, text_argument(fcinfo, 1), label, count, n, &svg, &st);
	PG_RETURN_TEXT_P(finish(code, svg, &st));
}

/* ---- queries ---- */

typedef struct column
{
	char	   *name;
	train_source source;
	double	   *value;			/* NaN: NULL */
} column;

typedef struct table
{
	column	   *column;
	int			n;
	int64		rows;
	int64		size;
} table;

static void
describe(table *t, TupleDesc desc)
{
	t->n = desc->natts;
	t->column = palloc0(Max(t->n, 1) * sizeof(column));
	for (int i = 0; i < t->n; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		Oid			type = getBaseType(att->atttypid);

		t->column[i].name = pstrdup(NameStr(att->attname));
		if (type == DATEOID || type == TIMESTAMPOID || type == TIMESTAMPTZOID)
			t->column[i].source = type == DATEOID ? TRAIN_DATE : TRAIN_TIMESTAMP;
		else if (!train_source_of(type, &t->column[i].source) || t->column[i].source > TRAIN_NUMERIC)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of type %s cannot be drawn", t->column[i].name, format_type_be(att->atttypid)),
					 errdetail("Columns must be numbers, dates or timestamps.")));
	}
}

static void
take_batch(table *t, MemoryContext cxt)
{
	for (uint64 r = 0; r < SPI_processed; r++)
	{
		if (t->rows == t->size)
		{
			t->size = t->size ? t->size * 2 : 1024;
			if ((double) t->size * t->n * sizeof(double) > (double) lrn_train_memory_kb * 1024)
				ereport(ERROR,
						(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						 errmsg("the rows to draw exceed millrace.train_memory"),
						 errhint("Read fewer rows with TABLESAMPLE, or aggregate them.")));
			for (int i = 0; i < t->n; i++)
				t->column[i].value = t->column[i].value ? repalloc_huge(t->column[i].value, t->size * sizeof(double)) :
					MemoryContextAllocHuge(cxt, t->size * sizeof(double));
		}
		for (int i = 0; i < t->n; i++)
		{
			bool		isnull;
			Datum		v = SPI_getbinval(SPI_tuptable->vals[r], SPI_tuptable->tupdesc, i + 1, &isnull);

			t->column[i].value[t->rows] = isnull ? NAN : train_number(t->column[i].source, v);
		}
		t->rows++;
	}
}

/* All rows of a query, in the current context. */
static void
read_table(const char *query, table *t)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	Portal		portal;
	train_guard guard;

	memset(t, 0, sizeof(*t));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	train_guard_begin(&guard);
	portal = train_open(query);
	old = MemoryContextSwitchTo(cxt);
	describe(t, portal->tupDesc);
	MemoryContextSwitchTo(old);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, 1000);
		if (SPI_processed == 0)
			break;
		take_batch(t, cxt);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	train_guard_end(&guard);
	SPI_finish();
}

/* ---- histogram ---- */

/* Bins by Freedman and Diaconis (1981): twice the quartiles' distance by the
 * cube root of n; 1 to 60. */
static int
bins_for(double *sorted, int64 n)
{
	double		range = sorted[n - 1] - sorted[0],
				width = 2 * (sorted[n * 3 / 4] - sorted[n / 4]) / cbrt((double) n);

	if (!(range > 0))
		return 1;
	return width > 0 ? (int) Max(1, Min(60, ceil(range / width))) : (int) Max(1, Min(60, ceil(sqrt((double) n))));
}

static text *
histogram(double *value, int64 n, int bins, const char *title)
{
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};
	svg_chart	chart = {.title = title,.y_label = "rows"};
	uint64	   *key = palloc_extended(Max(n, 1) * sizeof(uint64), MCXT_ALLOC_HUGE);
	int64		m = 0;
	double	   *edge,
			   *height,
				low,
				high;
	char	   *svg = NULL;
	mr_code		code;

	for (int64 i = 0; i < n; i++)
		if (fabs(value[i]) <= 1e300)	/* neither NaN nor infinity */
			key[m++] = lrn_key_of(value[i]);
	if (m == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there are no values to draw"),
				 errhint("Every value is NULL, NaN or infinite.")));
	if (lrn_sort_keys(&env, key, NULL, m, &st) != MR_OK)
		mr_pg_raise(&st);
	for (int64 i = 0; i < m; i++)
		value[i] = lrn_number_of(key[i]);
	if (bins <= 0)
		bins = bins_for(value, m);
	low = value[0];
	high = value[m - 1];
	if (!(high > low))
	{
		low -= 0.5;
		high += 0.5;
		bins = 1;
	}
	edge = palloc((bins + 1) * sizeof(double));
	height = palloc0(bins * sizeof(double));
	for (int b = 0; b <= bins; b++)
		edge[b] = b == bins ? high : low + (high - low) * b / bins;
	for (int64 i = 0; i < m; i++)
		height[Min(bins - 1, (int) ((value[i] - low) / (high - low) * bins))]++;
	code = svg_bars(&env, &chart, edge, height, bins, &svg, &st);
	return finish(code, svg, &st);
}

static int
bins_argument(FunctionCallInfo fcinfo, int argno)
{
	int			bins = PG_ARGISNULL(argno) ? 0 : PG_GETARG_INT32(argno);

	if (bins < 0 || bins > MAX_BINS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("bins must be between 1 and %d", MAX_BINS),
				 errhint("0 chooses a number by the values.")));
	return bins;
}

/* ("values" double precision[], bins integer, title text) */
Datum
millrace_plot_histogram(PG_FUNCTION_ARGS)
{
	ArrayType  *array;
	Datum	   *element;
	bool	   *nulls;
	double	   *value;
	int			n;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	array = PG_GETARG_ARRAYTYPE_P(0);
	deconstruct_array(array, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &element, &nulls, &n);
	value = palloc(Max(n, 1) * sizeof(double));
	for (int i = 0; i < n; i++)
		value[i] = nulls[i] ? NAN : DatumGetFloat8(element[i]);
	PG_RETURN_TEXT_P(histogram(value, n, bins_argument(fcinfo, 1), text_argument(fcinfo, 2)));
}

/* (query text, bins integer, title text): its only column */
Datum
millrace_plot_histogram_query(PG_FUNCTION_ARGS)
{
	table		t;
	const char *title = text_argument(fcinfo, 2);

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	read_table(text_to_cstring(PG_GETARG_TEXT_PP(0)), &t);
	if (t.n != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query must have one column of numbers, it has %d", t.n)));
	PG_RETURN_TEXT_P(histogram(t.column[0].value, t.rows, bins_argument(fcinfo, 1), title ? title : t.column[0].name));
}

/* ---- lines ---- */

/* (query text, title text): the first column is x, every other one a line */
Datum
millrace_plot_lines(PG_FUNCTION_ARGS)
{
	table		t;
	svg_chart	chart = {.title = text_argument(fcinfo, 1)};
	svg_series *series;
	char	   *svg = NULL;
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};
	mr_code		code;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	read_table(text_to_cstring(PG_GETARG_TEXT_PP(0)), &t);
	if (t.n < 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query must have a column for x and at least one more, it has %d", t.n)));
	if (t.rows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query returned no rows"),
				 errhint("A line needs a row or more.")));
	series = palloc0((t.n - 1) * sizeof(svg_series));
	for (int i = 1; i < t.n; i++)
		series[i - 1] = (svg_series) {.name = t.n > 2 ? t.column[i].name : NULL,.x = t.column[0].value,
			.y = t.column[i].value,.n = t.rows};
	chart.x_label = t.column[0].name;
	chart.y_label = t.n == 2 ? t.column[1].name : NULL;
	chart.markers = t.rows <= 30;
	chart.x_is_time = t.column[0].source == TRAIN_DATE || t.column[0].source == TRAIN_TIMESTAMP;
	code = svg_lines(&env, &chart, series, t.n - 1, &svg, &st);
	PG_RETURN_TEXT_P(finish(code, svg, &st));
}
