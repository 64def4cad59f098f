/*
 * finish_pg.c
 *	  A batch of tasks that have ended, or go back into the queue, in one transaction.
 *
 * Rows are touched if they still carry our lease; else the task has become somebody else's, and what it came to here is dropped and
 * counted.  The one function of all of them is called once, as the session's user, who owns the tasks; all else is done as the
 * extension's owner.
 *
 * Memory: the caller's context.  Locks: the rows, and the next rows of their order_keys, until the end of the transaction.
 */
#include "postgres.h"

#include "task/worker/lane_int.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "core/failpoint.h"
#include "core/series_pg.h"
#include "core/server_pg.h"
#include "core/shared_pg.h"
#include "task/jsonb_pg.h"
#include "task/worker/worker.h"

static const char *const state_names[] = {"succeeded", "failed", "cancelled", "expired"};

/* ---- rows; as the extension's owner, within SPI */

/* Number of the queue of another provider, made if need be; its lane is told that there is something for it. */
static int
queue_of(const tsk_lane *lane, const char *provider)
{
	static SPIPlanPtr find = NULL;
	static SPIPlanPtr make = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID};
	ForeignServer *server = GetForeignServerByName(provider, true);
	const char *api = server ? mr_option_value(server->options, "api") : NULL;
	bool		local = api != NULL && strcmp(api, "local") == 0;
	Datum		args[] = {CStringGetTextDatum(lane->owner), CStringGetTextDatum(local ? TSK_LANE_SQL : TSK_LANE_CALL), CStringGetTextDatum(provider)};
	bool		null;

	mr_change_at_commit(local ? MR_CHANGE_TASKS : MR_CHANGE_CALLS, MyDatabaseId);
	while (mr_run(&find, "SELECT id FROM millrace.task_queues WHERE owner = $1 AND lane = $2 AND name = $3", lengthof(types), types, args) == 0)
		mr_run(&make, "INSERT INTO millrace.task_queues (owner, lane, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", lengthof(types), types, args);
	return DatumGetInt32(tsk_column(SPI_tuptable->vals[0], 1, &null));
}

/* False: it is no longer ours. */
static bool
put_back(const tsk_lane *lane, const tsk_ending *e)
{
	static SPIPlanPtr plans[TSK_QUEUE_LEAVES];
	static const Oid types[] = {UUIDOID, INT8OID, TIMESTAMPTZOID, INT2OID, JSONBOID, TEXTOID, TEXTOID, TEXTOID, INT2OID, INT4OID};
	tsk_task   *task = e->task;
	Datum		args[] = {UUIDPGetDatum(&task->id), Int64GetDatum(task->lease), TimestampTzGetDatum(e->due_at), Int16GetDatum(e->taken_back ? 1 : 0),
		JsonbPGetDatum(e->tries), mr_text(e->class), mr_text(e->class ? task->sqlstate : NULL), mr_text(e->class ? task->error : NULL),
	Int16GetDatum((int16) e->hop), 0};
	char		nulls[] = {' ', ' ', e->due_at ? ' ' : 'n', ' ', ' ', e->class ? ' ' : 'n', e->class ? ' ' : 'n', e->class && task->error ? ' ' : 'n', ' ', ' '};

	args[9] = Int32GetDatum(e->hop != task->hop ? queue_of(lane, task->providers[e->hop]) : task->queue->id);
	/* What was cancelled meanwhile is due at once, and ended by who finds it. */
	return tsk_on_row(task, plans, "UPDATE millrace.task_queue_@ t SET lease = NULL, pid = NULL, xid = pg_current_xact_id(), "
					  "due_at = CASE WHEN EXISTS (SELECT FROM millrace.task_cancels c WHERE c.id = t.id) THEN NULL ELSE $3 END, "
					  "attempts = t.attempts - $4, tries = $5, class = $6, sqlstate = $7, error = $8, hop = $9, queue = $10 "
					  "WHERE t.leaf = @ AND t.id = $1 AND t.lease = $2", lengthof(types), types, args, nulls);
}

