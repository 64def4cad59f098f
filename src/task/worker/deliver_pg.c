/*
 * deliver_pg.c
 *	  A batch of results, in one transaction.
 *
 * The requests leave the queue if they are still ours (their row carries our
 * epoch; else the answer is late and dropped), the function that is to be told
 * is called once for all of them, the numbers are written.  The function runs as
 * the queue's owner, who is the session's user; everything else as the
 * extension's owner.
 *
 * Memory: the caller's context.  Locks: rows of the requests and of
 * http_progress, until the batch's end.
 */
#include "postgres.h"

#include "task/worker/worker.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parse_func.h"
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

static Oid	told[] = {TEXTARRAYOID, TEXTARRAYOID, BYTEAARRAYOID, TEXTARRAYOID, TEXTARRAYOID};

int64
tsk_bytes_in(const tsk_job *job)
{
	return job->content == NULL && job->fault == TSK_FINE && job->transfer ? (int64) job->transfer->len : 0;
}

/* Count an attempt that is over. */
void
tsk_count_attempt(tsk_counts *c, const tsk_job *job)
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

const char *
tsk_last_error(tsk_job **jobs, int n)
{
	while (n-- > 0)
		if (jobs[n]->error)
			return jobs[n]->error;
	return NULL;
}

/* ---- within a transaction, as the extension's owner */

/* Take those that are still ours off the queue; how many. */
int
tsk_take_off(const tsk_queue *queue, tsk_job **jobs, int n, bool *ours)
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
void
tsk_put_aside(const tsk_queue *queue, const tsk_job *job, const char *stage, const char *sqlstate, const char *error, const char *detail)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8OID, INT4OID, TEXTOID, TEXTOID, BYTEAOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		args[] = {Int64GetDatum(job->id), Int32GetDatum(queue->id), CStringGetTextDatum(job->method), CStringGetTextDatum(job->path),
		PointerGetDatum(job->content), mr_text(job->content_type), mr_text(job->deliver), mr_text(job->tag), Int32GetDatum(job->attempts),
	CStringGetTextDatum(stage), CStringGetTextDatum(sqlstate), CStringGetTextDatum(error), mr_text(detail), TimestampTzGetDatum(job->created_at)};

	mr_run(&plan, "INSERT INTO millrace.http_failures (id, server, owner, method, path, content, content_type, deliver, tag, created_at, "
		   "attempts, stage, sqlstate, error, detail) SELECT $1, q.server, q.owner, $3, $4, $5, $6, $7, $8, $14, $9, $10, $11, $12, $13 "
		   "FROM millrace.http_queues q WHERE q.id = $2", lengthof(types), types, args);
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
void
tsk_deliver(tsk_queue *queue, const tsk_settings *settings, tsk_job **jobs, int n)
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
	n_ours = tsk_take_off(queue, jobs, n, ours);
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

		tsk_count_attempt(&counts, job);
		if (!ours[i])
		{
			counts.late++;
			continue;
		}
		if (job->fault == TSK_FINE)
		{
			fine++;
			bytes += tsk_bytes_in(job);
		}
		else
			counts.failed++;
		if (function && !exists)
		{
			tsk_put_aside(queue, job, "delivery", "42883", psprintf("function %s(text[], text[], bytea[], text[], text[]) does not exist", function), job->error);
			counts.undelivered++;
		}
		else if (!function && job->fault != TSK_FINE)
		{
			tsk_put_aside(queue, job, "request", job->sqlstate, job->error, NULL);
			counts.undelivered++;
		}
	}
	counts.succeeded += fine;
	counts.bytes_in += bytes;
	counts.batches++;
	tsk_write_counts(queue, &counts, tsk_last_error(jobs, n), &version);
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
