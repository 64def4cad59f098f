/*
 * io_box_pg.c
 *	  Boxes of executors: which request is given to whom, and when it comes back or is given up.
 *
 * A box that is ours (ASKED, RUNNING, DONE) is told by given[]; gwi_in_box[] is who waits for it, NULL where the
 * client went away or waited too long: the executor's answer is then thrown away.
 *
 * Memory: requests and responses in the area; each box keeps a small request's chunk for the next one.
 * Locks: the gateways' entries, at the beginning and the end; the area's own.
 */
#include "postgres.h"

#include "gateway/worker/io_pg.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "utils/memutils.h"

#include "core/failpoint.h"
#include "core/process_pg.h"

StaticAssertDecl(GWI_MAX_BOXES == GW_MAX_EXECUTORS, "one gwi_in_box[] per box");

#define KEEP_BYTES (32 * 1024)	/* of a request's chunk */
#define GRACE_US 1500000		/* after its time, before a request is cancelled from here: its executor should have done so */

typedef struct given_box
{
	bool		used;
	bool		cancelled;
	uint64		serial;
	int			pid;
	gwi_route_state *route;
	dsa_pointer request;		/* kept */
	Size		size;
} given_box;

static dsa_area *area;
static gw_hall *hall;
static gw_anchor_entry *entry;
static uint64 generation;
static given_box given[GW_MAX_EXECUTORS];
static gwi_request *at_work;	/* being given or taken: an ERROR is its fault */
static int	at_box = -1;		/* whose response is being taken */

/* ---- the gateway's entry */

static void
close_entry(int code, Datum arg)
{
	gw_anchor  *anchor = gw_anchor_block();

	if (entry == NULL)
		return;
	LWLockAcquire(&anchor->head.lock, LW_EXCLUSIVE);
	if (entry->generation == generation && entry->io_pid == MyProcPid)
		entry->io_pid = 0;
	LWLockRelease(&anchor->head.lock);
	entry = NULL;
	for (int b = 0; b < GW_MAX_EXECUTORS; b++)
	{
		PGPROC	   *proc = hall->box[b].proc;

		if (proc && pg_atomic_read_u32(&hall->box[b].state) != GW_EMPTY)
			SetLatch(&proc->procLatch);
	}
}

void
gwi_boxes_open(void)
{
	gw_anchor  *anchor = gw_anchor_block();
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	gw_anchor_entry *place = NULL;
	static dsa_pointer p;

	if (area == NULL)
	{
		area = dsa_create(anchor->head.tranche);
		dsa_pin_mapping(area);
		before_shmem_exit(close_entry, (Datum) 0);
	}
	MemoryContextSwitchTo(caller);
	if (hall == NULL)
	{
		p = dsa_allocate0(area, sizeof(gw_hall));
		hall = dsa_get_address(area, p);
	}
	hall->io = MyProc;
	for (int b = 0; b < GW_MAX_EXECUTORS; b++)
	{
		pg_atomic_init_u32(&hall->box[b].state, GW_EMPTY);
		pg_atomic_init_u64(&hall->box[b].cancel, 0);
		given[b].request = InvalidDsaPointer;
	}
	LWLockAcquire(&anchor->head.lock, LW_EXCLUSIVE);
	for (int i = 0; i < GW_MAX_GATEWAYS; i++)
		if (anchor->gateway[i].database == MyDatabaseId)
			place = &anchor->gateway[i];
	for (int i = 0; i < GW_MAX_GATEWAYS && place == NULL; i++)
		if (anchor->gateway[i].io_pid == 0)
			place = &anchor->gateway[i];
	if (place)
	{
		place->database = MyDatabaseId;
		place->io_pid = MyProcPid;
		place->generation = generation = ++anchor->next_generation;
		place->area = dsa_get_handle(area);
		place->hall = p;
		entry = place;
	}
	LWLockRelease(&anchor->head.lock);
	if (place == NULL)
		gwi_not_now("as many databases as can have one have a gateway already");
}

/* ---- giving */

