/*
 * lane.h
 *	  What the workers of both lanes share: which tasks are next, taking them,
 *	  and what became of them.
 *
 *	seek_pg.c		which may be next: by snapshots (tick_pg.c) and by time
 *	take_pg.c		claiming them, renewing leases
 *	end_pg.c		results: what follows by policy, batches of them
 *	finish_pg.c		one such batch, in a transaction: moved to task_done and delivered, or put back
 *	pool_pg.c		rows of task_pools, task_queues and task_progress, policies, reports
 *	sql_main_pg.c	lane sql: a process, one task at a time
 *	call_*_pg.c		lane call: a process, many calls at once
 *
 * A task is ours from the commit of its claim on, while its row carries our lease; the claim counts its attempt.  Nobody
 * settles a row whose lease is another's: late results are dropped, and counted.  Lane sql also holds the row's lock while it
 * runs, so that its lease need not be renewed; lane call renews every third of a lease.
 */
#ifndef MILLRACE_TASK_LANE_H
#define MILLRACE_TASK_LANE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "utils/jsonb.h"
#include "utils/palloc.h"
#include "utils/uuid.h"

#include "task/policy.h"
#include "task/tasks.h"

/* A role's tasks of one lane, as one process sees them. */
typedef struct tsk_lane
{
	const char *owner;
	const char *lane;			/* TSK_LANE_CALL, TSK_LANE_SQL */
	int			index;			/* of the process, from 0 */
	int64		generation;		/* of task_pools */
	int			lease_s;
	int			workers_min;
	int			workers_max;
	int			max_tasks;
	int64		memory;			/* bytes */
	int			slots;
	tsk_policies policies;
} tsk_lane;

/* A queue of the lane, and how far this process has sought in it. */
typedef struct tsk_seeker tsk_seeker;
typedef struct tsk_task_queue
{
	int			id;
	char	   *name;			/* provider; TSK_SQL_QUEUE */
	bool		paused;			/* the provider is: nothing is taken, but for what was cancelled */
	tsk_seeker *seeker;
	void	   *subject;		/* the lane's own */
} tsk_task_queue;

/* What is known of a task before it is claimed. */
typedef struct tsk_candidate
{
	pg_uuid_t	id;
	const char *tenant;
	int			weight;			/* tokens it is likely to take */
	bool		more;			/* has a further provider behind this one */
} tsk_candidate;

typedef enum tsk_choice
{
	TSK_TAKE,
	TSK_DEFER,					/* not this one before *until; others may be taken */
	TSK_STOP					/* no more of this queue now */
} tsk_choice;

/* Asked once for each in the order they are due; NULL: all are taken.  May not throw. */
typedef tsk_choice (*tsk_admit) (void *subject, const tsk_candidate *candidate, TimestampTz *until);

/* A task that is ours; lies in its own context. */
typedef struct tsk_task
{
	dlist_node	node;
	MemoryContext cxt;
	pg_uuid_t	id;
	int			leaf;
	int64		lease;
	TimestampTz lease_until;
	tsk_task_queue *queue;
	char	   *kind;
	char	   *base;			/* llm, embed, fetch, sql */
	char	   *function;		/* of the kind; NULL: none */
	char	   *prompt;			/* of the kind; NULL: none */
	Jsonb	   *payload;
	char	   *tenant;
	char	  **providers;
	int			n_providers;
	int			hop;
	int			weight;
	char	   *order_key;		/* NULL: none */
	char	   *tag;			/* NULL: none */
	char	   *deliver;		/* NULL: nobody */
	char	   *watch;			/* NULL: nobody */
	int			timeout_ms;		/* 0: not given */
	int			attempts;		/* this one counted */
	int			max_attempts;
	Jsonb	   *tries;
	TimestampTz created_at;
	TimestampTz started_at;		/* the attempt */
	int			pid;			/* process that was at it */
	TimestampTz deadline;		/* 0: none */
	bool		cancelled;		/* cancel_task() was called */
	void	   *subject;		/* the lane's own */
	/* what the attempt came to, set by the lane before tsk_end_tasks(); in cxt */
	bool		ok;
	Jsonb	   *result;			/* of a success */
	int			status;			/* HTTP; 0: none */
	char		sqlstate[6];
	char	   *error;
	int64		retry_after_us; /* 0: nothing asked for */
	int			tokens_in;		/* -1: not known */
	int			tokens_out;
	double		cost;			/* < 0: not known */
	bool		waited;			/* it ends without an attempt: cancelled, or expired, before it was begun */
	bool		undelivered;	/* its function deliver failed, with this error: it fails for good, and nobody is told */
	bool		not_counted;	/* it never began: put back as if not claimed, due at due_at */
	bool		moves_on;		/* nor this one: to its next provider as if not claimed, at once */
	TimestampTz due_at;
} tsk_task;

