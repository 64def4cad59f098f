/*
 * deliver_pg.c
 *	  What became of requests: delivered, to be tried again, or put aside.
 *
 * A batch is one transaction: the requests leave the queue if they are still
 * ours (their row carries our epoch; else the answer is late and dropped), the
 * function that is to be told is called once for all of them, the numbers are
 * written.  The function runs as the queue's owner, who is the session's user;
 * everything else as the extension's owner.
 *
 * Data errors of the function narrow the batch down, as in source workers, by
 * committing good prefixes; the one request goes to http_failures.  Errors of
 * the surroundings change nothing: the caller tries again.
 *
 * Memory: the caller's context.  Locks: rows of the requests and of
 * http_progress, until the batch's end.
 */
#include "postgres.h"

#include "task/worker/worker.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parse_func.h"
#include "pgstat.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "core/failpoint.h"
#include "core/meter_pg.h"
#include "core/process_pg.h"
#include "core/shared_pg.h"

#define BATCH_BYTES (32 << 20)	/* of contents, in one call; one request at least */
#define SLICE_AFTER_ERROR 16	/* requests tried at once after one was put aside */

typedef enum outcome
{
	COMMITTED,
	BAD_DATA,
	TROUBLE
} outcome;

static Oid	told[] = {TEXTARRAYOID, TEXTARRAYOID, BYTEAARRAYOID, TEXTARRAYOID, TEXTARRAYOID};

static int64
bytes_in(const tsk_job *job)
{
	return job->content == NULL && job->fault == TSK_FINE && job->transfer ? (int64) job->transfer->len : 0;
}

/* Count an attempt that is over. */
static void
count_attempt(tsk_counts *c, const tsk_job *job)
{
	const tsk_transfer *t = job->transfer;

	if (job->fault != TSK_FINE)
		c->faults[job->fault]++;
	if (t == NULL)
		return;
	c->bytes_out += t->sent;
	if (t->status != 0)
	{
		c->latency[tsk_latency_class(t->duration_us, TSK_LATENCIES)]++;
		c->latency_sum_us += t->duration_us;
		c->latency_max_us = Max(c->latency_max_us, t->duration_us);
	}
}

static const char *
last_error(tsk_job **jobs, int n)
{
	while (n-- > 0)
		if (jobs[n]->error)
			return jobs[n]->error;
	return NULL;
}

/* ---- within a transaction, as the extension's owner */

/* Take those that are still ours off the queue; the others get id 0. */
static int
take_off(const tsk_queue *queue, tsk_job **jobs, int n, bool *ours)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8ARRAYOID, INT8OID};
	Datum	   *ids = palloc(sizeof(Datum) * (size_t) n);
	Datum		args[2];
	uint64		found;

	for (int i = 0; i < n; i++)
		ids[i] = Int64GetDatum(jobs[i]->id);
	args[0] = PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64), true, TYPALIGN_DOUBLE));
	args[1] = Int64GetDatum(queue->epoch);
	mr_prepare(&plan, "DELETE FROM millrace.http_requests WHERE id = ANY ($1) AND epoch = $2 RETURNING id", lengthof(types), types);
	SPI_execute_plan(plan, args, NULL, false, 0);
	found = SPI_processed;
	for (int i = 0; i < n; i++)
	{
		ours[i] = false;
		for (uint64 k = 0; k < found && !ours[i]; k++)
		{
			bool		null;

			ours[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[k], SPI_tuptable->tupdesc, 1, &null)) == jobs[i]->id;
		}
	}
	return (int) found;
}

/* A request that was taken off the queue, and of which nobody is told. */
static void
put_aside(const tsk_queue *queue, const tsk_job *job, const char *stage, const char *sqlstate, const char *error, const char *detail)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8OID, INT4OID, TEXTOID, TEXTOID, BYTEAOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	const char *const texts[] = {job->content_type, job->deliver, job->tag};
	Datum		args[] = {Int64GetDatum(job->id), Int32GetDatum(queue->id), CStringGetTextDatum(job->method), CStringGetTextDatum(job->path),
		PointerGetDatum(job->content), 0, 0, 0, Int32GetDatum(job->attempts), CStringGetTextDatum(stage), CStringGetTextDatum(sqlstate),
	CStringGetTextDatum(error), detail ? CStringGetTextDatum(detail) : (Datum) 0, TimestampTzGetDatum(job->created_at)};
	char		nulls[] = "              ";

	for (int i = 0; i < 3; i++)
		if (texts[i])
			args[5 + i] = CStringGetTextDatum(texts[i]);
	for (int i = 4; i < 8; i++)
		nulls[i] = args[i] ? ' ' : 'n';
	nulls[12] = detail ? ' ' : 'n';
	mr_prepare(&plan, "INSERT INTO millrace.http_failures (id, server, owner, method, path, content, content_type, deliver, tag, created_at, "
			   "attempts, stage, sqlstate, error, detail) SELECT $1, q.server, q.owner, $3, $4, $5, $6, $7, $8, $14, $9, $10, $11, $12, $13 "
			   "FROM millrace.http_queues q WHERE q.id = $2", lengthof(types), types);
	SPI_execute_plan(plan, args, nulls, false, 0);
}

