/*
 * launcher_pg.c
 *	  `millrace launcher`: one per cluster, there when the library is preloaded.
 *
 * It alone is restarted by the postmaster.  It reads in the shared catalogues
 * which databases take part, and keeps one supervisor in each; a supervisor
 * that ends is started again after 1, 2, 4 ... 60 s.  pg_db_role_setting cannot
 * be opened without a database, so it is connected to millrace.launcher_database
 * (postgres) and leaves it for a DROP or RENAME; it runs no SQL, only scans.
 *
 * Memory: a context per turn, a hash of databases for life.  Locks: none held
 * between turns.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "stream/workers.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

extern PGDLLEXPORT void millrace_launcher_main(Datum arg);

/* A database that takes part, as the launcher remembers it. */
typedef struct launcher_db
{
	Oid			database;		/* key */
	bool		wanted;			/* seen in this turn */
	BackgroundWorkerHandle *handle; /* of its supervisor, NULL if none of ours */
	int			slot;
	uint64		generation;
	TimestampTz started;
	TimestampTz retry_at;
	int			failures;
	uint64		changes;		/* counter at the last start */
} launcher_db;

int
mr_backoff(int failures)
{
	return failures < 1 ? 0 : failures > 6 ? MR_BACKOFF_MAX : 1 << (failures - 1);
}

/* Does an array of "name=value" settings switch millrace.enabled on? */
static bool
switches_on(Datum settings)
{
	static const char name[] = "millrace.enabled=";
	Datum	   *item;
	bool	   *nulls;
	int			n;
	bool		on = false;

	deconstruct_array(DatumGetArrayTypeP(settings), TEXTOID, -1, false, TYPALIGN_INT, &item, &nulls, &n);
	for (int k = 0; k < n; k++)
	{
		char	   *pair = nulls[k] ? NULL : TextDatumGetCString(item[k]);

		if (pair && pg_strncasecmp(pair, name, sizeof(name) - 1) == 0 &&
			!parse_bool(pair + sizeof(name) - 1, &on))
			on = false;
	}
	return on;
}

