/*
 * supervisor_pg.c
 *	  `millrace supervisor`: one per database that takes part; keeps the workers
 *	  that millrace.sources, outboxes, http_queues, task_pools and the gateway's settings ask for.
 *
 * It is dynamic and never restarted by the postmaster.  Nobody can log in as a
 * role made for it (workers obey NOLOGIN), so it connects as the bootstrap
 * superuser and therefore runs no code of users: only the statements below, on
 * the extension's own tables and pg_catalog, with search_path pg_catalog; the
 * tables must belong to the installed extension (mr_extension_ready), whose
 * owner alone may put triggers on them.  User code runs in source workers,
 * which connect as the source's owner.
 *
 * A worker that cannot be had is retried for ever, after 1, 2, 4 ... 60 s; why
 * stands in millrace.source_workers and millrace.status().
 *
 * Memory: children in TopMemoryContext, the rest in a context per turn.
 * Locks: none between turns, so DROP EXTENSION waits for a turn at most.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/process_pg.h"
#include "core/spi_pg.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "stream/lanes.h"
#include "stream/outbox.h"
#include "stream/scale.h"
#include "stream/stream.h"
#include "stream/workers.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

extern PGDLLEXPORT void millrace_supervisor_main(Datum arg);

#define ROTATE_MS 10000
#define LEAST_NAP_MS 100

/* A worker that some source, outbox, queue of requests or role's tasks want, or that still runs. */
typedef struct child
{
	mr_worker_kind kind;		/* MR_SOURCE ... MR_EXECUTOR */
	char		name[NAMEDATALEN];	/* of the source; server of the outbox, or of the queue; role of the tasks */
	int			index;			/* of the worker of its source, or of its role; number of the queue */
	int			nworkers;
	Oid			role;
	int64		config;			/* generation of its row */
	bool		listed;			/* in the table, at this turn's look */
	bool		wanted;			/* and nothing stands against it */
	BackgroundWorkerHandle *handle; /* NULL: not running */
	int			slot;
	uint64		generation;
	int64		running_config;
	TimestampTz started;
	TimestampTz retry_at;
	int			failures;
	bool		no_room;		/* there was none for it at the last attempt */
	char		reason[192];	/* as written to the table; "" if none */
} child;

static List *children = NIL;	/* of child *, in TopMemoryContext */

/*
 * One row a source, outbox, queue or lane of a role's tasks that should run, with what stands against it: its workers have
 * the indexes from `first`.  Privileges that only the INSERT can show (schema, columns, policies) are
 * the worker's to report.  A queue that its worker left as idle is wanted again when there are
 * requests that the snapshot of then did not see; so is a lane of tasks.  $1 is this database; $2, $3 see lanes.h.
 */
