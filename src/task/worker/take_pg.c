/*
 * take_pg.c
 *	  Claiming tasks, and renewing leases.
 *
 * A candidate's row is read without a lock; one that may be begun is claimed by an UPDATE that finds it as it was read, and passes
 * over it where somebody else has it locked.  So of two workers one gets it, nobody waits, and rows that cannot be taken now are
 * not written to.  The claim carries a lease, and the attempt counts from its commit on, whatever becomes of us.
 *
 * A task that was cancelled or is past its deadline, and one whose worker is gone, is claimed as well, without an attempt, and
 * ended by end_pg.c.
 *
 * Memory: each task in a context of its own, below TopMemoryContext from the commit on.  Locks: rows claimed, until then.
 */
#include "postgres.h"

#include "task/worker/lane_int.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/failpoint.h"
#include "core/process_pg.h"
#include "task/worker/worker.h"

#define MOST_LOOKED_AT 1000		/* candidates in one transaction */
#define LOCKED_AGAIN_MS 1000	/* a row that somebody has locked, or whose predecessor somebody is at, is looked at again then */
#define RUNNING_AGAIN_MS 5000	/* and one that runs longer than its lease, holding the lock */

Datum
tsk_column(HeapTuple row, int column, bool *null)
{
	return SPI_getbinval(row, SPI_tuptable->tupdesc, column, null);
}

int64
tsk_number(HeapTuple row, int column)
{
	bool		null;
	Datum		d = tsk_column(row, column, &null);

	return null ? 0 : DatumGetInt64(d);
}

SPIPlanPtr
tsk_leaf_plan(SPIPlanPtr *plans, int leaf, const char *sql, int n, const Oid *types)
{
	if (plans[leaf] == NULL)
	{
		StringInfoData text;

		initStringInfo(&text);
		for (const char *p = sql; *p; p++)
			if (*p == '@')
				appendStringInfo(&text, "%d", leaf);
			else
				appendStringInfoChar(&text, *p);
		mr_prepare(&plans[leaf], text.data, n, types);
	}
	return plans[leaf];
}

/* Where a row is now; -1: nowhere. */
static int
find_leaf(const pg_uuid_t *id)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID};
	Datum		args[] = {UUIDPGetDatum(id)};
	bool		null;

	mr_prepare(&plan, "SELECT leaf FROM millrace.task_queue WHERE id = $1", lengthof(types), types);
	SPI_execute_plan(plan, args, NULL, false, 1);
	return SPI_processed == 1 ? DatumGetInt16(tsk_column(SPI_tuptable->vals[0], 1, &null)) : -1;
}

bool
tsk_on_row(tsk_task *task, SPIPlanPtr *plans, const char *sql, int n, const Oid *types, const Datum *args, const char *nulls)
{
	for (;;)
	{
		int			leaf;

		SPI_execute_plan(tsk_leaf_plan(plans, task->leaf, sql, n, types), unconstify(Datum *, args), nulls, false, 0);
		if (SPI_processed == 1)
			return true;
		leaf = find_leaf(&task->id);
		if (leaf < 0 || leaf == task->leaf)
			return false;
		task->leaf = leaf;
	}
}

/* ---- one row */

static char *
text_of(HeapTuple row, int column)
{
	return SPI_getvalue(row, SPI_tuptable->tupdesc, column);
}

static Jsonb *
jsonb_of(HeapTuple row, int column)
{
	bool		null;
	Datum		d = tsk_column(row, column, &null);

	return null ? NULL : (Jsonb *) PG_DETOAST_DATUM_COPY(d);
}

static int
int_of(HeapTuple row, int column)
{
	bool		null;
	Datum		d = tsk_column(row, column, &null);

	return null ? 0 : DatumGetInt32(d);
}

/*
 * What is read of a candidate: columns of row_query, from 1.  C_BLOCKED: null if no older one of its order_key is in the queue; else
 * whether somebody is at the last one before it, and may be ending it without seeing the candidate, which he then does not wake.
 */
