/*
 * metrics_pg.c
 *	  Metrics of this database in Prometheus' text format.
 *
 * Two sources: the views millrace.metric_* (views_metrics.sql), whose names, columns
 * and comments say what the metrics are called, what kind they are of and what
 * they mean; and the histograms and counters of core/series_pg.h.
 *
 * Each view is read in a subtransaction and waits for no lock longer than
 * LOCK_TIMEOUT: what cannot be read is left out and counted, the rest is told.
 * Memory: plans are kept for the life of the backend; the rest is the caller's context.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/series_pg.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/resowner.h"

PG_FUNCTION_INFO_V1(millrace_metrics);
PG_FUNCTION_INFO_V1(millrace_metric_series);
PG_FUNCTION_INFO_V1(millrace_metric_room);

#define LOCK_TIMEOUT 200		/* ms */

typedef struct metric_view
{
	const char *name;			/* millrace.metric_<name> */
	bool		of_pipelines;	/* has a column pipeline */
	SPIPlanPtr	plan;
} metric_view;

static metric_view views[] = {
	{.name = "build"},
	{.name = "series_room"},
	{.name = "worker"},
	{.name = "source",.of_pipelines = true},
	{.name = "partition",.of_pipelines = true},
	{.name = "outbox"},
	{.name = "topic"},
	{.name = "http_queue"},
	{.name = "failed_request"},
	{.name = "task",.of_pipelines = true},
	{.name = "task_pool"},
	{.name = "provider"},
	{.name = "cache",.of_pipelines = true},
	{.name = "model"},
	{.name = "monitor",.of_pipelines = true},
	{.name = "pipeline",.of_pipelines = true},
};

/* ---- text */

static void
put_escaped(StringInfo out, const char *text, bool quotes)
{
	for (; *text; text++)
		if (*text == '\n')
			appendStringInfoString(out, "\\n");
		else if (*text == '\\' || (quotes && *text == '"'))
		{
			appendStringInfoChar(out, '\\');
			appendStringInfoChar(out, *text);
		}
		else
			appendStringInfoChar(out, *text);
}

/* An empty label is the same as none. */
static void
put_label(StringInfo out, int *n, const char *name, const char *value)
{
	if (name == NULL || value == NULL || *value == '\0')
		return;
	appendStringInfo(out, "%c%s=\"", (*n)++ ? ',' : '{', name);
	put_escaped(out, value, true);
	appendStringInfoChar(out, '"');
}

static void
put_head(StringInfo out, const char *name, const char *help, const char *type)
{
	appendStringInfo(out, "# HELP %s ", name);
	put_escaped(out, help, false);
	appendStringInfo(out, "\n# TYPE %s %s\n", name, type);
}

/* As a number's output function writes it. */
static const char *
number(const char *text)
{
	return strcmp(text, "Infinity") == 0 ? "+Inf" : strcmp(text, "-Infinity") == 0 ? "-Inf" : text;
}

/* ---- views */

static SPIPlanPtr
keep_plan(SPIPlanPtr *plan, const char *statement, int n, const Oid *types)
{
	if (*plan == NULL)
	{
		SPIPlanPtr	made = SPI_prepare_cursor(statement, n, (Oid *) types, CURSOR_OPT_GENERIC_PLAN);

		if (made == NULL || SPI_keepplan(made) != 0)
			elog(ERROR, "could not prepare a statement of metrics: %s", SPI_result_code_string(SPI_result));
		*plan = made;
	}
	return *plan;
}

static uint64
run(SPIPlanPtr plan, Datum *args)
{
	int			ret = SPI_execute_plan(plan, args, NULL, true, 0);

	if (ret != SPI_OK_SELECT)
		elog(ERROR, "unexpected SPI result %d of metrics", ret);
	return SPI_processed;
}

/* Comments of a view's columns, by number from 1. */
static char **
read_help(const char *view, int n_columns)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {TEXTOID};
	Datum		args[] = {CStringGetTextDatum(view)};
	char	  **help = palloc0(sizeof(char *) * (Size) (n_columns + 1));
	uint64		n = run(keep_plan(&plan, "SELECT d.objsubid, d.description FROM pg_catalog.pg_description d "
								  "WHERE d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass "
								  "AND d.objoid = pg_catalog.to_regclass('millrace.metric_' || $1) AND d.objsubid > 0", lengthof(types), types), args);

	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		int			column = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		if (column <= n_columns)
			help[column] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);
	}
	SPI_freetuptable(SPI_tuptable);
	return help;
}

static bool
is_label(TupleDesc desc, int column)
{
	return SPI_gettypeid(desc, column) == TEXTOID;
}