static const char sources_query[] =
"SELECT s.name, r.oid, s.generation,"
"       CASE WHEN s.bound_to <> $1 THEN"
"              pg_catalog.format('restored or copied from another database: %s() starts it here', s.resume)"
"            WHEN r.oid IS NULL THEN pg_catalog.format('role \"%s\" does not exist', s.owner)"
"            WHEN r.rolsuper THEN pg_catalog.format('owner \"%s\" is a superuser, which workers never are', s.owner)"
"            WHEN NOT r.rolcanlogin THEN pg_catalog.format('role \"%s\" is not permitted to log in', s.owner)"
"            WHEN NOT pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT') THEN"
"              pg_catalog.format('role \"%s\" may not connect to this database', s.owner)"
"            WHEN s.server IS NULL THEN NULL"
"            WHEN f.oid IS NULL THEN pg_catalog.format('server \"%s\" does not exist', s.server)"
"            WHEN NOT pg_catalog.has_server_privilege(r.oid, f.oid, 'USAGE') THEN"
"              pg_catalog.format('role \"%s\" has no USAGE on server \"%s\"', s.owner, s.server)"
"            WHEN s.target IS NULL THEN NULL"
"            WHEN pg_catalog.to_regclass(s.target) IS NULL THEN pg_catalog.format('table %s does not exist', s.target)"
"            WHEN NOT pg_catalog.has_any_column_privilege(r.oid, pg_catalog.to_regclass(s.target)::oid, 'INSERT') THEN"
"              pg_catalog.format('role \"%s\" may not insert into %s', s.owner, s.target)"
"       END, s.kind, s.first, s.low, s.high, s.waiting"
"  FROM (SELECT 'source' AS kind, 0 AS first, 0 AS low, 0 AS high, false AS waiting,"
"               name, server, target, owner, state, generation, bound_to, 'resume_source' AS resume FROM millrace.sources"
"        UNION ALL"
"        SELECT 'outbox', 0, 0, 0, false, server, server, NULL, owner, state, generation, bound_to, 'resume_outbox' FROM millrace.outboxes"
"        UNION ALL"
"        SELECT CASE l.lane WHEN 'sql' THEN 'tasks' ELSE 'calls' END, 0, o.workers_min, o.workers_max, l.waiting,"
"               p.owner, NULL, NULL, p.owner, p.state, p.generation, p.bound_to, 'resume_tasks'"
"          FROM millrace.task_pools p JOIN millrace.task_lanes($2, $3) l ON l.owner = p.owner, millrace.task_pool_limits(p.options) o"
"         WHERE l.due"
"        UNION ALL"
"        SELECT 'http', q.id, 0, 0, false, q.server, q.server, NULL, q.owner, q.state, q.generation, q.bound_to, 'resume_requests'"
"          FROM millrace.http_queues q JOIN millrace.http_progress p ON p.queue = q.id"
"         WHERE CASE WHEN p.idle IS NULL THEN true ELSE"
"                 EXISTS (SELECT FROM millrace.http_requests m WHERE m.queue = q.id AND m.xid >= pg_catalog.pg_snapshot_xmax(p.idle))"
"                 OR EXISTS (SELECT FROM millrace.http_requests m WHERE m.queue = q.id AND m.xid = ANY (ARRAY(SELECT pg_catalog.pg_snapshot_xip(p.idle)))) END"
"        UNION ALL"
"        SELECT k.kind, 0, g.executors, 0, false, 'http', NULL, NULL, 'millrace_gateway', 'running', g.config, $1, NULL"
"          FROM millrace.gateway_settings() g, (VALUES ('gateway'), ('executor')) k (kind) WHERE g.listen <> '') s"
"  LEFT JOIN pg_catalog.pg_roles r ON r.rolname = s.owner"
"  LEFT JOIN pg_catalog.pg_foreign_server f ON f.srvname = s.server"
" WHERE s.state = 'running' ORDER BY s.kind DESC, s.name, s.first";

/*
 * Kinds of workers: what SQL calls them, what runs, and where it is told, beside status(), why a
 * worker does not: $1 name, $2 index, $3 workers, $4 reason, $5 SQLSTATE.  Those of tasks see themselves that their
 * lane is paused, changed or done with, and end when they have finished what they are at.
 */
static const struct
{
	mr_worker_kind kind;
	const char *word;
	const char *main;
	const char *type;
	const char *reason_query;	/* NULL: nowhere else */
	bool		ends_itself;
}			kinds[] =
{
	{.kind = MR_SOURCE, .word = "source", .main = KFK_SOURCE_MAIN, .type = KFK_SOURCE_TYPE, .reason_query =
		"INSERT INTO millrace.source_workers AS w (source, worker, workers, pid, state, reason, sqlstate, since)"
		" VALUES ($1, $2, $3, 0, 'waiting', $4, $5, pg_catalog.now())"
		" ON CONFLICT (source, worker) DO UPDATE SET workers = excluded.workers, pid = 0, state = excluded.state,"
		"   reason = excluded.reason, sqlstate = excluded.sqlstate, since = excluded.since"
	" WHERE (w.pid, w.state, w.reason) IS DISTINCT FROM (0, excluded.state, excluded.reason)"},
	{.kind = MR_OUTBOX, .word = "outbox", .main = KFK_OUTBOX_MAIN, .type = KFK_OUTBOX_TYPE, .reason_query =
		"UPDATE millrace.outbox_progress SET pid = 0, state = 'waiting', reason = $4, sqlstate = $5, since = pg_catalog.now()"
	" WHERE server = $1 AND (pid, state, reason) IS DISTINCT FROM (0, 'waiting', $4)"},
	{.kind = MR_HTTP, .word = "http", .main = MR_HTTP_MAIN, .type = MR_HTTP_TYPE, .reason_query =
		"UPDATE millrace.http_progress SET pid = 0, state = 'waiting', reason = $4, sqlstate = $5, since = pg_catalog.now()"
	" WHERE queue = $2 AND (pid, state, reason) IS DISTINCT FROM (0, 'waiting', $4)"},
	{.kind = MR_TASKS, .word = "tasks", .main = MR_TASKS_MAIN, .type = MR_TASKS_TYPE, .ends_itself = true},
	{.kind = MR_CALLS, .word = "calls", .main = MR_CALLS_MAIN, .type = MR_CALLS_TYPE, .ends_itself = true},
	{.kind = MR_GATEWAY, .word = "gateway", .main = MR_GATEWAY_MAIN, .type = MR_GATEWAY_TYPE},
	{.kind = MR_EXECUTOR, .word = "executor", .main = MR_EXECUTOR_MAIN, .type = MR_EXECUTOR_TYPE},
};

