/*
 * call_main_pg.c
 *	  Life of lane call: one process a role, which claims tasks for all of its
 *	  providers, has many calls under way at once, and ends what has been answered.
 *
 * No transaction is open while a server is waited for.  A task counts as
 * attempted from its claim on; its result counts if its row still carries our
 * lease when it is ended.  Leases are renewed every third of their time.
 *
 *	look		once a second or when somebody rang: new queues, altered servers, cancelled tasks, deadlines
 *	claim		provider after provider, whose turn it is to be first changes (call_claim_pg.c)
 *	turn		libcurl; answers are judged as they come (call_judge_pg.c)
 *	end			what has finished, in batches: what has come while the last one was ended is the next
 *
 * After max_tasks, or past its memory, it claims no more, and makes room for a
 * new process once its calls have ended.  Whatever ERROR is not a delivery's
 * own ends in forgetting everything and beginning anew, as a new process would;
 * tasks that were under way are found as lost.
 *
 * Memory: each task in a context of its own, answers in malloc'd buffers
 * bounded by their net's budget.  Locks: none between transactions.
 */
#include "postgres.h"

#include "task/worker/call.h"

#include "access/xact.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/failpoint.h"
#include "core/process_pg.h"
#include "core/shared_pg.h"

#define LOOK_MS 1000			/* at the tables, even if nobody rang; and longest nap */
#define RUNG_MS 100				/* and if somebody rang, not more often than this */
#define IDLE_MS 60000			/* with nothing to do, before the process ends */
#define GATHER 16				/* finished tasks that are ended at once ... */
#define GATHER_MS 4				/* ... or as many as there are after this time */
#define TROUBLE_MS 50			/* first pause after an end met trouble; doubles ... */
#define TROUBLE_MAX_MS 10000	/* ... up to here */

extern PGDLLEXPORT void millrace_calls_main(Datum arg);

dlist_head	tsk_claimed = DLIST_STATIC_INIT(tsk_claimed);
dlist_head	tsk_running = DLIST_STATIC_INIT(tsk_running);
dlist_head	tsk_finished = DLIST_STATIC_INIT(tsk_finished);
int			tsk_n_running = 0;
int			tsk_n_finished = 0;

static tsk_lane lane;			/* ours */
static TimestampTz finished_since = 0;	/* when the first of them was */
static TimestampTz looked = 0;	/* at the tables; 0: to be done at once */
static uint64 heard = 0;		/* changes by then */
static TimestampTz renewed = 0; /* leases of running tasks */
static int64 n_ended = 0;		/* tasks */
static bool leaving = false;	/* nothing more is claimed */

/* Of ends. */
static int	troubles = 0;		/* in a row */
static TimestampTz end_at = 0;

static TimestampTz
now_us(void)
{
	return GetCurrentTimestamp();
}

static bool
is_over(TimestampTz since, int ms)
{
	return now_us() - since >= ms * INT64CONST(1000);
}

void
tsk_free_call(tsk_errand *errand)
{
	if (errand->link)
	{
		tsk_free(errand->link->net, errand->transfer);
		errand->link->calls--;
		errand->provider->n_running--;
		dlist_delete(&errand->task->node);
		tsk_n_running--;
	}
	errand->link = NULL;
	errand->transfer = NULL;
	free(errand->request.url);
	errand->request.url = errand->request.body = NULL;
}

/* Does what came of it pause its provider? */
static bool
is_refusal(const tsk_task *task)
{
	const tsk_policy *policy = task->ok || task->not_counted || task->moves_on ? NULL : tsk_policy_of(&lane, task->status, task->sqlstate);

	return policy && policy->pause;
}

void
tsk_finish_errand(tsk_errand *errand)
{
	tsk_free_call(errand);
	errand->provider->refused |= is_refusal(errand->task);
	if (tsk_n_finished++ == 0)
		finished_since = now_us();
	dlist_push_tail(&tsk_finished, &errand->task->node);
}

