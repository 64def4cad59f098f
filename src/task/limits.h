/*
 * limits.h
 *	  How many calls a provider gets: requests, tokens and cost a minute, calls
 *	  at once, by provider and by tenant; and whether it is well.  One state in
 *	  shared memory for all workers and sessions of the server.
 *
 * A window is exact: in no 65 s are more calls begun than the limit of one
 * minute allows, so no 60 s at the server see more, though a call takes up to
 * 2.5 s to get there.  After a restart the windows are filled again from what
 * task_queue and task_attempts say was begun.
 *
 * Locks: one LWLock, never held over anything that throws.
 */
#ifndef MILLRACE_TASK_LIMITS_H
#define MILLRACE_TASK_LIMITS_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Of a server's options; 0: no limit. */
typedef struct tsk_limits
{
	int			concurrency;
	int64		requests_per_minute;
	int64		tokens_per_minute;
	double		cost_per_minute;
	double		cost_per_1k;	/* of tokens, in and out */
	int64		tenant_requests_per_minute;
	int64		tenant_tokens_per_minute;
	double		tenant_cost_per_minute;
} tsk_limits;

typedef enum tsk_admission
{
	TSK_ADMITTED,				/* counted: begin the call within a second, and tell tsk_limits_done() */
	TSK_FULL,					/* not now, nor any other call of this provider: at *again_at, or when one ends */
	TSK_TENANT_FULL				/* not now, but others may: this one at *again_at */
} tsk_admission;

/* From _PG_init of both libraries: reserves memory when preloading. */
extern void tsk_limits_init(void);

/* May a call begin that is likely to take so many tokens?  provider: number of the foreign server; tenant "": none. */
extern tsk_admission tsk_limits_admit(Oid provider, const tsk_limits *limits, const char *tenant, int tokens, TimestampTz *again_at);

typedef enum tsk_health
{
	TSK_WELL,					/* it answered, whatever it was */
	TSK_ILL,					/* no answer, or overloaded: counts towards opening the breaker */
	TSK_UNKNOWN					/* the call never began or was given up by us */
} tsk_health;

/* A call that was admitted is over.  used: tokens it took after all, -1: as estimated.  slow_down: lower the rate. */
extern void tsk_limits_done(Oid provider, const tsk_limits *limits, const char *tenant, int estimated, int used, tsk_health health, bool slow_down);

/* Retry-After of a 429 or 503: nobody calls it before. */
extern void tsk_limits_hold(Oid provider, TimestampTz until);

typedef enum tsk_breaker
{
	TSK_CLOSED,
	TSK_OPEN,
	TSK_HALF_OPEN				/* one call finds out */
} tsk_breaker;

typedef struct tsk_limits_state
{
	int			calls;			/* under way */
	int64		requests;		/* in the window */
	int64		tokens;
	double		cost;
	double		rate;			/* part of the limits that is used, (0, 1] */
	tsk_breaker breaker;
	TimestampTz until;			/* open, or held, until then; 0: neither */
} tsk_limits_state;

extern bool tsk_limits_look(Oid provider, const char *tenant, tsk_limits_state *out);	/* false: nothing known */

/* A process that had calls under way is gone, or begins: its share of `calls` is given back. */
extern void tsk_limits_forget(int pid);

#endif							/* MILLRACE_TASK_LIMITS_H */
