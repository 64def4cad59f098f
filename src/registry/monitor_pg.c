/*
 * monitor_pg.c
 *	  millrace.create_monitor(), run_monitor(), drop_monitor().
 *
 * A run holds the row of the monitor locked (FOR UPDATE) until its transaction
 * ends: another run of the same monitor waits, then finds the windows done.
 * Windows are read many at a time, in one scan of the query, and compared in
 * order.  All of a run is in the caller's transaction: an error, a cancel or a
 * crash leaves the monitor as it was, and the next run begins there.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "registry/monitor.h"
#include "registry/sketch_pg.h"
#include "registry/train_json.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(millrace_create_monitor);
PG_FUNCTION_INFO_V1(millrace_run_monitor);
PG_FUNCTION_INFO_V1(millrace_drop_monitor);

#define CHUNK_BYTES		(256 * 1024 * 1024) /* of sketches while windows are read */
#define SKETCH_BYTES	(48 * 1024)
#define MOST_WINDOWS	64		/* in one scan */

/* ---- create ---- */

static char *
argument(FunctionCallInfo fcinfo, int i, const char *name)
{
	if (PG_ARGISNULL(i))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(i));
}

static char *column_text(int column, MemoryContext cxt);

/* The query a model version was trained on. */
static char *
training_query(const char *model)
{
	static const Oid types[] = {TEXTOID, INT4OID};
	const reg_model *version = reg_resolve(model, REG_CLASSIFY);
	Datum		values[] = {CStringGetTextDatum(version->name), Int32GetDatum(version->version)};
	MemoryContext cxt = CurrentMemoryContext;
	char	   *query;
	reg_write	w;

	reg_write_begin(&w, "create_monitor()");
	reg_execute("SELECT training OPERATOR(pg_catalog.->>) 'query' FROM millrace.models WHERE name = $1 AND version = $2",
				2, types, values, NULL, SPI_OK_SELECT);
	query = column_text(1, cxt);
	reg_write_end(&w);
	if (query == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" was not trained here", version->reference),
				 errhint("Give the rows it was trained on as {\"reference\": {\"query\": \"SELECT ...\"}}.")));
	return query;
}

static void
write_monitor(const monitor *m, Jsonb *options)
{
	static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INTERVALOID};
	Datum		values[lengthof(types)];
	char		nulls[] = "         ";
	reg_write	w;

	reg_write_begin(&w, "create_monitor()");
	values[0] = CStringGetTextDatum(m->name);
	values[1] = CStringGetTextDatum(w.caller);
	values[2] = CStringGetTextDatum(m->query);
	values[3] = JsonbPGetDatum(options);
	values[4] = JsonbPGetDatum(mon_columns_json(m));
	values[5] = m->reference ? CStringGetTextDatum(m->reference) : (Datum) 0;
	nulls[5] = m->reference ? ' ' : 'n';
	values[6] = CStringGetTextDatum(m->search_path);
	values[7] = TimestampTzGetDatum(m->first_window);
	nulls[7] = m->started ? ' ' : 'n';
	values[8] = IntervalPGetDatum(m->options.window);
	if (reg_execute("INSERT INTO millrace.monitors (name, owner, query, options, columns, reference, search_path, first_window) "
					"VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING", 8, types, values, nulls, SPI_OK_INSERT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("monitor \"%s\" already exists", m->name),
				 errhint("Drop it with millrace.drop_monitor(), or choose another name.")));
	/* Due at once; a run then says when it is due again. */
	if (m->options.scheduled)
		reg_execute("INSERT INTO millrace.schedules (name, kind, owner, every, next_run, search_path) "
					"VALUES ($1, 'monitor', $2, $9, pg_catalog.now(), $7)", 9, types, values, nulls, SPI_OK_INSERT);
	reg_write_end(&w);
}

/* Sketch the fixed reference, as window -1. */
static void
read_reference(const monitor *m, const mr_env *env, lrn_sketch **sketch)
{
	const mon_options *o = &m->options;
	TimestampTz bound[2] = {o->from, o->to};
	lrn_sketch_info info;

	mon_sketch_rows(m, mon_from_item(m->reference ? m->reference : m->query), m->reference ? NULL : bound, 1, env, sketch);
	lrn_sketch_describe(sketch[0], &info);
	if (info.count + info.missing < o->min_rows)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reference of monitor \"%s\" has " INT64_FORMAT " rows, fewer than min_rows " INT64_FORMAT,
						m->name, info.count + info.missing, o->min_rows),
				 errhint("Choose a longer period, or lower option \"min_rows\".")));
}