static int
kind_number(mr_worker_kind kind)
{
	int			k = 0;

	while (kinds[k].kind != kind)
		k++;
	return k;
}

static mr_worker_kind
kind_named(const char *word)
{
	int			k = 0;

	while (strcmp(kinds[k].word, word) != 0)
		k++;
	return kinds[k].kind;
}

/* Show why the child does not run.  Within a turn's transaction. */
static void
explain(child *c, const char *reason, const char *sqlstate)
{
	static SPIPlanPtr plans[lengthof(kinds)];
	static const Oid types[] = {TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID};
	int			kind = kind_number(c->kind);
	Datum		args[] = {CStringGetTextDatum(c->name), Int32GetDatum(c->index), Int32GetDatum(c->nworkers),
	CStringGetTextDatum(reason), CStringGetTextDatum(sqlstate)};

	mr_slot_wait(c->kind, MyDatabaseId, c->name, c->index, reason);
	if (strncmp(c->reason, reason, sizeof(c->reason) - 1) == 0)
		return;
	strlcpy(c->reason, reason, sizeof(c->reason));
	if (kinds[kind].reason_query)
		mr_run(&plans[kind], kinds[kind].reason_query, lengthof(types), types, args);
	ereport(LOG,
			(errmsg("%s \"%s\", worker %d does not run: %s", kinds[kind].word, c->name, c->index, reason)));
}

static child *
find_child(mr_worker_kind kind, const char *name, int index)
{
	ListCell   *cell;

	foreach(cell, children)
	{
		child	   *c = lfirst(cell);

		if (c->kind == kind && c->index == index && strcmp(c->name, name) == 0)
			return c;
	}
	return NULL;
}

/* Note the end of a child's process, if it has ended. */
static void
reap(child *c, TimestampTz now)
{
	pid_t		pid;

	if (c->handle == NULL || GetBackgroundWorkerPid(c->handle, &pid) != BGWH_STOPPED)
		return;
	pfree(c->handle);
	c->handle = NULL;
	mr_slot_forget(c->slot, c->generation);
	if (c->running_config != c->config || TimestampDifferenceExceeds(c->started, now, MR_SETTLED_S * 1000) ||
		((kinds[kind_number(c->kind)].ends_itself || c->kind == MR_EXECUTOR) && mr_slot_count(c->slot, c->generation, MR_COUNT_ROWS) > 0))
		c->failures = 0;		/* it made room for a new one, or failed by chance */
	else
		c->failures++;
	c->retry_at = TimestampTzPlusMilliseconds(now, mr_backoff(c->failures) * 1000);
}

static void
start_child(child *c, TimestampTz now)
{
	int			kind = kind_number(c->kind);
	mr_worker_args args;
	MemoryContext old;

	if (!mr_slot_reserve(c->kind, MyDatabaseId, c->role, c->name, c->index, c->nworkers, c->config, &args))
	{
		c->no_room = args.slot == -2;
		if (c->no_room)
			explain(c, "all slots for Millrace's workers are taken", "53400");
		return;					/* a worker of an earlier supervisor is leaving */
	}
	old = MemoryContextSwitchTo(TopMemoryContext);
	c->handle = mr_register(&args, KFK_WORKER_LIBRARY, kinds[kind].main, kinds[kind].type);
	MemoryContextSwitchTo(old);
	c->no_room = c->handle == NULL;
	if (c->no_room)
	{
		c->retry_at = TimestampTzPlusMilliseconds(now, 5000);
		explain(c, mr_no_room(), "53400");
		return;
	}
	c->slot = args.slot;
	c->generation = args.generation;
	c->running_config = c->config;
	c->started = now;
	c->reason[0] = '\0';
}

