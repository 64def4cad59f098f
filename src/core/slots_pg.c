/*
 * slots_pg.c
 *	  Worker slots as parents see them, and holds of whole databases.
 */
#include "postgres.h"

#include "core/shared_int_pg.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

#include <signal.h>

#define START_TIMEOUT_MS 60000	/* from reservation to process, at most */

static bool holding;			/* this process has holds */

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

mr_slot *
mr_slot_find_locked(mr_worker_kind kind, Oid database, const char *name, int index)
{
	for (int n = 0; n < MR_MAX_SLOTS; n++)
	{
		mr_slot    *s = &mr_shared->slot[n];

		if (s->i.state != MR_SLOT_FREE && orphaned_locked(s))
			s->i.state = MR_SLOT_FREE;
		if (s->i.state != MR_SLOT_FREE && s->i.kind == kind && s->i.database == database &&
			s->i.index == index && strcmp(s->i.name, name) == 0)
			return s;
	}
	return NULL;
}

mr_slot *
mr_slot_take_locked(mr_worker_kind kind, Oid database, const char *name, int index, TimestampTz now)
{
	for (int n = 0; n < MR_MAX_SLOTS; n++)
	{
		mr_slot    *s = &mr_shared->slot[n];

		if (s->i.state != MR_SLOT_FREE)
			continue;
		memset(&s->i, 0, sizeof(s->i));
		s->i.slot = n;
		s->i.kind = kind;
		s->i.database = database;
		s->i.index = index;
		s->i.generation = mr_shared->next_generation++;
		s->i.since = now;
		mr_text_set(s->i.name, sizeof(s->i.name), name);
		s->parent = MyProcPid;
		for (int c = 0; c < MR_N_COUNTS; c++)
			pg_atomic_write_u64(&s->counts[c], 0);
		for (int g = 0; g < MR_N_GAUGES; g++)
			pg_atomic_write_u64(&s->gauges[g], (uint64) -1);
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
	mr_shared_attach();
	LWLockAcquire(&mr_shared->lock, LW_EXCLUSIVE);
	s = mr_slot_find_locked(kind, database, name, index);
	if (s == NULL || s->i.state == MR_SLOT_WAITING)
	{
		if (s == NULL)
			s = mr_slot_take_locked(kind, database, name, index, now);
		else
			s->i.generation = mr_shared->next_generation++;
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
			mr_text_set(s->i.text, sizeof(s->i.text), "starting");
			s->parent = MyProcPid;
			args->magic = MR_ARGS_MAGIC;
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
	LWLockRelease(&mr_shared->lock);
	return args->slot >= 0;
}

void
mr_slot_wait(mr_worker_kind kind, Oid database, const char *name, int index, const char *reason)
{
	TimestampTz now = GetCurrentTimestamp();
	mr_slot    *s;

	mr_shared_attach();
	LWLockAcquire(&mr_shared->lock, LW_EXCLUSIVE);
	s = mr_slot_find_locked(kind, database, name, index);
	if (s == NULL)
		s = mr_slot_take_locked(kind, database, name, index, now);
	if (s && (s->i.state != MR_SLOT_STARTING || s->parent == MyProcPid) && s->i.state != MR_SLOT_RUNNING)
	{
		if (s->i.state != MR_SLOT_WAITING || strncmp(s->i.reason, reason, sizeof(s->i.reason) - 1) != 0)
			s->i.since = now;
		s->i.state = MR_SLOT_WAITING;
		s->parent = MyProcPid;
		mr_text_set(s->i.text, sizeof(s->i.text), "waiting");
		mr_text_set(s->i.reason, sizeof(s->i.reason), reason);
	}
	LWLockRelease(&mr_shared->lock);
}

void
mr_slot_forget(int slot, uint64 generation)
{
	mr_slot    *s = &mr_shared_attach()->slot[slot];

	LWLockAcquire(&mr_shared->lock, LW_EXCLUSIVE);
	if (s->i.generation == generation && s->i.state != MR_SLOT_RUNNING)
		s->i.state = MR_SLOT_FREE;
	LWLockRelease(&mr_shared->lock);
}

void
mr_slot_forget_waiting(mr_worker_kind kind, Oid database, const char *name, int index)
{
	mr_slot    *s;

	mr_shared_attach();
	LWLockAcquire(&mr_shared->lock, LW_EXCLUSIVE);
	s = mr_slot_find_locked(kind, database, name, index);
	if (s && s->i.state == MR_SLOT_WAITING)
		s->i.state = MR_SLOT_FREE;
	LWLockRelease(&mr_shared->lock);
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
	mr_slot    *s = &mr_shared_attach()->slot[slot];
	bool		found;

	LWLockAcquire(&mr_shared->lock, LW_EXCLUSIVE);
	found = s->i.generation == generation && s->i.state >= MR_SLOT_STARTING;
	if (found)
		stop_locked(s);
	LWLockRelease(&mr_shared->lock);
	return found;
}

bool
mr_slot_claimed(int slot, uint64 generation)
{
	mr_slot    *s = &mr_shared_attach()->slot[slot];
	bool		claimed;

	LWLockAcquire(&mr_shared->lock, LW_SHARED);
	claimed = s->i.generation != generation || s->i.state != MR_SLOT_STARTING;
	LWLockRelease(&mr_shared->lock);
	return claimed;
}

uint64
mr_slot_count(int slot, uint64 generation, mr_count what)
{
	mr_slot    *s = &mr_shared_attach()->slot[slot];
	uint64		n;

	LWLockAcquire(&mr_shared->lock, LW_SHARED);
	n = s->i.generation == generation ? pg_atomic_read_u64(&s->counts[what]) : 0;
	LWLockRelease(&mr_shared->lock);
	return n;
}

int
mr_slots(Oid database, mr_slot_info **out)
{
	mr_slot_info *list = palloc(sizeof(mr_slot_info) * MR_MAX_SLOTS);
	int			n = 0;

	mr_shared_attach();
	LWLockAcquire(&mr_shared->lock, LW_EXCLUSIVE);
	for (int k = 0; k < MR_MAX_SLOTS; k++)
	{
		mr_slot    *s = &mr_shared->slot[k];

		if (s->i.state != MR_SLOT_FREE && orphaned_locked(s))
			s->i.state = MR_SLOT_FREE;
		if (s->i.state == MR_SLOT_FREE || (OidIsValid(database) && s->i.database != database))
			continue;
		list[n] = s->i;
		for (int c = 0; c < MR_N_COUNTS; c++)
			list[n].counts[c] = pg_atomic_read_u64(&s->counts[c]);
		for (int g = 0; g < MR_N_GAUGES; g++)
			list[n].gauges[g] = (int64) pg_atomic_read_u64(&s->gauges[g]);
		n++;
	}
	LWLockRelease(&mr_shared->lock);
	*out = list;
	return n;
}

/* ---- whole databases */

bool
mr_held_locked(Oid database)
{
	for (int h = 0; h < MR_MAX_HOLDS; h++)
		if (mr_shared->hold[h].pid != 0 && mr_shared->hold[h].database == database &&
			BackendPidGetProc(mr_shared->hold[h].pid) != NULL)
			return true;
	return false;
}

bool
mr_database_held(Oid database)
{
	bool		held;

	mr_shared_attach();
	LWLockAcquire(&mr_shared->lock, LW_SHARED);
	held = mr_held_locked(database);
	LWLockRelease(&mr_shared->lock);
	return held;
}

void
mr_holds_release(void)
{
	if (!holding)
		return;
	holding = false;
	LWLockAcquire(&mr_shared->lock, LW_EXCLUSIVE);
	for (int h = 0; h < MR_MAX_HOLDS; h++)
		if (mr_shared->hold[h].pid == MyProcPid)
			mr_shared->hold[h].pid = 0;
	LWLockRelease(&mr_shared->lock);
}

int
mr_database_hold(Oid database, bool launcher, int timeout_ms)
{
	TimestampTz start = GetCurrentTimestamp();
	int			left;

	mr_shared_watch();
	for (;;)
	{
		bool		placed = false;

		left = 0;
		LWLockAcquire(&mr_shared->lock, LW_EXCLUSIVE);
		for (int h = 0; h < MR_MAX_HOLDS && !placed; h++)
			placed = mr_shared->hold[h].pid == MyProcPid && mr_shared->hold[h].database == database;
		for (int h = 0; h < MR_MAX_HOLDS && !placed; h++)
			if (mr_shared->hold[h].pid == 0 || BackendPidGetProc(mr_shared->hold[h].pid) == NULL)
			{
				mr_shared->hold[h].pid = MyProcPid;
				mr_shared->hold[h].database = database;
				placed = holding = true;
			}
		for (int n = 0; n < MR_MAX_SLOTS; n++)
		{
			mr_slot    *s = &mr_shared->slot[n];

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
		LWLockRelease(&mr_shared->lock);
		if (left == 0 || TimestampDifferenceExceeds(start, GetCurrentTimestamp(), timeout_ms))
			return left;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}
