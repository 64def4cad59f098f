/*
 * process_pg.c
 *	  What workers of every kind do as processes: transactions that leave the
 *	  extension free to be dropped, naps, and telling what they are doing.
 *
 * Memory: the caller's context.  Locks: the extension's, until the transaction
 * ends, and only where it is free.
 */
#include "postgres.h"

#include <unistd.h>

#include "core/process_pg.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "core/meter_pg.h"
#include "core/shared_pg.h"

/* Do what the server wants of us; may end the process. */
void
mr_answer_server(void)
{
	CHECK_FOR_INTERRUPTS();
	if (mr_worker_should_stop())
		proc_exit(0);
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* Wait for the latch or the timeout. */
void
mr_wait_latch(int timeout_ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	mr_answer_server();
}

/* The whole time, whatever wakes us. */
void
mr_nap(int timeout_ms)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);

	do
	{
		mr_wait_latch(timeout_ms);
		timeout_ms = (int) TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);
	} while (timeout_ms > 0);
}

/* A text of a library's, which may quote whom it talks to, as ASCII in the current context. */
char *
mr_plain(const char *text)
{
	char	   *copy = pstrdup(text);

	for (char *p = copy; *p; p++)
		if (IS_HIGHBIT_SET(*p))
			*p = '?';
	return copy;
}

/*
 * What a loop does about an ERROR that ended its turn: log it, end whatever
 * transaction and subtransactions are open, and return it, in cxt, which becomes
 * current and must be older than the turn.
 */
ErrorData *
mr_recover(MemoryContext cxt)
{
	ErrorData  *error;

	MemoryContextSwitchTo(cxt);
	error = CopyErrorData();
	EmitErrorReport();
	FlushErrorState();
	AbortOutOfAnyTransaction();
	MemoryContextSwitchTo(cxt);
	return error;
}

/* 0.2 s, doubling to 10 s. */
int
mr_pause_ms(int failures)
{
	return failures < 7 ? 100 << failures : 10000;
}

