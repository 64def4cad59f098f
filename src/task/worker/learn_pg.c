/*
 * learn_pg.c
 *	  What was begun before this server's memory began: windows of a provider and its
 *	  tenants, and until when it is held, from the tables.
 *
 * A call under way has its lease and started_at in task_queue, one that has ended a row in
 * task_attempts; a claim is flushed before its call is made.  So nothing that was called is missing,
 * whoever died.  Who had been admitted by another process meanwhile does not matter: the first to restore counts.
 */
#include "postgres.h"

#include "task/worker/worker.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/process_pg.h"
#include "task/limits.h"
#include "task/tasks.h"

/*
 * Of provider $1 what began after $2, by tenant and slice of a window ($3).  A lease ends after the call's begin, so the
 * index by due_at leads to it; a failed call's tokens are not known, nor likely to be many.
 */
#define PAST_SQL \
	"SELECT b.tenant, pg_catalog.max(b.started_at), pg_catalog.count(*), pg_catalog.sum(b.tokens)::bigint FROM (" \
	"SELECT t.tenant, t.started_at, t.weight AS tokens FROM millrace.task_queues q JOIN millrace.task_queue t ON t.queue = q.id " \
	"WHERE q.lane = 'call' AND q.name = $1 AND t.due_at > $2 AND t.lease IS NOT NULL AND t.started_at > $2 " \
	"UNION ALL " \
	"SELECT a.tenant, a.started_at, COALESCE(a.tokens_in, 0) + COALESCE(a.tokens_out, 0) FROM millrace.task_attempts a " \
	"WHERE a.queue = $1 AND a.finished_at > $2 AND a.started_at > $2) b " \
	"GROUP BY b.tenant, pg_catalog.date_bin($3, b.started_at, '2000-01-01 00:00:00+00') ORDER BY b.tenant"

/* Until when it is held: the latest Retry-After of an hour. */
#define HOLD_SQL \
	"SELECT pg_catalog.max(a.finished_at + a.retry_after) FROM millrace.task_attempts a " \
	"WHERE a.queue = $1 AND a.finished_at > $2 AND a.retry_after IS NOT NULL"

static Datum
column(int row, int number)
{
	bool		null;
	Datum		d = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, &null);

	return null ? (Datum) 0 : d;
}

void
tsk_limits_learn(Oid provider, const char *server, const tsk_limits *limits)
{
	static SPIPlanPtr past_plan = NULL;
	static SPIPlanPtr hold_plan = NULL;
	static const Oid types[] = {TEXTOID, TIMESTAMPTZOID, INTERVALOID};
	bool		by_tenant = limits->tenant_requests_per_minute > 0 || limits->tenant_tokens_per_minute > 0 || limits->tenant_cost_per_minute > 0;
	Interval	slice = {.time = TSK_SLICE_US};
	Datum		args[] = {0, TimestampTzGetDatum(tsk_now() - TSK_WINDOW_US - TSK_SLICE_US), IntervalPGetDatum(&slice)};
	mr_owner_save save;
	tsk_past   *past;
	TimestampTz hold;
	int			n;

	mr_begin("learn what was called");
	tsk_own_begin(&save);
	args[0] = CStringGetTextDatum(server);
	n = (int) mr_run(&past_plan, PAST_SQL, 3, types, args);
	past = palloc(sizeof(*past) * (Size) (n + 1));
	for (int i = 0; i < n; i++)
		past[i] = (tsk_past)
	{
		.tenant = by_tenant ? tsk_tenant_hash(TextDatumGetCString(column(i, 1))) : 0,.at = DatumGetTimestampTz(column(i, 2)),
			.requests = (int) DatumGetInt64(column(i, 3)),.tokens = DatumGetInt64(column(i, 4))
	};
	args[1] = TimestampTzGetDatum(tsk_now() - USECS_PER_HOUR);
	(void) mr_run(&hold_plan, HOLD_SQL, 2, types, args);
	hold = DatumGetTimestampTz(column(0, 1));
	mr_spi_end(&save);
	tsk_limits_restore(provider, past, n, hold);
	mr_commit();
}
