/*
 * seek_pg.c
 *	  Which tasks of a queue may be next.
 *
 * New rows, and rows that were put back, are found by ticks (tick.h), one for each priority, for a put-back sets xid anew.  Rows
 * that are due by now, and leases that expired by now, are found by time, from a mark that only moves on.  A row that waits for
 * its time is passed over by its tick, and found by the mark; one whose transaction commits after its time, when the mark has
 * passed, by its tick.  So nothing is missed, and nothing dead is passed over twice.
 *
 * What is found is only a candidate: take_pg.c reads the row and decides.  One that is passed over there because an older one of
 * its order_key waits in the queue is forgotten here: the end of that one sets its xid anew.  One that is locked, or deferred, or
 * whose predecessor runs or is being ended just now, is remembered with a time.
 *
 * All of this is memory of the process; one that starts begins with a tick of everything.  Memory: below TopMemoryContext, 72 bytes
 * a candidate.  Locks: none.
 */
#include "postgres.h"

#include "task/worker/lane_int.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/process_pg.h"
#include "core/shared_pg.h"
#include "task/worker/tick.h"
#include "task/worker/worker.h"

#define PRIORITIES 10
#define CHUNK 64				/* candidates read at once from a tick */
#define SOON_MS 60000			/* rows due so soon are remembered: the mark looks once a second */
#define MAX_LATER 1000000		/* remembered; with more nothing new is read */

struct tsk_seeker
{
	tsk_task_queue *queue;
	MemoryContext cxt;			/* of the heaps */
	pairingheap *ready;			/* by priority and turn */
	pairingheap *later;			/* by again_at */
	int			n_later;
	int			n_ready[PRIORITIES];
	int			n_due;			/* those of ready found by time ... */
	uint64		due_xid;		/* ... the lowest xid of them, or lower */
	uint64		turn;
	tsk_tick	ticks[PRIORITIES];
	uint64		chunk_xid[PRIORITIES];	/* where those of ready begin in the tick */
	bool		new;			/* nothing was sought yet */
	int			losses;			/* workers were gone at the last search for what they left */
	TimestampTz mark;			/* what was due up to then has been found */
	TimestampTz looked;			/* by the server's clock: ticks were begun, ... */
	uint64		rung;			/* ... after so many changes */
	TimestampTz marked;			/* by the server's clock: the mark was moved */
};

static List *seekers = NIL;		/* of the process */

static int
compare_ready(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const tsk_found *x = (const tsk_found *) a;
	const tsk_found *y = (const tsk_found *) b;

	if (x->priority != y->priority)
		return x->priority - y->priority;
	return x->turn < y->turn ? 1 : x->turn > y->turn ? -1 : 0;
}

static int
compare_later(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	TimestampTz x = ((const tsk_found *) a)->again_at;
	TimestampTz y = ((const tsk_found *) b)->again_at;

	return x < y ? 1 : x > y ? -1 : 0;
}

static void
reset_seeker(tsk_seeker *s)
{
	MemoryContext old;

	MemoryContextReset(s->cxt);
	old = MemoryContextSwitchTo(s->cxt);
	s->ready = pairingheap_allocate(compare_ready, NULL);
	s->later = pairingheap_allocate(compare_later, NULL);
	MemoryContextSwitchTo(old);
	s->n_later = s->n_due = 0;
	memset(s->n_ready, 0, sizeof(s->n_ready));
	for (int p = 0; p < PRIORITIES; p++)
	{
		tsk_tick_forget(&s->ticks[p]);
		s->ticks[p].last = 0;
	}
	s->new = true;
	s->mark = DT_NOBEGIN;
	s->looked = s->marked = 0;
}

static tsk_seeker *
seeker_of(tsk_task_queue *queue)
{
	tsk_seeker *s = queue->seeker;

	if (s == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		s = palloc0(sizeof(*s));
		s->queue = queue;
		s->cxt = AllocSetContextCreate(TopMemoryContext, "millrace candidates", ALLOCSET_DEFAULT_SIZES);
		reset_seeker(s);
		seekers = lappend(seekers, s);
		queue->seeker = s;
		MemoryContextSwitchTo(old);
	}
	return s;
}

void
tsk_forget_seekers(void)
{
	ListCell   *cell;

	foreach(cell, seekers)
		reset_seeker(lfirst(cell));
}

static void
push_ready(tsk_seeker *s, tsk_found *found)
{
	if (found->due)
		s->due_xid = s->n_due++ == 0 ? found->xid : Min(s->due_xid, found->xid);
	s->n_ready[found->priority]++;
	pairingheap_add(s->ready, &found->node);
}