/* As if we had just begun. */
static void
forget_all(void)
{
	tsk_provider **providers;
	int			n = tsk_providers(&providers);

	while (!dlist_is_empty(&tsk_running))
	{
		tsk_task   *task = dlist_container(tsk_task, node, dlist_head_node(&tsk_running));

		tsk_free_call(task->subject);
		tsk_drop_task(task);
	}
	while (!dlist_is_empty(&tsk_claimed))
		tsk_drop_task(dlist_container(tsk_task, node, dlist_pop_head_node(&tsk_claimed)));
	while (!dlist_is_empty(&tsk_finished))
		tsk_drop_task(dlist_container(tsk_task, node, dlist_pop_head_node(&tsk_finished)));
	tsk_n_finished = 0;
	for (int i = 0; i < n; i++)
	{
		tsk_retire_link(providers[i]);
		providers[i]->closed_until = providers[i]->looked = 0;
		providers[i]->refused = false;
	}
	tsk_close_links(true);
	tsk_doubt_providers();
	tsk_limits_forget();
	tsk_forget_seekers();
	troubles = 0;
	end_at = looked = 0;
}

/* Before libcurl's destructors; what we had admitted is given back. */
static void
close_at_exit(int code, Datum arg)
{
	tsk_limits_forget();
	tsk_close_links(true);
}

/* ---- what the tables say */

/* Give up a call whose task was cancelled, taken from us, or is past its deadline. */
static void
give_up(tsk_errand *errand)
{
	tsk_task   *task = errand->task;

	tsk_give_back(errand, -1, TSK_UNKNOWN, false);
	if (task->lease == 0)
	{
		tsk_free_call(errand);
		tsk_drop_task(task);
		return;
	}
	tsk_fail_errand(errand, task->cancelled ? "57014" : "HYT00", task->cancelled ? "cancelled by cancel_task()" : "its deadline has passed");
}

static void
give_up_some(void)
{
	TimestampTz now = tsk_now();
	dlist_mutable_iter it;

	dlist_foreach_modify(it, &tsk_running)
	{
		tsk_task   *task = dlist_container(tsk_task, node, it.cur);

		if (task->cancelled || task->lease == 0 || (task->deadline != 0 && task->deadline <= now))
			give_up(task->subject);
	}
}

static void
renew_leases(void)
{
	tsk_task  **tasks;
	dlist_iter	it;
	int			n = 0;

	if (tsk_n_running + tsk_n_finished == 0 || !is_over(renewed, lane.lease_s * 1000 / 3))
		return;
	renewed = now_us();
	tasks = palloc(sizeof(*tasks) * (Size) (tsk_n_running + tsk_n_finished));
	dlist_foreach(it, &tsk_running)
		tasks[n++] = dlist_container(tsk_task, node, it.cur);
	dlist_foreach(it, &tsk_finished)
		tasks[n++] = dlist_container(tsk_task, node, it.cur);
	tsk_renew_leases(&lane, tasks, n);
	MR_FAILPOINT("call.renewed");
}

static void
look(void)
{
	uint64		rung = mr_change_count(MR_CHANGE_CALLS, MyDatabaseId);
	TimestampTz begun = now_us();

	if (!mr_worker_changed() && !is_over(looked, rung != heard ? RUNG_MS : LOOK_MS))
		return;
	if (!tsk_lane_unchanged(&lane) && !tsk_lane_load(&lane))
		leaving = true;
	tsk_look(&lane);
	renew_leases();
	tsk_forgive_links(now_us() - begun);
	give_up_some();
	leaving = leaving || (lane.memory > 0 && mr_resident_bytes() > lane.memory);
	looked = begun;
	heard = rung;
}

/* ---- calls */

/* Claim for each provider in turn; which is first changes.  True: there was something. */
static bool
claim_some(void)
{
	static int	first = 0;
	tsk_provider **providers;
	int			n = tsk_providers(&providers);
	bool		some = false;

	if (leaving || troubles > 0)
		return false;
	first++;
	for (int i = 0; i < n; i++)
		some = tsk_claim_tasks(&lane, providers[(first + i) % n]) || some;
	return some;
}

static void
take_answers(void)
{
	tsk_errand *errand;

	tsk_turn_links();
	while ((errand = tsk_next_answer()) != NULL)
	{
		tsk_judge_errand(&lane, errand);
		tsk_finish_errand(errand);
	}
	tsk_close_links(false);
}

/* Answers that pause their provider have been written: from now on the tables say it. */
static void
note_refusals(void)
{
	tsk_provider **providers;
	int			n = tsk_providers(&providers);

	for (int i = 0; i < n; i++)
		if (providers[i]->refused)
		{
			providers[i]->refused = false;
			looked = 0;
		}
}

/* When finished tasks are to be ended. */
static TimestampTz
end_due(void)
{
	TimestampTz gathered = tsk_n_finished >= GATHER ? 0 : finished_since + GATHER_MS * INT64CONST(1000);

	return tsk_n_finished == 0 ? DT_NOEND : Max(end_at, gathered);
}

