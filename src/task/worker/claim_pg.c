/*
 * claim_pg.c
 *	  Which requests are next, and taking them.
 *
 * New requests are found by ticks (tick.h).  What is to be tried again is
 * remembered here, by its id.
 *
 * All of this is memory of the process: one that starts begins with a tick of
 * everything, which is also how it finds what its predecessor had claimed.
 * Requests claimed carry our epoch; only rows that carry it are settled by us.
 */
#include "postgres.h"

#include "task/worker/tick.h"
#include "task/worker/worker.h"

#include "catalog/pg_type.h"
#include "lib/pairingheap.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "core/process_pg.h"

#define MAX_SCHEDULED 10000		/* remembered; while there are more nothing new is taken */

/* A request to be tried again. */
typedef struct scheduled
{
	pairingheap_node node;
	int64		id;
	int64		weight;			/* bytes of its content */
	TimestampTz due_at;
} scheduled;

static tsk_tick tick;
static MemoryContext heap_cxt = NULL;
static pairingheap *heap = NULL;
static int	n_scheduled = 0;

static int
compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	TimestampTz x = ((const scheduled *) a)->due_at;
	TimestampTz y = ((const scheduled *) b)->due_at;

	return x < y ? 1 : x > y ? -1 : 0;
}

void
tsk_forget_all(void)
{
	tsk_tick_forget(&tick);
	if (heap_cxt == NULL)
		heap_cxt = AllocSetContextCreate(TopMemoryContext, "millrace retries", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(heap_cxt);
	n_scheduled = 0;
	{
		MemoryContext old = MemoryContextSwitchTo(heap_cxt);

		heap = pairingheap_allocate(compare_due, NULL);
		MemoryContextSwitchTo(old);
	}
}

int64
tsk_weight(const tsk_job *job)
{
	return job->content ? (int64) VARSIZE_ANY_EXHDR(job->content) : 0;
}

void
tsk_schedule(int64 id, int64 weight, TimestampTz due_at)
{
	scheduled  *s = MemoryContextAlloc(heap_cxt, sizeof(*s));

	s->id = id;
	s->weight = weight;
	s->due_at = due_at;
	pairingheap_add(heap, &s->node);
	n_scheduled++;
}

TimestampTz
tsk_next_due(void)
{
	return n_scheduled > 0 ? ((scheduled *) pairingheap_first(heap))->due_at : DT_NOEND;
}

bool
tsk_more_waits(void)
{
	return tick.upto != NULL && n_scheduled < MAX_SCHEDULED;
}

const char *
tsk_seen(void)
{
	return tick.done;
}

/* ---- within a transaction, as the extension's owner */

#define MY_REQUESTS "millrace.http_requests r WHERE r.queue = $1"

/* Begin a tick of what has been committed since the last one.  False: nothing has. */
static bool
begin_tick(const tsk_queue *queue)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, TEXTOID};
	Datum		args[] = {Int32GetDatum(queue->id), CStringGetTextDatum(tick.done)};

	mr_prepare(&plan, "SELECT " TSK_TICK_COLUMNS("$2::pg_snapshot", MY_REQUESTS), lengthof(types), types);
	SPI_execute_plan(plan, args, NULL, false, 1);
	return tsk_tick_begin(&tick, SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

/* Is there room for one more?  The first always has it. */
static bool
fits(int64 weight, int64 *room, bool first)
{
	if (weight > 0 && weight > *room && !first)
		return false;
	*room -= weight;
	return true;
}

/*
 * New requests, at most `most` and as many as there is room for, into ids; how many.  first: nothing else is under
 * way.  Those that are not due yet are remembered.
 */
static int
find_new(const tsk_queue *queue, int64 *ids, int most, int64 room, bool first)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, XID8OID, INT8OID, XID8OID, TEXTOID, INT8OID};
	TimestampTz now = GetCurrentTimestamp();
	int			n = 0;

	mr_prepare(&plan, "SELECT id, xid, due_at, coalesce(octet_length(content), 0) FROM millrace.http_requests WHERE queue = $1 AND (xid, id) > ($2, $3) AND xid <= $4 "
			   "AND pg_visible_in_snapshot(xid, $5::pg_snapshot) ORDER BY xid, id LIMIT $6", lengthof(types), types);
	while (n < most && n_scheduled < MAX_SCHEDULED && (tick.upto != NULL || begin_tick(queue)))
	{
		Datum		args[] = {Int32GetDatum(queue->id), UInt64GetDatum(tick.after_xid), Int64GetDatum(tick.after_id.number), UInt64GetDatum(tsk_tick_last(&tick)),
		CStringGetTextDatum(tick.upto), Int64GetDatum(most - n)};
		uint64		rows;

		SPI_execute_plan(plan, args, NULL, false, 0);
		rows = SPI_processed;
		for (uint64 i = 0; i < rows; i++)
		{
			HeapTuple	row = SPI_tuptable->vals[i];
			TupleDesc	desc = SPI_tuptable->tupdesc;
			bool		null;
			int64		id = DatumGetInt64(SPI_getbinval(row, desc, 1, &null));
			int64		weight = DatumGetInt32(SPI_getbinval(row, desc, 4, &null));
			TimestampTz due_at = DatumGetTimestampTz(SPI_getbinval(row, desc, 3, &null));
			bool		later = !null && due_at > now;

			if (!later && !fits(weight, &room, first && n == 0))
				return n;
			tick.after_id.number = id;
			tick.after_xid = DatumGetUInt64(SPI_getbinval(row, desc, 2, &null));
			if (later)
				tsk_schedule(id, weight, due_at);
			else
				ids[n++] = id;
		}
		if (rows < (uint64) DatumGetInt64(args[5]) && !tsk_tick_next(&tick))
			break;
		CHECK_FOR_INTERRUPTS();
	}
	return n;
}

