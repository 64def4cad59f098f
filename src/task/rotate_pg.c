/*
 * rotate_pg.c
 *	  millrace.rotate_tasks(): leaves of the tables of tasks emptied by TRUNCATE,
 *	  and keys that have had their time.  Called by the supervisor every few
 *	  seconds; it looks at little unless something is due.
 *
 * task_queue.  New tasks go into the leaf whose turn it is, so the others only
 * lose rows.  What is left of dead rows there, a held snapshot may keep from
 * VACUUM for hours; TRUNCATE needs not ask it.  The few tasks that still live,
 * delayed, being tried again, or running for long, are moved into the present
 * leaf in the same transaction, with all they have: xid, lease, due_at.
 *
 * Why no task is lost or doubled:
 * - Who wrote to the leaf, or locked a row of it, holds a lock on it until its
 *	 transaction has ended, and ends before its locks are given back.  So under
 *	 our ACCESS EXCLUSIVE lock nobody is at work in it, and the statement that
 *	 moves, whose snapshot is taken after that lock (READ COMMITTED, or we
 *	 refuse), sees every task that lives in it.
 * - Move and TRUNCATE are one transaction: both, or neither.
 * - Who comes now waits for us.  Statements of submitters and workers are plans
 *	 run by SPI, which locks every leaf of a plan before it takes the snapshot:
 *	 one that waited sees the task in its new leaf, one that did not had the
 *	 lock before us.  Tasks are known by id and lease; the leaf is a hint.
 * - xid stays: a tick (worker/seek_pg.c) that has passed the task by keeps it
 *	 passed, one that has not meets it in the same place, (xid, id) being the
 *	 order over all leaves.
 * Somebody else's transaction whose snapshot is older than the move finds a
 * moved task in neither leaf, as always with TRUNCATE.  Nothing of ours keeps
 * a snapshot.
 *
 * The lock is taken only if it is free; else, some other time.  We wait for
 * nobody while we hold it: rows are only inserted elsewhere.
 *
 * task_done, task_attempts.  Leaves are filled by time of the end; one whose
 * newest row is older than the retention is emptied.  Where a leaf could not be
 * emptied in time, old rows stay a turn longer.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "core/spi_pg.h"
#include "task/tasks.h"

PG_FUNCTION_INFO_V1(millrace_rotate_tasks);

#define LEAST_BLOCKS 64			/* a smaller leaf is not worth it */
#define MOST_MOVED 5000			/* tasks; with more of them alive a leaf is not mostly dead */
#define TRIES 10				/* for a lock, */
#define TRY_US 5000				/* so far apart */
#define LOOK_AGAIN (60 * USECS_PER_SEC) /* at what was found not to be due */
#define PURGE_ROWS 20000		/* keys in one call */

#define QUEUE_COLUMNS \
	"id, xid, queue, priority, kind, base, payload, tenant, providers, hop, weight, order_key, key, tag, deliver, watch, timeout_ms, max_attempts, " \
	"deadline, created_at, attempts, tries, lease, due_at, started_at, pid, class, sqlstate, error"

static Oid
leaf_oid(const char *table, int leaf)
{
	return get_relname_relid(psprintf("%s_%d", table, leaf), get_namespace_oid("millrace", false));
}

static BlockNumber
blocks_of(Oid oid)
{
	Relation	rel = table_open(oid, AccessShareLock);
	BlockNumber n = RelationGetNumberOfBlocks(rel);

	table_close(rel, AccessShareLock);
	return n;
}

/* Nobody else is at this leaf until we commit; false: somebody is. */
static bool
lock_if_free(Oid oid)
{
	for (int i = 0; i < TRIES; i++)
	{
		if (ConditionalLockRelationOid(oid, AccessExclusiveLock))
			return true;
		pg_usleep(TRY_US);
		CHECK_FOR_INTERRUPTS();
	}
	return false;
}

static uint64
execute(const char *sql)
{
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "a statement on leaves of tasks failed: %s", sql);
	return SPI_processed;
}

/* Are there at most `most` live rows? */
static bool
few_alive(int leaf, int most)
{
	return execute(psprintf("SELECT 1 FROM (SELECT FROM millrace.task_queue_%d LIMIT %d) t OFFSET %d", leaf, most + 1, most)) == 0;
}

