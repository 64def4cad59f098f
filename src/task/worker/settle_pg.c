/*
 * settle_pg.c
 *	  What became of requests: delivered, to be tried again, or put aside.
 *
 * Requests are delivered in batches, one function each (deliver_pg.c).  Data
 * errors of the function narrow a batch down (narrow.h); the one request goes to
 * http_failures.  Errors of the surroundings change nothing: the caller tries
 * again.
 *
 * Memory: the caller's context.  Locks: those of each transaction.
 */
#include "postgres.h"

#include "task/worker/narrow.h"
#include "task/worker/worker.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/process_pg.h"
#include "core/shared_pg.h"

#define BATCH_BYTES (32 << 20)	/* of contents, in one call; one request at least */

/* Requests of one function, and what was wrong with them. */
typedef struct batch
{
	tsk_queue  *queue;
	const tsk_settings *settings;
	tsk_job   **jobs;
	ErrorData  *error;
} batch;

static void
mark_settled(tsk_job **jobs, int n)
{
	for (int i = 0; i < n; i++)
		jobs[i]->id = 0;
}

/* ---- steps (narrow.h), each a transaction */

static void
deliver_step(void *subject, int first, int n)
{
	batch	   *b = subject;

	tsk_deliver(b->queue, b->settings, b->jobs + first, n);
	mark_settled(b->jobs + first, n);
}

/* One request that its function does not take: put aside, with the function's error. */
static void
put_aside_step(void *subject, int first, int n)
{
	batch	   *b = subject;
	tsk_queue  *queue = b->queue;
	tsk_job    *job = b->jobs[first];
	const ErrorData *error = b->error;
	tsk_counts	counts = queue->counts;
	ItemPointerData version;
	mr_owner_save save;
	bool		ours;
	char	   *detail = job->error ? job->error : psprintf("%zu bytes had been fetched", job->transfer ? job->transfer->len : 0);

	if (error->detail)
		detail = psprintf("%s\n%s", error->detail, detail);
	mr_begin("put a request aside");
	tsk_own_begin(&save);
	(void) tsk_take_off(queue, &job, 1, &ours);
	tsk_count_attempt(&counts, job);
	if (ours)
	{
		tsk_put_aside(queue, job, "delivery", unpack_sql_state(error->sqlerrcode), error->message ? error->message : "unknown error", detail);
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
	mark_settled(&job, 1);
}

/* Requests that shall be tried again go back into the queue. */
static void
put_back_step(void *subject, int first, int n)
{
	batch	   *b = subject;
	tsk_queue  *queue = b->queue;
	tsk_job   **jobs = b->jobs + first;
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID};
	tsk_counts	counts = queue->counts;
	ItemPointerData version;
	mr_owner_save save;

	mr_begin("put requests back");
	tsk_own_begin(&save);
	mr_prepare(&plan, "UPDATE millrace.http_requests SET epoch = NULL, due_at = $3, sqlstate = $4, error = $5 WHERE id = $1 AND epoch = $2",
			   lengthof(types), types);
	for (int i = 0; i < n; i++)
	{
		Datum		args[] = {Int64GetDatum(jobs[i]->id), Int64GetDatum(queue->epoch), TimestampTzGetDatum(jobs[i]->due_at),
		CStringGetTextDatum(jobs[i]->sqlstate), CStringGetTextDatum(jobs[i]->error)};

		SPI_execute_plan(plan, args, NULL, false, 0);
		tsk_count_attempt(&counts, jobs[i]);
		if (SPI_processed == 1)
		{
			counts.retries++;
			/* Should this be undone, it comes to nothing: the row still carries our epoch. */
			tsk_schedule(jobs[i]->id, tsk_weight(jobs[i]), jobs[i]->due_at);
		}
		else
			counts.late++;
	}
	tsk_write_counts(queue, &counts, tsk_last_error(jobs, n), &version);
	mr_spi_end(&save);
	mr_commit();
	queue->counts = counts;
	queue->version = version;
	mr_worker_count(MR_COUNT_ERRORS, (uint64) n);
	mark_settled(jobs, n);
}

/* ---- all of them */

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
	batch		b = {.queue = queue,.settings = settings,.jobs = palloc(sizeof(tsk_job *) * (size_t) n)};
	int			n_batch = 0;
	int			n_left = 0;
	bool		good;

	for (int i = 0; i < n; i++)
		if (jobs[i]->again)
			b.jobs[n_batch++] = jobs[i];
		else
			left[n_left++] = jobs[i];
	good = n_batch == 0 || tsk_try(put_back_step, &b, 0, n_batch, mr_is_data_error, &b.error) == TSK_COMMITTED;
	qsort(left, (size_t) n_left, sizeof(tsk_job *), compare_ids);
	while (good && n_left > 0)
	{
		const tsk_job *first = left[0];
		int64		bytes = 0;
		int			rest = 0;

		n_batch = 0;
		for (int i = 0; i < n_left; i++)
			if (same_function(left[i], first) && (n_batch == 0 || bytes + tsk_bytes_in(left[i]) <= BATCH_BYTES))
			{
				bytes += tsk_bytes_in(left[i]);
				b.jobs[n_batch++] = left[i];
			}
			else
				left[rest++] = left[i];
		n_left = rest;
		good = tsk_narrow(deliver_step, put_aside_step, &b, n_batch, mr_is_data_error, &b.error) == n_batch;
	}
	if (!good)
		tsk_report(queue, "waiting", unpack_sql_state(b.error->sqlerrcode), b.error->message);
	return good;
}
