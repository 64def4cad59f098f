/*
 * call_claim_pg.c
 *	  Which tasks of a provider may begin now, and beginning them.
 *
 * A task begins when the pool has a slot and limits.h admits it.  Where the
 * commit of the claim took too long for its admission, it is put back as if
 * nobody had claimed it (call_start_pg.c).
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
#define MAX_PASSED 1000			/* tasks that wait for a breaker, passed at one look */

/* Called by the claim for each task in turn; throws nothing. */
static tsk_choice
admit(void *subject, const tsk_candidate *candidate, TimestampTz *until)
{
	tsk_provider *p = subject;
	tsk_admitted *a = &p->admitted[p->n_admitted];

	if (p->barred || p->n_admitted == lengthof(p->admitted))
		return TSK_STOP;
	if (!OidIsValid(p->server))
		return TSK_TAKE;		/* to be told why */
	a->id = candidate->id;
	a->moves_on = false;
	*until = tsk_now() + LOOK_MS * INT64CONST(1000);
	switch (p->room > 0 ? tsk_limits_admit(p->server, &p->limits, candidate->tenant, candidate->weight, &a->pass, until) : TSK_FULL)
	{
		case TSK_ADMITTED:
			p->n_admitted++;
			p->room--;
			return TSK_TAKE;
		case TSK_TENANT_FULL:
			return TSK_DEFER;
		case TSK_FULL:
			break;
	}
	p->closed_until = *until;
	if (!p->unwell)
		return TSK_STOP;
	if (!candidate->more)
		return ++p->n_passed > MAX_PASSED ? TSK_STOP : TSK_DEFER;
	a->moves_on = true;
	p->n_admitted++;
	return TSK_TAKE;
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
	if (!some || p->refused || p->queue->paused || (!p->unwell && (most == 0 || p->closed_until > now)))
		return false;
	return now - p->looked >= PACE_MS * INT64CONST(1000) || most * 4 >= Min(lane->slots, p->limits.concurrency);
}

/* What was said of it; NULL: its provider is not to be used. */
static tsk_admitted *
find_admitted(tsk_provider *p, const tsk_task *task)
{
	for (int i = 0; i < p->n_admitted; i++)
		if (memcmp(&p->admitted[i].id, &task->id, sizeof(task->id)) == 0)
			return &p->admitted[i];
	return NULL;
}

/* A task just claimed begins. */
static void
begin_task(tsk_provider *p, tsk_task *task)
{
	tsk_errand *errand = MemoryContextAllocZero(task->cxt, sizeof(*errand));
	tsk_admitted *a = find_admitted(p, task);

	errand->task = task;
	errand->provider = p;
	task->subject = errand;
	task->tokens_in = task->tokens_out = -1;
	task->cost = -1;
	if (a)
	{
		task->moves_on = a->moves_on;
		errand->admitted = !a->moves_on;
		errand->pass = a->pass;
	}
	if (task->lease == 0)
	{
		/* Somebody else had it first. */
		tsk_give_back(errand, 0, TSK_NOT_BEGUN, false);
		tsk_drop_task(task);
	}
	else if (task->moves_on)
		tsk_finish_errand(errand);
	else
		tsk_start_errand(errand);
}

bool
tsk_claim_tasks(tsk_lane *lane, tsk_provider *p)
{
	uint64		rung = mr_change_count(MR_CHANGE_CALLS, MyDatabaseId);
	TimestampTz now = tsk_now();
	TimestampTz begun = GetCurrentTimestamp();
	int			most;

	if (!worth_asking(lane, p, rung, now))
		return false;
	if (OidIsValid(p->server) && !tsk_limits_known(p->server))
		tsk_limits_learn(p->server, p->queue->name, &p->limits);
	p->room = room(lane, p);
	p->unwell = is_unwell(p);
	/* Even where nothing may begin the claim ends tasks that were cancelled; who moves on needs no room. */
	p->barred = p->refused || (!p->unwell && (p->room == 0 || p->closed_until > now));
	p->n_admitted = p->n_passed = 0;
	most = p->unwell ? lengthof(p->admitted) : Max(p->room, 1);
	(void) tsk_take_tasks(lane, p->queue, most, admit, p, &tsk_claimed);
	tsk_forgive_links(GetCurrentTimestamp() - begun);
	p->looked = now;
	p->heard = rung;
	p->more = tsk_more_tasks(p->queue);
	if (dlist_is_empty(&tsk_claimed))
		return false;
	MR_FAILPOINT("call.claimed");
	tsk_refresh_providers();	/* what was altered before the claim holds for it */
	while (!dlist_is_empty(&tsk_claimed))
		begin_task(p, dlist_container(tsk_task, node, dlist_pop_head_node(&tsk_claimed)));
	MR_FAILPOINT("call.started");
	return true;
}

TimestampTz
tsk_next_claim(const tsk_lane *lane, const tsk_provider *p)
{
	TimestampTz next = p->more ? p->looked + PACE_MS * INT64CONST(1000) : tsk_tasks_due(p->queue);

	if (p->unwell && !p->queue->paused)
		return next;
	return room(lane, p) == 0 || p->queue->paused ? DT_NOEND : Max(next, p->closed_until);
}

void
tsk_give_back(tsk_errand *errand, int used, tsk_health health, bool slow_down)
{
	if (!errand->admitted)
		return;
	tsk_limits_done(&errand->pass, used, health, slow_down);
	errand->admitted = false;
	errand->provider->closed_until = 0; /* there is room for another, perhaps */
}