/* Room for a request; InvalidDsaPointer: there is none. */
static dsa_pointer
room_for(given_box *g, Size size)
{
	if (DsaPointerIsValid(g->request) && g->size >= size && (g->size <= KEEP_BYTES || g->size / 2 <= size))
		return g->request;
	if (DsaPointerIsValid(g->request))
		dsa_free(area, g->request);
	g->size = Max(size, KEEP_BYTES);
	g->request = InvalidDsaPointer;
	g->request = dsa_allocate_extended(area, g->size, DSA_ALLOC_HUGE | DSA_ALLOC_NO_OOM);
	return g->request;
}

/* Where a request goes once its time has come (again). */
static void
make_wait(gwi_request *r, gw_kind kind)
{
	gwi_leave(r);
	r->kind = kind;
	r->state = GWI_WAITING;
	r->deadline_us = gwi_now_us() + r->route->timeout_ms * INT64CONST(1000);
	TAILQ_INSERT_TAIL(&gwi_waiting, r, node);
	gwi_n_waiting++;
}

/* False: the executor has just left its box. */
static bool
give(int b, gwi_request *r)
{
	gw_box	   *box = &hall->box[b];
	PGPROC	   *proc = box->proc;
	uint32		idle = GW_IDLE;
	const char *function = r->kind == GW_POLL ? r->route->poll_function : r->route->function;
	Size		size = gwi_request_size(r, function);
	dsa_pointer p;

	at_work = r;
	MR_FAILPOINT("gateway.give");
	p = room_for(&given[b], size);
	if (!DsaPointerIsValid(p))
	{
		at_work = NULL;
		gwi_fail(r, 503, "there is no room for the request in shared memory");
		return true;
	}
	gwi_request_write(r, function, dsa_get_address(area, p), size);
	at_work = NULL;
	given[b].pid = box->pid;
	box->serial = r->serial;
	box->request = p;
	box->response = InvalidDsaPointer;
	pg_write_barrier();
	if (proc == NULL || !pg_atomic_compare_exchange_u32(&box->state, &idle, GW_ASKED))
		return false;
	SetLatch(&proc->procLatch);
	gwi_leave(r);
	r->state = GWI_RUNNING;
	r->box = b;
	gwi_in_box[b] = r;
	given[b].used = true;
	given[b].cancelled = false;
	given[b].serial = r->serial;
	given[b].route = r->route->state;
	given[b].route->running++;
	if (r->route->interval_ms == 0)
		gwi_body_free(r);		/* the executor has it */
	return true;
}

static bool
is_idle(int b)
{
	bool		idle = !given[b].used && pg_atomic_read_u32(&hall->box[b].state) == GW_IDLE;

	pg_read_barrier();
	return idle;
}

void
gwi_boxes_give(void)
{
	gwi_request *r,
			   *next;
	int			b = 0;

	/* answers that nobody reads hold memory: they are waited for, or cut */
	if (gwi_memory > GWI_MEMORY)
		return;
	for (r = TAILQ_FIRST(&gwi_waiting); r; r = next)
	{
		next = TAILQ_NEXT(r, node);
		if (r->route->concurrency > 0 && r->route->state->running >= r->route->concurrency)
			continue;
		for (;; b++)
		{
			while (b < GW_MAX_EXECUTORS && !is_idle(b))
				b++;
			if (b == GW_MAX_EXECUTORS)
			{
				gwi_idle = 0;
				return;
			}
			if (give(b, r))
				break;
		}
	}
	gwi_idle = 0;
	for (b = 0; b < GW_MAX_EXECUTORS; b++)
		gwi_idle += is_idle(b);
}

/* ---- taking */

/* The box is not in use any more. */
static gwi_request *
release(int b)
{
	gwi_request *r = gwi_in_box[b];

	given[b].used = false;
	given[b].route->running--;
	gwi_in_box[b] = NULL;
	if (r)
		r->box = -1;
	return r;
}

/* Its response is taken; the executor may have another request. */
static void
empty(int b)
{
	gw_box	   *box = &hall->box[b];
	dsa_pointer p = box->response;

	at_box = -1;
	box->response = InvalidDsaPointer;
	pg_write_barrier();
	pg_atomic_write_u32(&box->state, box->leaving ? GW_EMPTY : GW_IDLE);
	if (DsaPointerIsValid(p))
		dsa_free(area, p);
}

