/*
 * shared_pg.c
 *	  Worker slots, change counters and holds in shared memory.
 *
 * Memory: one block of fixed size (see shared_pg.h).  Locks: block->lock
 * guards slots and holds; the counters are atomics.  While the lock is held
 * only plain stores, kill() and SetLatch() happen.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "core/compat.h"
#include "core/shared_pg.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "utils/timestamp.h"

#include <signal.h>

#define ARGS_MAGIC	0x4d523031
#define START_TIMEOUT_MS 60000	/* from reservation to process, at most */

typedef struct mr_slot
{
	mr_slot_info i;				/* counts unused */
	int			parent;			/* pid that reserved it */
	pg_atomic_uint64 counts[MR_N_COUNTS];
} mr_slot;

typedef struct mr_hold
{
	Oid			database;
	int			pid;			/* 0: unused */
} mr_hold;

typedef struct mr_block
{
	LWLock		lock;
	int			tranche;
	uint64		next_generation;
	mr_slot		slot[MR_MAX_SLOTS];
	mr_hold		hold[MR_MAX_HOLDS];
	pg_atomic_uint64 change[MR_N_CHANGES][MR_CHANGE_BUCKETS];
} mr_block;

StaticAssertDecl(sizeof(mr_worker_args) <= BGW_EXTRALEN, "bgw_extra is too small for mr_worker_args");
StaticAssertDecl(sizeof(mr_block) < 48 * 1024, "the block must fit into the slack of shared memory");

static mr_block *block;			/* attached to by this process */
static mr_worker_args my_args;	/* of this worker, if it is one */
static int	my_slot = -1;		/* claimed by this process */
static uint64 seen_sources;
static uint64 seen_workers;

/* Changes to be counted when the current transaction commits. */
#define MAX_PENDING 8
static struct
{
	mr_change	what;
	Oid			database;
}			pending[MAX_PENDING];
static int	n_pending;
static bool holding;
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

static mr_block *
attach(void)
{
	bool		found;

	if (block)
		return block;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	block = ShmemInitStruct("millrace", sizeof(mr_block), &found);
	if (!found)
	{
		memset(block, 0, sizeof(*block));
		block->tranche = LWLockNewTrancheId();
		LWLockInitialize(&block->lock, block->tranche);
		block->next_generation = 1;
		for (int s = 0; s < MR_MAX_SLOTS; s++)
			for (int c = 0; c < MR_N_COUNTS; c++)
				pg_atomic_init_u64(&block->slot[s].counts[c], 0);
		for (int w = 0; w < MR_N_CHANGES; w++)
			for (int b = 0; b < MR_CHANGE_BUCKETS; b++)
				pg_atomic_init_u64(&block->change[w][b], 0);
	}
	LWLockRelease(AddinShmemInitLock);
	LWLockRegisterTranche(block->tranche, "millrace");
	return block;
}

/* ---- change counters */

static pg_atomic_uint64 *
counter(mr_change what, Oid database)
{
	return &attach()->change[what][database % MR_CHANGE_BUCKETS];
}

uint64
mr_change_count(mr_change what, Oid database)
{
	return pg_atomic_read_u64(counter(what, database));
}

/* Set the latches of the workers of database that wait for such a change, and of the launcher. */
static void
wake(mr_change what, Oid database)
{
	LWLockAcquire(&block->lock, LW_SHARED);
	for (int s = 0; s < MR_MAX_SLOTS; s++)
	{
		mr_slot_info *i = &block->slot[s].i;
		PGPROC	   *proc;

		if (i->state != MR_SLOT_RUNNING ||
			(i->database != database && i->kind != MR_LAUNCHER) ||
			(what == MR_CHANGE_OUTBOX && i->kind != MR_OUTBOX))
			continue;
		proc = BackendPidGetProc(i->pid);
		if (proc)
			SetLatch(&proc->procLatch);
	}
	LWLockRelease(&block->lock);
}

static void
release_holds(void)
{
	if (!holding)
		return;
	holding = false;
	LWLockAcquire(&block->lock, LW_EXCLUSIVE);
	for (int h = 0; h < MR_MAX_HOLDS; h++)
		if (block->hold[h].pid == MyProcPid)
			block->hold[h].pid = 0;
	LWLockRelease(&block->lock);
}

/* Runs after the commit is visible; may not throw.  COMMIT PREPARED runs none:
 * who waits also looks every few seconds. */
static void
at_end_of_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			release_holds();
			for (int p = 0; p < n_pending; p++)
			{
				pg_atomic_fetch_add_u64(counter(pending[p].what, pending[p].database), 1);
				wake(pending[p].what, pending[p].database);
			}
			n_pending = 0;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			release_holds();
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
	release_holds();
}

