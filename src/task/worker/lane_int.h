/*
 * lane_int.h
 *	  What the files behind lane.h share.
 */
#ifndef MILLRACE_TASK_LANE_INT_H
#define MILLRACE_TASK_LANE_INT_H

#include "lib/pairingheap.h"

#include "core/spi_pg.h"
#include "task/worker/lane.h"

#define TSK_LOOK_MS 1000		/* for new tasks, even if nobody rang */
#define TSK_SQLSTATE_LOST "MR001"		/* SQLSTATE of an attempt whose worker is gone */
#define TSK_LANE_CHANGE(lane) (strcmp((lane)->lane, TSK_LANE_SQL) == 0 ? MR_CHANGE_TASKS : MR_CHANGE_CALLS)

/* A row that may be taken. */
typedef struct tsk_found
{
	pairingheap_node node;
	pg_uuid_t	id;
	int			leaf;
	int			priority;
	uint64		turn;			/* in which it was found */
	uint64		xid;
	bool		due;			/* found by time */
	TimestampTz again_at;
	int64		orphan;			/* its lease, where that is of a process that is gone; 0 */
} tsk_found;

/* seek_pg.c; within a transaction, as the extension's owner */
extern tsk_found *tsk_seek(const tsk_lane *lane, tsk_task_queue *queue);	/* the next one, ours until it is handed back by one of: */
extern tsk_found *tsk_seek_new(tsk_task_queue *queue, int leaf, const pg_uuid_t *id);	/* the same of a row that is known */
extern void tsk_seek_done(tsk_task_queue *queue, tsk_found *found);
extern void tsk_seek_later(tsk_task_queue *queue, tsk_found *found, TimestampTz again_at);
extern void tsk_seek_first(tsk_task_queue *queue, tsk_found *found);

/* For the supervisor: tasks put into the lane's queues by earlier transactions have been considered. */
extern uint64 tsk_lane_position(const tsk_lane *lane);

/* take_pg.c; as above */
extern SPIPlanPtr tsk_leaf_plan(SPIPlanPtr *plans, int leaf, const char *sql, int n, const Oid *types);	/* every @ in sql is the leaf's number */

/*
 * A statement about the row of a task that is ours, in its leaf, or where it has been moved since.  Its WHERE names leaf (@), id and
 * lease.  False: there is no such row, the task is no longer ours.
 */
extern bool tsk_on_row(tsk_task *task, SPIPlanPtr *plans, const char *sql, int n, const Oid *types, const Datum *args, const char *nulls);
extern Datum tsk_column(HeapTuple row, int column, bool *null);
extern int64 tsk_number(HeapTuple row, int column); /* 0: null */

/* What became of a task, and what follows. */
typedef enum tsk_state
{
	TSK_SUCCEEDED,
	TSK_FAILED,
	TSK_CANCELLED,
	TSK_EXPIRED,
	TSK_BACK					/* in the queue */
} tsk_state;

typedef struct tsk_ending
{
	tsk_task   *task;
	tsk_state	state;
	const char *class;			/* of its error; NULL: none */
	bool		counted;		/* an attempt has ended */
	bool		taken_back;		/* it does not count against max_attempts */
	bool		pauses;			/* its provider */
	int			hop;			/* of TSK_BACK */
	Jsonb	   *tries;
	TimestampTz due_at;			/* of TSK_BACK; 0: at once */
	bool		told;			/* its function is told */
	bool		late;			/* the row was no longer ours: nothing was done */
} tsk_ending;

/* finish_pg.c: within a transaction: rows move, the one function of all of them (deliver, or watch of TSK_BACK) is told */
extern void tsk_finish(tsk_lane *lane, tsk_ending *endings, int n);

#endif							/* MILLRACE_TASK_LANE_INT_H */
