/*
 * gate.c
 *	  Limits, rate and breaker of a provider.  See gate.h.
 */
#include "task/gate.h"

#include <math.h>

#define SECOND INT64_C(1000000)
#define HOLD_MAX (3600 * SECOND)
#define BEGIN_WITHIN (5 * SECOND)	/* what a window is longer than a minute, so that it is exact over restarts, too */
#define ASK_AGAIN (SECOND / 2)	/* where only the end of another process's call could tell */
#define TURN (2 * SECOND)		/* who is refused for so long is next */

#define RATE_MIN (1.0 / 16)
#define RATE_DOUBLES (30 * SECOND)

#define IN_ROW 5
#define RECENT 20
#define RECENT_ILL 10
#define PAUSE_MAX (60 * SECOND)

#define START_CALLS 2
#define START_MAX 4096			/* whatever the concurrency, slow start is over */

double
tsk_gate_rate(const tsk_gate *g, int64_t now)
{
	double		rate = g->rate * exp2((double) (now - g->slowed) / RATE_DOUBLES);

	return g->rate == 0 || rate >= 1 ? 1 : rate < RATE_MIN ? RATE_MIN : rate;
}

/* Part of a limit, one at least; 0: there is none. */
static int64_t
part(int64_t limit, double rate)
{
	int64_t		n = (int64_t) ((double) limit * rate);

	return limit <= 0 ? 0 : n > 0 ? n : 1;
}

int64_t
tsk_token_limit(int64_t tokens_per_minute, double cost_per_minute, double cost_per_1k)
{
	double		affordable = cost_per_minute > 0 && cost_per_1k > 0 ? fmax(cost_per_minute / cost_per_1k * 1000, 1) : 0;

	if (affordable == 0 || affordable >= (double) (INT64_C(1) << 53))
		return tokens_per_minute;
	return tokens_per_minute > 0 && (double) tokens_per_minute < affordable ? tokens_per_minute : (int64_t) affordable;
}

int64_t
tsk_tenant_room(tsk_window *window, const tsk_limits *l, int tokens, int64_t now)
{
	return tsk_window_room(window, l->tenant_requests_per_minute,
						   tsk_token_limit(l->tenant_tokens_per_minute, l->tenant_cost_per_minute, l->cost_per_1k), tokens, now);
}

static int64_t
least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* A clock that was set back holds nobody up for longer than the pause itself. */
static void
follow_clock(tsk_gate *g, int64_t now)
{
	g->hold = least(g->hold, now + HOLD_MAX);
	g->until = least(g->until, now + PAUSE_MAX);
	g->changed = least(g->changed, now);
	g->slowed = least(g->slowed, now);
	g->waits = least(g->waits, now);
	g->asked = least(g->asked, now);
}

/* Is the last of the calls at once another's, which waits for its turn?  Who no longer asks loses it. */
static bool
is_anothers(const tsk_gate *g, int who, int64_t at_once, int64_t now)
{
	return at_once - g->calls == 1 && g->waiter != 0 && g->waiter != who && now - g->waits >= TURN && now - g->asked <= 2 * ASK_AGAIN;
}

/* Who has fewer calls than the others together waits for its turn, and before one that has more. */
static void
wait_for_turn(tsk_gate *g, int who, int has, int64_t now)
{
	bool		gone = now - g->asked > 2 * ASK_AGAIN;

	if (2 * has < g->calls && g->waiter != who && (g->waiter == 0 || gone || has < g->waiter_has))
	{
		g->waiter = who;
		g->waits = now;
	}
	if (g->waiter == who)
	{
		g->waiter_has = has;
		g->asked = now;
	}
}

bool
tsk_gate_admit(tsk_gate *g, const tsk_limits *l, int who, int has, int tokens, int64_t now, tsk_ticket *ticket, int64_t *again)
{
	double		rate;
	int64_t		token_limit = tsk_token_limit(l->tokens_per_minute, l->cost_per_minute, l->cost_per_1k);
	bool		by_minute = l->requests_per_minute > 0 || token_limit > 0;
	int64_t		at_once;

	follow_clock(g, now);
	rate = tsk_gate_rate(g, now);
	at_once = part(l->concurrency, by_minute ? 1 : rate);
	at_once = at_once == 0 ? START_CALLS + g->start : least(at_once, START_CALLS + g->start);
	if (g->hold > now || (g->breaker == TSK_OPEN && g->until > now))
	{
		*again = g->breaker == TSK_OPEN && g->until > g->hold ? g->until : g->hold;
		return false;
	}
	if ((g->breaker == TSK_HALF_OPEN && g->probing) || g->calls >= at_once || is_anothers(g, who, at_once, now))
	{
		wait_for_turn(g, who, has, now);
		*again = now + ASK_AGAIN;
		return false;
	}
	*again = tsk_window_room(&g->window, part(l->requests_per_minute, rate), part(token_limit, rate), tokens, now);
	if (*again > now)
		return false;

	if (g->breaker == TSK_OPEN)
		g->breaker = TSK_HALF_OPEN;
	g->probing = g->breaker == TSK_HALF_OPEN;
	g->calls++;
	if (g->waiter == who)
		g->waiter = 0;
	tsk_window_add(&g->window, now, 1, tokens, now);
	*ticket = (tsk_ticket) {.at = now,.tokens = tokens,.probe = g->probing};
	return true;
}