/* ---- telling */

static Datum
text_or_null(const char *text, bool *null)
{
	*null = text == NULL;
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

static bytea *
to_bytea(const char *data, size_t len)
{
	bytea	   *bytes = palloc(len + VARHDRSZ);

	SET_VARSIZE(bytes, len + VARHDRSZ);
	if (len > 0)
		memcpy(VARDATA(bytes), data, len);
	return bytes;
}

/*
 * The five arrays of what became of the jobs that are ours.  Contents, which are
 * copied: what was fetched, or what could not be put.
 */
static void
make_arrays(tsk_job **jobs, int n, const bool *ours, int n_ours, Datum arrays[5])
{
	Datum	   *values[5];
	bool	   *nulls[5];
	int			dims[] = {n_ours};
	int			lower[] = {1};
	int			k = 0;

	for (int a = 0; a < 5; a++)
	{
		values[a] = palloc0(sizeof(Datum) * (size_t) n_ours);
		nulls[a] = palloc0(sizeof(bool) * (size_t) n_ours);
	}
	for (int i = 0; i < n; i++)
	{
		const tsk_job *job = jobs[i];
		bool		fine = job->fault == TSK_FINE;

		if (!ours[i])
			continue;
		values[0][k] = text_or_null(job->tag, &nulls[0][k]);
		values[1][k] = text_or_null(job->path, &nulls[1][k]);
		nulls[2][k] = fine == (job->content != NULL);
		if (!nulls[2][k])
			values[2][k] = PointerGetDatum(fine ? to_bytea(job->transfer->body, job->transfer->len) :
										   to_bytea(VARDATA_ANY(job->content), VARSIZE_ANY_EXHDR(job->content)));
		values[3][k] = text_or_null(fine ? NULL : job->sqlstate, &nulls[3][k]);
		values[4][k] = text_or_null(fine ? NULL : job->error, &nulls[4][k]);
		k++;
	}
	for (int a = 0; a < 5; a++)
		arrays[a] = PointerGetDatum(construct_md_array(values[a], nulls[a], 1, dims, lower, a == 2 ? BYTEAOID : TEXTOID, -1, false, TYPALIGN_INT));
	for (int i = 0; i < n_ours; i++)
		if (!nulls[2][i])
			pfree(DatumGetPointer(values[2][i]));
}

/* Call the function, as the session's user; what it sets is taken back. */
static void
tell(const char *function, Datum arrays[5])
{
	int			nest = NewGUCNestLevel();

	SPI_connect();
	if (SPI_execute_with_args(psprintf("SELECT %s($1, $2, $3, $4, $5)", function), lengthof(told), told, arrays, NULL, false, 0) < 0)
		elog(ERROR, "function %s could not be called", function);
	SPI_finish();
	AtEOXact_GUC(false, nest);
}

/* ---- batches */

/* One transaction for these jobs, which are told to one function, or nobody. */
static void
transact(tsk_queue *queue, const tsk_settings *settings, tsk_job **jobs, int n)
{
	const char *function = jobs[0]->deliver;
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz begun = GetCurrentTimestamp();
	tsk_counts	counts = queue->counts;
	ItemPointerData version;
	ConstraintsSetStmt *immediate;
	mr_owner_save save;
	bool	   *ours = palloc(sizeof(bool) * (size_t) n);
	bool		exists;
	int			n_ours;
	int64		fine = 0,
				dead,
				bytes = 0;

	mr_begin(psprintf("%d requests to server %s, delivered", n, queue->server));
	enable_timeout_after(STATEMENT_TIMEOUT, settings->batch_timeout_ms);
	MemoryContextSwitchTo(TopTransactionContext);
	tsk_own_begin(&save);
	n_ours = take_off(queue, jobs, n, ours);
	mr_spi_end(&save);
	MR_FAILPOINT("http.taken_off");
	exists = function && OidIsValid(LookupFuncName(CompatQualifiedName(function), lengthof(told), told, true));
	if (exists && n_ours > 0)
	{
		Datum		arrays[5];

		make_arrays(jobs, n, ours, n_ours, arrays);
		tell(function, arrays);
	}
	MR_FAILPOINT("http.told");

	tsk_own_begin(&save);
	for (int i = 0; i < n; i++)
	{
		const tsk_job *job = jobs[i];

		count_attempt(&counts, job);
		if (!ours[i])
		{
			counts.late++;
			continue;
		}
		if (job->fault == TSK_FINE)
		{
			fine++;
			bytes += bytes_in(job);
		}
		else
			counts.failed++;
		if (function && !exists)
		{
			put_aside(queue, job, "delivery", "42883", psprintf("function %s(text[], text[], bytea[], text[], text[]) does not exist", function), job->error);
			counts.undelivered++;
		}
		else if (!function && job->fault != TSK_FINE)
		{
			put_aside(queue, job, "request", job->sqlstate, job->error, NULL);
			counts.undelivered++;
		}
	}
	counts.succeeded += fine;
	counts.bytes_in += bytes;
	counts.batches++;
	tsk_write_counts(queue, &counts, last_error(jobs, n), &version);
	mr_spi_end(&save);
	immediate = makeNode(ConstraintsSetStmt);
	immediate->constraints = NIL;
	immediate->deferred = false;
	AfterTriggerSetState(immediate);
	disable_timeout(STATEMENT_TIMEOUT, false);
	CHECK_FOR_INTERRUPTS();
	MR_FAILPOINT("http.commit");
	MemoryContextSwitchTo(caller);
	mr_commit();
	dead = counts.failed - queue->counts.failed;
	queue->counts = counts;
	queue->version = version;
	MR_FAILPOINT("http.committed");
	mr_meter_add(&(mr_work) {.messages = (uint64) n_ours,.bytes = (uint64) bytes,.batches = 1,.busy_us = (uint64) (GetCurrentTimestamp() - begun)});
	mr_worker_count(MR_COUNT_BATCHES, 1);
	mr_worker_count(MR_COUNT_ROWS, (uint64) fine);
	mr_worker_count(MR_COUNT_BYTES, (uint64) bytes);
	mr_worker_count(MR_COUNT_DEAD, (uint64) dead);
}

/* One request that its function does not take: put aside, with the function's error.  A transaction. */
static void
put_aside_alone(tsk_queue *queue, tsk_job *job, const ErrorData *error)
{
	tsk_counts	counts = queue->counts;
	ItemPointerData version;
	mr_owner_save save;
	bool		ours;
	char	   *detail = job->error ? job->error : psprintf("%zu bytes had been fetched", job->transfer ? job->transfer->len : 0);

	if (error->detail)
		detail = psprintf("%s\n%s", error->detail, detail);
	mr_begin("put a request aside");
	tsk_own_begin(&save);
	(void) take_off(queue, &job, 1, &ours);
	count_attempt(&counts, job);
	if (ours)
	{
		put_aside(queue, job, "delivery", unpack_sql_state(error->sqlerrcode), error->message ? error->message : "unknown error", detail);
		counts.failed++;
		counts.undelivered++;
	}
	else
		counts.late++;
	tsk_write_counts(queue, &counts, error->message, &version);
	mr_spi_end(&save);
	mr_commit();
	mr_worker_count(MR_COUNT_DEAD, ours ? 1 : 0);
	queue->counts = counts;
	queue->version = version;
}

/* Requests that shall be tried again go back into the queue.  A transaction. */
static void
put_back(tsk_queue *queue, tsk_job **jobs, int n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID};
	tsk_counts	counts = queue->counts;
	ItemPointerData version;
	mr_owner_save save;
	bool	   *ours = palloc(sizeof(bool) * (size_t) n);

	mr_begin("put requests back");
	tsk_own_begin(&save);
	mr_prepare(&plan, "UPDATE millrace.http_requests SET epoch = NULL, due_at = $3, sqlstate = $4, error = $5 WHERE id = $1 AND epoch = $2",
			   lengthof(types), types);
	for (int i = 0; i < n; i++)
	{
		Datum		args[] = {Int64GetDatum(jobs[i]->id), Int64GetDatum(queue->epoch), TimestampTzGetDatum(jobs[i]->due_at),
		CStringGetTextDatum(jobs[i]->sqlstate), CStringGetTextDatum(jobs[i]->error)};

		SPI_execute_plan(plan, args, NULL, false, 0);
		ours[i] = SPI_processed == 1;
		count_attempt(&counts, jobs[i]);
		if (ours[i])
			counts.retries++;
		else
			counts.late++;
	}
	tsk_write_counts(queue, &counts, last_error(jobs, n), &version);
	mr_spi_end(&save);
	mr_commit();
	queue->counts = counts;
	queue->version = version;
	mr_worker_count(MR_COUNT_ERRORS, (uint64) n);
	for (int i = 0; i < n; i++)
		if (ours[i])
			tsk_schedule(jobs[i]->id, jobs[i]->due_at);
}