enum
{
	C_LEASE = 1, C_DUE_AT, C_XID, C_QUEUE, C_CANCELLED, C_BLOCKED, C_DEADLINE, C_KIND, C_BASE, C_FUNCTION, C_PROMPT, C_PAYLOAD, C_TENANT,
	C_PROVIDERS, C_HOP, C_WEIGHT, C_ORDER_KEY, C_TAG, C_DELIVER, C_WATCH, C_TIMEOUT, C_ATTEMPTS, C_MAX_ATTEMPTS, C_TRIES, C_CREATED_AT,
	C_STARTED_AT, C_PID
};
static const char row_query[] =
"SELECT t.lease, t.due_at, t.xid, t.queue, EXISTS (SELECT FROM millrace.task_cancels c WHERE c.id = t.id), "
"CASE WHEN t.order_key IS NOT NULL THEN (SELECT o.lease IS NOT NULL OR o.xmax <> '0' FROM millrace.task_queue o WHERE o.order_key = t.order_key "
"AND o.id < t.id AND o.queue IN (SELECT q.id FROM millrace.task_queues q WHERE q.owner = $2) ORDER BY o.id DESC LIMIT 1) END, "
"t.deadline, t.kind, t.base, k.function, k.prompt, t.payload, t.tenant, t.providers, t.hop::int, t.weight, t.order_key, t.tag, t.deliver, t.watch, "
"t.timeout_ms, t.attempts::int, t.max_attempts::int, t.tries, t.created_at, t.started_at, t.pid "
"FROM millrace.task_queue_@ t LEFT JOIN millrace.task_kinds k ON k.kind = t.kind WHERE t.leaf = @ AND t.id = $1";

static void
read_providers(tsk_task *task, HeapTuple row)
{
	bool		null;
	Datum		array = tsk_column(row, C_PROVIDERS, &null);
	Datum	   *names;

	if (null)
		return;
	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, &task->n_providers);
	task->providers = palloc(sizeof(char *) * (size_t) Max(task->n_providers, 1));
	for (int i = 0; i < task->n_providers; i++)
		task->providers[i] = TextDatumGetCString(names[i]);
}

