/*
 * gate.h
 *	  Whether a provider gets another call now: its limits, its rate, its
 *	  circuit breaker.  Pure: one provider's state, the caller's lock and clock (microseconds).
 *
 * Rate: the part of the limits that is used.  Overload halves it, once for all
 * calls that were under way then, down to 1/16; it doubles every 30 s until it is whole.  It is a
 * part of the limits a minute or, where there are none, of the calls at once.
 *
 * Breaker: closed; open after 5 calls in a row, or 10 of the last 20, that were ill;
 * half-open once a pause of 1, 2, 4 ... 60 s is over: one call finds out, which closes it or opens it for the
 * next longer pause.  What began before it last changed says nothing.
 *
 * Turns: of several processes that share the calls at once, one that has been refused for 2 s gets the next.
 *
 * Slow start: a provider that nothing is known of yet (a restart), or whose breaker has just closed, gets two calls at
 * once, and one more for each that ended well.
 */
#ifndef MILLRACE_TASK_GATE_H
#define MILLRACE_TASK_GATE_H

#include "task/window.h"

/* Of a server's options; 0: no limit. */
typedef struct tsk_limits
{
	int			concurrency;
	int64_t		requests_per_minute;
	int64_t		tokens_per_minute;
	double		cost_per_minute;
	double		cost_per_1k;	/* of tokens, in and out */
	int64_t		tenant_requests_per_minute;
	int64_t		tenant_tokens_per_minute;
	double		tenant_cost_per_minute;
} tsk_limits;

typedef enum tsk_health
{
	TSK_WELL,					/* it answered, whatever it was */
	TSK_ILL,					/* no answer, or overloaded: counts towards opening the breaker */
	TSK_UNKNOWN,				/* it was called, and given up by us */
	TSK_NOT_BEGUN				/* it was not called: as if it had not been admitted */
} tsk_health;

typedef enum tsk_breaker
{
	TSK_CLOSED,
	TSK_OPEN,
	TSK_HALF_OPEN				/* one call finds out */
} tsk_breaker;

/* All zero: nothing is known. */
typedef struct tsk_gate
{
	tsk_window	window;
	int64_t		hold;			/* no call before: it asked for that */
	int64_t		until;			/* open until then */
	int64_t		changed;		/* when the breaker last closed or opened */
	int64_t		slowed;			/* when the rate was last halved ... */
	double		rate;			/* ... to this; 0: never */
	tsk_breaker breaker;
	int			calls;			/* under way */
	int			start;			/* calls at once beyond two that slow start allows */
	int			pauses;			/* since it was last well */
	int			in_row;			/* ill calls */
	int			n_recent;
	uint32_t	recent;			/* of that many last calls, bit set: it was ill */
	bool		probing;		/* half-open: the call that finds out is under way */
	int			waiter;			/* process whose turn is next; 0: none's */
	int			waiter_has;		/* calls under way */
	int64_t		waits;			/* since when it is refused ... */
	int64_t		asked;			/* ... and when it last was */
} tsk_gate;

/* A call that was admitted. */
typedef struct tsk_ticket
{
	int64_t		at;				/* when it was counted */
	int			tokens;			/* counted */
	bool		probe;
} tsk_ticket;

/*
 * May a call of so many tokens begin, of process who, which has so many under way?  True: counted, and *ticket
 * is filled; false: not before *again, or, as long as calls are under way, when one has ended.
 */
extern bool tsk_gate_admit(tsk_gate *gate, const tsk_limits *limits, int who, int has, int tokens, int64_t now, tsk_ticket *ticket, int64_t *again);

/* The call of a ticket is made now, and counts from now.  False: the ticket is too old for that. */
extern bool tsk_gate_begin(tsk_gate *gate, tsk_ticket *ticket, int64_t now);

/* It is over.  used: tokens it took, -1: as counted. */
extern void tsk_gate_done(tsk_gate *gate, const tsk_ticket *ticket, int used, tsk_health health, bool slow_down, int64_t now);

/* Whoever had so many calls under way, the probe perhaps, is gone. */
extern void tsk_gate_forget(tsk_gate *gate, int calls, bool probe);

extern void tsk_gate_hold(tsk_gate *gate, int64_t until, int64_t now);	/* an hour at most */
extern double tsk_gate_rate(const tsk_gate *gate, int64_t now);

/* Nothing would be lost if all were forgotten. */
extern bool tsk_gate_idle(tsk_gate *gate, int64_t now);

/* Limits of a minute as limits of tokens: those of tokens, and of cost; 0: none. */
extern int64_t tsk_token_limit(int64_t tokens_per_minute, double cost_per_minute, double cost_per_1k);

/* When a tenant's window has room. */
extern int64_t tsk_tenant_room(tsk_window *window, const tsk_limits *limits, int tokens, int64_t now);

#endif							/* MILLRACE_TASK_GATE_H */