/* The value of one column in all rows. */
static void
put_column(StringInfo out, const char *view, SPITupleTable *rows, uint64 n, int column, const char *help)
{
	TupleDesc	desc = rows->tupdesc;
	const char *column_name = NameStr(TupleDescAttr(desc, column - 1)->attname);
	char	   *name = psprintf("millrace_%s_%s", view, column_name);
	size_t		length = strlen(column_name);
	bool		counts = length > 6 && strcmp(column_name + length - 6, "_total") == 0;
	bool		begun = false;

	for (uint64 i = 0; i < n; i++)
	{
		char	   *value = SPI_getvalue(rows->vals[i], desc, column);
		int			labels = 0;

		if (value == NULL)
			continue;
		if (!begun)
			put_head(out, name, help ? help : column_name, counts ? "counter" : "gauge");
		begun = true;
		appendStringInfoString(out, name);
		for (int c = 1; c <= desc->natts; c++)
			if (is_label(desc, c))
				put_label(out, &labels, NameStr(TupleDescAttr(desc, c - 1)->attname), SPI_getvalue(rows->vals[i], desc, c));
		appendStringInfo(out, "%s %s\n", labels ? "}" : "", number(value));
	}
}

/* Within SPI, in its own memory context; out lies in the caller's. */
static void
put_view(StringInfo out, metric_view *v, const char *pipeline)
{
	static const Oid types[] = {TEXTOID};
	Datum		args[] = {CStringGetTextDatum(pipeline ? pipeline : "")};
	SPITupleTable *rows;
	uint64		n;
	char	  **help;

	n = run(keep_plan(&v->plan, psprintf(v->of_pipelines ? "SELECT * FROM millrace.metric_%s WHERE $1 IN ('', pipeline)" :
										 "SELECT * FROM millrace.metric_%s WHERE $1 = ''", v->name), lengthof(types), types), args);
	rows = SPI_tuptable;
	if (n == 0)
		return;
	help = read_help(v->name, rows->tupdesc->natts);
	for (int c = 1; c <= rows->tupdesc->natts; c++)
		if (!is_label(rows->tupdesc, c))
			put_column(out, v->name, rows, n, c, help[c]);
}

/* False: it could not be read, and nothing of it was put. */
static bool
put_view_safely(StringInfo out, metric_view *v, const char *pipeline)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int			before = out->len;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		SPI_connect();
		put_view(out, v, pipeline);
		SPI_finish();
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		/* A lock that was not to be had is the view's; an interrupt, and what the caller may not do, are his. */
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) ||
			error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		out->len = before;
		out->data[before] = '\0';
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	return done;
}

/* ---- histograms and counters */

static void
put_labels(StringInfo out, int *n, const mr_series_reading *r)
{
	for (int i = 0; i < MR_LABELS; i++)
		put_label(out, n, mr_families[r->family].label[i], r->label[i]);
}

static void
put_histogram(StringInfo out, const mr_series_reading *r)
{
	const mr_family_info *f = &mr_families[r->family];
	StringInfoData labels;
	uint64		count = 0;
	int			n = 0;

	initStringInfo(&labels);
	put_labels(&labels, &n, r);
	for (int k = 0; k < MR_BUCKETS; k++)
	{
		count += r->bucket[k];
		appendStringInfo(out, "%s_bucket%s%cle=\"", f->name, labels.data, n ? ',' : '{');
		if (k < MR_BUCKETS - 1)
			appendStringInfo(out, "%g", f->bounds[k]);
		else
			appendStringInfoString(out, "+Inf");
		appendStringInfo(out, "\"} " UINT64_FORMAT "\n", count);
	}
	appendStringInfo(out, "%s_sum%s%s %.9g\n", f->name, labels.data, n ? "}" : "", r->seconds);
	appendStringInfo(out, "%s_count%s%s " UINT64_FORMAT "\n", f->name, labels.data, n ? "}" : "", count);
	pfree(labels.data);
}

/* The patterns of a pipeline's routes, as helper of is_of_pipeline(). */
static char **
read_routes(const char *pipeline, int *n)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {TEXTOID};
	Datum		args[] = {CStringGetTextDatum(pipeline)};
	MemoryContext cxt = CurrentMemoryContext;
	char	  **routes;

	SPI_connect();
	*n = (int) run(keep_plan(&plan, "SELECT prefix || path FROM millrace.routes WHERE pipeline = $1", lengthof(types), types), args);
	routes = MemoryContextAlloc(cxt, sizeof(char *) * (Size) Max(*n, 1));
	for (int i = 0; i < *n; i++)
		routes[i] = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
	SPI_finish();
	return routes;
}

static bool
is_of_pipeline(const mr_series_reading *r, const char *pipeline, char **routes, int n_routes)
{
	size_t		length = strlen(pipeline);

	switch (r->family)
	{
		case MR_STAGE_SECONDS:
			return strcmp(r->label[0], pipeline) == 0;
		case MR_TASK_SECONDS:
		case MR_TASK_WAIT_SECONDS:
		case MR_TASKS_ENDED:
			return strncmp(r->label[0], pipeline, length) == 0 && r->label[0][length] == '.';
		case MR_HTTP_SECONDS:
			for (int i = 0; i < n_routes; i++)
				if (strncmp(r->label[0], routes[i], MR_LABEL_SIZE - 1) == 0)
					return true;
			return false;
		default:
			return false;
	}
}