/* The same of requests that are due again; *room is what is left. */
static int
find_due(int64 *ids, int most, int64 *room, bool first)
{
	TimestampTz now = GetCurrentTimestamp();
	int			n = 0;

	while (n < most && n_scheduled > 0 && tsk_next_due() <= now &&
		   fits(((scheduled *) pairingheap_first(heap))->weight, room, first && n == 0))
	{
		scheduled  *s = (scheduled *) pairingheap_remove_first(heap);

		n_scheduled--;
		ids[n++] = s->id;
		pfree(s);
	}
	return n;
}

/* A column as text, in the current context; NULL if null. */
static char *
text_column(HeapTuple row, int column)
{
	return SPI_getvalue(row, SPI_tuptable->tupdesc, column);
}

static tsk_job *
make_job(HeapTuple row)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace request", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	tsk_job    *job = palloc0(sizeof(*job));
	bool		null;
	Datum		content;

	job->cxt = cxt;
	job->fault = TSK_FINE;
	job->id = DatumGetInt64(SPI_getbinval(row, desc, 1, &null));
	job->attempts = DatumGetInt32(SPI_getbinval(row, desc, 2, &null));
	job->method = text_column(row, 3);
	job->path = text_column(row, 4);
	job->content_type = text_column(row, 5);
	job->deliver = text_column(row, 6);
	job->tag = text_column(row, 7);
	content = SPI_getbinval(row, desc, 8, &null);
	if (!null)
		job->content = (bytea *) PG_DETOAST_DATUM_COPY(content);
	if (text_column(row, 9))
		strlcpy(job->sqlstate, text_column(row, 9), sizeof(job->sqlstate));
	job->error = text_column(row, 10);
	job->created_at = DatumGetTimestampTz(SPI_getbinval(row, desc, 11, &null));
	MemoryContextSwitchTo(old);
	return job;
}

/*
 * Take requests, of those not begun yet at most most_new, and room bytes of
 * contents (TSK_OUTGOING: nothing is under way, one may be larger): each is ours from the commit of this transaction on, and its
 * attempt counted, whatever becomes of us.  -1: none, for the server's settings
 * have changed; requests made after a change shall not go by the old ones.
 */
int
tsk_claim(const tsk_queue *queue, int most, int most_new, int64 room, dlist_head *jobs)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8ARRAYOID, INT8OID};
	int64	   *ids = palloc(sizeof(int64) * (size_t) most);
	Datum	   *values = palloc(sizeof(Datum) * (size_t) most);
	MemoryContext made = AllocSetContextCreate(CurrentMemoryContext, "millrace claim", ALLOCSET_SMALL_SIZES);
	dlist_head	claimed = DLIST_STATIC_INIT(claimed);
	dlist_mutable_iter it;
	mr_owner_save save;
	bool		first = room == TSK_OUTGOING;
	int			n,
				got = 0;

	mr_begin("claim requests");
	if (tsk_settings_stale())
	{
		mr_commit();
		return -1;
	}
	tsk_own_begin(&save);
	n = find_due(ids, most, &room, first);
	n += find_new(queue, ids + n, Min(most - n, most_new), room, first && n == 0);
	if (n > 0)
	{
		Datum		args[] = {0, Int64GetDatum(queue->epoch)};

		for (int i = 0; i < n; i++)
			values[i] = Int64GetDatum(ids[i]);
		args[0] = PointerGetDatum(construct_array(values, n, INT8OID, sizeof(int64), true, TYPALIGN_DOUBLE));
		mr_prepare(&plan, "UPDATE millrace.http_requests SET attempts = attempts + 1, epoch = $2, due_at = NULL "
				   "WHERE id = ANY ($1) AND coalesce(epoch, 0) < $2 "
				   "RETURNING id, attempts, method, path, content_type, deliver, tag, content, sqlstate, error, created_at", lengthof(types), types);
		SPI_execute_plan(plan, args, NULL, false, 0);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			MemoryContext old = MemoryContextSwitchTo(made);
			tsk_job    *job = make_job(SPI_tuptable->vals[i]);

			MemoryContextSwitchTo(old);
			dlist_push_tail(&claimed, &job->node);
			got++;
		}
	}
	mr_spi_end(&save);
	mr_commit();
	/* From here on nothing may fail. */
	dlist_foreach_modify(it, &claimed)
	{
		tsk_job    *job = dlist_container(tsk_job, node, it.cur);

		MemoryContextSetParent(job->cxt, TopMemoryContext);
		dlist_delete(&job->node);
		dlist_push_tail(jobs, &job->node);
	}
	return got;
}
