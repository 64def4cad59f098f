/*
 * sql_main_pg.c
 *	  Life of a process of lane sql: one task at a time, a function in the
 *	  database.
 *
 * A task is claimed, and that is committed: its attempt counts, though the
 * process may die of it.  Then one transaction locks its row, runs the function
 * as the tasks' owner, who is the session's user, moves the row to task_done and
 * tells the function `deliver`.  So what a function did and that it is done are
 * committed together, and a task that ran too long for its lease is nobody
 * else's, for its row is locked.
 *
 * An error undoes all of that; what follows is decided by its class, in a
 * transaction of its own.  A SIGINT (cancel_task()) interrupts the function.
 *
 * The process makes room for a new one after max_tasks, or when it has grown
 * past `memory`: functions leak.  With nothing to do it ends: those beyond workers_min
 * after a few seconds, the others after a minute, which is noted for the supervisor.
 *
 * Memory: the task in its own context, the rest in a context a turn.  Locks:
 * none between transactions.
 */
#include "postgres.h"

#include "task/worker/lane_int.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parse_func.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "core/failpoint.h"
#include "core/meter_pg.h"
#include "core/process_pg.h"
#include "core/server_pg.h"
#include "core/shared_pg.h"
#include "task/jsonb_pg.h"
#include "task/worker/worker.h"

#define IDLE_MS 60000			/* with nothing to do, before the process ends */
#define CALM_MS 3000			/* with nothing to do, before it looks less often */
#define CALM_LOOK_MS 5000		/* so often: who puts a task there rings, or remembers when it is due */
#define SURPLUS_IDLE_MS 10000	/* the same of those beyond workers_min */
#define TROUBLE_MAX_MS 10000	/* longest pause before a failed task is put back again */

extern PGDLLEXPORT void millrace_tasks_main(Datum arg);

/* How far a task's transaction came: whose fault an error is. */
static enum
{
	RUNNING,					/* its function */
	DELIVERING,					/* who is told of it */
	COMMITTING
}			stage;

/* ---- what a task calls */

/* Of a provider that is a function here: its name; *argument: the payload, and whose question it is. */
static const char *
provider_function(const tsk_task *task, Jsonb **argument)
{
	ForeignServer *server = mr_use_server(task->queue->name, "millrace_http");
	const char *function = mr_option_value(server->options, "function");
	JsonbParseState *state = NULL;
	Jsonb	   *whose;

	if (function == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("server \"%s\" has no option \"function\"", task->queue->name)));
	tsk_begin_object(&state);
	tsk_push_text(&state, "tenant", task->tenant);
	tsk_push_text(&state, "tag", task->tag);
	whose = tsk_end_object(&state);
	*argument = DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(task->payload), JsonbPGetDatum(whose)));
	return function;
}

/* The function a task names itself, {"function": "s.f", "args": {…}}. */
static const char *
payload_function(const tsk_task *task, Jsonb **argument)
{
	JsonbValue *function = tsk_member(task->payload, "function");
	JsonbValue *args = tsk_member(task->payload, "args");

	if (function == NULL || function->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("payload of a task names no function"),
				 errhint("For example {\"function\": \"app.work\", \"args\": {\"n\": 1}}.")));
	if (args)
		*argument = JsonbValueToJsonb(args);
	else
	{
		JsonbParseState *state = NULL;

		tsk_begin_object(&state);
		*argument = tsk_end_object(&state);
	}
	return pnstrdup(function->val.string.val, function->val.string.len);
}

/* Call function(jsonb), as the session's user; what it sets is taken back.  Its result, in cxt; NULL if it is null. */
static Jsonb *
call(const char *name, Jsonb *argument, MemoryContext cxt)
{
	static Oid	types[] = {JSONBOID};
	Oid			function = LookupFuncName(CompatQualifiedName(name), lengthof(types), types, true);
	Datum		arg = JsonbPGetDatum(argument);
	Jsonb	   *result = NULL;
	int			nest;
	bool		null;
	Datum		d;

	if (!OidIsValid(function) || get_func_rettype(function) != JSONBOID || get_func_prokind(function) != PROKIND_FUNCTION)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(jsonb) returns jsonb does not exist", name)));
	nest = NewGUCNestLevel();
	SPI_connect();
	if (SPI_execute_with_args(psprintf("SELECT %s($1)", quote_qualified_identifier(get_namespace_name(get_func_namespace(function)), get_func_name(function))),
							  lengthof(types), types, &arg, NULL, false, 0) != SPI_OK_SELECT || SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("function %s(jsonb) did not return one value", name)));
	d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null);
	if (!null)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);

		result = (Jsonb *) PG_DETOAST_DATUM_COPY(d);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	AtEOXact_GUC(false, nest);
	return result;
}

/* ---- one task */

