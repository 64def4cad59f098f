/*
 * shared_pg.c
 *	  The block of shared memory, and change counters in it.
 *
 * Slots and holds, which are in it too, are slots_pg.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/shared_int_pg.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"

StaticAssertDecl(sizeof(mr_block) < 48 * 1024, "the block must fit into the slack of shared memory");

mr_block   *mr_shared;

/* Changes to be counted when the current transaction commits. */
#define MAX_PENDING 8
static struct
{
	mr_change	what;
	Oid			database;
}			pending[MAX_PENDING];
static int	n_pending;
static bool watching;

static shmem_request_hook_type next_shmem_request;
static Size reserved;			/* for other files' blocks: mr_shared_reserve() */

/* ---- set-up */

static void
request(void)
{
	if (next_shmem_request)
		next_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(mr_block)) + reserved);
}

void
mr_shared_reserve(size_t size)
{
	reserved += MAXALIGN(size);
}

void *
mr_shared_block(const char *name, size_t size)
{
	mr_shared_head *head;
	bool		found;
	char		key[64];

	/* A new library in a running server has its own block, not an ERROR. */
	snprintf(key, sizeof(key), "%s %zu", name, size);
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	head = ShmemInitStruct(key, size, &found);
	if (!found)
	{
		memset(head, 0, size);
		head->tranche = LWLockNewTrancheId();
		LWLockInitialize(&head->lock, head->tranche);
	}
	LWLockRelease(AddinShmemInitLock);
	LWLockRegisterTranche(head->tranche, name);
	return head;
}

mr_block *
mr_shared_attach(void)
{
	bool		found;

	if (mr_shared)
		return mr_shared;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	mr_shared = ShmemInitStruct("millrace", sizeof(mr_block), &found);
	if (!found)
	{
		memset(mr_shared, 0, sizeof(*mr_shared));
		mr_shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&mr_shared->lock, mr_shared->tranche);
		mr_shared->next_generation = 1;
		for (int s = 0; s < MR_MAX_SLOTS; s++)
		{
			for (int c = 0; c < MR_N_COUNTS; c++)
				pg_atomic_init_u64(&mr_shared->slot[s].counts[c], 0);
			for (int g = 0; g < MR_N_GAUGES; g++)
				pg_atomic_init_u64(&mr_shared->slot[s].gauges[g], 0);
		}
		for (int w = 0; w < MR_N_CHANGES; w++)
			for (int b = 0; b < MR_CHANGE_BUCKETS; b++)
				pg_atomic_init_u64(&mr_shared->change[w][b], 0);
	}
	LWLockRelease(AddinShmemInitLock);
	LWLockRegisterTranche(mr_shared->tranche, "millrace");
	return mr_shared;
}

/* ---- change counters */

static pg_atomic_uint64 *
counter(mr_change what, Oid database)
{
	return &mr_shared_attach()->change[what][database % MR_CHANGE_BUCKETS];
}

uint64
mr_change_count(mr_change what, Oid database)
{
	return pg_atomic_read_u64(counter(what, database));
}

/* The one kind of workers that waits for a change; 0: whoever runs. */
static mr_worker_kind
waits_for(mr_change what)
{
	switch (what)
	{
		case MR_CHANGE_OUTBOX:
			return MR_OUTBOX;
		case MR_CHANGE_HTTP:
			return MR_HTTP;
		case MR_CHANGE_TASKS:
			return MR_TASKS;
		case MR_CHANGE_CALLS:
			return MR_CALLS;
		case MR_CHANGE_GATEWAY:
			return MR_GATEWAY;
		default:
			return 0;
	}
}

/*
 * Set the latches of the workers of database that wait for such a change, and of
 * the launcher.  What workers that come and go wait for (requests, tasks) wakes the supervisor while there are none.
 */
static void
wake(mr_change what, Oid database)
{
	mr_worker_kind kind = waits_for(what);
	bool		served = kind < MR_HTTP;

	LWLockAcquire(&mr_shared->lock, LW_SHARED);
	for (int s = 0; s < MR_MAX_SLOTS && !served; s++)
		served = mr_shared->slot[s].i.state == MR_SLOT_RUNNING && mr_shared->slot[s].i.kind == kind &&
			mr_shared->slot[s].i.database == database;
	for (int s = 0; s < MR_MAX_SLOTS; s++)
	{
		mr_slot_info *i = &mr_shared->slot[s].i;
		PGPROC	   *proc;

		if (i->state != MR_SLOT_RUNNING ||
			(i->database != database && i->kind != MR_LAUNCHER) ||
			(kind != 0 && i->kind != kind && (served || i->kind != MR_SUPERVISOR)))
			continue;
		proc = BackendPidGetProc(i->pid);
		if (proc)
			SetLatch(&proc->procLatch);
	}
	LWLockRelease(&mr_shared->lock);
}

/* Runs after the commit is visible; may not throw.  COMMIT PREPARED runs none:
 * who waits also looks every few seconds. */
static void
at_end_of_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			mr_holds_release();
			for (int p = 0; p < n_pending; p++)
			{
				pg_atomic_fetch_add_u64(counter(pending[p].what, pending[p].database), 1);
				wake(pending[p].what, pending[p].database);
			}
			n_pending = 0;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			mr_holds_release();
			n_pending = 0;
			break;
		default:
			break;
	}
}

/* A process that ends within a transaction that holds a database. */
static void
at_exit(int code, Datum arg)
{
	mr_holds_release();
}

void
mr_shared_watch(void)
{
	mr_shared_attach();
	if (watching)
		return;
	RegisterXactCallback(at_end_of_transaction, NULL);
	before_shmem_exit(at_exit, (Datum) 0);
	watching = true;
}

void
mr_change_at_commit(mr_change what, Oid database)
{
	mr_shared_watch();
	for (int p = 0; p < n_pending; p++)
		if (pending[p].what == what && pending[p].database == database)
			return;
	if (n_pending < MAX_PENDING)
	{
		pending[n_pending].what = what;
		pending[n_pending++].database = database;
	}
}

void
mr_shared_init(void)
{
	if (process_shared_preload_libraries_in_progress)
	{
		next_shmem_request = shmem_request_hook;
		shmem_request_hook = request;
	}
}