/* Run one of these transactions; what was wrong in *error. */
typedef enum step
{
	DELIVER,
	PUT_ASIDE,
	PUT_BACK
} step;

static outcome
attempt(step what, tsk_queue *queue, const tsk_settings *settings, tsk_job **jobs, int n, ErrorData **error)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile outcome result = COMMITTED;

	PG_TRY();
	{
		if (what == DELIVER)
			transact(queue, settings, jobs, n);
		else if (what == PUT_ASIDE)
			put_aside_alone(queue, jobs[0], *error);
		else
			put_back(queue, jobs, n);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		*error = CopyErrorData();
		FlushErrorState();
		disable_timeout(STATEMENT_TIMEOUT, false);
		AbortCurrentTransaction();
		QueryCancelPending = false; /* it has been obeyed */
		pgstat_report_activity(STATE_IDLE, NULL);
		result = mr_is_data_error((*error)->sqlerrcode) ? BAD_DATA : TROUBLE;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	if (result == COMMITTED)
		for (int i = 0; i < n; i++)
			jobs[i]->id = 0;
	return result;
}

/* Is less at once worth a try? */
static bool
was_too_much(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES || error->sqlerrcode == ERRCODE_QUERY_CANCELED;
}

/* Deliver jobs of one function to the end, or until there is trouble. */
static bool
deliver(tsk_queue *queue, const tsk_settings *settings, tsk_job **jobs, int n, ErrorData **error)
{
	int			done = 0;
	int			suspect = 0;	/* a slice up to here failed: the culprit is before it */
	int			limit = n;

	while (done < n)
	{
		int			len = Min(n - done, limit);
		outcome		result = attempt(DELIVER, queue, settings, jobs + done, len, error);

		if (result == COMMITTED)
		{
			done += len;
			limit = done < suspect ? Max((suspect - done) / 2, 1) : Min(limit * 2, n);
		}
		else if (len > 1 && (result == BAD_DATA || was_too_much(*error)))
		{
			suspect = result == BAD_DATA ? done + len : suspect;
			limit = len / 2;
		}
		else if (result == BAD_DATA)
		{
			if (attempt(PUT_ASIDE, queue, settings, jobs + done, 1, error) != COMMITTED)
				return false;
			done++;
			suspect = 0;
			limit = SLICE_AFTER_ERROR;
		}
		else
			return false;
	}
	return true;
}

