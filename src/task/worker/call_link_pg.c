/*
 * call_link_pg.c
 *	  Connections to providers, and sleeping on all of them at once.
 *
 * A provider whose server was altered gets a new net; calls that are under way
 * end over the old one, which is then closed.
 *
 * Memory: links in TopMemoryContext, nets malloc'd.  Locks: none.
 */
#include "postgres.h"

#include "task/worker/call.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/compat.h"

static dlist_head links = DLIST_STATIC_INIT(links);
static int	n_links = 0;
static bool changed = true;		/* since the wait event set was made */

tsk_link *
tsk_open_link(tsk_provider *provider)
{
	tsk_link   *link = MemoryContextAllocZero(TopMemoryContext, sizeof(*link));
	char		error[128];

	link->net = tsk_net_open(&provider->net, error, sizeof(error));
	if (link->net == NULL)
	{
		pfree(link);
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("libcurl could not be set up: %s", error)));
	}
	dlist_push_tail(&links, &link->node);
	n_links++;
	changed = true;
	provider->link = link;
	return link;
}

void
tsk_retire_link(tsk_provider *provider)
{
	if (provider->link)
		provider->link->old = true;
	provider->link = NULL;
}

void
tsk_close_links(bool all)
{
	dlist_mutable_iter it;

	dlist_foreach_modify(it, &links)
	{
		tsk_link   *link = dlist_container(tsk_link, node, it.cur);

		if (!all && (!link->old || link->calls > 0))
			continue;
		dlist_delete(&link->node);
		n_links--;
		changed = true;
		tsk_net_close(link->net);
		pfree(link);
	}
}

void
tsk_turn_links(void)
{
	dlist_iter	it;

	dlist_foreach(it, &links)
		tsk_net_turn(dlist_container(tsk_link, node, it.cur)->net);
}

tsk_errand *
tsk_next_answer(void)
{
	dlist_iter	it;

	dlist_foreach(it, &links)
	{
		tsk_transfer *t = tsk_net_done(dlist_container(tsk_link, node, it.cur)->net);

		if (t != NULL)
			return t->subject;
	}
	return NULL;
}

void
tsk_forgive_links(int64 us)
{
	dlist_iter	it;

	dlist_foreach(it, &links)
		tsk_net_forgive(dlist_container(tsk_link, node, it.cur)->net, us);
}

/* Sleep until then, until the latch is set, a socket has something, or a limit of time has come. */
void
tsk_wait_links(TimestampTz until)
{
	static WaitEventSet *set = NULL;
	TimestampTz now = GetCurrentTimestamp();
	WaitEvent	event;
	dlist_iter	it;

	if (changed)
	{
		if (set)
			FreeWaitEventSet(set);
		set = NULL;				/* should the next fail */
		set = CompatCreateWaitEventSet(2 + n_links);
		AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		dlist_foreach(it, &links)
			AddWaitEventToSet(set, WL_SOCKET_READABLE, tsk_net_fd(dlist_container(tsk_link, node, it.cur)->net), NULL, NULL);
		changed = false;
	}
	dlist_foreach(it, &links)
	{
		int			ms = tsk_net_wait_ms(dlist_container(tsk_link, node, it.cur)->net);

		if (ms >= 0)
			until = Min(until, now + ms * INT64CONST(1000));
	}
	if (WaitEventSetWait(set, until > now ? (long) ((until - now) / 1000 + 1) : 0, &event, 1, PG_WAIT_EXTENSION) == 1 &&
		event.events & WL_LATCH_SET)
		ResetLatch(MyLatch);
}