static void
end_finished(void)
{
	tsk_task  **tasks = palloc(sizeof(*tasks) * (Size) tsk_n_finished);
	TimestampTz begun = now_us();
	dlist_iter	it;
	int			n = 0;
	int			n_left = 0;

	MR_FAILPOINT("call.finished");
	dlist_foreach(it, &tsk_finished)
		tasks[n++] = dlist_container(tsk_task, node, it.cur);
	if (tsk_end_tasks(&lane, tasks, n, &n_left))
	{
		n_left = 0;
		troubles = 0;
		note_refusals();
	}
	else
	{
		end_at = now_us() + Min((int64) TROUBLE_MS << Min(troubles, 8), TROUBLE_MAX_MS) * 1000;
		troubles++;
	}
	tsk_forgive_links(now_us() - begun);
	for (int i = n_left; i < n; i++)
	{
		dlist_delete(&tasks[i]->node);
		tsk_drop_task(tasks[i]);
	}
	tsk_n_finished = n_left;
	n_ended += n - n_left;
	leaving = leaving || (lane.max_tasks > 0 && n_ended >= lane.max_tasks);
	MR_FAILPOINT("call.ended");
}

/* ---- the loop */

/* Sleep until something happens: a socket, the latch, a limit of time, a task that is due. */
static void
wait_for_more(void)
{
	tsk_provider **providers;
	int			n = tsk_providers(&providers);
	TimestampTz until = now_us() + LOOK_MS * INT64CONST(1000);
	TimestampTz ahead = tsk_now() - now_us();

	until = Min(until, end_due());
	if (heard != mr_change_count(MR_CHANGE_CALLS, MyDatabaseId))
		until = Min(until, looked + RUNG_MS * INT64CONST(1000));
	for (int i = 0; i < n && !leaving && troubles == 0; i++)
	{
		TimestampTz next = tsk_next_claim(&lane, providers[i]);

		if (next != DT_NOEND)
			until = Min(until, next - ahead);
	}
	pgstat_report_stat(false);
	tsk_wait_links(until);
}

/* Is there nothing to do, and will be nothing for a while? */
static bool
is_idle(void)
{
	tsk_provider **providers;
	int			n = tsk_providers(&providers);

	if (tsk_n_running + tsk_n_finished > 0)
		return false;
	for (int i = 0; i < n; i++)
		if (!providers[i]->queue->paused && (providers[i]->more || tsk_tasks_due(providers[i]->queue) < tsk_now() + IDLE_MS * INT64CONST(1000)))
			return false;
	return true;
}

static void
turn(void)
{
	static TimestampTz busy = 0;	/* when there was last something to do */
	bool		some;

	look();
	take_answers();
	some = claim_some();
	if (end_due() <= now_us())
	{
		end_finished();
		some = true;
	}
	if (troubles == 0)
		tsk_lane_report(&lane, leaving ? "leaving" : "running", NULL, NULL);
	if (leaving && tsk_n_running + tsk_n_finished == 0)
	{
		tsk_lane_report(&lane, "stopped", NULL, NULL);
		proc_exit(0);
	}
	if (some || busy == 0 || !is_idle())
		busy = now_us();
	else if (is_over(busy, IDLE_MS))
	{
		if (tsk_lane_idle(&lane))
			proc_exit(0);
		busy = now_us();
	}
	if (!some)
		wait_for_more();
	mr_answer_server();
}

void
millrace_calls_main(Datum arg)
{
	const mr_worker_args *args = mr_worker_begin(MR_CALLS_TYPE);
	MemoryContext cxt;
	volatile int failures = 0;
	volatile bool ready = false;

	before_shmem_exit(close_at_exit, 0);
	/* What was called must not be called again because of a crash. */
	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		SetConfigOption("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION);
	/* Servers speak UTF-8: what is cached for it converts outside of transactions, too. */
	mr_begin("set up");
	SetConfigOption("client_encoding", "UTF8", PGC_USERSET, PGC_S_SESSION);
	mr_commit();
	lane.lane = TSK_LANE_CALL;
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
				forget_all();
				ready = true;
			}
			turn();
			failures = 0;
		}
		PG_CATCH();
		{
			ErrorData  *error = mr_recover(cxt);

			forget_all();
			ready = false;
			tsk_lane_report(&lane, "waiting", unpack_sql_state(error->sqlerrcode), error->message);
			failures++;
			mr_wait_latch(mr_pause_ms(failures));
		}
		PG_END_TRY();
	}
}