static tsk_found *
new_found(tsk_seeker *s, int leaf, const pg_uuid_t *id, int priority, uint64 xid)
{
	tsk_found  *found = MemoryContextAllocZero(s->cxt, sizeof(*found));

	found->id = *id;
	found->leaf = leaf;
	found->priority = priority;
	found->xid = xid;
	found->turn = s->turn++;
	return found;
}

tsk_found *
tsk_seek_new(tsk_task_queue *queue, int leaf, const pg_uuid_t *id)
{
	return new_found(seeker_of(queue), leaf, id, 0, 0);
}

void
tsk_seek_done(tsk_task_queue *queue, tsk_found *found)
{
	pfree(found);
}

void
tsk_seek_later(tsk_task_queue *queue, tsk_found *found, TimestampTz again_at)
{
	found->again_at = again_at;
	found->orphan = 0;
	pairingheap_add(queue->seeker->later, &found->node);
	queue->seeker->n_later++;
}

void
tsk_seek_first(tsk_task_queue *queue, tsk_found *found)
{
	push_ready(queue->seeker, found);	/* its turn is still the lowest */
}

bool
tsk_more_tasks(const tsk_task_queue *queue)
{
	const tsk_seeker *s = queue->seeker;

	if (s == NULL || queue->paused)
		return false;
	for (int p = 0; p < PRIORITIES; p++)
		if (s->ticks[p].upto != NULL)
			return true;
	return !pairingheap_is_empty(s->ready);
}

TimestampTz
tsk_tasks_due(const tsk_task_queue *queue)
{
	const tsk_seeker *s = queue->seeker;

	return s == NULL || queue->paused || pairingheap_is_empty(s->later) ? DT_NOEND :
		((tsk_found *) pairingheap_first(s->later))->again_at;
}

uint64
tsk_lane_position(const tsk_lane *lane)
{
	uint64		position = PG_UINT64_MAX;
	ListCell   *cell;

	foreach(cell, seekers)
	{
		const tsk_seeker *s = lfirst(cell);

		for (int p = 0; p < PRIORITIES; p++)
		{
			const tsk_tick *tick = &s->ticks[p];

			position = Min(position, s->n_ready[p] > 0 ? s->chunk_xid[p] : tick->upto ? tick->after_xid : tick->last + 1);
		}
		if (s->n_due > 0)
			position = Min(position, s->due_xid);
	}
	return position == PG_UINT64_MAX ? 0 : position;
}

/* ---- within a transaction, as the extension's owner */

/* Begin ticks of what has been committed since the last ones, where none is being read. */
static void
begin_ticks(tsk_seeker *s)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, INT4ARRAYOID, TEXTARRAYOID};
	Datum		priorities[PRIORITIES];
	Datum		done[PRIORITIES];
	Datum		args[] = {Int32GetDatum(s->queue->id), 0, 0};
	int			n = 0;

	for (int p = 0; p < PRIORITIES; p++)
		if (s->ticks[p].upto == NULL)
		{
			priorities[n] = Int32GetDatum(p);
			done[n++] = CStringGetTextDatum(s->ticks[p].done);
		}
	if (n == 0)
		return;
	args[1] = PointerGetDatum(construct_array(priorities, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	args[2] = PointerGetDatum(construct_array(done, n, TEXTOID, -1, false, TYPALIGN_INT));
	mr_prepare(&plan, "SELECT p.n, "
			   TSK_TICK_COLUMNS("p.done", "millrace.task_queue r WHERE r.queue = $1 AND r.priority = p.n AND r.lease IS NULL")
			   " FROM (SELECT n::smallint, done::pg_snapshot FROM unnest($2, $3) u (n, done) OFFSET 0) p", lengthof(types), types);
	SPI_execute_plan(plan, args, NULL, false, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		bool		null;

		(void) tsk_tick_begin(&s->ticks[DatumGetInt16(tsk_column(row, 1, &null))], row, SPI_tuptable->tupdesc, 2);
	}
}

/* The next rows of a tick; those that are due come to the ready ones.  False: the tick had no more. */
static bool
read_chunk(tsk_seeker *s, int priority)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, INT2OID, XID8OID, UUIDOID, XID8OID, TEXTOID};
	tsk_tick   *tick = &s->ticks[priority];
	TimestampTz now = tsk_now();
	int			got = 0;

	mr_prepare(&plan, "SELECT leaf, id, xid, due_at FROM millrace.task_queue WHERE queue = $1 AND priority = $2 AND lease IS NULL "
			   "AND (xid, id) > ($3, $4) AND xid <= $5 AND pg_visible_in_snapshot(xid, $6::pg_snapshot) ORDER BY xid, id LIMIT "
			   CppAsString2(CHUNK), lengthof(types), types);
	while (got == 0 && tick->upto != NULL)
	{
		Datum		args[] = {Int32GetDatum(s->queue->id), Int16GetDatum((int16) priority), UInt64GetDatum(tick->after_xid),
			UUIDPGetDatum(&tick->after_id.uuid), UInt64GetDatum(tsk_tick_last(tick)), CStringGetTextDatum(tick->upto)};
		uint64		rows;

		if (s->n_ready[priority] == 0)
			s->chunk_xid[priority] = tick->after_xid;
		SPI_execute_plan(plan, args, NULL, false, 0);
		rows = SPI_processed;
		for (uint64 i = 0; i < rows; i++)
		{
			HeapTuple	row = SPI_tuptable->vals[i];
			bool		null;
			int			leaf = DatumGetInt16(tsk_column(row, 1, &null));
			const pg_uuid_t *id = DatumGetUUIDP(tsk_column(row, 2, &null));
			uint64		xid = DatumGetUInt64(tsk_column(row, 3, &null));
			TimestampTz due_at = tsk_number(row, 4);

			tick->after_xid = xid;
			tick->after_id.uuid = *id;
			if (due_at <= now)
			{
				push_ready(s, new_found(s, leaf, id, priority, xid));
				got++;
			}
			else if (due_at <= TimestampTzPlusMilliseconds(now, SOON_MS))
				tsk_seek_later(s->queue, new_found(s, leaf, id, priority, xid), due_at);
		}
		if (rows < CHUNK && !tsk_tick_next(tick))
			break;
		CHECK_FOR_INTERRUPTS();
	}
	return got > 0;
}