/* Lock its row until the end of the transaction; false: it is no longer ours. */
static bool
lock_row(tsk_task *task)
{
	static SPIPlanPtr plans[TSK_QUEUE_LEAVES];
	static const Oid types[] = {UUIDOID, INT8OID};
	Datum		args[] = {UUIDPGetDatum(&task->id), Int64GetDatum(task->lease)};
	mr_owner_save save;
	bool		ours;

	tsk_own_begin(&save);
	ours = tsk_on_row(task, plans, "SELECT 1 FROM millrace.task_queue_@ WHERE leaf = @ AND id = $1 AND lease = $2 FOR UPDATE", lengthof(types), types, args, NULL);
	mr_spi_end(&save);
	return ours;
}

/* Milliseconds it may take; 0: as many as it likes. */
static int
time_limit(const tsk_task *task)
{
	int64		left = task->deadline ? Max((task->deadline - tsk_now()) / 1000, 1) : 0;

	if (left > 0 && (task->timeout_ms == 0 || left < task->timeout_ms))
		return (int) Min(left, INT_MAX);
	return task->timeout_ms;
}

/* Its transaction.  False: it was no longer ours. */
static bool
run_task(tsk_lane *lane, tsk_task *task, int limit_ms)
{
	const char *function = task->function;
	Jsonb	   *argument = task->payload;
	ConstraintsSetStmt *immediate;

	stage = RUNNING;
	mr_begin(psprintf("task %s", task->kind));
	MemoryContextSwitchTo(CurTransactionContext);
	if (!lock_row(task))
	{
		mr_owner_save save;

		mr_spi_begin(&save);
		tsk_lane_late(lane, 1);
		mr_spi_end(&save);
		mr_commit();
		return false;
	}
	if (limit_ms > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, limit_ms);
	MR_FAILPOINT("tasks.locked");
	if (strcmp(task->queue->name, TSK_SQL_QUEUE) != 0)
		function = provider_function(task, &argument);
	else if (function == NULL)
		function = payload_function(task, &argument);
	task->result = call(function, argument, task->cxt);
	immediate = makeNode(ConstraintsSetStmt);
	AfterTriggerSetState(immediate);
	MR_FAILPOINT("tasks.run");
	stage = DELIVERING;
	task->ok = true;
	if (!tsk_end_in_transaction(lane, task))
		elog(ERROR, "a task whose row was locked is gone");
	AfterTriggerSetState(immediate);
	if (limit_ms > 0)
		disable_timeout(STATEMENT_TIMEOUT, false);
	CHECK_FOR_INTERRUPTS();
	stage = COMMITTING;
	MR_FAILPOINT("tasks.commit");
	mr_commit();
	MR_FAILPOINT("tasks.committed");
	return true;
}

/* Was cancel_task() called for it?  A transaction. */
static bool
was_cancelled(const tsk_task *task)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID};
	Datum		args[] = {UUIDPGetDatum(&task->id)};
	mr_owner_save save;
	bool		cancelled;

	mr_begin("was it cancelled?");
	tsk_own_begin(&save);
	cancelled = mr_run(&plan, "SELECT 1 FROM millrace.task_cancels WHERE id = $1", lengthof(types), types, args) == 1;
	mr_spi_end(&save);
	mr_commit();
	return cancelled;
}

/* What its error means. */
static void
note_error(tsk_task *task, const ErrorData *error, TimestampTz until)
{
	task->ok = false;
	task->result = NULL;		/* undone */
	strlcpy(task->sqlstate, unpack_sql_state(error->sqlerrcode), sizeof(task->sqlstate));
	task->error = MemoryContextStrdup(task->cxt, error->message ? error->message : "unknown error");
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
	{
		if (until != 0 && GetCurrentTimestamp() >= until)
			strlcpy(task->sqlstate, "HYT00", sizeof(task->sqlstate));
		else
			task->cancelled = was_cancelled(task);	/* else meant for another, or raised by the function: tried again, by its class */
	}
	else if (stage == DELIVERING && mr_is_data_error(error->sqlerrcode))
		task->undelivered = true;
}

/* Put back or end a task that failed; that it did is not to be lost for trouble of the surroundings. */
static void
end_failed(tsk_lane *lane, tsk_task *task)
{
	int			left;
	int			pause_ms = 50;

	while (!tsk_end_tasks(lane, &task, 1, &left))
	{
		mr_nap(pause_ms);
		pause_ms = Min(pause_ms * 2, TROUBLE_MAX_MS);
	}
}

/* Carry out a task that is ours, and forget it. */
static void
do_task(tsk_lane *lane, tsk_task *task)
{
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz begun = GetCurrentTimestamp();
	int			limit_ms = time_limit(task);
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		if (run_task(lane, task, limit_ms))
		{
			mr_worker_count(MR_COUNT_ROWS, 1);
			mr_worker_count(MR_COUNT_BATCHES, 1);
			mr_meter_add(&(mr_work) {.messages = 1,.batches = 1,.busy_us = (uint64) (GetCurrentTimestamp() - begun)});
		}
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		disable_timeout(STATEMENT_TIMEOUT, false);
		AbortOutOfAnyTransaction();
		QueryCancelPending = false; /* it has been obeyed */
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	LockReleaseSession(USER_LOCKMETHOD);	/* advisory locks it left behind */
	if (error)
	{
		ereport(DEBUG1, (errmsg("task of kind \"%s\" failed: %s", task->kind, error->message)));
		note_error(task, error, limit_ms > 0 ? TimestampTzPlusMilliseconds(begun, limit_ms) : 0);
		end_failed(lane, task);
	}
	tsk_drop_task(task);
}

