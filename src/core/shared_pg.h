/*
 * shared_pg.h
 *	  What Millrace's processes know of each other: worker slots, change
 *	  counters and holds, in one small block of shared memory.
 *
 * The block has a fixed size and one path: ShmemInitStruct() by whoever needs
 * it first.  When the library is preloaded its size was reserved at start-up;
 * otherwise it fits into the slack every server has (100 kB).  It holds plain
 * data only: a process is named by pid and slot generation, never by pointer,
 * so that a block that outlives a process says nothing wrong.  One LWLock
 * guards slots and holds; counters are atomics.  Nothing under the lock can
 * throw, except what the comments say.
 *
 * This file is compiled into both libraries (millrace, millrace_worker); each
 * copy has its own process-local state and sees the same block.
 */
#ifndef MILLRACE_SHARED_PG_H
#define MILLRACE_SHARED_PG_H

#include "datatype/timestamp.h"
#include "storage/lwlock.h"

#define MR_MAX_SLOTS	64
#define MR_MAX_HOLDS	16
#define MR_CHANGE_BUCKETS 32

typedef enum mr_worker_kind
{
	MR_LAUNCHER = 1,
	MR_SUPERVISOR,
	MR_SOURCE,
	MR_OUTBOX,
	MR_HTTP,
	MR_TASKS,					/* lane sql of a role's tasks */
	MR_CALLS,					/* lane call: providers */
	MR_GATEWAY,					/* I/O worker of HTTP requests */
	MR_EXECUTOR					/* runs their functions */
} mr_worker_kind;

/* Workers of room task, which the supervisor starts: entry point, backend_type. */
#define MR_HTTP_MAIN "millrace_http_main"
#define MR_HTTP_TYPE "millrace http"
#define MR_TASKS_MAIN "millrace_tasks_main"
#define MR_TASKS_TYPE "millrace tasks"
#define MR_CALLS_MAIN "millrace_calls_main"
#define MR_CALLS_TYPE "millrace calls"

/* Workers of room gateway. */
#define MR_GATEWAY_MAIN "millrace_gateway_main"
#define MR_GATEWAY_TYPE "millrace gateway"
#define MR_EXECUTOR_MAIN "millrace_executor_main"
#define MR_EXECUTOR_TYPE "millrace executor"

/*
 * FREE -> STARTING (its parent reserved it) -> RUNNING (its process claimed it)
 * -> FREE (its process ended).  FREE -> WAITING: the parent wants a worker and
 * cannot have it yet, for the reason in the slot; -> STARTING or FREE.
 */
typedef enum mr_slot_state
{
	MR_SLOT_FREE = 0,
	MR_SLOT_WAITING,
	MR_SLOT_STARTING,
	MR_SLOT_RUNNING
} mr_slot_state;

typedef enum mr_count
{
	MR_COUNT_ROWS,
	MR_COUNT_BATCHES,
	MR_COUNT_BYTES,
	MR_COUNT_DEAD,
	MR_COUNT_ERRORS,
	MR_N_COUNTS
} mr_count;

/* What a worker is like now, as it says itself; -1: not known. */
typedef enum mr_gauge
{
	MR_GAUGE_BEHIND,			/* messages from its offsets to the ends of its partitions */
	MR_GAUGE_STABLE,			/* and to their last stable offsets: what it could read */
	MR_GAUGE_QUEUED,			/* bytes that its client keeps ready */
	MR_GAUGE_BATCH,				/* bytes of the batch in progress, or of the last one */
	MR_GAUGE_RESIDENT,			/* bytes of its process in memory, without what is shared */
	MR_N_GAUGES
} mr_gauge;

/* What somebody may wait for a change of, per database. */
typedef enum mr_change
{
	MR_CHANGE_WORKERS,			/* millrace.enabled, holds: launcher and supervisors */
	MR_CHANGE_SOURCES,			/* millrace.sources, outboxes: supervisors and their workers */
	MR_CHANGE_OUTBOX,			/* messages in an outbox: outbox workers */
	MR_CHANGE_HTTP,				/* requests in a queue: http workers */
	MR_CHANGE_TASKS,			/* tasks of lane sql */
	MR_CHANGE_CALLS,			/* tasks of lane call, cancelled tasks, providers' states */
	MR_CHANGE_MODELS,			/* aliases and models: the registry's caches */
	MR_CHANGE_GATEWAY,			/* routes and tokens: the gateway */
	MR_N_CHANGES
} mr_change;

/* Handed to a dynamic worker in bgw_extra; copied, never shared. */
typedef struct mr_worker_args
{
	uint32		magic;
	Oid			database;
	Oid			role;			/* InvalidOid: the bootstrap superuser (supervisors) */
	TransactionId after;		/* wait for this transaction first, if valid */
	int32		slot;
	int32		index;			/* worker `index` of `nworkers` of its source */
	int32		nworkers;
	uint64		generation;		/* of the slot */
	int64		config;			/* millrace.sources.generation it is started for */
	char		name[NAMEDATALEN];	/* of the source */
} mr_worker_args;

