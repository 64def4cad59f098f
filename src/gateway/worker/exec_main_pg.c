/*
 * exec_main_pg.c
 *	  Life of an executor: it finds the gateway of its database, takes the box of
 *	  its index there, and answers one request at a time.
 *
 * When the I/O worker ends, the executor lets go of its area and waits for the
 * next one.  It ends when asked to, or to make room for a new process when it has grown:
 * functions leak.  It leaves between requests only, but where the server ends it.
 *
 * A request is cancelled by its serial number: SIGUSR2 says look, box.cancel which.  The
 * handler compares it with the one under way, so a signal that comes late cancels nothing.
 *
 * Memory: a context a request.  Locks: none between requests; the gateway's entry is
 * read under the lock of its block.
 */
#include "postgres.h"

#include <signal.h>

#include "gateway/worker/exec_int.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "core/process_pg.h"

#define LOOK_MS 1000			/* so often: is the gateway still there? */
#define SEEK_MS 100				/* the same, while there is none */
#define GROWN_BYTES (INT64CONST(512) << 20)	/* a new process takes its place */
#define WEIGH_EVERY 256			/* requests: how large is it? */

extern PGDLLEXPORT void millrace_executor_main(Datum arg);

static dsa_area *area;
static gw_box *box;				/* ours, NULL: none */
static gw_hall *hall;
static dsa_pointer unsent;		/* a response that the I/O worker has not got yet */
static volatile uint64 under_way;	/* serial of the request that may be cancelled */

/* ---- cancelling */