/* The same for one that has ended. */
static bool
move_to_done(const tsk_lane *lane, const tsk_ending *e, TimestampTz now)
{
	static SPIPlanPtr plans[TSK_QUEUE_LEAVES];
	static const Oid types[] = {UUIDOID, INT8OID, INT2OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TIMESTAMPTZOID};
	tsk_task   *task = e->task;
	bool		failed = e->state != TSK_SUCCEEDED;
	Datum		args[] = {UUIDPGetDatum(&task->id), Int64GetDatum(task->lease), Int16GetDatum((int16) tsk_done_leaf(now)), CStringGetTextDatum(lane->owner),
		CStringGetTextDatum(lane->lane), CStringGetTextDatum(task->queue->name), CStringGetTextDatum(state_names[e->state]),
		task->result ? JsonbPGetDatum(task->result) : (Datum) 0, mr_text(e->class), mr_text(failed ? task->sqlstate : NULL),
	mr_text(failed ? task->error : NULL), JsonbPGetDatum(e->tries), TimestampTzGetDatum(now)};
	char		nulls[lengthof(types) + 1];

	for (int i = 0; i < (int) lengthof(types); i++)
		nulls[i] = args[i] == (Datum) 0 && types[i] != INT2OID ? 'n' : ' ';
	return tsk_on_row(task, plans, "WITH t AS (DELETE FROM millrace.task_queue_@ WHERE leaf = @ AND id = $1 AND lease = $2 RETURNING *), "
					  "c AS (DELETE FROM millrace.task_cancels c USING t WHERE c.id = t.id) "
					  "INSERT INTO millrace.task_done (leaf, id, owner, lane, queue, kind, payload, priority, tenant, order_key, key, tag, deliver, watch, "
					  "providers, timeout_ms, max_attempts, weight, state, result, class, sqlstate, error, attempts, tries, created_at, started_at, finished_at) "
					  "SELECT $3, t.id, $4, $5, $6, t.kind, t.payload, t.priority, t.tenant, t.order_key, t.key, t.tag, t.deliver, t.watch, "
					  "t.providers, t.timeout_ms, t.max_attempts, t.weight, $7, $8, $9, $10, $11, t.attempts, $12, t.created_at, t.started_at, $13 FROM t",
					  lengthof(types), types, args, nulls);
}

/* The same for metrics, when this commits. */
static void
observe_attempt(const tsk_lane *lane, const tsk_ending *e, TimestampTz now)
{
	const tsk_task *t = e->task;
	const char *outcome = e->class ? e->class : "ok";
	TimestampTz started = t->started_at ? t->started_at : now;
	double		seconds = (double) (now - started) / USECS_PER_SEC;

	mr_observe_at_commit(MR_TASK_SECONDS, t->kind, lane->lane, outcome, seconds, 1);
	if (t->attempts == 1)
		mr_observe_at_commit(MR_TASK_WAIT_SECONDS, t->kind, lane->lane, NULL, (double) (started - t->created_at) / USECS_PER_SEC, 1);
	if (t->n_providers == 0)
		return;
	mr_observe_at_commit(MR_PROVIDER_SECONDS, t->queue->name, outcome, NULL, seconds, 1);
	if (t->tokens_in > 0)
		mr_tally_at_commit(MR_PROVIDER_TOKENS, t->queue->name, "in", NULL, (uint64) t->tokens_in);
	if (t->tokens_out > 0)
		mr_tally_at_commit(MR_PROVIDER_TOKENS, t->queue->name, "out", NULL, (uint64) t->tokens_out);
	if (t->cost > 0)
		mr_tally_at_commit(MR_PROVIDER_COST, t->queue->name, NULL, NULL, (uint64) (t->cost * 1e6 + 0.5));
}

