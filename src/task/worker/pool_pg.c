/*
 * pool_pg.c
 *	  A role's tasks as a worker sees them: rows of task_pools, task_queues and task_progress, the policies, reports.
 *
 * Fixed statements, run as the extension's owner.  Memory: what lives on is below TopMemoryContext.  Locks: none beyond those of
 * the statements.
 */
#include "postgres.h"

#include "task/worker/lane_int.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/process_pg.h"
#include "core/shared_pg.h"
#include "task/policy_load_pg.h"
#include "task/worker/worker.h"

bool
tsk_lane_load(tsk_lane *lane)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID};
	Datum		args[] = {CStringGetTextDatum(lane->owner), 0};
	mr_owner_save save;
	bool		found;

	mr_begin("read the pool");
	tsk_own_begin(&save);
	args[1] = CStringGetTextDatum(mr_source_binding());
	found = mr_run(&plan, "SELECT p.generation, l.workers_min, l.workers_max, l.max_tasks, l.memory, l.slots, l.lease_s "
				   "FROM millrace.task_pools p, millrace.task_pool_limits(p.options) l WHERE p.owner = $1 AND p.state = 'running' AND p.bound_to = $2",
				   lengthof(types), types, args) == 1;
	if (found)
	{
		HeapTuple	row = SPI_tuptable->vals[0];
		bool		null;

		lane->generation = tsk_number(row, 1);
		lane->workers_min = DatumGetInt32(tsk_column(row, 2, &null));
		lane->workers_max = DatumGetInt32(tsk_column(row, 3, &null));
		lane->max_tasks = DatumGetInt32(tsk_column(row, 4, &null));
		lane->memory = tsk_number(row, 5);
		lane->slots = DatumGetInt32(tsk_column(row, 6, &null));
		lane->lease_s = DatumGetInt32(tsk_column(row, 7, &null));
		tsk_load_policies(&lane->policies);
	}
	mr_spi_end(&save);
	mr_commit();
	return found;
}

bool
tsk_lane_unchanged(tsk_lane *lane)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, INT8OID};
	Datum		args[] = {CStringGetTextDatum(lane->owner), Int64GetDatum(lane->generation)};
	mr_owner_save save;
	bool		unchanged;

	mr_begin("look at the pool");
	tsk_own_begin(&save);
	unchanged = mr_run(&plan, "SELECT 1 FROM millrace.task_pools WHERE owner = $1 AND generation = $2 AND state = 'running'",
					   lengthof(types), types, args) == 1;
	if (unchanged)
		tsk_load_policies(&lane->policies);
	mr_spi_end(&save);
	mr_commit();
	return unchanged;
}

int
tsk_lane_queues(const tsk_lane *lane, tsk_task_queue ***queues)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID};
	static tsk_task_queue **known = NULL;
	static int	n_known = 0;
	Datum		args[] = {CStringGetTextDatum(lane->owner), CStringGetTextDatum(lane->lane)};
	mr_owner_save save;
	uint64		n;

	tsk_own_begin(&save);
	/* In the order of their numbers, and none goes but with the pool: those that are known come first. */
	n = mr_run(&plan, "SELECT q.id, q.name, coalesce(s.paused, false) FROM millrace.task_queues q LEFT JOIN millrace.provider_states s ON s.server = q.name "
			   "WHERE q.owner = $1 AND q.lane = $2 ORDER BY q.id", lengthof(types), types, args);
	if (n > (uint64) n_known)
		known = known ? repalloc(known, sizeof(*known) * n) : MemoryContextAlloc(TopMemoryContext, sizeof(*known) * n);
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		bool		null;

		if (i >= (uint64) n_known)
		{
			known[i] = MemoryContextAllocZero(TopMemoryContext, sizeof(tsk_task_queue));
			known[i]->id = DatumGetInt32(tsk_column(row, 1, &null));
			known[i]->name = MemoryContextStrdup(TopMemoryContext, SPI_getvalue(row, SPI_tuptable->tupdesc, 2));
			n_known++;
		}
		known[i]->paused = DatumGetBool(tsk_column(row, 3, &null));
	}
	mr_spi_end(&save);
	*queues = known;
	return n_known;
}

void
tsk_lane_late(const tsk_lane *lane, int n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID, INT8OID};
	Datum		args[] = {CStringGetTextDatum(lane->owner), CStringGetTextDatum(lane->lane), Int64GetDatum(n)};

	mr_run(&plan, "INSERT INTO millrace.task_progress AS p (owner, lane, late) VALUES ($1, $2, $3) "
		   "ON CONFLICT (owner, lane) DO UPDATE SET late = p.late + excluded.late", lengthof(types), types, args);
}

static void
write_state(const void *subject, const char *state, const char *sqlstate, const char *reason)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	const tsk_lane *lane = subject;
	Datum		args[] = {CStringGetTextDatum(lane->owner), CStringGetTextDatum(lane->lane), mr_text(reason), mr_text(sqlstate), TimestampTzGetDatum(tsk_now())};
	mr_owner_save save;

	if (sqlstate == NULL)
		return;					/* its slot says it */
	tsk_own_begin(&save);
	mr_run(&plan, "INSERT INTO millrace.task_progress AS p (owner, lane, last_error, last_sqlstate, last_error_at) SELECT $1, $2, $3, $4, $5 "
		   "WHERE EXISTS (SELECT FROM millrace.task_pools WHERE owner = $1) ON CONFLICT (owner, lane) DO UPDATE SET "
		   "last_error = excluded.last_error, last_sqlstate = excluded.last_sqlstate, last_error_at = excluded.last_error_at", lengthof(types), types, args);
	mr_spi_end(&save);
}

/* Say what this worker is doing, and why; outside a transaction. */
void
tsk_lane_report(const tsk_lane *lane, const char *state, const char *sqlstate, const char *reason)
{
	bool		sql = strcmp(lane->lane, TSK_LANE_SQL) == 0;

	mr_tell(psprintf("tasks of \"%s\", %s", lane->owner, sql ? psprintf("worker %d", lane->index) : "calls"),
			psprintf("millrace %s %s", sql ? "tasks" : "calls", lane->owner), lane, write_state, state, sqlstate, reason);
}