/* Oid of the extension and its version (in the current context); InvalidOid if there is none. */
static Oid
find_extension(char **version)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	row;
	Oid			extension = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("millrace"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	row = systable_getnext(scan);
	if (HeapTupleIsValid(row))
	{
		bool		null;
		Datum		d = heap_getattr(row, Anum_pg_extension_extversion, RelationGetDescr(rel), &null);

		extension = ((Form_pg_extension) GETSTRUCT(row))->oid;
		*version = TextDatumGetCString(d);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return extension;
}

/*
 * Share-lock the extension until the transaction ends, if nobody is dropping
 * or altering it.  Ends the process if it is gone or of another version.
 */
static bool
lock_extension(void)
{
	char	   *version = NULL;
	Oid			extension = find_extension(&version);
	LOCKTAG		tag;

	if (OidIsValid(extension))
	{
		SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, extension, 0);
		if (LockAcquire(&tag, AccessShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
			return false;
		AcceptInvalidationMessages();
		extension = find_extension(&version);
	}
	if (!OidIsValid(extension))
	{
		ereport(LOG, (errmsg("extension millrace was dropped: its worker ends")));
		proc_exit(0);
	}
	if (strcmp(version, MILLRACE_VERSION) != 0)
	{
		ereport(LOG,
				(errmsg("extension millrace is at version %s, its library at %s: its worker ends", version, MILLRACE_VERSION),
				 errhint("ALTER EXTENSION millrace UPDATE, or restart the server with the library that belongs to it.")));
		proc_exit(0);
	}
	return true;
}

/*
 * Begin a transaction that holds the extension; the caller's memory context
 * stays current.  False: somebody is dropping or altering it.
 */
bool
mr_try_begin(const char *activity)
{
	MemoryContext caller = CurrentMemoryContext;

	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, activity);
	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED;
	if (!lock_extension())
	{
		CommitTransactionCommand();
		pgstat_report_activity(STATE_IDLE, NULL);
		MemoryContextSwitchTo(caller);
		return false;
	}
	MemoryContextSwitchTo(caller);
	PushActiveSnapshot(GetTransactionSnapshot());
	return true;
}

/* The same, waiting until it can. */
void
mr_begin(const char *activity)
{
	while (!mr_try_begin(activity))
		mr_nap(200);
}

void
mr_commit(void)
{
	MemoryContext caller = CurrentMemoryContext;

	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Say what this worker is doing, and why: in its slot, its application name, the
 * log and, by write() in a transaction of its own, its table.  Written when it
 * is news, errors at most once a second.  Failing to say so is no failure.
 */
void
mr_tell(const char *who, const char *appname, const void *subject, mr_write_state write,
		const char *state, const char *sqlstate, const char *reason)
{
	static char said[600];
	static TimestampTz said_at = 0;
	char		now[600];
	TimestampTz at = GetCurrentTimestamp();
	MemoryContext caller = CurrentMemoryContext;

	if (sqlstate != NULL)
	{
		mr_worker_count(MR_COUNT_ERRORS, 1);
		mr_meter_error();
	}
	snprintf(now, sizeof(now), "%s %s %s", state, sqlstate ? sqlstate : "", reason ? reason : "");
	if (strcmp(said, now) == 0 && (sqlstate == NULL || at - said_at < USECS_PER_SEC))
		return;
	if (strcmp(said, now) != 0 && reason != NULL)
		ereport(LOG, (errmsg("%s: %s: %s", who, state, reason)));
	pgstat_report_appname(psprintf("%s: %s", appname, state));
	mr_worker_state(state, reason);
	PG_TRY();
	{
		if (mr_try_begin("report"))
		{
			write(subject, state, sqlstate, reason);
			mr_commit();
			strlcpy(said, now, sizeof(said));
			said_at = at;
		}
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(caller);
	}
	PG_END_TRY();
}

/*
 * Is an error the fault of the data (and would come again with them), or of the
 * surroundings?  Classes of surroundings: lost connections, features and
 * rights missing, objects undefined, read-only and in-doubt transactions,
 * conflicts, resources, operator's interventions, system and internal errors.
 */
bool
mr_is_data_error(int sqlstate)
{
	static const int surroundings[] = {
		MAKE_SQLSTATE('0', '8', '0', '0', '0'), MAKE_SQLSTATE('0', 'A', '0', '0', '0'), MAKE_SQLSTATE('0', 'B', '0', '0', '0'),
		MAKE_SQLSTATE('2', '5', '0', '0', '0'), MAKE_SQLSTATE('2', '6', '0', '0', '0'), MAKE_SQLSTATE('2', '8', '0', '0', '0'),
		MAKE_SQLSTATE('2', 'B', '0', '0', '0'), MAKE_SQLSTATE('2', 'D', '0', '0', '0'), MAKE_SQLSTATE('3', '4', '0', '0', '0'),
		MAKE_SQLSTATE('3', 'D', '0', '0', '0'), MAKE_SQLSTATE('3', 'F', '0', '0', '0'), MAKE_SQLSTATE('4', '0', '0', '0', '0'),
		MAKE_SQLSTATE('4', '2', '0', '0', '0'), MAKE_SQLSTATE('5', '3', '0', '0', '0'), MAKE_SQLSTATE('5', '5', '0', '0', '0'),
		MAKE_SQLSTATE('5', '7', '0', '0', '0'), MAKE_SQLSTATE('5', '8', '0', '0', '0'), MAKE_SQLSTATE('7', '2', '0', '0', '0'),
		MAKE_SQLSTATE('F', '0', '0', '0', '0'), MAKE_SQLSTATE('H', 'V', '0', '0', '0'), MAKE_SQLSTATE('X', 'X', '0', '0', '0')
	};

	for (int i = 0; i < (int) lengthof(surroundings); i++)
		if (ERRCODE_TO_CATEGORY(sqlstate) == surroundings[i])
			return false;
	return true;
}

/* ---- memory */

int64
mr_resident_bytes(void)
{
	FILE	   *f = fopen("/proc/self/statm", "r");
	long		size,
				all,
				shared;
	int			n = f ? fscanf(f, "%ld %ld %ld", &size, &all, &shared) : 0;

	if (f)
		fclose(f);
	return n == 3 ? (int64) (all - shared) * sysconf(_SC_PAGESIZE) : -1;
}