void
gwi_boxes_take(void)
{
	for (int b = 0; b < GW_MAX_EXECUTORS; b++)
	{
		gw_box	   *box = &hall->box[b];
		uint32		state;
		gwi_request *r;

		if (!given[b].used)
			continue;
		state = pg_atomic_read_u32(&box->state);
		pg_read_barrier();
		if (state == GW_DONE)
		{
			dsa_pointer p = box->response;

			at_work = r = release(b);
			at_box = b;
			MR_FAILPOINT("gateway.take");
			if (r && !DsaPointerIsValid(p))
				gwi_fail(r, 503, "there is no room for the response in shared memory");
			else if (r)
				gwi_reply_take(r, dsa_get_address(area, p));
			at_work = NULL;
			empty(b);
		}
		else if (state == GW_EMPTY || state == GW_IDLE || box->pid != given[b].pid)
		{
			/* the executor ended, and perhaps another has come */
			r = release(b);
			if (r)
				gwi_fail(r, 503, "the process that ran the request ended");
		}
	}
}

void
gwi_boxes_failed(void)
{
	gwi_request *r = at_work;

	at_work = NULL;
	if (at_box >= 0)
		empty(at_box);
	if (r && !r->queued && r->answer == NULL)
		gwi_fail(r, 503, "the request could not be carried out");
}

/* ---- times, clients */

static void
cancel(int b)
{
	gw_box	   *box = &hall->box[b];

	if (given[b].cancelled)
		return;
	given[b].cancelled = true;
	pg_atomic_write_u64(&box->cancel, given[b].serial);
	pg_memory_barrier();
	if (box->pid == given[b].pid && BackendPidGetProc(box->pid) != NULL)
		(void) kill(box->pid, SIGUSR2);
}

/* Its answer is awaited by nobody any more. */
static void
abandon(gwi_request *r, int status, const char *message)
{
	if (r->box >= 0)
	{
		cancel(r->box);
		gwi_in_box[r->box] = NULL;
		r->box = -1;
	}
	if (r->stream)
		gwi_stream_end(r);
	else
		gwi_refuse(r, status, message);
}

static void
went_away(gwi_request *r)
{
	r->close = true;
	gwi_leave(r);
	abandon(r, 499, "the client went away");
}

/* May a stream go on?  Its token, and the route, as they are now. */
static bool
still_allowed(gwi_request *r)
{
	const gwi_route *route = gwi_book_route(gwi_current, r->route->id);
	const gwi_who *who = r->token ? gwi_find(gwi_current, r->sha256) :
		route && route->open ? &gwi_current->open : &gwi_current->anonymous;

	return route && who && gwi_usable(who) && who->role == r->role && (route->open || gwi_allows(who, route));
}

void
gwi_boxes_look(int64 now)
{
	static int64 looked = 0;
	gwi_request *r,
			   *next;

	for (r = TAILQ_FIRST(&gwi_pending); r; r = next)
	{
		next = TAILQ_NEXT(r, node);
		if (now < r->due_us)
			continue;
		if (r->stream && still_allowed(r))
			make_wait(r, GW_EVENT);
		else if (r->stream)
		{
			gwi_leave(r);
			gwi_stream_end(r);
		}
		else if (now >= r->until_us)
			gwi_send_later(r);
		else
			make_wait(r, GW_POLL);
	}
	if (now - looked < 100000)
		return;
	looked = now;
	gwi_look_away(now, went_away);
	for (r = TAILQ_FIRST(&gwi_waiting); r; r = next)
	{
		next = TAILQ_NEXT(r, node);
		if (now > r->deadline_us)
			gwi_fail(r, 503, "the request waited too long for its turn");
	}
	for (int b = 0; b < GW_MAX_EXECUTORS; b++)
		if (gwi_in_box[b] && now > gwi_in_box[b]->deadline_us + GRACE_US)
			abandon(gwi_in_box[b], 503, "the request took too long");
}

int64
gwi_boxes_due(void)
{
	int64		due = PG_INT64_MAX;
	bool		working = !TAILQ_EMPTY(&gwi_waiting);
	gwi_request *r;

	TAILQ_FOREACH(r, &gwi_pending, node)
		due = Min(due, r->due_us);
	for (int b = 0; b < GW_MAX_EXECUTORS && !working; b++)
		working = gwi_in_box[b] != NULL;
	if (working || due != PG_INT64_MAX)
		due = Min(due, gwi_now_us() + 100000);
	return due;
}