static tsk_task *
make_task(MemoryContext parent, tsk_task_queue *queue, const tsk_found *found, HeapTuple row)
{
	MemoryContext cxt = AllocSetContextCreate(parent, "millrace task", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	tsk_task   *task = palloc0(sizeof(*task));

	task->cxt = cxt;
	task->id = found->id;
	task->leaf = found->leaf;
	task->queue = queue;
	task->kind = text_of(row, C_KIND);
	task->base = text_of(row, C_BASE);
	task->function = text_of(row, C_FUNCTION);
	task->prompt = text_of(row, C_PROMPT);
	task->payload = jsonb_of(row, C_PAYLOAD);
	task->tenant = text_of(row, C_TENANT);
	read_providers(task, row);
	task->hop = int_of(row, C_HOP);
	task->weight = int_of(row, C_WEIGHT);
	task->order_key = text_of(row, C_ORDER_KEY);
	task->tag = text_of(row, C_TAG);
	task->deliver = text_of(row, C_DELIVER);
	task->watch = text_of(row, C_WATCH);
	task->timeout_ms = int_of(row, C_TIMEOUT);
	task->attempts = int_of(row, C_ATTEMPTS);
	task->max_attempts = int_of(row, C_MAX_ATTEMPTS);
	task->tries = jsonb_of(row, C_TRIES);
	task->created_at = tsk_number(row, C_CREATED_AT);
	task->started_at = tsk_number(row, C_STARTED_AT);
	task->pid = int_of(row, C_PID);
	task->deadline = tsk_number(row, C_DEADLINE);
	task->tokens_in = task->tokens_out = -1;
	task->cost = -1;
	MemoryContextSwitchTo(old);
	return task;
}

/* ---- within a transaction, as the extension's owner */

static int64
new_lease(void)
{
	static SPIPlanPtr plan = NULL;

	mr_prepare(&plan, "SELECT nextval('millrace.task_lease_seq')", 0, NULL);
	SPI_execute_plan(plan, NULL, NULL, false, 1);
	return tsk_number(SPI_tuptable->vals[0], 1);
}

/* Claim a row if it is as it was read: xid and lease (0: none).  begins: with an attempt.  False: it is not, or is locked. */
static bool
claim(tsk_task *task, uint64 xid, int64 seen_lease, bool begins)
{
	static SPIPlanPtr plans[TSK_QUEUE_LEAVES];
	static const Oid types[] = {UUIDOID, XID8OID, INT8OID, INT8OID, TIMESTAMPTZOID, INT2OID, TIMESTAMPTZOID, INT4OID};
	Datum		args[] = {UUIDPGetDatum(&task->id), UInt64GetDatum(xid), Int64GetDatum(seen_lease), Int64GetDatum(task->lease),
		TimestampTzGetDatum(task->lease_until), Int16GetDatum(begins ? 1 : 0), TimestampTzGetDatum(task->started_at), Int32GetDatum(MyProcPid)};
	const char	nulls[] = {' ', ' ', seen_lease ? ' ' : 'n', ' ', ' ', ' ', task->started_at ? ' ' : 'n', ' '};
	SPIPlanPtr	plan = tsk_leaf_plan(plans, task->leaf, "UPDATE millrace.task_queue_@ SET lease = $4, due_at = $5, attempts = attempts + $6, started_at = $7, pid = $8 "
									 "WHERE ctid = (SELECT ctid FROM millrace.task_queue_@ WHERE leaf = @ AND id = $1 AND xid = $2 "
									 "AND lease IS NOT DISTINCT FROM $3 FOR UPDATE SKIP LOCKED)", lengthof(types), types);

	SPI_execute_plan(plan, args, nulls, false, 0);
	return SPI_processed == 1;
}

/* What shall be done with a candidate. */
typedef enum verdict
{
	FORGET,
	LATER,
	BEGIN,						/* it may begin, if it is admitted */
	LOST,						/* its worker is gone */
	CANCEL,
	EXPIRE
} verdict;

static verdict
judge(const tsk_task_queue *queue, const tsk_found *found, HeapTuple row, TimestampTz now)
{
	int64		lease = tsk_number(row, C_LEASE);
	TimestampTz due_at = tsk_number(row, C_DUE_AT);
	TimestampTz deadline = tsk_number(row, C_DEADLINE);
	bool		null,
				held;

	if (int_of(row, C_QUEUE) != queue->id)
		return FORGET;			/* it has moved on to its next provider */
	if (lease != 0)
		return due_at <= now || lease == found->orphan ? LOST : FORGET;
	if (DatumGetBool(tsk_column(row, C_CANCELLED, &null)))
		return CANCEL;
	if (due_at > now || queue->paused)
		return FORGET;
	if (deadline != 0 && deadline <= now)
		return EXPIRE;
	held = DatumGetBool(tsk_column(row, C_BLOCKED, &null));
	return null ? BEGIN : held ? LATER : FORGET;
}

typedef struct taking
{
	const tsk_lane *lane;
	tsk_task_queue *queue;
	tsk_admit	admit;
	void	   *subject;
	MemoryContext made;			/* of the tasks */
	TimestampTz now;
	int64		lease;
	dlist_head	taken;
	dlist_head	ended;			/* to be ended at once */
	int			n_taken;
	int			n_ended;
} taking;

/* Ask the lane. */
static tsk_choice
ask(taking *t, const tsk_task *task, TimestampTz *until)
{
	tsk_candidate candidate = {.id = task->id,.tenant = task->tenant,.weight = task->weight,.more = task->hop + 1 < task->n_providers};

	return t->admit ? t->admit(t->subject, &candidate, until) : TSK_TAKE;
}

/* Claim a task for `verdict`, or remember it for later.  False: no more of this queue now. */
static bool
take(taking *t, tsk_found *found, tsk_task *task, verdict what, uint64 xid, int64 seen_lease)
{
	TimestampTz until = 0;
	tsk_choice	choice = what == BEGIN ? ask(t, task, &until) : TSK_TAKE;

	if (choice != TSK_TAKE)
	{
		MemoryContextDelete(task->cxt);
		if (choice == TSK_DEFER)
			tsk_seek_later(t->queue, found, until);
		else
			tsk_seek_first(t->queue, found);
		return choice == TSK_DEFER;
	}
	if (t->lease == 0)
		t->lease = new_lease();
	task->lease = t->lease;
	task->lease_until = t->now + t->lane->lease_s * USECS_PER_SEC;
	if (what == BEGIN)
	{
		task->started_at = t->now;
		task->pid = MyProcPid;
		task->attempts++;
	}
	if (!claim(task, xid, seen_lease, what == BEGIN))
	{
		tsk_seek_later(t->queue, found, TimestampTzPlusMilliseconds(t->now, seen_lease ? RUNNING_AGAIN_MS : LOCKED_AGAIN_MS));
		if (what != BEGIN || t->admit == NULL)
		{
			MemoryContextDelete(task->cxt);
			return true;
		}
		task->lease = 0;
	}
	else
		tsk_seek_done(t->queue, found);
	if (what == BEGIN)
	{
		dlist_push_tail(&t->taken, &task->node);
		t->n_taken += task->lease != 0;
		return true;
	}
	task->cancelled = what == CANCEL;
	task->waited = what != LOST;
	strlcpy(task->sqlstate, what == LOST ? TSK_SQLSTATE_LOST : what == CANCEL ? "57014" : "HYT00", sizeof(task->sqlstate));
	task->error = MemoryContextStrdup(task->cxt, what == LOST ? "the worker that was at it ended" :
									  what == CANCEL ? "cancelled before it began" : "its deadline came before it began");
	dlist_push_tail(&t->ended, &task->node);
	t->n_ended++;
	return true;
}

/* Read a candidate's row, and do with it what is to be done.  False: no more of this queue now. */
static bool
consider(taking *t, tsk_found *found)
{
	static SPIPlanPtr plans[TSK_QUEUE_LEAVES];
	static const Oid types[] = {UUIDOID, TEXTOID};
	Datum		args[] = {UUIDPGetDatum(&found->id), CStringGetTextDatum(t->lane->owner)};
	SPITupleTable *table;
	verdict		what;
	bool		more = true;

	SPI_execute_plan(tsk_leaf_plan(plans, found->leaf, row_query, lengthof(types), types), args, NULL, false, 1);
	table = SPI_tuptable;
	if (SPI_processed == 0)
	{
		int			leaf = find_leaf(&found->id);

		if (leaf >= 0 && leaf != found->leaf)
		{
			found->leaf = leaf;
			tsk_seek_later(t->queue, found, t->now);
		}
		else
			tsk_seek_done(t->queue, found);
		SPI_freetuptable(table);
		return true;
	}
	what = judge(t->queue, found, table->vals[0], t->now);
	if (what == FORGET)
		tsk_seek_done(t->queue, found);
	else if (what == LATER)
		tsk_seek_later(t->queue, found, TimestampTzPlusMilliseconds(t->now, LOCKED_AGAIN_MS));
	else
	{
		HeapTuple	row = table->vals[0];
		bool		null;
		uint64		xid = DatumGetUInt64(tsk_column(row, C_XID, &null));
		int64		lease = tsk_number(row, C_LEASE);

		more = take(t, found, make_task(t->made, t->queue, found, row), what, xid, lease);
	}
	SPI_freetuptable(table);
	return more;
}

/* Nothing of a paused queue is begun, but what was cancelled is ended. */
static void
consider_cancelled(taking *t)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID};
	Datum		args[] = {Int32GetDatum(t->queue->id)};
	SPITupleTable *table;
	uint64		n;

	mr_prepare(&plan, "SELECT t.leaf, t.id FROM millrace.task_cancels c JOIN millrace.task_queue t ON t.id = c.id "
			   "WHERE t.queue = $1 AND t.lease IS NULL LIMIT 100", lengthof(types), types);
	SPI_execute_plan(plan, args, NULL, false, 0);
	table = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		bool		null;
		int			leaf = DatumGetInt16(SPI_getbinval(table->vals[i], table->tupdesc, 1, &null));

		(void) consider(t, tsk_seek_new(t->queue, leaf, DatumGetUUIDP(SPI_getbinval(table->vals[i], table->tupdesc, 2, &null))));
	}
}

