/*
 * cancel_pg.c
 *	  cancel_task and retry_tasks.
 *
 * A task that waits and whose end nobody is to be told of ends here, at once.
 * All others are ended by a worker of their pool, for `deliver` is called as
 * their owner and in the transaction that ends them: task_cancels says which.
 * A worker of lane sql that runs one is interrupted by a SIGINT.  By the time
 * it arrives the worker may be at another task: it therefore looks into
 * task_cancels, and does that one again if it was not meant.
 *
 * Memory: the caller's context.  Locks: the task's row.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "core/series_pg.h"
#include "core/shared_pg.h"
#include "core/spi_pg.h"
#include "task/submit.h"
#include "task/tasks.h"

PG_FUNCTION_INFO_V1(millrace_cancel_task);
PG_FUNCTION_INFO_V1(millrace_retry_tasks);

/* ---- interrupting workers once we have committed */

#define MAX_INTERRUPTED 64		/* in one transaction; more are ended when their functions end */

typedef struct interrupted
{
	int			pid;
	PGPROC	   *proc;
	Oid			role;
} interrupted;

static interrupted to_interrupt[MAX_INTERRUPTED];
static int	n_to_interrupt = 0;

/* Nothing here may fail: we have committed. */
static void
interrupt_at_commit(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	for (int i = 0; i < n_to_interrupt && event == XACT_EVENT_COMMIT; i++)
	{
		const interrupted *w = &to_interrupt[i];

		/* Still that process, connected as that role? */
		if (BackendPidGetProc(w->pid) == w->proc && w->proc->databaseId == MyDatabaseId && w->proc->roleId == w->role)
			(void) kill(w->pid, SIGINT);
	}
	n_to_interrupt = 0;
}

/* At commit: a worker of lane sql that is at a task of owner gets a query cancel. */
static void
interrupt_worker(int pid, const char *owner)
{
	static bool registered = false;
	PGPROC	   *proc;
	mr_slot_info *slots;
	int			n = mr_slots(MyDatabaseId, &slots);

	for (int i = 0; i < n; i++)
		if (slots[i].kind == MR_TASKS && slots[i].pid == pid && strcmp(slots[i].name, owner) == 0 &&
			(proc = BackendPidGetProc(pid)) != NULL && n_to_interrupt < MAX_INTERRUPTED)
			to_interrupt[n_to_interrupt++] = (interrupted) {pid, proc, proc->roleId};
	if (!registered)
		RegisterXactCallback(interrupt_at_commit, NULL);
	registered = true;
}

/* ---- cancel_task */

/* As it stands in the queue. */
typedef struct found
{
	char	   *owner;
	char	   *order_key;
	char	   *kind;
	bool		runs;
	bool		told;			/* somebody is to be told of its end */
	int			pid;
} found;

static bool
find(Datum id, found *f)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID};
	bool		null;
	HeapTuple	row;
	TupleDesc	desc;

	if (mr_run(&plan, "SELECT q.owner, t.order_key, t.lease IS NOT NULL, t.deliver IS NOT NULL, coalesce(t.pid, 0), t.kind "
			   "FROM millrace.task_queue t JOIN millrace.task_queues q ON q.id = t.queue WHERE t.id = $1",
			   lengthof(types), types, &id) == 0)
		return false;
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	f->owner = SPI_getvalue(row, desc, 1);
	f->order_key = SPI_getvalue(row, desc, 2);
	f->runs = DatumGetBool(SPI_getbinval(row, desc, 3, &null));
	f->told = DatumGetBool(SPI_getbinval(row, desc, 4, &null));
	f->pid = DatumGetInt32(SPI_getbinval(row, desc, 5, &null));
	f->kind = SPI_getvalue(row, desc, 6);
	return true;
}

/* Move a task that still waits to task_done; false: it does not wait any more. */
static bool
end_waiting(Datum id, const found *f)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr wake = NULL;
	static const Oid types[] = {UUIDOID, TIMESTAMPTZOID, INT2OID};
	static const Oid wake_types[] = {TEXTOID, TEXTOID, UUIDOID};
	TimestampTz now = tsk_now();
	Datum		args[] = {id, TimestampTzGetDatum(now), Int16GetDatum((int16) tsk_done_leaf(now))};
	Datum		next[] = {CStringGetTextDatum(f->owner), mr_text(f->order_key), id};

	if (mr_run(&plan, "WITH gone AS (DELETE FROM millrace.task_queue WHERE id = $1 AND lease IS NULL RETURNING *) "
			   "INSERT INTO millrace.task_done (leaf, id, owner, lane, queue, kind, payload, priority, tenant, order_key, key, tag, deliver, watch, "
			   "providers, timeout_ms, max_attempts, weight, state, class, sqlstate, error, attempts, tries, created_at, started_at, finished_at) "
			   "SELECT $3, g.id, q.owner, q.lane, q.name, g.kind, g.payload, g.priority, g.tenant, g.order_key, g.key, g.tag, g.deliver, g.watch, "
			   "g.providers, g.timeout_ms, g.max_attempts, g.weight, 'cancelled', g.class, g.sqlstate, g.error, g.attempts, g.tries, g.created_at, g.started_at, $2 "
			   "FROM gone g JOIN millrace.task_queues q ON q.id = g.queue", lengthof(types), types, args) == 0)
		return false;
	mr_tally_at_commit(MR_TASKS_ENDED, f->kind, "cancelled", NULL, 1);
	if (f->order_key)
		mr_run(&wake, "SELECT millrace.wake_next_task($1, $2, $3)", lengthof(wake_types), wake_types, next);
	return true;
}