/* millrace.create_monitor(name text, query text, options jsonb) */
Datum
millrace_create_monitor(PG_FUNCTION_ARGS)
{
	monitor    *m = palloc0(sizeof(monitor));
	Jsonb	   *options = PG_ARGISNULL(2) ? json_of("{}") : PG_GETARG_JSONB_P(2);
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	lrn_sketch **sketch = NULL;
	mon_user	save;

	m->name = argument(fcinfo, 0, "name");
	m->query = argument(fcinfo, 1, "query");
	if (strlen(m->name) < 1 || strlen(m->name) > 128)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("name of a monitor must have 1 to 128 bytes")));
	PreventCommandIfReadOnly("create_monitor()");
	m->owner = GetUserId();
	m->search_path = pstrdup(GetConfigOption("search_path", false, false));
	mon_parse_options(options, &m->options);
	if (m->options.reference == MON_MODEL)
		m->reference = training_query(m->options.reference_query);
	else if (m->options.reference == MON_QUERY)
		m->reference = m->options.reference_query;
	if (m->options.has_start || m->options.reference == MON_PERIOD)
	{
		m->started = true;
		m->first_window = m->options.has_start ? m->options.start : m->options.to;
	}

	mon_become_owner(&save, m);
	mon_find_columns(m);
	mon_time_type(m);
	mon_become_caller(&save);
	mon_unroll(m);
	if (m->options.reference != MON_WINDOWS)
	{
		sketch = palloc(m->n_features * sizeof(lrn_sketch *));
		mon_become_owner(&save, m);
		read_reference(m, &env, sketch);
		mon_become_caller(&save);
	}
	write_monitor(m, options);
	if (sketch)
	{
		reg_write	w;

		reg_write_begin(&w, "create_monitor()");
		mon_store_sketches(m, -1, sketch);
		reg_write_end(&w);
	}
	PG_RETURN_VOID();
}

/* ---- run ---- */

static char *
column_text(int column, MemoryContext cxt)
{
	bool		isnull;
	Datum		d = reg_result(0, column, &isnull);
	char	   *copy;
	MemoryContext old;

	if (isnull)
		return NULL;
	old = MemoryContextSwitchTo(cxt);
	copy = TextDatumGetCString(d);
	MemoryContextSwitchTo(old);
	return copy;
}

static Jsonb *
column_json(int column, MemoryContext cxt)
{
	bool		isnull;
	Datum		d = reg_result(0, column, &isnull);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Jsonb	   *json = DatumGetJsonbPCopy(d);

	MemoryContextSwitchTo(old);
	return json;
}

/* The monitor, locked until the transaction ends, in the current context. */
static monitor *
lock_monitor(const char *name, const char *what)
{
	static const Oid types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	MemoryContext cxt = CurrentMemoryContext;
	monitor    *m = palloc0(sizeof(monitor));
	Oid			caller = GetUserId();
	Jsonb	   *options,
			   *columns;
	reg_write	w;
	char	   *owner;
	bool		isnull;

	reg_write_begin(&w, what);
	if (reg_execute("SELECT owner, query, reference, search_path, options, columns, first_window, windows "
					"FROM millrace.monitors WHERE name = $1 FOR UPDATE", 1, types, values, NULL, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("monitor \"%s\" does not exist", name)));
	owner = column_text(1, cxt);
	m->query = column_text(2, cxt);
	m->reference = column_text(3, cxt);
	m->search_path = column_text(4, cxt);
	options = column_json(5, cxt);
	columns = column_json(6, cxt);
	m->first_window = DatumGetTimestampTz(reg_result(0, 7, &isnull));
	m->started = !isnull;
	m->windows = DatumGetInt32(reg_result(0, 8, &isnull));
	reg_write_end(&w);

	m->name = pstrdup(name);
	m->owner = get_role_oid(owner, false);
	if (!has_privs_of_role(caller, m->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for monitor \"%s\"", name),
				 errdetail("It belongs to role \"%s\".", owner)));
	mon_parse_options(options, &m->options);
	mon_parse_columns(m, columns);
	return m;
}

/* Window 0 is the one of the first row; false: there is no row yet. */
static bool
find_start(monitor *m)
{
	const char *time = quote_identifier(m->options.time),
			   *zone;
	TimestampTz first = 0;
	bool		isnull = true;
	mon_user	save;

	if (m->started)
		return true;
	mon_become_owner(&save, m);
	zone = mon_time_type(m) == TIMESTAMPTZOID ? "" :
		psprintf("pg_catalog.timezone(%s, ", quote_literal_cstr(m->options.timezone));
	mon_select(psprintf("SELECT %spg_catalog.min(q.%s)%s FROM %s WHERE pg_catalog.isfinite(q.%s)", zone, time,
						zone[0] ? "::pg_catalog.timestamp)" : "", mon_from_item(m->query), time), 0, NULL, NULL, NULL);
	if (SPI_processed == 1)
		first = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	mon_become_caller(&save);
	if (isnull)
		return false;
	m->first_window = mon_align(&m->options, first);
	return m->started = true;
}

