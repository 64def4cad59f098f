/*
 * queue_pg.c
 *	  Rows of http_queues and http_progress as their worker sees them.
 *
 * The fence: taking over raises the epoch of http_progress, and every write here
 * names it.  That row is updated with every batch; where somebody holds an old
 * snapshot the index would lead through every version since, so the version
 * that we wrote last is remembered and asked for first.
 *
 * Each function that says so is a transaction of its own, made of fixed
 * statements run as the extension's owner.
 */
#include "postgres.h"

#include "task/worker/worker.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "core/process_pg.h"

void
tsk_own_begin(mr_owner_save *save)
{
	static const char *const settings[][2] = {
		{"enable_seqscan", "off"}, {"enable_bitmapscan", "off"}, {"plan_cache_mode", "force_generic_plan"}, {"jit", "off"}
	};

	mr_spi_begin(save);
	for (int i = 0; i < (int) lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

static int64
number_column(int column)
{
	bool		null;
	Datum		d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &null);

	return null ? 0 : DatumGetInt64(d);
}

/* An array of numbers into to, as far as either goes. */
static void
numbers_column(int column, int64 *to, int n)
{
	bool		null;
	Datum		d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &null);
	Datum	   *values;
	int			have = 0;

	if (!null)
		deconstruct_array(DatumGetArrayTypeP(d), INT8OID, sizeof(int64), true, TYPALIGN_DOUBLE, &values, NULL, &have);
	for (int i = 0; i < n; i++)
		to[i] = i < have ? DatumGetInt64(values[i]) : 0;
}

static Datum
numbers_array(const int64 *from, int n)
{
	Datum		values[TSK_LATENCIES];

	for (int i = 0; i < n; i++)
		values[i] = Int64GetDatum(from[i]);
	return PointerGetDatum(construct_array(values, n, INT8OID, sizeof(int64), true, TYPALIGN_DOUBLE));
}

/* Remember the row version that a statement's RETURNING ctid made. */
static void
note_version(ItemPointer version, int column)
{
	bool		null;

	*version = *(ItemPointer) DatumGetPointer(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &null));
}

/* A transaction: raise the epoch; whoever held the queue before is fenced. */
bool
tsk_take_over(tsk_queue *queue)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, INT8OID, TEXTOID, INT4OID};
	Datum		args[] = {Int32GetDatum(queue->id), Int64GetDatum(queue->generation), 0, Int32GetDatum(MyProcPid)};
	tsk_counts *c = &queue->counts;
	mr_owner_save save;
	bool		found;

	mr_begin("take over the queue");
	tsk_own_begin(&save);
	args[2] = CStringGetTextDatum(mr_source_binding());
	found = mr_run(&plan, "UPDATE millrace.http_progress p SET epoch = p.epoch + 1, idle = NULL, pid = $4 FROM millrace.http_queues q "
				   "WHERE q.id = p.queue AND q.id = $1 AND q.generation = $2 AND q.bound_to = $3 AND q.state = 'running' "
				   "RETURNING p.epoch, p.ctid, succeeded, failed, undelivered, retries, late, batches, bytes_in, bytes_out, "
				   "latency_sum_us, latency_max_us, faults, latency", lengthof(types), types, args) == 1;
	if (found)
	{
		int64	   *const numbers[] = {&c->succeeded, &c->failed, &c->undelivered, &c->retries, &c->late, &c->batches, &c->bytes_in, &c->bytes_out,
		&c->latency_sum_us, &c->latency_max_us};

		queue->epoch = number_column(1);
		note_version(&queue->version, 2);
		for (int i = 0; i < (int) lengthof(numbers); i++)
			*numbers[i] = number_column(3 + i);
		numbers_column(13, c->faults, TSK_N_FAULTS);
		numbers_column(14, c->latency, TSK_LATENCIES);
	}
	mr_spi_end(&save);
	mr_commit();
	return found;
}

/* A transaction: is the row still as it was taken over? */
bool
tsk_queue_unchanged(const tsk_queue *queue)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, INT8OID, INT8OID};
	Datum		args[] = {Int32GetDatum(queue->id), Int64GetDatum(queue->generation), Int64GetDatum(queue->epoch)};
	mr_owner_save save;
	bool		unchanged;

	mr_begin("look at the queue");
	tsk_own_begin(&save);
	mr_prepare(&plan, "SELECT 1 FROM millrace.http_queues q JOIN millrace.http_progress p ON p.queue = q.id "
			   "WHERE q.id = $1 AND q.generation = $2 AND q.state = 'running' AND p.epoch = $3", lengthof(types), types);
	SPI_execute_plan(plan, args, NULL, true, 1);
	unchanged = SPI_processed == 1;
	mr_spi_end(&save);
	mr_commit();
	return unchanged;
}