/* While it is at tasks the lane is not idle, should all of its workers die. */
static void
note_busy(const tsk_lane *lane)
{
	static bool noted = false;
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID};
	Datum		args[] = {CStringGetTextDatum(lane->owner), CStringGetTextDatum(lane->lane)};

	if (!noted)
		mr_run(&plan, "UPDATE millrace.task_progress SET idle = NULL WHERE owner = $1 AND lane = $2 AND idle IS NOT NULL", lengthof(types), types, args);
	noted = true;				/* a process that notes that it is idle ends */
}

/* ---- taking */

/* From the commit on nothing may fail. */
static void
hand_over(dlist_head *from, dlist_head *to)
{
	while (!dlist_is_empty(from))
	{
		tsk_task   *task = dlist_container(tsk_task, node, dlist_pop_head_node(from));

		MemoryContextSetParent(task->cxt, TopMemoryContext);
		dlist_push_tail(to, &task->node);
	}
}

/* End those that need no attempt; should there be trouble, they are found again when their lease expires. */
static void
end_at_once(tsk_lane *lane, dlist_head *ended, int n)
{
	tsk_task  **tasks = palloc(sizeof(tsk_task *) * (size_t) n);
	int			left;
	int			k = 0;
	dlist_iter	it;

	dlist_foreach(it, ended)
		tasks[k++] = dlist_container(tsk_task, node, it.cur);
	(void) tsk_end_tasks(lane, tasks, n, &left);
	for (int i = 0; i < n; i++)
		tsk_drop_task(tasks[i]);
}