static mr_place
place_of(const child *c)
{
	pid_t		pid;

	if (c->handle == NULL)
		return c->no_room ? MR_NO_ROOM : MR_AWAY;
	return GetBackgroundWorkerPid(c->handle, &pid) == BGWH_STARTED ? MR_RUNS : MR_PLACED;
}

/* Workers of an earlier supervisor, of this database: they must go first. */
static void
stop_strangers(void)
{
	mr_slot_info *slots;
	int			n = mr_slots(MyDatabaseId, &slots);

	for (int k = 0; k < n; k++)
		if (slots[k].kind >= MR_SOURCE && slots[k].state == MR_SLOT_RUNNING && !slots[k].stopping)
		{
			child	   *c = find_child(slots[k].kind, slots[k].name, slots[k].index);

			if (c == NULL || c->handle == NULL || c->generation != slots[k].generation)
				mr_slot_stop(slots[k].slot, slots[k].generation);
		}
}

/* Read what is wanted and bring it about.  Within a transaction and SPI. */
static void
reconcile(void)
{
	static bool cleaned = false;
	static SPIPlanPtr plan = NULL;
	static Oid	types[] = {TEXTOID, TEXTARRAYOID, XID8ARRAYOID};
	TimestampTz now = GetCurrentTimestamp();
	Datum		args[] = {CStringGetTextDatum(mr_source_binding()), 0, 0};
	SPITupleTable *rows;
	uint64		n;
	ListCell   *cell;

	foreach(cell, children)
	{
		reap(lfirst(cell), now);
		((child *) lfirst(cell))->wanted = ((child *) lfirst(cell))->listed = false;
	}
	stop_strangers();
	if (!cleaned)
	{
		/* What workers of an earlier supervisor, or before a crash, said of themselves. */
		SPI_execute("DELETE FROM millrace.source_workers", false, 0);
		SPI_execute("UPDATE millrace.outbox_progress SET pid = 0, state = 'stopped', reason = NULL WHERE state <> 'stopped'", false, 0);
		SPI_execute("UPDATE millrace.http_progress SET pid = 0, state = 'stopped', reason = NULL WHERE state <> 'stopped'", false, 0);
		/* Tasks that they were at are found by new ones. */
		SPI_execute("UPDATE millrace.task_progress SET idle = NULL WHERE idle IS NOT NULL", false, 0);
		cleaned = true;
	}

	mr_scale_begin();
	mr_lanes_begin(&args[1], &args[2]);
	mr_prepare(&plan, sources_query, lengthof(types), types);
	SPI_execute_plan(plan, args, NULL, true, 0);
	rows = SPI_tuptable;
	n = SPI_processed;
	for (uint64 k = 0; k < n; k++)
	{
		HeapTuple	row = rows->vals[k];
		TupleDesc	desc = rows->tupdesc;
		bool		null;
		char	   *name = SPI_getvalue(row, desc, 1);
		Oid			role = DatumGetObjectId(SPI_getbinval(row, desc, 2, &null));
		int64		config = DatumGetInt64(SPI_getbinval(row, desc, 3, &null));
		char	   *against = SPI_getvalue(row, desc, 4);
		mr_worker_kind kind = kind_named(SPI_getvalue(row, desc, 5));
		int			first = DatumGetInt32(SPI_getbinval(row, desc, 6, &null));
		int			low = DatumGetInt32(SPI_getbinval(row, desc, 7, &null));
		int			high = DatumGetInt32(SPI_getbinval(row, desc, 8, &null));
		bool		waiting = DatumGetBool(SPI_getbinval(row, desc, 9, &null));
		int			nworkers = kind == MR_SOURCE ? mr_scale_workers(name) : kind == MR_TASKS ? MR_TASK_WORKERS : kind == MR_EXECUTOR ? low : 1;
		uint32		chosen = kind == MR_TASKS ? mr_lane_workers(name, low, high, waiting) : 0;

		for (int index = first; index < first + nworkers; index++)
		{
			child	   *c = find_child(kind, name, index);

			if (kind == MR_TASKS && !(chosen & UINT32_C(1) << index))
				continue;
			if (c == NULL)
			{
				MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

				c = palloc0(sizeof(child));
				c->kind = kind;
				strlcpy(c->name, name, sizeof(c->name));
				c->index = index;
				children = lappend(children, c);
				MemoryContextSwitchTo(old);
			}
			if (c->config != config)
			{
				c->failures = 0;
				c->retry_at = now;
			}
			c->config = config;
			c->nworkers = nworkers;
			c->role = role;
			c->listed = true;
			c->wanted = against == NULL;
			if (against)
			{
				explain(c, against, "55000");
				c->retry_at = now;
				c->failures = 0;
			}
		}
	}

	/* Stop first, so that places become free. */
	foreach(cell, children)
	{
		child	   *c = lfirst(cell);

		if (c->handle && (kinds[kind_number(c->kind)].ends_itself ? c->listed && !c->wanted : !c->wanted || c->running_config != c->config))
			mr_slot_stop(c->slot, c->generation);
	}
	foreach(cell, children)
	{
		child	   *c = lfirst(cell);

		if (c->wanted && c->handle == NULL && now >= c->retry_at)
			start_child(c, now);
	}

	foreach(cell, children)
	{
		child	   *c = lfirst(cell);

		/* More workers for tasks are welcome, no more. */
		if (c->wanted && (c->kind != MR_TASKS || c->index == 0))
			mr_scale_child(c->kind, c->name, c->index, place_of(c));
	}
	mr_scale_end();

	/* Forget what nobody wants and nothing runs; a reason against it is kept. */
	foreach(cell, children)
	{
		child	   *c = lfirst(cell);

		if (c->listed || c->handle)
			continue;
		mr_slot_forget_waiting(c->kind, MyDatabaseId, c->name, c->index);
		children = foreach_delete_current(children, cell);
		pfree(c);
	}
}