static bool
rotate_queue_leaf(int leaf, int present)
{
	Oid			oid = leaf_oid("task_queue", leaf);

	if (blocks_of(oid) < LEAST_BLOCKS || !few_alive(leaf, MOST_MOVED) || !lock_if_free(oid))
		return false;
	execute(psprintf("INSERT INTO millrace.task_queue_%d (leaf, " QUEUE_COLUMNS ") SELECT %d, " QUEUE_COLUMNS " FROM millrace.task_queue_%d",
					 present, present, leaf));
	execute(psprintf("TRUNCATE millrace.task_queue_%d", leaf));
	return true;
}

/* A leaf of what has ended, if all of it has been kept for long enough. */
static bool
rotate_done_leaf(const char *table, int leaf, TimestampTz keep_from)
{
	Oid			oid = leaf_oid(table, leaf);
	Oid			type = TIMESTAMPTZOID;
	Datum		arg = TimestampTzGetDatum(keep_from);
	const char *sql = psprintf("SELECT 1 FROM millrace.%s_%d WHERE finished_at >= $1 LIMIT 1", table, leaf);

	if (blocks_of(oid) == 0)
		return false;
	SPI_execute_with_args(sql, 1, &type, &arg, NULL, false, 1);
	if (SPI_processed > 0 || !lock_if_free(oid))
		return false;
	SPI_execute_with_args(sql, 1, &type, &arg, NULL, false, 1);
	if (SPI_processed > 0)
		return false;
	execute(psprintf("TRUNCATE millrace.%s_%d", table, leaf));
	return true;
}

/* Keys that stand for nothing any more, and requests to cancel what has ended meanwhile. */
static bool
purge(TimestampTz now)
{
	Oid			type = TIMESTAMPTZOID;
	Datum		arg = TimestampTzGetDatum(now - tsk_key_retention_s() * USECS_PER_SEC);
	uint64		n;

	SPI_execute_with_args(psprintf("DELETE FROM millrace.task_keys WHERE ctid = ANY (ARRAY(SELECT ctid FROM millrace.task_keys WHERE created_at < $1 "
								   "ORDER BY created_at LIMIT %d)) AND created_at < $1", PURGE_ROWS), 1, &type, &arg, NULL, false, 0);
	n = SPI_processed;
	(void) execute("DELETE FROM millrace.task_cancels c WHERE requested_at < clock_timestamp() - interval '1 minute' "
				   "AND NOT EXISTS (SELECT FROM millrace.task_queue t WHERE t.id = c.id)");
	return n == PURGE_ROWS;
}

/* Is it time?  Clocks may have been set back, by days. */
static bool
is_due(TimestampTz at, TimestampTz now)
{
	return now >= at || now < at - LOOK_AGAIN;
}

/*
 * millrace.rotate_tasks() -> boolean: was something emptied?  At most one leaf
 * of each table in a call, for their locks are held until it commits.
 */
Datum
millrace_rotate_tasks(PG_FUNCTION_ARGS)
{
	static TimestampTz look_at[TSK_QUEUE_LEAVES];	/* per process: nobody minds one look too many */
	static TimestampTz history_at,
				purge_at;
	TimestampTz now = tsk_now();
	TimestampTz keep_from = now - tsk_retention_s() * USECS_PER_SEC;
	int			present = tsk_queue_leaf(now);
	mr_owner_save save;
	bool		queue = false,
				done = false,
				attempts = false;

	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("millrace.rotate_tasks() must be called in a transaction of isolation level READ COMMITTED")));
	mr_spi_begin(&save);
	for (int i = 1; i < TSK_QUEUE_LEAVES && !queue; i++)	/* the oldest first */
	{
		int			leaf = (present + i) % TSK_QUEUE_LEAVES;

		if (is_due(look_at[leaf], now))
		{
			queue = rotate_queue_leaf(leaf, present);
			look_at[leaf] = now + LOOK_AGAIN;
		}
	}
	if (is_due(history_at, now))
	{
		for (int leaf = 0; leaf < TSK_DONE_LEAVES; leaf++)
		{
			done = done || rotate_done_leaf("task_done", leaf, keep_from);
			attempts = attempts || rotate_done_leaf("task_attempts", leaf, keep_from);
		}
		history_at = done || attempts ? now : now + LOOK_AGAIN;
	}
	if (is_due(purge_at, now))
		purge_at = purge(now) ? now : now + LOOK_AGAIN;
	mr_spi_end(&save);
	PG_RETURN_BOOL(queue || done || attempts);
}