static void
look_for_cancel(SIGNAL_ARGS)
{
	int			save_errno = errno;

	if (under_way != 0 && pg_atomic_read_u64(&box->cancel) == under_way)
	{
		QueryCancelPending = true;
		InterruptPending = true;
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

/* ---- the box */

/* The gateway of our database, if it runs. */
static bool
find_gateway(gw_anchor_entry *found)
{
	gw_anchor  *anchor = gw_anchor_block();

	found->io_pid = 0;
	LWLockAcquire(&anchor->head.lock, LW_SHARED);
	for (int i = 0; i < GW_MAX_GATEWAYS; i++)
		if (anchor->gateway[i].database == MyDatabaseId && anchor->gateway[i].io_pid != 0)
			*found = anchor->gateway[i];
	LWLockRelease(&anchor->head.lock);
	return found->io_pid != 0 && BackendPidGetProc(found->io_pid) != NULL;
}

/* The box is ours no more.  What is in it and not answered is the I/O worker's to answer. */
static void
leave_box(int code, Datum arg)
{
	gw_box	   *b = box;

	if (b == NULL)
		return;
	under_way = 0;
	/* an answer that it has not fetched yet is worth a moment */
	for (int i = 0; i < 1000 && pg_atomic_read_u32(&b->state) == GW_DONE; i++)
		pg_usleep(1000);
	box = NULL;
	if (DsaPointerIsValid(unsent))
		dsa_free(area, unsent);
	unsent = InvalidDsaPointer;
	b->pid = 0;
	b->proc = NULL;
	pg_write_barrier();
	pg_atomic_write_u32(&b->state, GW_EMPTY);
	SetLatch(&hall->io->procLatch);
}

static void
take_box(const gw_anchor_entry *gateway, int index)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	area = dsa_attach(gateway->area);
	dsa_pin_mapping(area);
	MemoryContextSwitchTo(old);
	hall = dsa_get_address(area, gateway->hall);
	box = &hall->box[index];
	box->pid = MyProcPid;
	box->proc = MyProc;
	box->leaving = false;
	pg_write_barrier();
	pg_atomic_write_u32(&box->state, GW_IDLE);
	SetLatch(&hall->io->procLatch);
}

/* Of a gateway that ended: its memory goes when nobody has it attached. */
static void
drop_hall(void)
{
	box = NULL;
	hall = NULL;
	unsent = InvalidDsaPointer;
	if (area)
		dsa_detach(area);
	area = NULL;
}

/* Take back an idle box; false: there is something in it. */
static bool
vacate(void)
{
	uint32		idle = GW_IDLE;

	if (!pg_atomic_compare_exchange_u32(&box->state, &idle, GW_EMPTY))
		return false;
	leave_box(0, (Datum) 0);
	return true;
}

/* ---- a request */

/* Grown too large?  Weighed now and then, for that reads a file. */
static bool
has_grown(void)
{
	static int64 light = 0;
	static uint32 n = 0;
	int64		bytes;

	if (n++ % WEIGH_EVERY != 1)
		return false;
	bytes = mr_resident_bytes();
	mr_worker_gauge(MR_GAUGE_RESIDENT, bytes);
	if (light == 0)
		light = bytes;
	return bytes - light > GROWN_BYTES;
}

static gw_slice
put(char *base, uint64 *at, const char *bytes, size_t len)
{
	gw_slice	slice = {.at = *at,.len = bytes ? len : 0};

	if (slice.len > 0)
		memcpy(base + *at, bytes, len);
	*at += slice.len;
	return slice;
}

static gw_slice
put_text(char *base, uint64 *at, const char *text)
{
	return put(base, at, text, text ? strlen(text) : 0);
}

/* Write the answer into the area; InvalidDsaPointer if it has no room. */
static dsa_pointer
write_response(const gw_answer *a, int64 run_us)
{
	uint64		at = sizeof(gw_response);
	size_t		size = at + a->len + (a->type ? strlen(a->type) : 0) + (a->headers ? strlen(a->headers) : 0) + (a->poll ? strlen(a->poll) : 0);
	dsa_pointer p = dsa_allocate_extended(area, size, DSA_ALLOC_HUGE | DSA_ALLOC_NO_OOM);
	gw_response *r;

	if (!DsaPointerIsValid(p))
		return p;
	r = dsa_get_address(area, p);
	memset(r, 0, sizeof(*r));
	r->size = size;
	r->status = a->status;
	r->again_ms = a->again_ms;
	r->within_ms = a->within_ms;
	r->run_us = (uint32) Min(run_us, (int64) PG_UINT32_MAX);
	memcpy(r->sqlstate, a->sqlstate, sizeof(r->sqlstate));
	r->type = put_text((char *) r, &at, a->type);
	r->headers = put_text((char *) r, &at, a->headers);
	r->poll = put_text((char *) r, &at, a->poll);
	r->body = put((char *) r, &at, a->body, a->len);
	return p;
}

/* Answer what is in the box. */
static void
answer_request(void)
{
	const gw_request *request = dsa_get_address(area, box->request);
	TimestampTz begun = GetCurrentTimestamp();
	gw_answer	answer = {0};

	pg_atomic_write_u32(&box->state, GW_RUNNING);
	under_way = box->serial;
	pg_memory_barrier();
	if (pg_atomic_read_u64(&box->cancel) == under_way)
		answer.status = 503;	/* who asked is gone already */
	else
		gw_carry_out(request, &answer);
	under_way = 0;
	QueryCancelPending = false; /* meant for that one */
	unsent = write_response(&answer, GetCurrentTimestamp() - begun);
	if (!DsaPointerIsValid(unsent))
		ereport(LOG, (errmsg("no room for a response of %zu bytes", answer.len)));
	box->response = unsent;
	unsent = InvalidDsaPointer;
	box->leaving = has_grown();
	pg_write_barrier();
	pg_atomic_write_u32(&box->state, GW_DONE);
	SetLatch(&hall->io->procLatch);
	mr_worker_count(MR_COUNT_ROWS, 1);
	if (answer.sqlstate[0])
		mr_worker_count(MR_COUNT_ERRORS, 1);
}

/* ---- all of them */

/* Answer requests until the gateway ends. */
static void
serve(const gw_anchor_entry *gateway, MemoryContext cxt)
{
	TimestampTz looked = GetCurrentTimestamp();
	gw_anchor_entry now;

	for (;;)
	{
		if (pg_atomic_read_u32(&box->state) == GW_ASKED)
		{
			pg_read_barrier();
			MemoryContextReset(cxt);
			MemoryContextSwitchTo(cxt);
			answer_request();
			if (box->leaving)
			{
				ereport(DEBUG1, (errmsg("executor of the gateway makes room for a new one")));
				proc_exit(0);
			}
			mr_answer_server();
		}
		else
		{
			int			rc = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_MS, PG_WAIT_EXTENSION);

			ResetLatch(MyLatch);
			if (rc & WL_TIMEOUT)
			{
				MemoryContextReset(cxt);
				pgstat_report_stat(true);
			}
			if (mr_worker_should_stop() && !vacate())
				continue;		/* it came just now */
			mr_answer_server();
		}
		if (GetCurrentTimestamp() - looked > LOOK_MS * INT64CONST(1000))
		{
			looked = GetCurrentTimestamp();
			if (!find_gateway(&now) || now.generation != gateway->generation)
				return;
		}
	}
}

void
millrace_executor_main(Datum arg)
{
	const mr_worker_args *args = mr_worker_begin(MR_EXECUTOR_TYPE);
	MemoryContext cxt;
	gw_anchor_entry gateway;

	pqsignal(SIGUSR2, look_for_cancel);
	before_shmem_exit(leave_box, (Datum) 0);
	cxt = AllocSetContextCreate(TopMemoryContext, "millrace request", ALLOCSET_DEFAULT_SIZES);
	gw_run_init();
	for (;;)
	{
		mr_worker_state("waiting", NULL);
		while (!find_gateway(&gateway))
			mr_wait_latch(SEEK_MS);
		take_box(&gateway, args->index);
		mr_worker_state("running", NULL);
		serve(&gateway, cxt);
		drop_hall();
	}
}