static void
put_series(StringInfo out, const char *pipeline)
{
	mr_series_reading *all;
	int			n = mr_series_read(&all);
	int			n_routes = 0;
	char	  **routes = pipeline ? read_routes(pipeline, &n_routes) : NULL;
	mr_family	last = MR_N_FAMILIES;

	for (int i = 0; i < n; i++)
	{
		const mr_series_reading *r = &all[i];
		const mr_family_info *f = &mr_families[r->family];
		int			labels = 0;

		if (pipeline && !is_of_pipeline(r, pipeline, routes, n_routes))
			continue;
		if (r->family != last)
			put_head(out, f->name, f->help, f->bounds ? "histogram" : "counter");
		last = r->family;
		if (f->bounds)
		{
			put_histogram(out, r);
			continue;
		}
		appendStringInfoString(out, f->name);
		put_labels(out, &labels, r);
		appendStringInfo(out, "%s %.15g\n", labels ? "}" : "", (f->unit ? f->unit : 1) * (double) r->bucket[0]);
	}
}

/* ---- entries */

/* millrace.metrics(pipeline text) -> text */
Datum
millrace_metrics(PG_FUNCTION_ARGS)
{
	char	   *pipeline = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		failed[lengthof(views)];
	bool		any = false;
	int			nest = NewGUCNestLevel();
	instr_time	begin,
				end;
	StringInfoData out;

	INSTR_TIME_SET_CURRENT(begin);
	initStringInfo(&out);
	if (LockTimeout == 0 || LockTimeout > LOCK_TIMEOUT)
		(void) set_config_option("lock_timeout", psprintf("%d", LOCK_TIMEOUT), PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	for (int i = 0; i < (int) lengthof(views); i++)
	{
		failed[i] = (views[i].of_pipelines || pipeline == NULL) && !put_view_safely(&out, &views[i], pipeline);
		any = any || failed[i];
		CHECK_FOR_INTERRUPTS();
	}
	put_series(&out, pipeline);
	AtEOXact_GUC(true, nest);

	if (any)
		put_head(&out, "millrace_scrape_failed", "1: these metrics could not be read, as a rule because a table is locked.", "gauge");
	for (int i = 0; i < (int) lengthof(views); i++)
		if (failed[i])
			appendStringInfo(&out, "millrace_scrape_failed{part=\"%s\"} 1\n", views[i].name);
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, begin);
	put_head(&out, "millrace_scrape_seconds", "Time that gathering these metrics took.", "gauge");
	appendStringInfo(&out, "millrace_scrape_seconds %.6f\n", INSTR_TIME_GET_DOUBLE(end));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

static Datum
labels_json(const mr_series_reading *r)
{
	JsonbParseState *state = NULL;
	const mr_family_info *f = &mr_families[r->family];

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < MR_LABELS && f->label[i]; i++)
	{
		JsonbValue	key = {.type = jbvString,.val.string = {(int) strlen(f->label[i]), unconstify(char *, f->label[i])}};
		JsonbValue	value = {.type = jbvString,.val.string = {(int) strlen(r->label[i]), (char *) r->label[i]}};

		pushJsonbValue(&state, WJB_KEY, &key);
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* millrace.metric_series() -> setof (name, labels, count, sum, bounds, buckets) */
Datum
millrace_metric_series(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *out = (ReturnSetInfo *) fcinfo->resultinfo;
	mr_series_reading *all;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	n = mr_series_read(&all);
	for (int i = 0; i < n; i++)
	{
		const mr_series_reading *r = &all[i];
		const mr_family_info *f = &mr_families[r->family];
		Datum		bounds[MR_BUCKETS - 1];
		Datum		buckets[MR_BUCKETS];
		uint64		count = 0;
		Datum		values[6];
		bool		nulls[6] = {0};

		for (int k = 0; k < MR_BUCKETS; k++)
		{
			count += r->bucket[k];
			buckets[k] = Int64GetDatum((int64) r->bucket[k]);
			if (f->bounds && k < MR_BUCKETS - 1)
				bounds[k] = Float8GetDatum(f->bounds[k]);
		}
		values[0] = CStringGetTextDatum(f->name);
		values[1] = labels_json(r);
		values[2] = Int64GetDatum((int64) count);
		values[3] = Float8GetDatum(f->bounds ? r->seconds : (f->unit ? f->unit : 1) * (double) count);
		nulls[2] = nulls[4] = nulls[5] = f->bounds == NULL;
		if (f->bounds)
		{
			values[4] = PointerGetDatum(construct_array(bounds, MR_BUCKETS - 1, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
			values[5] = PointerGetDatum(construct_array(buckets, MR_BUCKETS, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
		}
		tuplestore_putvalues(out->setResult, out->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* millrace.metric_room() -> (series, room, lost) */
Datum
millrace_metric_room(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	int			most,
				used;
	uint64		lost;
	Datum		values[3];
	bool		nulls[3] = {0};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	mr_series_room(&most, &used, &lost);
	values[0] = Int32GetDatum(used);
	values[1] = Int32GetDatum(most);
	values[2] = Int64GetDatum((int64) lost);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