#define COUNTS_SQL \
	"UPDATE millrace.http_progress SET succeeded = $3, failed = $4, undelivered = $5, retries = $6, late = $7, batches = $8, bytes_in = $9, bytes_out = $10, " \
	"latency_sum_us = $11, latency_max_us = $12, faults = $13, latency = $14, last_batch_at = CASE WHEN $8 > batches THEN clock_timestamp() ELSE last_batch_at END, " \
	"last_error = coalesce($15, last_error), last_error_at = CASE WHEN $15 IS NULL THEN last_error_at ELSE clock_timestamp() END " \
	"WHERE %s queue = $1 AND epoch = $2 RETURNING ctid"

/*
 * Write counts, as the extension's owner and within SPI; *version is the row's
 * new one, for queue->version after the commit.
 */
void
tsk_write_counts(tsk_queue *queue, const tsk_counts *c, const char *last_error, ItemPointer version)
{
	static SPIPlanPtr by_version = NULL;
	static SPIPlanPtr by_key = NULL;
	static const Oid types[] = {INT4OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
	INT8ARRAYOID, INT8ARRAYOID, TEXTOID, TIDOID};
	Datum		args[] = {Int32GetDatum(queue->id), Int64GetDatum(queue->epoch), Int64GetDatum(c->succeeded), Int64GetDatum(c->failed),
		Int64GetDatum(c->undelivered), Int64GetDatum(c->retries), Int64GetDatum(c->late), Int64GetDatum(c->batches), Int64GetDatum(c->bytes_in),
		Int64GetDatum(c->bytes_out), Int64GetDatum(c->latency_sum_us), Int64GetDatum(c->latency_max_us), numbers_array(c->faults, TSK_N_FAULTS),
		numbers_array(c->latency, TSK_LATENCIES), mr_text(last_error), PointerGetDatum(&queue->version)};

	if (mr_run(&by_version, psprintf(COUNTS_SQL, "ctid = $16 AND"), lengthof(types), types, args) != 1 &&
		mr_run(&by_key, psprintf(COUNTS_SQL, ""), lengthof(types), types, args) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("another worker has taken over the requests to server \"%s\", or they were changed", queue->server)));
	note_version(version, 1);
}

/* A transaction: until there is something that this snapshot did not see, no worker is needed. */
void
tsk_go_idle(tsk_queue *queue, const char *snapshot)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, INT8OID, TEXTOID};
	Datum		args[] = {Int32GetDatum(queue->id), Int64GetDatum(queue->epoch), CStringGetTextDatum(snapshot)};
	mr_owner_save save;

	mr_begin("go idle");
	tsk_own_begin(&save);
	mr_run(&plan, "UPDATE millrace.http_progress SET idle = $3::pg_snapshot, pid = 0, state = 'idle', reason = NULL, sqlstate = NULL, "
		   "since = now() WHERE queue = $1 AND epoch = $2", lengthof(types), types, args);
	mr_spi_end(&save);
	mr_commit();
}

static void
write_state(const void *subject, const char *state, const char *sqlstate, const char *reason)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, INT8OID, INT4OID, TEXTOID, TEXTOID, TEXTOID};
	const tsk_queue *queue = subject;
	Datum		args[] = {Int32GetDatum(queue->id), Int64GetDatum(queue->epoch), Int32GetDatum(MyProcPid), CStringGetTextDatum(state),
	mr_text(reason), mr_text(sqlstate)};
	mr_owner_save save;

	tsk_own_begin(&save);
	mr_run(&plan, "UPDATE millrace.http_progress SET pid = $3, since = CASE WHEN state = $4 AND pid = $3 THEN since ELSE now() END, "
		   "state = $4, reason = $5, sqlstate = $6, last_error = CASE WHEN $6 IS NULL THEN last_error ELSE $5 END, "
		   "last_error_at = CASE WHEN $6 IS NULL THEN last_error_at ELSE now() END WHERE queue = $1 AND epoch = $2", lengthof(types), types, args);
	mr_spi_end(&save);
}

/* Say in http_progress what this worker is doing, and why; outside a transaction. */
void
tsk_report(const tsk_queue *queue, const char *state, const char *sqlstate, const char *reason)
{
	mr_tell(psprintf("requests to server \"%s\"", queue->server), psprintf("millrace http %s", queue->server),
			queue, write_state, state, sqlstate, reason);
}