/* millrace.cancel_task(id uuid) -> boolean: false if it has ended, or there is none */
Datum
millrace_cancel_task(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr note = NULL;
	static SPIPlanPtr hurry = NULL;
	static const Oid types[] = {UUIDOID};
	Datum		id = PG_GETARG_DATUM(0);
	found		f;
	mr_owner_save save;
	bool		there;

	mr_spi_begin(&save);
	there = find(id, &f);
	mr_owner_end(&save);
	if (there)
		tsk_check_rights(f.owner, "tasks");
	mr_owner_begin(&save);
	if (there && (f.runs || f.told || !end_waiting(id, &f)))
	{
		mr_run(&note, "INSERT INTO millrace.task_cancels (id) VALUES ($1) ON CONFLICT (id) DO NOTHING", lengthof(types), types, &id);
		/* If it is being claimed just now, this waits until it has been. */
		mr_run(&hurry, "UPDATE millrace.task_queue SET xid = pg_current_xact_id(), due_at = NULL WHERE id = $1 AND lease IS NULL",
			   lengthof(types), types, &id);
		there = find(id, &f);
		if (there && f.runs)
			interrupt_worker(f.pid, f.owner);
	}
	mr_spi_end(&save);
	mr_change_at_commit(MR_CHANGE_TASKS, MyDatabaseId);
	mr_change_at_commit(MR_CHANGE_CALLS, MyDatabaseId);
	PG_RETURN_BOOL(there);
}

/* ---- retry_tasks */

/* Where a task that has ended would begin again: at its first provider, in the lane that one is in now. */
#define ENDED \
	"FROM millrace.task_done d JOIN pg_roles o ON o.rolname = d.owner JOIN millrace.task_kinds k ON k.kind = d.kind " \
	"CROSS JOIN LATERAL (SELECT coalesce(d.providers[1], d.queue) AS name) p " \
	"CROSS JOIN LATERAL (SELECT CASE WHEN k.base = 'sql' OR EXISTS (SELECT 1 FROM pg_foreign_server s, pg_options_to_table(s.srvoptions) x " \
	"WHERE s.srvname = p.name AND x.option_name = 'api' AND x.option_value = 'local') THEN 'sql' ELSE 'call' END AS lane) l "
/* Those of ids $1 that role $2 may retry. */
#define CHOSEN \
	"WHERE d.id = ANY ($1) AND d.state <> 'succeeded' AND (pg_has_role($2, o.oid, 'USAGE') OR pg_has_role($2, 'millrace_admin', 'USAGE')) "

/*
 * millrace.retry_tasks(ids uuid[]) -> bigint: those of ids that did not
 * succeed begin again, with their ids, as many attempts as they had at first,
 * their first provider, and no deadline; how many.
 */
Datum
millrace_retry_tasks(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr queues = NULL;
	static SPIPlanPtr move = NULL;
	static const Oid queue_types[] = {UUIDARRAYOID, OIDOID, TEXTOID};
	static const Oid move_types[] = {UUIDARRAYOID, OIDOID, INT2OID};
	Datum		queue_args[] = {PG_GETARG_DATUM(0), ObjectIdGetDatum(GetUserId()), CStringGetTextDatum(mr_source_binding())};
	Datum		move_args[] = {PG_GETARG_DATUM(0), ObjectIdGetDatum(GetUserId()), Int16GetDatum((int16) tsk_queue_leaf(tsk_now()))};
	mr_owner_save save;
	int64		n;

	mr_spi_begin(&save);
	/* What a restored database has not got. */
	mr_run(&queues, "WITH w AS MATERIALIZED (SELECT DISTINCT d.owner, l.lane, p.name " ENDED CHOSEN "), "
		   "pool AS (INSERT INTO millrace.task_pools (owner, bound_to) SELECT DISTINCT owner, $3 FROM w "
		   "WHERE NOT EXISTS (SELECT 1 FROM millrace.task_pools x WHERE x.owner = w.owner) ON CONFLICT (owner) DO NOTHING) "
		   "INSERT INTO millrace.task_queues (owner, lane, name) SELECT * FROM w ON CONFLICT (owner, lane, name) DO NOTHING",
		   lengthof(queue_types), queue_types, queue_args);
	n = (int64) mr_run(&move, "WITH w AS MATERIALIZED (SELECT d.leaf, d.id, q.id AS queue, k.base " ENDED
					   "JOIN millrace.task_queues q ON q.owner = d.owner AND q.lane = l.lane AND q.name = p.name " CHOSEN "), "
					   "gone AS (DELETE FROM millrace.task_done d USING w WHERE d.leaf = w.leaf AND d.id = w.id RETURNING d.*, w.queue AS begins_in, w.base) "
					   "INSERT INTO millrace.task_queue (leaf, id, queue, priority, kind, base, payload, tenant, providers, weight, order_key, key, tag, deliver, watch, "
					   "timeout_ms, max_attempts, created_at, attempts, class, sqlstate, error) "
					   "SELECT $3, id, begins_in, priority, kind, base, payload, tenant, providers, weight, order_key, key, tag, deliver, watch, timeout_ms, least(attempts + coalesce(max_attempts, 11), 32767)::smallint, created_at, attempts, "
					   "class, sqlstate, error FROM gone", lengthof(move_types), move_types, move_args);
	mr_spi_end(&save);
	mr_change_at_commit(MR_CHANGE_TASKS, MyDatabaseId);
	mr_change_at_commit(MR_CHANGE_CALLS, MyDatabaseId);
	PG_RETURN_INT64(n);
}