/* What has become due since the mark: delayed tasks, and leases that expired. */
static void
find_due(tsk_seeker *s, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	uint64		rows;

	mr_prepare(&plan, "SELECT leaf, id, priority, xid, due_at FROM millrace.task_queue WHERE queue = $1 AND due_at > $2 AND due_at <= $3 "
			   "ORDER BY due_at FETCH FIRST 1000 ROWS WITH TIES", lengthof(types), types);
	do
	{
		Datum		args[] = {Int32GetDatum(s->queue->id), TimestampTzGetDatum(s->mark), TimestampTzGetDatum(now)};

		SPI_execute_plan(plan, args, NULL, false, 0);
		rows = SPI_processed;
		for (uint64 i = 0; i < rows; i++)
		{
			HeapTuple	row = SPI_tuptable->vals[i];
			bool		null;
			tsk_found  *found = new_found(s, DatumGetInt16(tsk_column(row, 1, &null)), DatumGetUUIDP(tsk_column(row, 2, &null)),
										  DatumGetInt16(tsk_column(row, 3, &null)), DatumGetUInt64(tsk_column(row, 4, &null)));

			found->due = true;
			push_ready(s, found);
			s->mark = tsk_number(row, 5);
		}
		CHECK_FOR_INTERRUPTS();
	} while (rows >= 1000);
	s->mark = now;
}

static bool
is_worker(const mr_slot_info *slot)
{
	return slot->state == MR_SLOT_RUNNING && (slot->kind == MR_TASKS || slot->kind == MR_CALLS);
}

static bool
lives(int pid, const mr_slot_info *slots, int n)
{
	for (int i = 0; i < n; i++)
		if (slots[i].pid == pid && is_worker(&slots[i]))
			return true;
	return false;
}

/* How often workers were found to be gone. */
static int
count_losses(void)
{
	static int	known[MR_MAX_SLOTS];
	static int	n_known = 0;
	static int	losses = 0;
	mr_slot_info *slots;
	int			n = mr_slots(MyDatabaseId, &slots);
	bool		gone = false;

	for (int i = 0; i < n_known; i++)
		gone = gone || !lives(known[i], slots, n);
	n_known = 0;
	for (int i = 0; i < n; i++)
		if (is_worker(&slots[i]))
			known[n_known++] = slots[i].pid;
	pfree(slots);
	return losses += gone;
}

