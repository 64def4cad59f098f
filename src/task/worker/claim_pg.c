/*
 * claim_pg.c
 *	  Which requests are next, and taking them.
 *
 * New requests are found by snapshots, as the outbox finds its messages: a tick
 * is what snapshot `upto` sees and `done` did not: the rows of transactions
 * that were under way at `done`, one after the other, then all later ones, in
 * the order of (xid, id).  So a transaction that commits late is found in its
 * tick, and nothing is ever passed over twice: rows long dead, which a held
 * snapshot keeps, cost nobody anything.  What is to be tried again is
 * remembered here, by its id.
 *
 * All of this is memory of the process: one that starts begins with a tick of
 * everything, which is also how it finds what its predecessor had claimed.
 * Requests claimed carry our epoch; only rows that carry it are settled by us.
 */
#include "postgres.h"

#include "task/worker/worker.h"

#include "access/transam.h"
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

static struct
{
	MemoryContext cxt;			/* of the strings and of xids */
	char	   *done;
	char	   *upto;			/* NULL: no tick */
	uint64	   *xids;			/* under way at done, with rows now ... */
	int			n_xids;
	int			at;				/* ... the one being read; n_xids: all later ones */
	uint64		after_xid;		/* how far */
	int64		after_id;
	uint64		first,
				last;			/* of the later ones */
}			tick;

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
	if (tick.cxt == NULL)
	{
		tick.cxt = AllocSetContextCreate(TopMemoryContext, "millrace tick", ALLOCSET_SMALL_SIZES);
		heap_cxt = AllocSetContextCreate(TopMemoryContext, "millrace retries", ALLOCSET_DEFAULT_SIZES);
	}
	MemoryContextReset(tick.cxt);
	MemoryContextReset(heap_cxt);
	tick.done = MemoryContextStrdup(tick.cxt, "1:1:");
	tick.upto = NULL;
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

/* The tick is read to its end. */
static void
end_tick(void)
{
	char	   *upto = pstrdup(tick.upto);

	MemoryContextReset(tick.cxt);
	tick.done = MemoryContextStrdup(tick.cxt, upto);
	tick.upto = NULL;
}

/* Begin a tick of what has been committed since done.  False: nothing has. */
static bool
begin_tick(const tsk_queue *queue)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, TEXTOID};
	Datum		args[] = {Int32GetDatum(queue->id), CStringGetTextDatum(tick.done)};
	HeapTuple	row;
	TupleDesc	desc;
	bool		null;
	Datum	   *xids;
	int			n;
	bool		later;

	mr_prepare(&plan, "SELECT pg_current_snapshot()::text, "
			   "ARRAY(SELECT x FROM pg_snapshot_xip($2::pg_snapshot) x WHERE EXISTS (SELECT FROM millrace.http_requests r WHERE r.queue = $1 AND r.xid = x)), "
			   "EXISTS (SELECT FROM millrace.http_requests r WHERE r.queue = $1 AND r.xid >= pg_snapshot_xmax($2::pg_snapshot)), "
			   "pg_snapshot_xmax($2::pg_snapshot), pg_snapshot_xmax(pg_current_snapshot())", lengthof(types), types);
	SPI_execute_plan(plan, args, NULL, false, 1);
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	tick.upto = MemoryContextStrdup(tick.cxt, TextDatumGetCString(SPI_getbinval(row, desc, 1, &null)));
	deconstruct_array(DatumGetArrayTypeP(SPI_getbinval(row, desc, 2, &null)), XID8OID, sizeof(uint64), true, TYPALIGN_DOUBLE, &xids, NULL, &n);
	later = DatumGetBool(SPI_getbinval(row, desc, 3, &null));
	if (n == 0 && !later)
	{
		end_tick();
		return false;
	}
	tick.xids = MemoryContextAlloc(tick.cxt, sizeof(uint64) * (size_t) Max(n, 1));
	for (int i = 0; i < n; i++)
		tick.xids[i] = DatumGetUInt64(xids[i]);
	tick.n_xids = n;
	tick.at = 0;
	tick.first = DatumGetUInt64(SPI_getbinval(row, desc, 4, &null));
	tick.last = DatumGetUInt64(SPI_getbinval(row, desc, 5, &null)) - 1;
	tick.after_xid = n > 0 ? tick.xids[0] : tick.first;
	tick.after_id = 0;
	return true;
}

/* Go on with the next part of the tick; false: there is none. */
static bool
next_part(void)
{
	if (tick.at == tick.n_xids)
	{
		end_tick();
		return false;
	}
	tick.at++;
	tick.after_xid = tick.at < tick.n_xids ? tick.xids[tick.at] : tick.first;
	tick.after_id = 0;
	return true;
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
		uint64		last = tick.at < tick.n_xids ? tick.xids[tick.at] : tick.last;
		Datum		args[] = {Int32GetDatum(queue->id), UInt64GetDatum(tick.after_xid), Int64GetDatum(tick.after_id), UInt64GetDatum(last),
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
			tick.after_id = id;
			tick.after_xid = DatumGetUInt64(SPI_getbinval(row, desc, 2, &null));
			if (later)
				tsk_schedule(id, weight, due_at);
			else
				ids[n++] = id;
		}
		if (rows < (uint64) DatumGetInt64(args[5]) && !next_part())
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
