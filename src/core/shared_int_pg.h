/*
 * shared_int_pg.h
 *	  The block of shared memory as the files of core/ see it.  See shared_pg.h.
 *
 * mr_shared->lock guards slots and holds; the counters are atomics.  While the
 * lock is held only plain stores, kill() and SetLatch() happen.  Functions that
 * end in _locked want it exclusively.
 */
#ifndef MILLRACE_SHARED_INT_PG_H
#define MILLRACE_SHARED_INT_PG_H

#include "core/shared_pg.h"
#include "port/atomics.h"

#define MR_ARGS_MAGIC	0x4d523031	/* of mr_worker_args */

typedef struct mr_slot
{
	mr_slot_info i;				/* counts and gauges unused */
	int			parent;			/* pid that reserved it */
	pg_atomic_uint64 counts[MR_N_COUNTS];
	pg_atomic_uint64 gauges[MR_N_GAUGES];	/* of int64 */
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

/* ---- shared_pg.c */

extern mr_block *mr_shared;		/* after mr_shared_attach(), by this process */
extern mr_block *mr_shared_attach(void);

/* Attach, and do what is to be done at the end of transactions. */
extern void mr_shared_watch(void);

/* ---- slots_pg.c */

/* The slot of such a worker, and a new one; NULL: there is none. */
extern mr_slot *mr_slot_find_locked(mr_worker_kind kind, Oid database, const char *name, int index);
extern mr_slot *mr_slot_take_locked(mr_worker_kind kind, Oid database, const char *name, int index, TimestampTz now);

extern bool mr_held_locked(Oid database);

/* The holds of this process; may not throw. */
extern void mr_holds_release(void);

static inline void
mr_text_set(char *to, size_t size, const char *from)
{
	strlcpy(to, from ? from : "", size);
}

#endif							/* MILLRACE_SHARED_INT_PG_H */