/* Tasks whose worker is gone need not wait for their leases to expire. */
static void
find_orphans(tsk_seeker *s, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, TIMESTAMPTZOID};
	Datum		args[] = {Int32GetDatum(s->queue->id), TimestampTzGetDatum(now)};
	mr_slot_info *slots;
	int			n;

	mr_prepare(&plan, "SELECT leaf, id, priority, xid, lease, pid FROM millrace.task_queue WHERE queue = $1 AND due_at > $2 AND lease IS NOT NULL",
			   lengthof(types), types);
	SPI_execute_plan(plan, args, NULL, false, 0);
	/* After the rows were read: who had claimed one of them has a slot, or is gone. */
	n = mr_slots(MyDatabaseId, &slots);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		bool		null;
		int			pid = DatumGetInt32(tsk_column(row, 6, &null));
		tsk_found  *found;

		/* Before anything was sought we hold none. */
		if (pid == MyProcPid ? !s->new : lives(pid, slots, n))
			continue;
		found = new_found(s, DatumGetInt16(tsk_column(row, 1, &null)), DatumGetUUIDP(tsk_column(row, 2, &null)),
						  DatumGetInt16(tsk_column(row, 3, &null)), DatumGetUInt64(tsk_column(row, 4, &null)));
		found->due = true;
		found->orphan = tsk_number(row, 5);
		push_ready(s, found);
	}
}

/* Find what there is by now of what is not read by ticks, and begin these. */
static void
look(tsk_seeker *s, uint64 rung, bool all)
{
	TimestampTz now = tsk_now();
	TimestampTz clock = GetCurrentTimestamp();

	if (s->new || all || clock - s->marked >= TSK_LOOK_MS * INT64CONST(1000))
	{
		int			losses = count_losses();

		s->marked = clock;
		if (s->new || losses != s->losses)
			find_orphans(s, now);
		s->losses = losses;
		find_due(s, now);
	}
	while (s->n_later > 0 && ((tsk_found *) pairingheap_first(s->later))->again_at <= now)
	{
		tsk_found  *found = (tsk_found *) pairingheap_remove_first(s->later);

		s->n_later--;
		found->due = true;
		found->turn = s->turn++;
		push_ready(s, found);
	}
	if (s->new || all || rung != s->rung || clock - s->looked >= TSK_LOOK_MS * INT64CONST(1000))
	{
		s->rung = rung;
		s->looked = clock;
		begin_ticks(s);
	}
	s->new = false;
}

tsk_found *
tsk_seek(const tsk_lane *lane, tsk_task_queue *queue)
{
	tsk_seeker *s = seeker_of(queue);
	tsk_found  *found;

	look(s, mr_change_count(TSK_LANE_CHANGE(lane), MyDatabaseId), false);
	for (int p = PRIORITIES - 1; p >= 0 && s->n_later < MAX_LATER; p--)
		if (s->n_ready[p] > 0 || (s->ticks[p].upto != NULL && read_chunk(s, p)))
			break;
	if (pairingheap_is_empty(s->ready))
		return NULL;
	found = (tsk_found *) pairingheap_remove_first(s->ready);
	s->n_ready[found->priority]--;
	if (found->due)
		s->n_due--;
	return found;
}

/* Is there nothing to do in any queue of the lane, and nobody at anything? */
static bool
nothing_left(const tsk_lane *lane)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, TIMESTAMPTZOID};
	TimestampTz latest = tsk_now() + lane->lease_s * USECS_PER_SEC;
	tsk_task_queue **queues;
	int			n = tsk_lane_queues(lane, &queues);

	for (int i = 0; i < n; i++)
	{
		Datum		args[] = {Int32GetDatum(queues[i]->id), TimestampTzGetDatum(latest)};
		tsk_seeker *s;

		if (mr_run(&plan, "SELECT 1 FROM millrace.task_queue WHERE queue = $1 AND due_at <= $2 AND lease IS NOT NULL LIMIT 1", lengthof(types), types, args) > 0)
			return false;
		if (queues[i]->paused)
			continue;
		s = seeker_of(queues[i]);
		look(s, s->rung, true);
		if (tsk_more_tasks(queues[i]) || s->n_later > 0)
			return false;
	}
	return true;
}

bool
tsk_lane_idle(const tsk_lane *lane)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		args[] = {CStringGetTextDatum(lane->owner), CStringGetTextDatum(lane->lane), 0, TimestampTzGetDatum(tsk_now())};
	mr_owner_save save;
	bool		idle;

	mr_begin("go idle");
	tsk_own_begin(&save);
	/* The snapshot first: what it sees is seen by the looks. */
	if (SPI_execute("SELECT pg_current_snapshot()::text", false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "there is no snapshot");
	args[2] = CStringGetTextDatum(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	idle = nothing_left(lane);
	if (idle)
		mr_run(&plan, "INSERT INTO millrace.task_progress AS p (owner, lane, idle, idle_at) VALUES ($1, $2, $3::pg_snapshot, $4) "
			   "ON CONFLICT (owner, lane) DO UPDATE SET idle = excluded.idle, idle_at = excluded.idle_at", lengthof(types), types, args);
	mr_spi_end(&save);
	mr_commit();
	return idle;
}