bool
tsk_gate_begin(tsk_gate *g, tsk_ticket *ticket, int64_t now)
{
	if (now - ticket->at > BEGIN_WITHIN || !tsk_window_add(&g->window, ticket->at, -1, -ticket->tokens, now))
		return false;
	tsk_window_add(&g->window, now, 1, ticket->tokens, now);
	ticket->at = now;
	return true;
}

static void
open_breaker(tsk_gate *g, int64_t now)
{
	int64_t		pause = SECOND << (g->pauses < 6 ? g->pauses : 6);

	g->breaker = TSK_OPEN;
	g->changed = now;
	g->until = now + least(pause, PAUSE_MAX);
	g->pauses++;
}

/* Begin anew to count, slowly. */
static void
close_breaker(tsk_gate *g, int64_t now)
{
	g->breaker = TSK_CLOSED;
	g->changed = now;
	g->in_row = g->n_recent = g->pauses = g->start = 0;
	g->recent = 0;
}

/* The call that finds out has ended without telling: another one may. */
static void
probe_again(tsk_gate *g)
{
	g->breaker = TSK_OPEN;
	g->probing = false;
	g->until = 0;
}

static void
note_health(tsk_gate *g, bool ill, int64_t now)
{
	if (!ill && g->start < START_MAX)
		g->start++;
	g->in_row = ill ? g->in_row + 1 : 0;
	g->recent = (g->recent << 1 | (ill ? 1 : 0)) & ((1u << RECENT) - 1);
	g->n_recent += g->n_recent < RECENT;
	if (g->in_row >= IN_ROW || (g->n_recent == RECENT && __builtin_popcount(g->recent) >= RECENT_ILL))
		open_breaker(g, now);
}

/* What it took less is taken off where it was counted; what it took more counts from now on. */
static void
correct(tsk_window *w, const tsk_ticket *ticket, int used, int64_t now)
{
	int64_t		more = used < 0 ? 0 : (int64_t) used - ticket->tokens;

	tsk_window_add(w, more > 0 ? now : ticket->at, 0, more, now);
}

void
tsk_gate_done(tsk_gate *g, const tsk_ticket *ticket, int used, tsk_health health, bool slow_down, int64_t now)
{
	bool		tells = health == TSK_WELL || health == TSK_ILL;

	g->calls -= g->calls > 0;
	if (health == TSK_NOT_BEGUN)
		tsk_window_add(&g->window, ticket->at, -1, -ticket->tokens, now);
	else
		correct(&g->window, ticket, used, now);
	if (slow_down && ticket->at >= g->slowed)
	{
		g->rate = fmax(tsk_gate_rate(g, now) / 2, RATE_MIN);
		g->slowed = now;
	}
	if (ticket->probe && g->probing)
	{
		g->probing = false;
		if (!tells)
			probe_again(g);
		else if (health == TSK_ILL)
			open_breaker(g, now);
		else
			close_breaker(g, now);
	}
	else if (tells && g->breaker == TSK_CLOSED && ticket->at >= g->changed)
		note_health(g, health == TSK_ILL, now);
}

void
tsk_gate_forget(tsk_gate *g, int calls, bool probe)
{
	g->calls = g->calls > calls ? g->calls - calls : 0;
	if (probe && g->probing)
		probe_again(g);
}

void
tsk_gate_hold(tsk_gate *g, int64_t until, int64_t now)
{
	until = least(until, now + HOLD_MAX);
	if (until > g->hold)
		g->hold = until;
}

bool
tsk_gate_idle(tsk_gate *g, int64_t now)
{
	int64_t		requests,
				tokens;

	tsk_window_sum(&g->window, now, &requests, &tokens);
	return g->calls == 0 && requests == 0 && tokens == 0 && g->hold <= now && g->breaker == TSK_CLOSED && tsk_gate_rate(g, now) >= 1;
}