/* ---- all of them */

/* Make room for a new process after so many tasks, or so much memory. */
static void
recycle(const tsk_lane *lane, int done)
{
	int64		bytes = mr_resident_bytes();

	mr_worker_gauge(MR_GAUGE_RESIDENT, bytes);
	if (done < lane->max_tasks && bytes <= lane->memory)
		return;
	ereport(DEBUG1, (errmsg("worker of tasks makes room for a new one after %d tasks, with " INT64_FORMAT " bytes", done, bytes)));
	proc_exit(0);
}

/* End if the pool is paused or changed; looked at once a second, or when told. */
static void
check_pool(tsk_lane *lane)
{
	static TimestampTz checked = 0;

	if (!mr_worker_changed() && GetCurrentTimestamp() - checked < TSK_LOOK_MS * INT64CONST(1000))
		return;
	checked = GetCurrentTimestamp();
	if (tsk_lane_unchanged(lane))
		return;
	proc_exit(0);
}

/* Take one from the queues in turn, and carry it out.  False: there was none. */
static bool
do_one(tsk_lane *lane, tsk_task_queue **queues, int n)
{
	static int	next = 0;
	static int	done = 0;
	dlist_head	taken;

	dlist_init(&taken);
	for (int i = 0; i < n; i++)
	{
		tsk_task_queue *queue = queues[next++ % n];

		if (tsk_take_tasks(lane, queue, 1, NULL, NULL, &taken) == 0)
			continue;
		tsk_lane_report(lane, "busy", NULL, NULL);
		mr_worker_gauge(MR_GAUGE_STABLE, (int64) tsk_lane_position(lane));
		do_task(lane, dlist_container(tsk_task, node, dlist_pop_head_node(&taken)));
		recycle(lane, ++done);
		return true;
	}
	return false;
}

/* Sleep until somebody rings, a task that is known of is due, or it is time to look. */
static void
wait_for_more(tsk_task_queue **queues, int n, int look_ms)
{
	TimestampTz now = tsk_now();
	TimestampTz until = now + look_ms * INT64CONST(1000);

	for (int i = 0; i < n; i++)
		until = Min(until, tsk_tasks_due(queues[i]));
	mr_wait_latch(until > now ? (int) ((until - now) / 1000 + 1) : 1);
}

static void
turn(tsk_lane *lane)
{
	static TimestampTz busy = 0;	/* when there was last something to do */
	static TimestampTz looked = 0;
	static tsk_task_queue **queues;
	static int	n = 0;
	TimestampTz now = GetCurrentTimestamp();
	bool		surplus = lane->index >= Max(lane->workers_min, 1);

	check_pool(lane);
	if (looked == 0 || now - looked >= TSK_LOOK_MS * INT64CONST(1000))
	{
		looked = now;
		mr_begin("read the queues");
		n = tsk_lane_queues(lane, &queues);
		mr_commit();
	}
	if (do_one(lane, queues, n))
	{
		busy = 0;
		mr_answer_server();
		return;
	}
	tsk_lane_report(lane, "idle", NULL, NULL);
	if (busy == 0)
		busy = now;
	if (now - busy > (surplus ? SURPLUS_IDLE_MS : IDLE_MS) * INT64CONST(1000) && (surplus || tsk_lane_idle(lane)))
		proc_exit(0);
	pgstat_report_stat(false);
	wait_for_more(queues, n, now - busy > CALM_MS * INT64CONST(1000) ? CALM_LOOK_MS : TSK_LOOK_MS);
}

void
millrace_tasks_main(Datum arg)
{
	const mr_worker_args *args = mr_worker_begin(MR_TASKS_TYPE);
	tsk_lane	lane = {.lane = TSK_LANE_SQL,.index = args->index};
	MemoryContext cxt;
	volatile int failures = 0;
	volatile bool ready = false;

	lane.owner = MemoryContextStrdup(TopMemoryContext, args->name);
	cxt = AllocSetContextCreate(TopMemoryContext, "millrace turn", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		PG_TRY();
		{
			MemoryContextSwitchTo(cxt);
			MemoryContextReset(cxt);
			if (!ready)
			{
				if (!tsk_lane_load(&lane))
					proc_exit(0);
				tsk_forget_seekers();
				ready = true;
			}
			turn(&lane);
			failures = 0;
		}
		PG_CATCH();
		{
			ErrorData  *error = mr_recover(cxt);

			ready = false;
			tsk_lane_report(&lane, "waiting", unpack_sql_state(error->sqlerrcode), error->message);
			failures++;
			mr_wait_latch(mr_pause_ms(failures));
		}
		PG_END_TRY();
	}
}