List *
mr_enabled_databases(void)
{
	List	   *on = NIL;
	List	   *usable = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	rel = table_open(DbRoleSettingRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_db_role_setting form = (Form_pg_db_role_setting) GETSTRUCT(tuple);
		bool		null;
		Datum		settings = heap_getattr(tuple, Anum_pg_db_role_setting_setconfig, RelationGetDescr(rel), &null);

		if (OidIsValid(form->setdatabase) && !OidIsValid(form->setrole) && !null && switches_on(settings))
			on = lappend_oid(on, form->setdatabase);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);

	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (on != NIL && (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		/* -2 marks a database whose DROP was interrupted */
		if (list_member_oid(on, form->oid) && form->datallowconn && !form->datistemplate && form->datconnlimit != -2)
			usable = lappend_oid(usable, form->oid);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	return usable;
}

BackgroundWorkerHandle *
mr_register(const mr_worker_args *args, const char *library, const char *function, const char *type)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = Int32GetDatum(args->slot);
	strlcpy(worker.bgw_library_name, library, sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, function, sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_type, type, sizeof(worker.bgw_type));
	if (args->name[0])
		snprintf(worker.bgw_name, sizeof(worker.bgw_name), "%s %s/%d", type, args->name, args->index);
	else
		snprintf(worker.bgw_name, sizeof(worker.bgw_name), "%s of database %u", type, args->database);
	memcpy(worker.bgw_extra, args, sizeof(*args));
	return RegisterDynamicBackgroundWorker(&worker, &handle) ? handle : NULL;
}

const char *
mr_no_room(void)
{
	static char reason[160];

	snprintf(reason, sizeof(reason),
			 "no free background worker: all of max_worker_processes = %d are taken; raise it and restart the server",
			 max_worker_processes);
	return reason;
}

/* ---- the launcher itself */

/* See to the supervisor of one database that takes part. */
static void
tend(launcher_db *db, TimestampTz now)
{
	uint64		changes = mr_change_count(MR_CHANGE_WORKERS, db->database);
	mr_worker_args args;
	pid_t		pid;

	if (db->handle)
	{
		if (GetBackgroundWorkerPid(db->handle, &pid) != BGWH_STOPPED)
			return;
		mr_slot_forget(db->slot, db->generation);
		pfree(db->handle);
		db->handle = NULL;
		if (TimestampDifferenceExceeds(db->started, now, MR_SETTLED_S * 1000))
			db->failures = 0;
		db->failures++;
		db->retry_at = TimestampTzPlusMilliseconds(now, mr_backoff(db->failures) * 1000);
	}
	if (changes != db->changes)
	{
		/* Somebody called start() or ended a hold: at once. */
		db->changes = changes;
		db->retry_at = now;
		db->failures = 0;
	}
	if (now < db->retry_at || mr_database_held(db->database))
		return;
	if (!mr_slot_reserve(MR_SUPERVISOR, db->database, InvalidOid, "", 0, 1, 0, &args))
		return;					/* one lives already, started by hand */
	db->handle = mr_register(&args, "millrace", "millrace_supervisor_main", MR_SUPERVISOR_TYPE);
	if (db->handle == NULL)
	{
		mr_slot_wait(MR_SUPERVISOR, db->database, "", 0, mr_no_room());
		db->retry_at = TimestampTzPlusMilliseconds(now, 5000);
		return;
	}
	db->slot = args.slot;
	db->generation = args.generation;
	db->started = now;
}

/* One look at the catalogues, then at every database. */
static void
launcher_turn(HTAB *databases, MemoryContext cxt)
{
	TimestampTz now = GetCurrentTimestamp();
	List	   *enabled = NIL;
	ListCell   *cell;
	HASH_SEQ_STATUS seq;
	launcher_db *db;

	if (mr_workers_on)
	{
		StartTransactionCommand();
		(void) GetTransactionSnapshot();
		MemoryContextSwitchTo(cxt);
		enabled = mr_enabled_databases();
		CommitTransactionCommand();
	}
	MemoryContextSwitchTo(TopMemoryContext);	/* handles live on */

	hash_seq_init(&seq, databases);
	while ((db = hash_seq_search(&seq)) != NULL)
		db->wanted = false;
	foreach(cell, enabled)
	{
		Oid			oid = lfirst_oid(cell);
		bool		found;

		db = hash_search(databases, &oid, HASH_ENTER, &found);
		if (!found)
		{
			memset(db, 0, sizeof(*db));
			db->database = oid;
			db->changes = mr_change_count(MR_CHANGE_WORKERS, oid);
		}
		db->wanted = true;
		tend(db, now);
	}

	/* Those switched off: their supervisors see it themselves. */
	hash_seq_init(&seq, databases);
	while ((db = hash_seq_search(&seq)) != NULL)
	{
		pid_t		pid;

		if (db->wanted || (db->handle && GetBackgroundWorkerPid(db->handle, &pid) != BGWH_STOPPED))
			continue;
		if (db->handle)
		{
			mr_slot_forget(db->slot, db->generation);
			pfree(db->handle);
		}
		mr_slot_forget_waiting(MR_SUPERVISOR, db->database, "", 0);
		hash_search(databases, &db->database, HASH_REMOVE, NULL);
	}
}

void
millrace_launcher_main(Datum arg)
{
	HASHCTL		ctl = {0};
	HTAB	   *databases;
	MemoryContext cxt;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(mr_launcher_database, NULL, 0);
	pgstat_report_appname(MR_LAUNCHER_TYPE);
	if (!mr_launcher_begin(MyDatabaseId))
		proc_exit(1);			/* held, or an older one is still leaving: come back */

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(launcher_db);
	ctl.hcxt = TopMemoryContext;
	databases = hash_create("millrace databases", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	cxt = AllocSetContextCreate(TopMemoryContext, "millrace launcher", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		launcher_turn(databases, cxt);
		MemoryContextReset(cxt);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, MR_POLL_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}

/* While preloading: nothing in binary upgrade, and never before recovery ends. */
void
mr_launcher_register(void)
{
	BackgroundWorker worker;

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "millrace", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "millrace_launcher_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, MR_LAUNCHER_TYPE, sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, MR_LAUNCHER_TYPE, sizeof(worker.bgw_type));
	RegisterBackgroundWorker(&worker);
}
