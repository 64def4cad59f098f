/*
 * schedule_pg.c
 *	  millrace.run_due(): monitors and statements whose time has come.
 *
 * Each runs in a subtransaction of its own, as its owner in a security-
 * restricted operation, so that one that fails is undone alone and none can
 * take the rights of whoever calls run_due().  Rows are locked while they run
 * and skipped where another session has them.  A new kind is a row of kinds[].
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "registry/monitor.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(millrace_create_schedule);
PG_FUNCTION_INFO_V1(millrace_drop_schedule);
PG_FUNCTION_INFO_V1(millrace_run_due);

#define RETRY	"1 hour"		/* after a failure at the latest */

typedef struct item
{
	char	   *kind;
	char	   *name;
	char	   *owner;
	char	   *command;
	char	   *search_path;
} item;

/* ---- kinds: each returns what to say of a good run, or NULL ---- */

static char *
run_monitor(const item *i, TimestampTz until)
{
	return psprintf("%d windows", mon_run(i->name, until));
}

static char *
run_sql(const item *i, TimestampTz until)
{
	int			rc;

	SPI_connect();
	rc = SPI_execute(i->command, false, 0);
	SPI_finish();
	if (rc < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("statement of schedule \"%s\" cannot be run: %s", i->name, SPI_result_code_string(rc))));
	return NULL;
}

static const struct
{
	const char *name;
	char	   *(*run) (const item *i, TimestampTz until);
}			kinds[] = {
	{"monitor", run_monitor},
	{"sql", run_sql}
};

/* ---- run_due ---- */

/* As the owner; its user and settings end with the subtransaction or here. */
static char *
run_item(const item *i, TimestampTz until)
{
	Oid			user;
	int			context,
				guc_level;
	char	   *message = NULL;

	GetUserIdAndSecContext(&user, &context);
	guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(get_role_oid(i->owner, false), context | SECURITY_RESTRICTED_OPERATION | SECURITY_LOCAL_USERID_CHANGE);
	(void) set_config_option("search_path", i->search_path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	for (int k = 0; k < (int) lengthof(kinds); k++)
		if (strcmp(kinds[k].name, i->kind) == 0)
			message = kinds[k].run(i, until);
	AtEOXact_GUC(false, guc_level);
	SetUserIdAndSecContext(user, context);
	return message;
}

/* Run one in a subtransaction; false: it failed, *message is why. */
static bool
try_item(const item *i, TimestampTz until, char **message)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		*message = run_item(i, until);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		/* Who stops us means all of us. */
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		*message = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message);
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	return ok;
}

/* The next item that is due and that nobody else runs; locked.  Its predecessor in order has been (kind, name). */
static bool
next_item(TimestampTz until, item *i, const item *after)
{
	static const Oid types[] = {TIMESTAMPTZOID, TEXTOID, TEXTOID};
	Datum		values[] = {TimestampTzGetDatum(until), CStringGetTextDatum(after->kind), CStringGetTextDatum(after->name)};
	char	  **field[] = {&i->kind, &i->name, &i->owner, &i->command, &i->search_path};
	MemoryContext cxt = CurrentMemoryContext;
	bool		found;
	reg_write	w;

	reg_write_begin(&w, "run_due()");
	found = reg_execute("SELECT kind, name, owner, command, search_path FROM millrace.schedules WHERE next_run <= $1 "
						"AND (kind COLLATE \"C\", name) > ($2, $3) ORDER BY kind COLLATE \"C\", name LIMIT 1 FOR UPDATE SKIP LOCKED",
						3, types, values, NULL, SPI_OK_SELECT) == 1;
	MemoryContextSwitchTo(cxt);
	for (int k = 0; found && k < (int) lengthof(field); k++)
	{
		bool		isnull;
		Datum		d = reg_result(0, k + 1, &isnull);

		*field[k] = isnull ? NULL : TextDatumGetCString(d);
	}
	reg_write_end(&w);
	return found;
}

/*
 * When it runs next: a statement at the first time of its grid after until; a
 * monitor has said so itself, and is asked again before long if no window was
 * due.  What failed is tried again within RETRY.
 */
static void
note_run(const item *i, TimestampTz until, const char *error)
{
	static const Oid types[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(i->kind), CStringGetTextDatum(i->name), TimestampTzGetDatum(until),
	error ? CStringGetTextDatum(error) : (Datum) 0};
	reg_write	w;

	reg_write_begin(&w, "run_due()");
	reg_execute("UPDATE millrace.schedules SET last_run = pg_catalog.clock_timestamp(), last_error = $4, "
				"failures = CASE WHEN $4 IS NULL THEN 0 ELSE failures + 1 END, "
				"next_run = CASE WHEN $4 IS NOT NULL THEN $3 + LEAST(every, '" RETRY "') "
				"WHEN next_run > $3 THEN next_run "
				"WHEN kind = 'monitor' THEN $3 + LEAST(every, '" RETRY "') "
				"WHEN EXTRACT(month FROM every) = 0 AND EXTRACT(year FROM every) = 0 THEN pg_catalog.date_bin(every, $3, next_run) + every "
				"ELSE (SELECT pg_catalog.min(t) FROM pg_catalog.generate_series(next_run, $3 + every, every) t WHERE t > $3) END "
				"WHERE kind = $1 AND name = $2", 4, types, values, error ? NULL : "   n", SPI_OK_UPDATE);
	reg_write_end(&w);
}