/* pool_pg.c */
extern bool tsk_lane_load(tsk_lane *lane);	/* of its owner, lane, index; a transaction; false: nothing to do here, end */
extern bool tsk_lane_unchanged(tsk_lane *lane);	/* looked at now and then; reads the policies again; a transaction */
extern void tsk_lane_report(const tsk_lane *lane, const char *state, const char *sqlstate, const char *reason);
extern int	tsk_lane_queues(const tsk_lane *lane, tsk_task_queue ***queues); /* of the lane, new ones included; they live as long as the process; in a transaction */
extern void tsk_lane_late(const tsk_lane *lane, int n);	/* count results that were dropped; in a transaction, as the extension's owner */

/* seek_pg.c */
extern void tsk_forget_seekers(void);	/* begin again from the tables: at the start, and after any ERROR, when no task is held */
extern bool tsk_lane_idle(const tsk_lane *lane);	/* after a minute of nothing: is there still nothing?  Noted then, for the supervisor; a transaction */
extern bool tsk_more_tasks(const tsk_task_queue *queue);	/* is there more than was taken? */
extern TimestampTz tsk_tasks_due(const tsk_task_queue *queue);	/* when to take again, if nobody rings; DT_NOEND: nothing is known of.  By tsk_now() */

/* take_pg.c */

/*
 * Take at most `most` tasks of a queue, highest priority and oldest first, of one order_key one at a time: appended to tasks, each in a
 * context of its own below TopMemoryContext.  How many; transactions of its own, flushed.  What was cancelled, is past its deadline or
 * was lost with its worker is ended or put back here.  One that was admitted, and then could not be had, is appended with lease 0.
 */
extern int	tsk_take_tasks(tsk_lane *lane, tsk_task_queue *queue, int most, tsk_admit admit, void *subject, dlist_head *tasks);
extern void tsk_renew_leases(const tsk_lane *lane, tsk_task **tasks, int n);	/* those whose row is no longer ours get lease 0, those for which cancel_task() was called `cancelled`; a transaction */
extern void tsk_drop_task(tsk_task *task);	/* forget it: frees its context */

/* end_pg.c */

/*
 * What became of tasks: succeeded ones are delivered (one call a function) and moved to task_done; failed ones are classified, and put back, sent to
 * their next provider, or ended.  Every attempt leaves its row in task_attempts.  Each in transactions of its own; data errors of a deliver
 * function are bisected to the task, which then fails with class "delivery" and its result kept.  *n_left, when it returns false: how many, in
 * front of tasks, are still to be ended later, for there is trouble, which has been reported.
 */
extern bool tsk_end_tasks(tsk_lane *lane, tsk_task **tasks, int n, int *n_left);

/* The same for one task within the caller's transaction: lane sql, whose function has run in it.  False: it was no longer ours. */
extern bool tsk_end_in_transaction(tsk_lane *lane, tsk_task *task);

/* The class that an error has: for who must know before the end (auth, overload). */
extern const tsk_policy *tsk_policy_of(const tsk_lane *lane, int status, const char *sqlstate);

#endif							/* MILLRACE_TASK_LANE_H */