/* False: there is nothing to supervise here any more. */
static bool
supervisor_turn(TransactionId after)
{
	const char *why = NULL;
	mr_owner_save save;
	bool		stay;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (TransactionIdIsValid(after))
		XactLockTableWait(after, NULL, NULL, XLTW_None);
	PushActiveSnapshot(GetTransactionSnapshot());
	stay = list_member_oid(mr_enabled_databases(), MyDatabaseId) && mr_extension_ready(NULL, &why);
	if (stay)
	{
		mr_spi_begin(&save);
		reconcile();
		mr_spi_end(&save);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(true);
	mr_worker_state(stay ? "running" : "stopped", why);
	return stay;
}

/* Now and then, in a transaction of its own: leaves of the task queue whose turn is over are emptied. */
static void
rotate_tasks(void)
{
	static TimestampTz done_at = 0;
	TimestampTz now = GetCurrentTimestamp();
	mr_owner_save save;

	if (now >= done_at && now < TimestampTzPlusMilliseconds(done_at, ROTATE_MS))
		return;
	done_at = now;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED;
	PushActiveSnapshot(GetTransactionSnapshot());
	mr_spi_begin(&save);
	SPI_execute("SELECT millrace.rotate_tasks() FROM (SELECT FROM millrace.task_pools LIMIT 1) p", false, 0);
	mr_spi_end(&save);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

static void
stop_children(int code, Datum arg)
{
	ListCell   *cell;

	foreach(cell, children)
	{
		child	   *c = lfirst(cell);

		if (c->handle)
			mr_slot_stop(c->slot, c->generation);
	}
}

void
millrace_supervisor_main(Datum arg)
{
	const mr_worker_args *args = mr_worker_begin(MR_SUPERVISOR_TYPE);
	TransactionId after = args->after;
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "millrace supervisor", ALLOCSET_DEFAULT_SIZES);
	volatile int failures = 0;

	before_shmem_exit(stop_children, (Datum) 0);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET, PGC_S_OVERRIDE);
	if (RecoveryInProgress())
		proc_exit(0);
	for (;;)
	{
		long		nap = MR_POLL_MS;

		MemoryContextSwitchTo(cxt);
		PG_TRY();
		{
			if (!mr_workers_on || !supervisor_turn(after))
				proc_exit(0);
			rotate_tasks();
			failures = 0;
		}
		PG_CATCH();
		{
			ErrorData  *error = mr_recover(cxt);

			mr_worker_state("waiting", error->message);
			failures++;
			nap = 1000L * mr_backoff(failures);
		}
		PG_END_TRY();
		after = InvalidTransactionId;
		MemoryContextSwitchTo(cxt);
		MemoryContextReset(cxt);
		/* While tasks wait that no worker may do, a pool that is paused say, every commit of more of them rings. */
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LEAST_NAP_MS, PG_WAIT_EXTENSION);
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, nap, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}
