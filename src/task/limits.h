/*
 * limits.h
 *	  How many calls a provider gets: requests, tokens and cost a minute, calls
 *	  at once, by provider and by tenant; and whether it is well (gate.h).  One state in
 *	  shared memory for all workers and sessions of the server.
 *
 * A window is exact (window.h): in no 65 s are more calls begun than the limit of one
 * minute allows, so no 60 s at the server see more, though a call takes up to
 * 5 s to get there.  After a restart the windows are filled again from what
 * task_queue and task_attempts say was begun.
 *
 * A call:  learn (unless known)  ->  admit, claim, commit  ->  begin, call  ->  done
 *
 * Memory: entries by (database, provider, tenant), tenants by a hash of their name and only where a tenant has limits.  Without
 * preloading they are few, else millrace.max_limits.  When all are taken, the one used longest ago makes room, of
 * those of which nothing would be lost; where there is none, calls wait.
 *
 * Locks: one LWLock, never held over anything that throws.  Times are by tsk_now().
 */
#ifndef MILLRACE_TASK_LIMITS_H
#define MILLRACE_TASK_LIMITS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "task/gate.h"

typedef enum tsk_admission
{
	TSK_ADMITTED,				/* counted, and *pass filled: see there */
	TSK_FULL,					/* not now, nor any other call of this provider: at *again_at, or when one ends */
	TSK_TENANT_FULL				/* not now, but others may: this one at *again_at */
} tsk_admission;

/* A call that was admitted: keep it, and hand it to tsk_limits_done() once, unless all are forgotten. */
typedef struct tsk_pass
{
	Oid			provider;
	uint64		tenant;			/* hash; 0: its limits do not count */
	tsk_ticket	ticket;
} tsk_pass;

/* From _PG_init of millrace.so: reserves memory when preloading. */
extern void tsk_limits_init(void);

/* Is anything known of it?  If not, tsk_limits_learn() in the worker: a transaction; until then nothing is admitted. */
extern bool tsk_limits_known(Oid provider);
extern void tsk_limits_learn(Oid provider, const char *server, const tsk_limits *limits);

/* May a call begin that is likely to take so many tokens?  provider: number of the foreign server; tenant "": none.  Does not throw. */
extern tsk_admission tsk_limits_admit(Oid provider, const tsk_limits *limits, const char *tenant, int tokens, tsk_pass *pass, TimestampTz *again_at);

/* The call is made now.  False: it was admitted too long ago; tell tsk_limits_done() that it was not begun. */
extern bool tsk_limits_begin(tsk_pass *pass);

/* It is over.  used: tokens it took after all, -1: as estimated.  slow_down: lower the rate. */
extern void tsk_limits_done(const tsk_pass *pass, int used, tsk_health health, bool slow_down);

/* All calls that this process has under way are over, and say nothing; also done when it ends. */
extern void tsk_limits_forget(void);

/* Retry-After of a 429 or 503: nobody calls it before; an hour at most. */
extern void tsk_limits_hold(Oid provider, TimestampTz until);

typedef struct tsk_limits_state
{
	int			calls;			/* under way */
	int64		requests;		/* in the window */
	int64		tokens;
	double		rate;			/* part of the limits that is used, (0, 1] */
	tsk_breaker breaker;
	TimestampTz until;			/* open, or held, until then; 0: neither */
} tsk_limits_state;

/* tenant "": the provider's own state.  False: nothing is known. */
extern bool tsk_limits_look(Oid provider, const char *tenant, tsk_limits_state *out);

/* ---- between limits_pg.c and worker/learn_pg.c */

/* What was begun lately: all of one tenant behind each other. */
typedef struct tsk_past
{
	uint64		tenant;
	TimestampTz at;
	int			requests;
	int64		tokens;
} tsk_past;

extern uint64 tsk_tenant_hash(const char *tenant);
extern void tsk_limits_restore(Oid provider, const tsk_past *past, int n, TimestampTz hold);

#endif							/* MILLRACE_TASK_LIMITS_H */
