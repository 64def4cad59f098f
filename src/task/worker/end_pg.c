/*
 * end_pg.c
 *	  What became of tasks, and what follows from it.
 *
 * Each is decided upon by its class of error (task/policy.h), then tasks of one function are ended, or put back, in one
 * transaction (finish_pg.c).  A function that raises an error over its batch narrows it down to the task, which fails with class
 * "delivery", its result kept; an error of the surroundings is the caller's to wait out.
 *
 * Memory: the caller's context.  Locks: those of each transaction.
 */
#include "postgres.h"

#include "task/worker/lane_int.h"

#include "commands/trigger.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "core/failpoint.h"
#include "core/meter_pg.h"
#include "core/process_pg.h"
#include "core/shared_pg.h"
#include "task/jsonb_pg.h"
#include "task/worker/narrow.h"

#define TELL_TIMEOUT_MS 60000	/* for the function of a batch */

const tsk_policy *
tsk_policy_of(const tsk_lane *lane, int status, const char *sqlstate)
{
	int			k = tsk_classify(&lane->policies, status, sqlstate);

	return k < 0 ? NULL : &lane->policies.policy[k];
}

/* ---- counters of tries, {"overload": 2} */

static int
tries_of(Jsonb *tries, const char *class)
{
	JsonbValue *v = tsk_member(tries, class);

	return v && v->type == jbvNumeric ? DatumGetInt32(DirectFunctionCall1(numeric_int4, NumericGetDatum(v->val.numeric))) : 0;
}

static Jsonb *
no_tries(void)
{
	JsonbParseState *state = NULL;

	tsk_begin_object(&state);
	return tsk_end_object(&state);
}

static Jsonb *
with_tries(Jsonb *tries, const char *class, int n)
{
	JsonbParseState *state = NULL;

	tsk_begin_object(&state);
	tsk_push_number(&state, class, n);
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(tries), JsonbPGetDatum(tsk_end_object(&state))));
}

/* ---- decisions */

static void
move_on(tsk_ending *e)
{
	e->state = TSK_BACK;
	e->hop = e->task->hop + 1;
	e->tries = no_tries();
	e->due_at = 0;
}

/* It failed by an error of this class. */
static void
follow_policy(tsk_ending *e, tsk_policy policy, TimestampTz now)
{
	tsk_task   *task = e->task;
	int			failed = tries_of(task->tries, policy.name) + 1;
	int64_t		due_at = 0;

	if (strcmp(task->queue->name, TSK_SQL_QUEUE) == 0)
		policy.pause = false;	/* there is nobody to be paused */
	e->tries = with_tries(task->tries, policy.name, failed);
	switch (tsk_after_failure(&policy, failed, task->attempts, task->max_attempts, pg_prng_double(&pg_global_prng_state), now, task->retry_after_us, &due_at))
	{
		case TSK_AGAIN:
			e->due_at = due_at;
			e->state = task->deadline && due_at >= task->deadline ? TSK_EXPIRED : TSK_BACK;
			break;
		case TSK_WAIT:
			e->state = TSK_BACK;
			e->tries = task->tries;
			e->taken_back = e->pauses = true;
			break;
		case TSK_EXHAUSTED:
			if (task->hop + 1 < task->n_providers)
				move_on(e);
			break;
		case TSK_CAPPED:
			break;
	}
}

static tsk_ending
decide(const tsk_lane *lane, tsk_task *task)
{
	TimestampTz now = tsk_now();
	const tsk_policy *policy = task->ok ? NULL : tsk_policy_of(lane, task->status, task->sqlstate);
	tsk_ending	e = {.task = task,.state = TSK_FAILED,.class = policy && !task->waited ? policy->name : NULL,.counted = !task->waited,.hop = task->hop,
	.tries = task->tries,.told = true};

	if (task->undelivered)
	{
		e.class = "delivery";
		e.told = false;
	}
	else if (task->ok)
		e.state = TSK_SUCCEEDED;
	else if (task->not_counted || task->moves_on)
	{
		e.state = TSK_BACK;
		e.due_at = task->due_at;
		e.class = NULL;
		e.counted = e.told = false;
		e.taken_back = true;
		if (task->moves_on && task->hop + 1 < task->n_providers)
			move_on(&e);
	}
	else if (task->cancelled)
		e.state = TSK_CANCELLED;
	else if (task->deadline && now >= task->deadline)
		e.state = TSK_EXPIRED;
	else if (policy)
		follow_policy(&e, *policy, now);
	return e;
}

/* ---- batches */

typedef struct batch
{
	tsk_lane   *lane;
	tsk_ending *endings;
	ErrorData  *error;
} batch;