/* Its row of task_attempts. */
static void
note_attempt(const tsk_lane *lane, const tsk_ending *e, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT2OID, UUIDOID, INT2OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, INT2OID,
	TEXTOID, TEXTOID, FLOAT8OID, TIMESTAMPTZOID, INT4OID, INT4OID, FLOAT8OID};
	const tsk_task *t = e->task;
	bool		failed = !t->ok;
	Datum		args[] = {Int16GetDatum((int16) tsk_done_leaf(now)), UUIDPGetDatum(&t->id), Int16GetDatum((int16) t->attempts), CStringGetTextDatum(lane->owner),
		CStringGetTextDatum(t->queue->name), CStringGetTextDatum(t->kind), CStringGetTextDatum(t->tenant), Int32GetDatum(t->pid),
		TimestampTzGetDatum(t->started_at ? t->started_at : now), TimestampTzGetDatum(now), mr_text(e->class), Int16GetDatum((int16) t->status),
		mr_text(failed ? t->sqlstate : NULL), mr_text(failed ? t->error : NULL), Float8GetDatum((double) t->retry_after_us / USECS_PER_SEC),
	TimestampTzGetDatum(e->due_at), Int32GetDatum(t->tokens_in), Int32GetDatum(t->tokens_out), Float8GetDatum(t->cost)};
	char		nulls[lengthof(types)];

	for (int i = 0; i < (int) lengthof(types); i++)
		nulls[i] = args[i] == (Datum) 0 && !get_typbyval(types[i]) ? 'n' : ' ';
	nulls[11] = t->status == 0 ? 'n' : ' ';
	nulls[14] = t->retry_after_us == 0 ? 'n' : ' ';
	nulls[15] = e->state != TSK_BACK || e->pauses ? 'n' : ' ';
	nulls[16] = t->tokens_in < 0 ? 'n' : ' ';
	nulls[17] = t->tokens_out < 0 ? 'n' : ' ';
	nulls[18] = t->cost < 0 ? 'n' : ' ';
	if (e->state == TSK_BACK && e->due_at == 0)
		args[15] = TimestampTzGetDatum(now);
	mr_prepare(&plan, "INSERT INTO millrace.task_attempts (leaf, id, attempt, owner, queue, kind, tenant, pid, started_at, finished_at, class, status, sqlstate, "
			   "error, retry_after, again_at, tokens_in, tokens_out, cost) "
			   "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, make_interval(secs => $15), $16, $17, $18, $19::numeric)",
			   lengthof(types), types);
	SPI_execute_plan(plan, args, nulls, false, 0);
	observe_attempt(lane, e, now);
}

static void
pause_provider(const tsk_ending *e, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		args[] = {CStringGetTextDatum(e->task->queue->name), mr_text(e->task->error), TimestampTzGetDatum(now)};

	mr_run(&plan, "INSERT INTO millrace.provider_states AS s (server, paused, reason, since) VALUES ($1, true, $2, $3) "
		   "ON CONFLICT (server) DO UPDATE SET paused = true, reason = excluded.reason, since = excluded.since WHERE NOT s.paused", lengthof(types), types, args);
	mr_change_at_commit(MR_CHANGE_CALLS, MyDatabaseId);
}

static void
wake_next(const tsk_lane *lane, const tsk_task *task)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID, UUIDOID};
	Datum		args[] = {CStringGetTextDatum(lane->owner), CStringGetTextDatum(task->order_key), UUIDPGetDatum(&task->id)};

	mr_run(&plan, "SELECT millrace.wake_next_task($1, $2, $3)", lengthof(types), types, args);
	mr_change_at_commit(MR_CHANGE_TASKS, MyDatabaseId);
	mr_change_at_commit(MR_CHANGE_CALLS, MyDatabaseId);
}

/* ---- telling */

/* {"class", "sqlstate", "message", "status", "attempts", "tries"} */
static Datum
error_of(const tsk_ending *e)
{
	JsonbParseState *state = NULL;
	JsonbValue	tries;

	tsk_begin_object(&state);
	tsk_push_text(&state, "class", e->class);
	tsk_push_text(&state, "sqlstate", e->task->sqlstate);
	tsk_push_text(&state, "message", e->task->error);
	if (e->task->status)
		tsk_push_number(&state, "status", e->task->status);
	else
		tsk_push_text(&state, "status", NULL);
	tsk_push_number(&state, "attempts", e->task->attempts);
	JsonbToJsonbValue(e->tries, &tries);
	tsk_push_key(&state, "tries");
	pushJsonbValue(&state, WJB_VALUE, &tries);
	return JsonbPGetDatum(tsk_end_object(&state));
}