/* Windows that have ended, from the first not done, at most most. */
static int
windows_due(const monitor *m, TimestampTz until, int most)
{
	int			n = 0;

	while (n < most && mon_later(&m->options, mon_window(m, m->windows + n + 1), m->options.lateness) <= until)
		n++;
	return n;
}

/* Read and compare the next n windows. */
static void
run_windows(monitor *m, int n)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace monitor", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	mr_env		env = mr_pg_env(cxt);
	TimestampTz *bound = palloc((n + 1) * sizeof(TimestampTz));
	lrn_sketch **sketch = palloc((Size) n * m->n_features * sizeof(lrn_sketch *));
	mon_user	save;
	reg_write	w;

	for (int i = 0; i <= n; i++)
		bound[i] = mon_window(m, m->windows + i);
	mon_become_owner(&save, m);
	mon_sketch_rows(m, mon_from_item(m->query), bound, n, &env, sketch);
	mon_become_caller(&save);
	reg_write_begin(&w, "run_monitor()");
	for (int i = 0; i < n; i++)
	{
		mon_compare(m, m->windows + i, sketch + (Size) i * m->n_features);
		mon_store_sketches(m, m->windows + i, sketch + (Size) i * m->n_features);
	}
	reg_write_end(&w);
	m->windows += n;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

static void
write_progress(const monitor *m)
{
	static const Oid types[] = {TEXTOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[] = {CStringGetTextDatum(m->name), Int32GetDatum(m->windows), TimestampTzGetDatum(m->first_window),
		TimestampTzGetDatum(mon_later(&m->options, mon_window(m, m->windows + 1), m->options.lateness))};
	reg_write	w;

	reg_write_begin(&w, "run_monitor()");
	reg_execute("UPDATE millrace.monitors SET windows = $2, first_window = $3, last_run = pg_catalog.clock_timestamp() "
				"WHERE name = $1", 3, types, values, NULL, SPI_OK_UPDATE);
	reg_execute("UPDATE millrace.schedules SET next_run = $4 WHERE kind = 'monitor' AND name = $1",
				4, types, values, NULL, SPI_OK_UPDATE);
	reg_write_end(&w);
}

int
mon_run(const char *name, TimestampTz until)
{
	monitor    *m = lock_monitor(name, "run_monitor()");
	int			most = Max(1, Min(MOST_WINDOWS, CHUNK_BYTES / SKETCH_BYTES / Max(m->n_features, 1)));
	int			before = m->windows;
	int			n;

	if (!find_start(m))
		return 0;
	while ((n = windows_due(m, until, most)) > 0)
		run_windows(m, n);
	if (m->options.label_query)
		mon_measure(m, until);
	if (m->windows > before)
		write_progress(m);
	return m->windows - before;
}

/* millrace.run_monitor(name text, until timestamptz) -> integer */
Datum
millrace_run_monitor(PG_FUNCTION_ARGS)
{
	char	   *name = argument(fcinfo, 0, "name");
	TimestampTz until;

	if (PG_ARGISNULL(1) || TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(1)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"until\" must be a finite time")));
	until = PG_GETARG_TIMESTAMPTZ(1);
	PG_RETURN_INT32(mon_run(name, until));
}

/* ---- drop ---- */

/* millrace.drop_monitor(name text) */
Datum
millrace_drop_monitor(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {TEXTOID};
	static const char *const statements[] = {
		"DELETE FROM millrace.monitor_sketches WHERE monitor = $1",
		"DELETE FROM millrace.drift WHERE monitor = $1",
		"DELETE FROM millrace.monitor_performance WHERE monitor = $1",
		"DELETE FROM millrace.schedules WHERE kind = 'monitor' AND name = $1",
		"DELETE FROM millrace.monitors WHERE name = $1"
	};
	char	   *name = argument(fcinfo, 0, "name");
	Datum		values[] = {CStringGetTextDatum(name)};
	reg_write	w;

	(void) lock_monitor(name, "drop_monitor()");
	reg_write_begin(&w, "drop_monitor()");
	for (int i = 0; i < (int) lengthof(statements); i++)
		reg_execute(statements[i], 1, types, values, NULL, SPI_OK_DELETE);
	reg_write_end(&w);
	PG_RETURN_VOID();
}
