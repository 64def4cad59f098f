/*
 * call_claim_pg.c
 *	  Which tasks of a provider may begin now, and beginning them.
 *
 * A task begins when the pool has a slot and limits.h admits it.  A call that
 * was admitted is to begin within a second; where the commit of the claim took
 * longer it is admitted anew, or put back as if nobody had claimed it.
 *
 * While a provider's breaker is not closed, tasks that have a further provider
 * go there at once; their attempt does not count.  Others wait until it is
 * closed again, and pass their turn on to those behind them: at each look at
 * most MAX_PASSED do, so that a long queue of them is not read every time.
 *
 * Memory: errands in their task's context.  Locks: limits.h's own.
 */
#include "postgres.h"

#include "task/worker/call.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/failpoint.h"
#include "core/shared_pg.h"

#define LOOK_MS 1000			/* for new tasks, even if nobody rang */
#define PACE_MS 10				/* between claims, unless a quarter of what may run is free */
#define BEGIN_WITHIN_MS 1000	/* of the admission */
#define MAX_PASSED 1000			/* tasks that wait for a breaker, passed at one look */

/* Called by the claim for each task in turn; throws nothing. */
static tsk_choice
admit(void *subject, const tsk_candidate *candidate, TimestampTz *until)
{
	tsk_provider *p = subject;

	if (p->barred)
		return TSK_STOP;
	if (!OidIsValid(p->server))
		return TSK_TAKE;		/* to be told why */
	switch (tsk_limits_admit(p->server, &p->limits, candidate->tenant, candidate->weight, until))
	{
		case TSK_ADMITTED:
			return TSK_TAKE;
		case TSK_TENANT_FULL:
			return TSK_DEFER;
		case TSK_FULL:
			break;
	}
	p->closed_until = *until;
	if (!p->unwell)
		return TSK_STOP;
	if (candidate->more && p->n_moving < TSK_MAX_CONCURRENCY)
	{
		p->moving[p->n_moving++] = candidate->id;
		return TSK_TAKE;
	}
	return candidate->more || ++p->n_passed > MAX_PASSED ? TSK_STOP : TSK_DEFER;
}

/* Is its breaker open, or about to find out? */
static bool
is_unwell(const tsk_provider *p)
{
	tsk_limits_state state;

	return OidIsValid(p->server) && tsk_limits_look(p->server, "", &state) && state.breaker != TSK_CLOSED;
}

/* How many more may run. */
static int
room(const tsk_lane *lane, const tsk_provider *p)
{
	int			slots = lane->slots - tsk_n_running - Max(tsk_n_finished - lane->slots, 0);
	int			own = OidIsValid(p->server) ? p->limits.concurrency - p->n_running : lane->slots;

	return Max(Min(slots, own), 0);
}

/* Shall it be asked for tasks now? */
static bool
worth_asking(const tsk_lane *lane, const tsk_provider *p, uint64 rung, TimestampTz now)
{
	int			most = room(lane, p);
	bool		some = p->more || rung != p->heard || tsk_tasks_due(p->queue) <= now || now < p->looked;

	if (now - p->looked >= LOOK_MS * INT64CONST(1000))
		return true;
	if (!some || most == 0 || (p->closed_until > now && !p->unwell))
		return false;
	return now - p->looked >= PACE_MS * INT64CONST(1000) || most * 4 >= Min(lane->slots, p->limits.concurrency);
}

static bool
is_moving(const tsk_provider *p, const tsk_task *task)
{
	for (int i = 0; i < p->n_moving; i++)
		if (memcmp(&p->moving[i], &task->id, sizeof(task->id)) == 0)
			return true;
	return false;
}

/* A task just claimed begins. */
static void
begin_task(tsk_provider *p, tsk_task *task, Oid server, TimestampTz admitted_at)
{
	tsk_errand *errand = MemoryContextAllocZero(task->cxt, sizeof(*errand));

	errand->task = task;
	errand->provider = p;
	task->subject = errand;
	task->tokens_in = task->tokens_out = -1;
	task->cost = -1;
	if (is_moving(p, task))
	{
		task->moves_on = true;
		tsk_finish_errand(errand);
		return;
	}
	errand->server = server;
	errand->admitted_at = admitted_at;
	tsk_start_errand(errand);
}

bool
tsk_claim_tasks(tsk_lane *lane, tsk_provider *p)
{
	uint64		rung = mr_change_count(MR_CHANGE_CALLS, MyDatabaseId);
	TimestampTz now = tsk_now();
	TimestampTz begun = GetCurrentTimestamp();
	dlist_head	tasks = DLIST_STATIC_INIT(tasks);
	int			most = room(lane, p);
	Oid			server = p->server;
	int			n;

	if (!worth_asking(lane, p, rung, now))
		return false;
	/* Even where nothing may begin the claim ends tasks that were cancelled. */
	p->unwell = is_unwell(p);
	p->barred = most == 0 || (p->closed_until > now && !p->unwell);
	p->n_moving = p->n_passed = 0;
	n = tsk_take_tasks(lane, p->queue, Max(most, 1), admit, p, &tasks);
	tsk_forgive_links(GetCurrentTimestamp() - begun);
	p->looked = now;
	p->heard = rung;
	p->more = tsk_more_tasks(p->queue);
	if (n == 0)
		return false;
	MR_FAILPOINT("call.claimed");
	tsk_refresh_providers();	/* what was altered before the claim holds for it */
	while (!dlist_is_empty(&tasks))
		begin_task(p, dlist_container(tsk_task, node, dlist_pop_head_node(&tasks)), server, begun);
	MR_FAILPOINT("call.started");
	return true;
}

TimestampTz
tsk_next_claim(const tsk_lane *lane, const tsk_provider *p)
{
	TimestampTz next = p->more ? p->looked + PACE_MS * INT64CONST(1000) : tsk_tasks_due(p->queue);

	return room(lane, p) == 0 ? DT_NOEND : p->unwell ? next : Max(next, p->closed_until);
}

bool
tsk_admit_late(tsk_errand *errand)
{
	tsk_provider *p = errand->provider;
	tsk_task   *task = errand->task;
	TimestampTz now = GetCurrentTimestamp();

	if (errand->server == p->server && now - errand->admitted_at <= BEGIN_WITHIN_MS * INT64CONST(1000))
		return true;
	tsk_give_back(errand, 0, TSK_UNKNOWN, false);
	if (tsk_limits_admit(p->server, &p->limits, task->tenant, task->weight, &task->due_at) != TSK_ADMITTED)
		return false;
	errand->server = p->server;
	errand->admitted_at = now;
	return true;
}

void
tsk_give_back(tsk_errand *errand, int used, tsk_health health, bool slow_down)
{
	tsk_provider *p = errand->provider;

	if (!OidIsValid(errand->server))
		return;
	tsk_limits_done(errand->server, &p->limits, errand->task->tenant, errand->task->weight, used, health, slow_down);
	errand->server = InvalidOid;
	p->closed_until = 0;		/* there is room for another, perhaps */
}