int
tsk_take_tasks(tsk_lane *lane, tsk_task_queue *queue, int most, tsk_admit admit, void *subject, dlist_head *tasks)
{
	taking		t = {.lane = lane,.queue = queue,.admit = admit,.subject = subject,.now = tsk_now()};
	dlist_head	ended;
	mr_owner_save save;
	tsk_found  *found;

	dlist_init(&t.taken);
	dlist_init(&t.ended);
	dlist_init(&ended);
	t.made = AllocSetContextCreate(CurrentMemoryContext, "millrace claim", ALLOCSET_SMALL_SIZES);
	mr_begin("claim tasks");
	tsk_own_begin(&save);
	if (queue->paused)
		consider_cancelled(&t);
	else
		for (int looked_at = 0; looked_at < MOST_LOOKED_AT && t.n_taken < most && (found = tsk_seek(lane, queue)) != NULL; looked_at++)
		{
			if (!consider(&t, found))
				break;
			CHECK_FOR_INTERRUPTS();
		}
	if (t.n_taken > 0)
		note_busy(lane);
	mr_spi_end(&save);
	MR_FAILPOINT("tasks.claim");
	mr_commit();
	hand_over(&t.taken, tasks);
	hand_over(&t.ended, &ended);
	if (t.n_taken > 0)
		MR_FAILPOINT("tasks.claimed");
	if (t.n_ended > 0)
		end_at_once(lane, &ended, t.n_ended);
	return t.n_taken;
}

void
tsk_drop_task(tsk_task *task)
{
	MemoryContextDelete(task->cxt);
}

/* ---- leases */

void
tsk_renew_leases(const tsk_lane *lane, tsk_task **tasks, int n)
{
	static SPIPlanPtr plans[TSK_QUEUE_LEAVES];
	static const Oid types[] = {UUIDOID, INT8OID, TIMESTAMPTZOID};
	TimestampTz until = tsk_now() + lane->lease_s * USECS_PER_SEC;
	mr_owner_save save;

	mr_begin("renew leases");
	tsk_own_begin(&save);
	for (int i = 0; i < n; i++)
	{
		tsk_task   *task = tasks[i];
		Datum		args[] = {UUIDPGetDatum(&task->id), Int64GetDatum(task->lease), TimestampTzGetDatum(until)};
		bool		null;

		if (!tsk_on_row(task, plans, "UPDATE millrace.task_queue_@ t SET due_at = $3 WHERE t.leaf = @ AND t.id = $1 AND t.lease = $2 "
						"RETURNING EXISTS (SELECT FROM millrace.task_cancels c WHERE c.id = t.id)", lengthof(types), types, args, NULL))
			task->lease = 0;
		else
		{
			task->lease_until = until;
			task->cancelled = task->cancelled || DatumGetBool(tsk_column(SPI_tuptable->vals[0], 1, &null));
		}
	}
	mr_spi_end(&save);
	mr_commit();
}