static bool
is_fault(int sqlstate)
{
	/* A function that is missing, or not right, will not do for the others either: they fail, too, with their results kept. */
	return mr_is_data_error(sqlstate) || ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION || sqlstate == ERRCODE_QUERY_CANCELED;
}

static void
count(const tsk_ending *endings, int n, int64 busy_us)
{
	uint64		succeeded = 0,
				dead = 0,
				failed = 0;

	for (int i = 0; i < n; i++)
		if (!endings[i].late)
		{
			succeeded += endings[i].state == TSK_SUCCEEDED;
			dead += endings[i].state != TSK_SUCCEEDED && endings[i].state != TSK_BACK;
			failed += endings[i].counted && !endings[i].task->ok;
		}
	mr_worker_count(MR_COUNT_ROWS, succeeded + dead);
	mr_worker_count(MR_COUNT_DEAD, dead);
	mr_worker_count(MR_COUNT_ERRORS, failed);
	mr_worker_count(MR_COUNT_BATCHES, 1);
	mr_meter_add(&(mr_work) {.messages = succeeded + dead,.batches = 1,.busy_us = (uint64) busy_us});
}

/* A step: tasks of one function. */
static void
finish_step(void *subject, int first, int n)
{
	batch	   *b = subject;
	TimestampTz begun = GetCurrentTimestamp();
	ConstraintsSetStmt *immediate;

	mr_begin(psprintf("%d tasks, ended", n));
	enable_timeout_after(STATEMENT_TIMEOUT, TELL_TIMEOUT_MS);
	tsk_finish(b->lane, b->endings + first, n);
	immediate = makeNode(ConstraintsSetStmt);
	AfterTriggerSetState(immediate);
	disable_timeout(STATEMENT_TIMEOUT, false);
	CHECK_FOR_INTERRUPTS();
	MR_FAILPOINT("tasks.commit");
	mr_commit();
	MR_FAILPOINT("tasks.committed");
	count(b->endings + first, n, GetCurrentTimestamp() - begun);
}

/* A step: one whose function does not take it. */
static void
aside_step(void *subject, int first, int n)
{
	batch	   *b = subject;
	tsk_ending *e = &b->endings[first];

	if (e->state == TSK_BACK)
		ereport(LOG, (errmsg("function %s did not take the news of a task: %s", e->task->watch, b->error->message)));
	else
	{
		e->task->undelivered = true;
		strlcpy(e->task->sqlstate, unpack_sql_state(b->error->sqlerrcode), sizeof(e->task->sqlstate));
		e->task->error = MemoryContextStrdup(e->task->cxt, b->error->message ? b->error->message : "unknown error");
		*e = decide(b->lane, e->task);
	}
	e->told = false;
	finish_step(subject, first, 1);
}

static const char *
function_of(const tsk_ending *e)
{
	const char *function = e->state == TSK_BACK ? e->task->watch : e->task->deliver;

	return e->told && function ? function : "";
}

static bool
together(const tsk_ending *a, const tsk_ending *b)
{
	return (a->state == TSK_BACK) == (b->state == TSK_BACK) && strcmp(function_of(a), function_of(b)) == 0;
}

bool
tsk_end_tasks(tsk_lane *lane, tsk_task **tasks, int n, int *n_left)
{
	tsk_ending *left = palloc(sizeof(tsk_ending) * (size_t) n);
	batch		b = {.lane = lane,.endings = palloc(sizeof(tsk_ending) * (size_t) n)};
	int			done = 0;
	int			rest = n;

	for (int i = 0; i < n; i++)
		left[i] = decide(lane, tasks[i]);
	while (rest > 0)
	{
		tsk_ending	first = left[0];
		int			len = 0;
		int			others = 0;
		int			ended;

		for (int i = 0; i < rest; i++)
			if (together(&left[i], &first))
				b.endings[len++] = left[i];
			else
				left[others++] = left[i];
		ended = tsk_narrow(finish_step, aside_step, &b, len, is_fault, &b.error);
		/* Those that are ended go behind the others. */
		for (int i = 0; i < ended; i++)
			tasks[n - 1 - done - i] = b.endings[i].task;
		done += ended;
		rest = others;
		if (ended < len)
		{
			for (int i = 0; i < others; i++)
				tasks[i] = left[i].task;
			for (int i = ended; i < len; i++)
				tasks[others + i - ended] = b.endings[i].task;
			*n_left = n - done;
			tsk_lane_report(lane, "waiting", unpack_sql_state(b.error->sqlerrcode), b.error->message);
			return false;
		}
	}
	*n_left = 0;
	return true;
}

bool
tsk_end_in_transaction(tsk_lane *lane, tsk_task *task)
{
	tsk_ending	e = decide(lane, task);

	tsk_finish(lane, &e, 1);
	return !e.late;
}