/* millrace.run_due(until timestamptz) -> setof (kind, name, ok, message) */
Datum
millrace_run_due(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	item		i = {.kind = "", .name = ""};
	TimestampTz until;

	if (PG_ARGISNULL(0) || TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(0)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"until\" must be a finite time")));
	until = PG_GETARG_TIMESTAMPTZ(0);
	PreventCommandIfReadOnly("run_due()");
	InitMaterializedSRF(fcinfo, 0);
	while (next_item(until, &i, &i))
	{
		char	   *message = NULL;
		bool		ok = try_item(&i, until, &message);
		Datum		values[] = {CStringGetTextDatum(i.kind), CStringGetTextDatum(i.name), BoolGetDatum(ok),
		message ? CStringGetTextDatum(message) : (Datum) 0};
		bool		nulls[] = {false, false, false, message == NULL};

		note_run(&i, until, ok ? NULL : message);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ---- create and drop ---- */

static void
check_arguments(FunctionCallInfo fcinfo, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", names[i])));
}

/* The owner of a statement's schedule, or InvalidOid; raises unless the caller may change it. */
static void
check_owner(const char *name, Oid caller, bool missing_ok)
{
	static const Oid types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	bool		isnull;
	Datum		owner;

	if (reg_execute("SELECT owner FROM millrace.schedules WHERE kind = 'sql' AND name = $1 FOR UPDATE",
					1, types, values, NULL, SPI_OK_SELECT) == 0)
	{
		if (missing_ok)
			return;
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("schedule \"%s\" does not exist", name)));
	}
	owner = reg_result(0, 1, &isnull);
	if (!has_privs_of_role(caller, get_role_oid(TextDatumGetCString(owner), true)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for schedule \"%s\"", name),
				 errdetail("It belongs to role \"%s\".", TextDatumGetCString(owner))));
}

/* millrace.create_schedule(name text, every interval, command text, start timestamptz) */
Datum
millrace_create_schedule(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"name", "every", "command", "start"};
	static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID, INTERVALOID, TIMESTAMPTZOID, TEXTOID};
	Datum		values[lengthof(types)];
	Oid			caller = GetUserId();
	Interval   *every;
	char	   *name;
	reg_write	w;

	check_arguments(fcinfo, names, lengthof(names));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	every = PG_GETARG_INTERVAL_P(1);
	if (strlen(name) < 1 || strlen(name) > 128)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("name of a schedule must have 1 to 128 bytes")));
	if (every->month < 0 || every->day < 0 || every->time < 0 ||
		(every->month == 0 && every->day == 0 && every->time < USECS_PER_SEC))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"every\" must be an interval of a second or more")));
	if (TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(3)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"start\" must be a finite time")));
	values[0] = PG_GETARG_DATUM(0);
	values[2] = PG_GETARG_DATUM(2);
	values[3] = PG_GETARG_DATUM(1);
	values[4] = PG_GETARG_DATUM(3);
	values[5] = CStringGetTextDatum(GetConfigOption("search_path", false, false));
	reg_write_begin(&w, "create_schedule()");
	values[1] = CStringGetTextDatum(w.caller);
	check_owner(name, caller, true);
	reg_execute("INSERT INTO millrace.schedules (name, kind, owner, command, every, next_run, search_path) "
				"VALUES ($1, 'sql', $2, $3, $4, $5, $6) ON CONFLICT (kind, name) DO UPDATE SET owner = excluded.owner, "
				"command = excluded.command, every = excluded.every, next_run = excluded.next_run, "
				"search_path = excluded.search_path, last_error = NULL, failures = 0",
				lengthof(types), types, values, NULL, SPI_OK_INSERT);
	reg_write_end(&w);
	PG_RETURN_VOID();
}

/* millrace.drop_schedule(name text) */
Datum
millrace_drop_schedule(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"name"};
	static const Oid types[] = {TEXTOID};
	Oid			caller = GetUserId();
	Datum		values[1];
	reg_write	w;

	check_arguments(fcinfo, names, lengthof(names));
	values[0] = PG_GETARG_DATUM(0);
	reg_write_begin(&w, "drop_schedule()");
	check_owner(text_to_cstring(PG_GETARG_TEXT_PP(0)), caller, false);
	reg_execute("DELETE FROM millrace.schedules WHERE kind = 'sql' AND name = $1", 1, types, values, NULL, SPI_OK_DELETE);
	reg_write_end(&w);
	PG_RETURN_VOID();
}