static int
compare_ids(const void *a, const void *b)
{
	int64		x = (*(tsk_job *const *) a)->id;
	int64		y = (*(tsk_job *const *) b)->id;

	return x < y ? -1 : x > y;
}

static bool
same_function(const tsk_job *a, const tsk_job *b)
{
	return a->deliver == b->deliver || (a->deliver && b->deliver && strcmp(a->deliver, b->deliver) == 0);
}

/*
 * Settle finished jobs; those that are have id 0 afterwards.  False: there is
 * trouble, which has been reported; try the others again later.
 */
bool
tsk_settle(tsk_queue *queue, const tsk_settings *settings, tsk_job **jobs, int n)
{
	tsk_job   **left = palloc(sizeof(tsk_job *) * (size_t) n);
	tsk_job   **batch = palloc(sizeof(tsk_job *) * (size_t) n);
	ErrorData  *error = NULL;
	int			n_batch = 0;
	int			n_left = 0;
	bool		good;

	for (int i = 0; i < n; i++)
		if (jobs[i]->again)
			batch[n_batch++] = jobs[i];
		else
			left[n_left++] = jobs[i];
	good = n_batch == 0 || attempt(PUT_BACK, queue, settings, batch, n_batch, &error) == COMMITTED;
	qsort(left, (size_t) n_left, sizeof(tsk_job *), compare_ids);
	while (good && n_left > 0)
	{
		const tsk_job *first = left[0];
		int64		bytes = 0;
		int			rest = 0;

		n_batch = 0;
		for (int i = 0; i < n_left; i++)
			if (same_function(left[i], first) && (n_batch == 0 || bytes + bytes_in(left[i]) <= BATCH_BYTES))
			{
				bytes += bytes_in(left[i]);
				batch[n_batch++] = left[i];
			}
			else
				left[rest++] = left[i];
		n_left = rest;
		good = deliver(queue, settings, batch, n_batch, &error);
	}
	if (!good)
		tsk_report(queue, "waiting", unpack_sql_state(error->sqlerrcode), error->message);
	return good;
}