static void
watch(void)
{
	attach();
	if (watching)
		return;
	RegisterXactCallback(at_end_of_transaction, NULL);
	before_shmem_exit(at_exit, (Datum) 0);
	watching = true;
}

void
mr_change_at_commit(mr_change what, Oid database)
{
	watch();
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

/* ---- slots.  Those ending in _locked want block->lock exclusively. */

static void
text_set(char *to, size_t size, const char *from)
{
	strlcpy(to, from ? from : "", size);
}

/*
 * A reserved or waiting slot whose parent is gone belongs to nobody; its pid
 * may be another's by now, so a reservation does not live for ever either.
 */
static bool
orphaned_locked(const mr_slot *s)
{
	if ((s->i.state != MR_SLOT_STARTING && s->i.state != MR_SLOT_WAITING) || s->parent == MyProcPid)
		return false;
	return BackendPidGetProc(s->parent) == NULL ||
		(s->i.state == MR_SLOT_STARTING &&
		 TimestampDifferenceExceeds(s->i.since, GetCurrentTimestamp(), START_TIMEOUT_MS));
}

static mr_slot *
find_locked(mr_worker_kind kind, Oid database, const char *name, int index)
{
	for (int n = 0; n < MR_MAX_SLOTS; n++)
	{
		mr_slot    *s = &block->slot[n];

		if (s->i.state != MR_SLOT_FREE && orphaned_locked(s))
			s->i.state = MR_SLOT_FREE;
		if (s->i.state != MR_SLOT_FREE && s->i.kind == kind && s->i.database == database &&
			s->i.index == index && strcmp(s->i.name, name) == 0)
			return s;
	}
	return NULL;
}

static mr_slot *
take_locked(mr_worker_kind kind, Oid database, const char *name, int index, TimestampTz now)
{
	for (int n = 0; n < MR_MAX_SLOTS; n++)
	{
		mr_slot    *s = &block->slot[n];

		if (s->i.state != MR_SLOT_FREE)
			continue;
		memset(&s->i, 0, sizeof(s->i));
		s->i.slot = n;
		s->i.kind = kind;
		s->i.database = database;
		s->i.index = index;
		s->i.generation = block->next_generation++;
		s->i.since = now;
		text_set(s->i.name, sizeof(s->i.name), name);
		s->parent = MyProcPid;
		for (int c = 0; c < MR_N_COUNTS; c++)
			pg_atomic_write_u64(&s->counts[c], 0);
		return s;
	}
	return NULL;
}

bool
mr_slot_reserve(mr_worker_kind kind, Oid database, Oid role, const char *name,
				int index, int nworkers, int64 config, mr_worker_args *args)
{
	TimestampTz now = GetCurrentTimestamp();
	mr_slot    *s;

	memset(args, 0, sizeof(*args));
	args->slot = -1;
	attach();
	LWLockAcquire(&block->lock, LW_EXCLUSIVE);
	s = find_locked(kind, database, name, index);
	if (s == NULL || s->i.state == MR_SLOT_WAITING)
	{
		if (s == NULL)
			s = take_locked(kind, database, name, index, now);
		else
			s->i.generation = block->next_generation++;
		if (s == NULL)
			args->slot = -2;
		else
		{
			s->i.state = MR_SLOT_STARTING;
			s->i.role = role;
			s->i.config = config;
			s->i.since = now;
			s->i.stopping = false;
			s->i.reason[0] = '\0';
			text_set(s->i.text, sizeof(s->i.text), "starting");
			s->parent = MyProcPid;
			args->magic = ARGS_MAGIC;
			args->database = database;
			args->role = role;
			args->slot = s->i.slot;
			args->index = index;
			args->nworkers = nworkers;
			args->generation = s->i.generation;
			args->config = config;
			strlcpy(args->name, name, sizeof(args->name));
		}
	}
	LWLockRelease(&block->lock);
	return args->slot >= 0;
}

void
mr_slot_wait(mr_worker_kind kind, Oid database, const char *name, int index, const char *reason)
{
	TimestampTz now = GetCurrentTimestamp();
	mr_slot    *s;

	attach();
	LWLockAcquire(&block->lock, LW_EXCLUSIVE);
	s = find_locked(kind, database, name, index);
	if (s == NULL)
		s = take_locked(kind, database, name, index, now);
	if (s && (s->i.state != MR_SLOT_STARTING || s->parent == MyProcPid) && s->i.state != MR_SLOT_RUNNING)
	{
		if (s->i.state != MR_SLOT_WAITING || strncmp(s->i.reason, reason, sizeof(s->i.reason) - 1) != 0)
			s->i.since = now;
		s->i.state = MR_SLOT_WAITING;
		s->parent = MyProcPid;
		text_set(s->i.text, sizeof(s->i.text), "waiting");
		text_set(s->i.reason, sizeof(s->i.reason), reason);
	}
	LWLockRelease(&block->lock);
}

void
mr_slot_forget(int slot, uint64 generation)
{
	mr_slot    *s = &attach()->slot[slot];

	LWLockAcquire(&block->lock, LW_EXCLUSIVE);
	if (s->i.generation == generation && s->i.state != MR_SLOT_RUNNING)
		s->i.state = MR_SLOT_FREE;
	LWLockRelease(&block->lock);
}

void
mr_slot_forget_waiting(mr_worker_kind kind, Oid database, const char *name, int index)
{
	mr_slot    *s;

	attach();
	LWLockAcquire(&block->lock, LW_EXCLUSIVE);
	s = find_locked(kind, database, name, index);
	if (s && s->i.state == MR_SLOT_WAITING)
		s->i.state = MR_SLOT_FREE;
	LWLockRelease(&block->lock);
}

static void
stop_locked(mr_slot *s)
{
	s->i.stopping = true;
	/* A slot is freed by its process before the pid can be another's. */
	if (s->i.state == MR_SLOT_RUNNING && s->i.pid != 0)
		kill(s->i.pid, SIGTERM);
}

bool
mr_slot_stop(int slot, uint64 generation)
{
	mr_slot    *s = &attach()->slot[slot];
	bool		found;

	LWLockAcquire(&block->lock, LW_EXCLUSIVE);
	found = s->i.generation == generation && s->i.state >= MR_SLOT_STARTING;
	if (found)
		stop_locked(s);
	LWLockRelease(&block->lock);
	return found;
}

bool
mr_slot_alive(int slot, uint64 generation)
{
	mr_slot    *s = &attach()->slot[slot];
	bool		alive;

	LWLockAcquire(&block->lock, LW_SHARED);
	alive = s->i.generation == generation && s->i.state >= MR_SLOT_STARTING;
	LWLockRelease(&block->lock);
	return alive;
}

int
mr_slots(Oid database, mr_slot_info **out)
{
	mr_slot_info *list = palloc(sizeof(mr_slot_info) * MR_MAX_SLOTS);
	int			n = 0;

	attach();
	LWLockAcquire(&block->lock, LW_EXCLUSIVE);
	for (int k = 0; k < MR_MAX_SLOTS; k++)
	{
		mr_slot    *s = &block->slot[k];

		if (s->i.state != MR_SLOT_FREE && orphaned_locked(s))
			s->i.state = MR_SLOT_FREE;
		if (s->i.state == MR_SLOT_FREE || (OidIsValid(database) && s->i.database != database))
			continue;
		list[n] = s->i;
		for (int c = 0; c < MR_N_COUNTS; c++)
			list[n].counts[c] = pg_atomic_read_u64(&s->counts[c]);
		n++;
	}
	LWLockRelease(&block->lock);
	*out = list;
	return n;
}

/* ---- whole databases */

static bool
held_locked(Oid database)
{
	for (int h = 0; h < MR_MAX_HOLDS; h++)
		if (block->hold[h].pid != 0 && block->hold[h].database == database &&
			BackendPidGetProc(block->hold[h].pid) != NULL)
			return true;
	return false;
}

bool
mr_database_held(Oid database)
{
	bool		held;

	attach();
	LWLockAcquire(&block->lock, LW_SHARED);
	held = held_locked(database);
	LWLockRelease(&block->lock);
	return held;
}

int
mr_database_hold(Oid database, bool launcher, int timeout_ms)
{
	TimestampTz start = GetCurrentTimestamp();
	int			left;

	watch();
	for (;;)
	{
		bool		placed = false;

		left = 0;
		LWLockAcquire(&block->lock, LW_EXCLUSIVE);
		for (int h = 0; h < MR_MAX_HOLDS && !placed; h++)
			placed = block->hold[h].pid == MyProcPid && block->hold[h].database == database;
		for (int h = 0; h < MR_MAX_HOLDS && !placed; h++)
			if (block->hold[h].pid == 0 || BackendPidGetProc(block->hold[h].pid) == NULL)
			{
				block->hold[h].pid = MyProcPid;
				block->hold[h].database = database;
				placed = holding = true;
			}
		for (int n = 0; n < MR_MAX_SLOTS; n++)
		{
			mr_slot    *s = &block->slot[n];

			if (s->i.state == MR_SLOT_FREE || s->i.database != database ||
				(s->i.kind == MR_LAUNCHER && !launcher))
				continue;
			if (s->i.state == MR_SLOT_WAITING || orphaned_locked(s))
			{
				s->i.state = MR_SLOT_FREE;
				continue;
			}
			left++;
			if (!s->i.stopping)
				stop_locked(s);
		}
		LWLockRelease(&block->lock);
		if (left == 0 || TimestampDifferenceExceeds(start, GetCurrentTimestamp(), timeout_ms))
			return left;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* ---- workers */

static void
slot_release(int code, Datum arg)
{
	mr_slot    *s;
	int			parent;
	PGPROC	   *proc;

	if (my_slot < 0)
		return;
	s = &block->slot[my_slot];
	my_slot = -1;
	LWLockAcquire(&block->lock, LW_EXCLUSIVE);
	parent = s->parent;
	proc = parent ? BackendPidGetProc(parent) : NULL;
	if (s->i.pid == MyProcPid)
	{
		/* Last words stay, while there is a parent to clear them. */
		s->i.state = proc && s->i.reason[0] && !held_locked(s->i.database) ? MR_SLOT_WAITING : MR_SLOT_FREE;
		s->i.pid = 0;
		text_set(s->i.text, sizeof(s->i.text), "waiting");
	}
	LWLockRelease(&block->lock);
	if (proc)
		SetLatch(&proc->procLatch);
}

static void
claim_locked(mr_slot *s)
{
	s->i.state = MR_SLOT_RUNNING;
	s->i.pid = MyProcPid;
	s->i.since = MyStartTimestamp;
	my_slot = s->i.slot;
}

const mr_worker_args *
mr_worker_begin(const char *appname)
{
	bool		mine = false;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	memcpy(&my_args, MyBgworkerEntry->bgw_extra, sizeof(my_args));
	if (my_args.magic != ARGS_MAGIC || my_args.slot < 0 || my_args.slot >= MR_MAX_SLOTS)
		ereport(FATAL,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("millrace worker was started without its arguments")));
	attach();
	before_shmem_exit(slot_release, (Datum) 0);
	LWLockAcquire(&block->lock, LW_EXCLUSIVE);
	if (block->slot[my_args.slot].i.generation == my_args.generation &&
		block->slot[my_args.slot].i.state == MR_SLOT_STARTING)
	{
		claim_locked(&block->slot[my_args.slot]);
		mine = !block->slot[my_args.slot].i.stopping && !held_locked(my_args.database);
	}
	LWLockRelease(&block->lock);
	if (!mine)
		proc_exit(0);

	BackgroundWorkerInitializeConnectionByOid(my_args.database, my_args.role, 0);
	pgstat_report_appname(appname);
	seen_sources = mr_change_count(MR_CHANGE_SOURCES, my_args.database);
	seen_workers = mr_change_count(MR_CHANGE_WORKERS, my_args.database);
	mr_worker_state("running", NULL);
	return &my_args;
}

bool
mr_launcher_begin(Oid connected_to)
{
	TimestampTz now = GetCurrentTimestamp();
	mr_slot    *s;
	bool		mine = false;

	attach();
	before_shmem_exit(slot_release, (Datum) 0);
	LWLockAcquire(&block->lock, LW_EXCLUSIVE);
	s = find_locked(MR_LAUNCHER, connected_to, "", 0);
	if (s == NULL && !held_locked(connected_to) &&
		(s = take_locked(MR_LAUNCHER, connected_to, "", 0, now)) != NULL)
	{
		claim_locked(s);
		s->parent = 0;
		text_set(s->i.text, sizeof(s->i.text), "running");
		mine = true;
	}
	LWLockRelease(&block->lock);
	return mine;
}

bool
mr_worker_should_stop(void)
{
	return ProcDiePending || my_slot < 0 || block->slot[my_slot].i.stopping;
}

void
mr_worker_state(const char *text, const char *reason)
{
	mr_slot_info *i;

	if (my_slot < 0)
		return;
	i = &block->slot[my_slot].i;
	/* Only we write these two, so they may be read without the lock. */
	if (strncmp(i->text, text, sizeof(i->text) - 1) == 0 &&
		strncmp(i->reason, reason ? reason : "", sizeof(i->reason) - 1) == 0)
		return;
	LWLockAcquire(&block->lock, LW_EXCLUSIVE);
	text_set(i->text, sizeof(i->text), text);
	text_set(i->reason, sizeof(i->reason), reason);
	i->since = GetCurrentTimestamp();
	LWLockRelease(&block->lock);
}

bool
mr_worker_changed(void)
{
	uint64		sources = mr_change_count(MR_CHANGE_SOURCES, my_args.database);
	uint64		workers = mr_change_count(MR_CHANGE_WORKERS, my_args.database);
	bool		changed = sources != seen_sources || workers != seen_workers;

	seen_sources = sources;
	seen_workers = workers;
	return changed;
}

void
mr_worker_count(mr_count what, uint64 n)
{
	if (my_slot >= 0)
		pg_atomic_fetch_add_u64(&block->slot[my_slot].counts[what], n);
}