/* A copy of a slot, for those who look. */
typedef struct mr_slot_info
{
	int			slot;
	mr_worker_kind kind;
	mr_slot_state state;
	bool		stopping;
	Oid			database;
	Oid			role;
	int			index;
	int			pid;			/* 0 unless RUNNING */
	uint64		generation;
	int64		config;
	TimestampTz since;			/* state or text changed */
	char		name[NAMEDATALEN];
	char		text[32];		/* what a running worker is doing */
	char		reason[192];	/* why it waits, in one sentence */
	uint64		counts[MR_N_COUNTS];
	int64		gauges[MR_N_GAUGES];
} mr_slot_info;

/* ---- set-up */

/* From core_init(): reserves memory when preloading and watches commits. */
extern void mr_shared_init(void);

/* Room for another block of shared memory, when called while preloading (else
 * the slack must do). */
extern void mr_shared_reserve(size_t size);

/* Another block of shared memory, which begins with this head; whoever comes
 * first gets it zeroed.  Its LWLock is named as the block is. */
typedef struct mr_shared_head
{
	LWLock		lock;
	int			tranche;
} mr_shared_head;
extern void *mr_shared_block(const char *name, size_t size);

/* ---- parents: launcher, supervisor, millrace.start() */

/*
 * Reserve the slot of (kind, database, name, index) for a worker about to be
 * registered; fills args.  Returns false if such a worker lives already or is
 * being started (args->slot = -1), or if no slot is free (args->slot = -2).
 * A WAITING slot of the same key that is ours is taken over.
 */
extern bool mr_slot_reserve(mr_worker_kind kind, Oid database, Oid role, const char *name,
							int index, int nworkers, int64 config, mr_worker_args *args);

/* Turn a reserved slot into WAITING, or show a new WAITING one. */
extern void mr_slot_wait(mr_worker_kind kind, Oid database, const char *name, int index,
						 const char *reason);

/* Forget a reserved or waiting slot, unless its worker has claimed it. */
extern void mr_slot_forget(int slot, uint64 generation);
extern void mr_slot_forget_waiting(mr_worker_kind kind, Oid database, const char *name, int index);

/* Ask one worker to end: a flag and SIGTERM.  False if it is gone. */
extern bool mr_slot_stop(int slot, uint64 generation);

/* Has the process that a slot was reserved for claimed it?  Until then it is its parent's, and lost when that ends. */
extern bool mr_slot_claimed(int slot, uint64 generation);

/* What the worker that has this slot, or had it last, has counted; 0 if it is another's by now. */
extern uint64 mr_slot_count(int slot, uint64 generation, mr_count what);

/* Copies of all slots in use of a database (InvalidOid: all); palloc'd. */
extern int	mr_slots(Oid database, mr_slot_info **out);

/* ---- whole databases */

/*
 * Until the end of the current transaction no worker starts in database, and
 * those there are asked to end.  Then wait for them at most timeout_ms;
 * returns how many are left.  launcher: it too, if connected there.
 * Interruptible.
 */
extern int	mr_database_hold(Oid database, bool launcher, int timeout_ms);
extern bool mr_database_held(Oid database);

/* ---- change counters */

/* At commit of the current transaction, count and wake who waits. */
extern void mr_change_at_commit(mr_change what, Oid database);
extern uint64 mr_change_count(mr_change what, Oid database);

/* ---- workers */

/*
 * First call of a dynamic worker's main function: signal handlers, slot,
 * database connection.  Ends the process quietly if the slot is no longer
 * meant for it or its database is held.
 */
extern const mr_worker_args *mr_worker_begin(const char *appname);

/* For the launcher, which has no parent: claims its slot.  False: there is one,
 * or the database it is connected to is held. */
extern bool mr_launcher_begin(Oid connected_to);

/* Was the end of this worker asked for? */
extern bool mr_worker_should_stop(void);

/* What this worker is doing and why; NULL reason clears it.  Cheap. */
extern void mr_worker_state(const char *text, const char *reason);

/* Did the sources (or workers) of our database change since the last call? */
extern bool mr_worker_changed(void);

extern void mr_worker_count(mr_count what, uint64 n);
extern void mr_worker_gauge(mr_gauge what, int64 value);

/* Name and kind of this worker; NULL: it is none. */
extern const char *mr_worker_name(mr_worker_kind *kind);

/* "source", ... */
extern const char *mr_kind_name(mr_worker_kind kind);

#endif							/* MILLRACE_SHARED_PG_H */