/* An array of n elements; those that are 0 are null. */
static Datum
array_of(const Datum *values, int n, Oid type)
{
	bool	   *nulls = palloc(sizeof(bool) * (size_t) n);
	int			dims[] = {n};
	int			lower[] = {1};
	int16		len;
	bool		by_value;
	char		align;

	for (int i = 0; i < n; i++)
		nulls[i] = values[i] == (Datum) 0;
	get_typlenbyvalalign(type, &len, &by_value, &align);
	return PointerGetDatum(construct_md_array(unconstify(Datum *, values), nulls, 1, dims, lower, type, len, by_value, align));
}

/* Call the function, as the session's user; what it sets is taken back. */
static void
tell(const char *function, const tsk_ending *endings, int n, bool back)
{
	static Oid	deliver_types[] = {UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, JSONBARRAYOID, JSONBARRAYOID};
	static Oid	watch_types[] = {UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, JSONBARRAYOID, TIMESTAMPTZARRAYOID};
	Oid		   *types = back ? watch_types : deliver_types;
	Datum	   *values[5];
	Datum		arrays[5];
	int			k = 0;
	int			nest;

	for (int a = 0; a < 5; a++)
		values[a] = palloc0(sizeof(Datum) * (size_t) n);
	for (int i = 0; i < n; i++)
	{
		const tsk_ending *e = &endings[i];
		Datum		error = e->state == TSK_SUCCEEDED ? (Datum) 0 : error_of(e);

		if (e->late || !e->told)
			continue;
		values[0][k] = UUIDPGetDatum(&e->task->id);
		values[1][k] = mr_text(e->task->tag);
		values[2][k] = mr_text(back ? e->class : state_names[e->state]);
		values[3][k] = back ? error : e->task->result ? JsonbPGetDatum(e->task->result) : (Datum) 0;
		values[4][k] = back ? TimestampTzGetDatum(e->due_at) : error;
		k++;
	}
	if (k == 0)
		return;
	if (!OidIsValid(LookupFuncName(CompatQualifiedName(function), lengthof(deliver_types), types, true)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(%s) does not exist", function,
						back ? "uuid[], text[], text[], jsonb[], timestamptz[]" : "uuid[], text[], text[], jsonb[], jsonb[]")));
	for (int a = 0; a < 5; a++)
		arrays[a] = array_of(values[a], k, get_element_type(types[a]));
	nest = NewGUCNestLevel();
	SPI_connect();
	if (SPI_execute_with_args(psprintf("SELECT %s($1, $2, $3, $4, $5)", function), 5, types, arrays, NULL, false, 0) < 0)
		elog(ERROR, "function %s could not be called", function);
	SPI_finish();
	AtEOXact_GUC(false, nest);
}

void
tsk_finish(tsk_lane *lane, tsk_ending *endings, int n)
{
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz now = tsk_now();
	bool		back = endings[0].state == TSK_BACK;
	const char *function = !endings[0].told ? NULL : back ? endings[0].task->watch : endings[0].task->deliver;
	mr_owner_save save;
	int			late = 0;

	tsk_own_begin(&save);
	for (int i = 0; i < n; i++)
	{
		tsk_ending *e = &endings[i];

		e->late = !(back ? put_back(lane, e) : move_to_done(lane, e, now));
		if (e->late)
		{
			late++;
			continue;
		}
		if (!back)
			mr_tally_at_commit(MR_TASKS_ENDED, e->task->kind, state_names[e->state], NULL, 1);
		if (e->counted)
			note_attempt(lane, e, now);
		if (e->pauses)
			pause_provider(e, now);
		if (!back && e->task->order_key)
			wake_next(lane, e->task);
	}
	if (late > 0)
		tsk_lane_late(lane, late);
	mr_spi_end(&save);
	MemoryContextSwitchTo(caller);
	MR_FAILPOINT("tasks.moved");
	if (function)
		tell(function, endings, n, back);
	MR_FAILPOINT("tasks.told");
}
