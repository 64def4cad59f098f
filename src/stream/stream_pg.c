/*
 * stream_pg.c
 *	  The stream room's settings, and the SQL functions about workers:
 *	  millrace.start, stop, worker_slots (what status shows), source_binding,
 *	  and the trigger that tells workers of changed sources.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "commands/trigger.h"
#include "core/compat.h"
#include "core/core_pg.h"
#include "core/spi_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "stream/scale.h"
#include "stream/workers.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(millrace_start);
PG_FUNCTION_INFO_V1(millrace_stop);
PG_FUNCTION_INFO_V1(millrace_worker_slots);
PG_FUNCTION_INFO_V1(millrace_source_binding);
PG_FUNCTION_INFO_V1(millrace_sources_changed);

#define STOP_TIMEOUT_MS 10000

bool		mr_workers_on = true;
char	   *mr_launcher_database = NULL;
static bool enabled = false;	/* read from the catalogue, never from here */

void
stream_init(void)
{
	DefineCustomBoolVariable("millrace.enabled",
							 "Does this database run Millrace's workers?",
							 "Set by millrace.start() as ALTER DATABASE ... SET; elsewhere it has no effect.",
							 &enabled, false, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("millrace.workers",
							 "Master switch: off stops Millrace's workers in all databases.",
							 NULL, &mr_workers_on, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("millrace.launcher_database",
							   "Database that the launcher is connected to.",
							   "It must exist; any will do, for the launcher reads shared catalogues only. Takes effect when the launcher starts.",
							   &mr_launcher_database, "postgres", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomRealVariable("millrace.max_load",
							 "Load average of a core above which sources get no more workers.",
							 "Of the last minute, divided by the number of cores; 0: never mind.",
							 &mr_max_load, 2.0, 0, 1000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	mr_launcher_register();
	mr_hook_init();
}

/* ALTER DATABASE <ours> SET or RESET millrace.enabled, as the extension's owner. */
static void
switch_database(const char *action)
{
	mr_owner_save save;
	char	   *statement = psprintf("ALTER DATABASE %s %s", quote_identifier(get_database_name(MyDatabaseId)), action);

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot start or stop workers during recovery"),
				 errhint("Workers run on the primary; after promotion they start by themselves when millrace is in shared_preload_libraries.")));
	mr_spi_begin(&save);
	if (SPI_execute(statement, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "ALTER DATABASE failed");
	mr_spi_end(&save);
	mr_change_at_commit(MR_CHANGE_WORKERS, MyDatabaseId);
}

static bool
launcher_runs(void)
{
	mr_slot_info *slots;
	int			n = mr_slots(InvalidOid, &slots);

	for (int k = 0; k < n; k++)
		if (slots[k].kind == MR_LAUNCHER)
			return true;
	return false;
}

/*
 * millrace.start(): this database takes part from the commit of the
 * transaction on.  The launcher starts its supervisor; where there is none, we
 * do, and it waits for our transaction to end.
 */
Datum
millrace_start(PG_FUNCTION_ARGS)
{
	mr_worker_args args;
	BackgroundWorkerHandle *handle;
	pid_t		pid;

	if (!mr_workers_on)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("Millrace's workers are switched off"),
				 errhint("Set millrace.workers = on in postgresql.conf and reload.")));
	switch_database("SET millrace.enabled = on");
	if (launcher_runs())
	{
		ereport(NOTICE,
				(errmsg("workers of this database start with this commit, and with the server (millrace.enabled is on)")));
		PG_RETURN_VOID();
	}
	if (!mr_slot_reserve(MR_SUPERVISOR, MyDatabaseId, InvalidOid, "", 0, 1, 0, &args))
	{
		ereport(NOTICE,
				(errmsg("workers of this database are running already")));
		PG_RETURN_VOID();
	}
	args.after = GetTopTransactionId();
	handle = mr_register(&args, "millrace", "millrace_supervisor_main", MR_SUPERVISOR_TYPE);
	if (handle == NULL || WaitForBackgroundWorkerStartup(handle, &pid) != BGWH_STARTED)
	{
		mr_slot_forget(args.slot, args.generation);
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start the supervisor of this database"),
				 errdetail("%s", mr_no_room()),
				 errhint("Raise max_worker_processes and restart the server.")));
	}
	/* Its process is there, and shall have its slot before we may end. */
	while (!mr_slot_claimed(args.slot, args.generation) && GetBackgroundWorkerPid(handle, &pid) == BGWH_STARTED)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	ereport(NOTICE,
			(errmsg("workers of this database start with this commit (millrace.enabled is on)"),
			 errhint("Put millrace into shared_preload_libraries so that they also start with the server.")));
	PG_RETURN_VOID();
}

/* millrace.stop(): workers end now; the database takes part no more. */
Datum
millrace_stop(PG_FUNCTION_ARGS)
{
	int			left;

	switch_database("RESET millrace.enabled");
	left = mr_database_hold(MyDatabaseId, false, STOP_TIMEOUT_MS);
	if (left > 0)
		ereport(WARNING,
				(errmsg("%d of this database's workers have not ended yet", left),
				 errhint("See millrace.status().")));
	PG_RETURN_VOID();
}

/*
 * millrace.worker_slots() -> setof (kind, name, worker, pid, state, reason,
 * since, rows, batches, bytes, dead, errors): the launcher's slot and those of
 * this database.
 */
Datum
millrace_worker_slots(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	mr_slot_info *slots;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	n = mr_slots(InvalidOid, &slots);
	for (int k = 0; k < n; k++)
	{
		mr_slot_info *s = &slots[k];
		Datum		values[12] = {0};
		bool		nulls[12] = {false};

		if (s->kind != MR_LAUNCHER && s->database != MyDatabaseId)
			continue;
		values[0] = CStringGetTextDatum(mr_kind_name(s->kind));
		nulls[1] = s->kind == MR_LAUNCHER;
		if (!nulls[1])
			values[1] = CStringGetTextDatum(s->kind >= MR_SOURCE ? s->name : get_database_name(s->database));
		nulls[2] = s->kind < MR_SOURCE;
		values[2] = Int32GetDatum(s->index);
		nulls[3] = s->pid == 0;
		values[3] = Int32GetDatum(s->pid);
		values[4] = CStringGetTextDatum(s->stopping ? "stopping" : s->text);
		nulls[5] = s->reason[0] == '\0';
		if (!nulls[5])
		{
			/* may have been cut within a character, at the block's width */
			int			len = pg_mbcliplen(s->reason, strlen(s->reason), sizeof(s->reason) - 1);

			values[5] = PointerGetDatum(cstring_to_text_with_len(s->reason, len));
		}
		values[6] = TimestampTzGetDatum(s->since);
		for (int c = 0; c < MR_N_COUNTS; c++)
			values[7 + c] = Int64GetDatum((int64) s->counts[c]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* millrace.source_binding() -> text: see mr_source_binding(). */
Datum
millrace_source_binding(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(mr_source_binding()));
}

/* Statement trigger on millrace.sources: workers look again at commit. */
Datum
millrace_sources_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("millrace.sources_changed() must be called as a trigger")));
	mr_change_at_commit(MR_CHANGE_SOURCES, MyDatabaseId);
	PG_RETURN_POINTER(NULL);
}
