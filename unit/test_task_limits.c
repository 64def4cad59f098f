/*
 * test_task_limits.c
 *	  Windows under random loads, rate, breaker, slow start: by a clock of our own.
 */
#include "unit.h"

#include <stdlib.h>

#include "task/gate.h"

#define S INT64_C(1000000)
#define BEGIN INT64_C(800000000000000)	/* about 2025 */
#define CALLS 200000

static uint64_t seed = 1;

static uint32_t
chance(uint32_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t) ((seed >> 33) % n);
}

static int64_t begun[CALLS];
static int	taken[CALLS];

/* Most calls, and tokens, begun within any 65 s. */
static void
most(int n, int64_t *calls, int64_t *tokens)
{
	int64_t		sum = 0;

	*calls = *tokens = 0;
	for (int first = 0, i = 0; i < n; i++)
	{
		sum += taken[i];
		while (begun[i] - begun[first] > 65 * S)
			sum -= taken[first++];
		*calls = i - first + 1 > *calls ? i - first + 1 : *calls;
		*tokens = sum > *tokens ? sum : *tokens;
	}
}

/* Bursts, pauses, commits that take seconds, calls that are not made after all, tokens that are not as counted. */
#define UNDER_WAY 64

static void
windows(void)
{
	static struct
	{
		tsk_ticket	ticket;
		int			used;
	}			call[UNDER_WAY];

	bool		exact = true,
				used = true,
				woken = true;

	for (int run = 0; run < 60; run++)
	{
		tsk_gate	g = {.start = 1000};
		tsk_limits	l = {.requests_per_minute = 1 + chance(200),.tokens_per_minute = run % 2 ? 2000 : 0};
		int64_t		now = BEGIN + chance(1000000);
		int64_t		again = 0,
					calls,
					tokens;
		int			n = 0;

		for (int i = 0; i < UNDER_WAY; i++)
			call[i].used = -1;
		for (int i = 0; i < 20000; i++)
		{
			tsk_ticket	t;
			int			weight = (int) chance(300);

			if (!tsk_gate_admit(&g, &l, 1, 0, weight, now, &t, &again))
			{
				tsk_gate	copy = g;

				/* it says when, and is right */
				woken = woken && again > now && tsk_gate_admit(&copy, &l, 1, 0, weight, again, &t, &calls);
				now = chance(3) ? again : now + chance(5) * S;
				continue;
			}
			now += chance(20) ? chance(20000) : chance(4) * S;
			if (chance(10) == 0)
				tsk_gate_done(&g, &t, -1, TSK_NOT_BEGUN, false, now);
			else if (tsk_gate_begin(&g, &t, now))
			{
				uint32_t	place = chance(UNDER_WAY);

				if (call[place].used >= 0)
					tsk_gate_done(&g, &call[place].ticket, call[place].used, TSK_WELL, false, now);
				call[place].ticket = t;
				call[place].used = (int) chance((uint32_t) weight + 1);
				begun[n] = now;
				taken[n++] = call[place].used;
			}
			now += chance(200) ? 0 : chance(200) * S;
		}
		most(n, &calls, &tokens);
		exact = exact && calls <= l.requests_per_minute && (l.tokens_per_minute == 0 || tokens <= l.tokens_per_minute);
		used = used && n > 100 && (calls == l.requests_per_minute || (l.tokens_per_minute > 0 && tokens > l.tokens_per_minute * 2 / 3));
		if (!exact || !used || !woken)
			printf("# run %d: %ld of %ld calls, %ld of %ld tokens, %d in all\n", run, (long) calls, (long) l.requests_per_minute, (long) tokens, (long) l.tokens_per_minute, n);
	}
	ok(exact, "in no 65 s more calls and tokens than the limits");
	ok(used, "but as many");
	ok(woken, "who is refused is told when there is room");
}

static void
edges(void)
{
	tsk_gate	g = {0};
	tsk_limits	l = {.tokens_per_minute = 100};
	tsk_ticket	t;
	int64_t		again;

	ok(tsk_gate_admit(&g, &l, 1, 0, 500, BEGIN, &t, &again), "a call larger than the limit is let in");
	ok(!tsk_gate_admit(&g, &l, 1, 0, 1, BEGIN + 60 * S, &t, &again) && again == BEGIN + TSK_SLICES * TSK_SLICE_US, "alone");
	ok(!tsk_gate_begin(&g, &t, BEGIN + 6 * S), "a ticket is for 5 s");

	g = (tsk_gate) {0};
	l = (tsk_limits) {.requests_per_minute = 1};
	tsk_gate_admit(&g, &l, 1, 0, 0, BEGIN + 1000 * S, &t, &again);
	tsk_gate_done(&g, &t, -1, TSK_WELL, false, BEGIN + 1000 * S);
	ok(!tsk_gate_admit(&g, &l, 1, 0, 0, BEGIN, &t, &again) && again <= BEGIN + 70 * S, "a clock set back: a window's wait, not the difference");
	ok(tsk_token_limit(0, 0.5, 0.01) == 50000 && tsk_token_limit(100, 0.5, 0.01) == 100 && tsk_token_limit(100, 0.5, 0) == 100, "limits of cost are limits of tokens");

	g = (tsk_gate) {0};
	tsk_gate_hold(&g, BEGIN + 7200 * S, BEGIN);
	ok(!tsk_gate_admit(&g, &l, 1, 0, 0, BEGIN, &t, &again) && again == BEGIN + 3600 * S, "nobody is held up for more than an hour");
	ok(!tsk_gate_idle(&g, BEGIN) && tsk_gate_idle(&g, BEGIN + 3600 * S), "what is held is not forgotten");
}

/* One call, begun and over at once. */
static bool
call(tsk_gate *g, const tsk_limits *l, tsk_health health, bool slow_down, int64_t now)
{
	tsk_ticket	t;
	int64_t		again;

	if (!tsk_gate_admit(g, l, 1, 0, 0, now, &t, &again))
		return false;
	tsk_gate_done(g, &t, -1, health, slow_down, now);
	return true;
}

static void
rates(void)
{
	tsk_gate	g = {.start = 1000};
	tsk_limits	l = {.concurrency = 64};
	tsk_ticket	t[100];
	int64_t		now = BEGIN,
				again;
	int			n = 0;

	while (tsk_gate_admit(&g, &l, 1, 0, 0, now, &t[n], &again))
		n++;
	ok(n == 64, "calls at once");
	for (int i = 0; i < n; i++)
		tsk_gate_done(&g, &t[i], -1, TSK_WELL, true, now + S);
	ok(tsk_gate_rate(&g, now + S) == 0.5, "64 refusals at once halve the rate once");
	for (int i = 0; i < 10; i++)
		call(&g, &l, TSK_WELL, true, now + 2 * S);
	ok(tsk_gate_rate(&g, now + 2 * S) == 1.0 / 16, "not below 1/16");
	for (n = 0; tsk_gate_admit(&g, &l, 1, 0, 0, now + 2 * S, &t[n], &again);)
		n++;
	ok(n == 4, "a part of the calls at once, where there is no limit of a minute");
	ok(tsk_gate_rate(&g, now + 62 * S) == 0.25 && tsk_gate_rate(&g, now + 130 * S) == 1, "it doubles every 30 s");

	g = (tsk_gate) {.start = 1000};
	l = (tsk_limits) {.requests_per_minute = 40};
	call(&g, &l, TSK_WELL, true, now);
	for (n = 1; call(&g, &l, TSK_WELL, false, now);)
		n++;
	ok(n == 20, "a part of the limit of a minute");
}

static void
breaker(void)
{
	tsk_gate	g = {0};
	tsk_limits	l = {0};
	tsk_ticket	old,
				t,
				u;
	int64_t		now = BEGIN,
				again;
	bool		grows = true;

	for (int i = 0; i < 4; i++)
		call(&g, &l, TSK_ILL, false, now);
	call(&g, &l, TSK_WELL, false, now);
	tsk_gate_admit(&g, &l, 1, 0, 0, now, &old, &again);
	for (int i = 0; i < 4; i++)
		call(&g, &l, TSK_ILL, false, now + S);
	ok(g.breaker == TSK_CLOSED, "four in a row are not five");
	call(&g, &l, TSK_ILL, false, now + S);
	ok(g.breaker == TSK_OPEN && !tsk_gate_admit(&g, &l, 1, 0, 0, now + S, &t, &again) && again == now + 2 * S, "five in a row open it, for a second");
	tsk_gate_done(&g, &old, -1, TSK_WELL, false, now + S);
	ok(g.breaker == TSK_OPEN, "what was under way says nothing");
	now += 2 * S;
	for (int pause = 2; pause < 200; pause *= 2)
	{
		int64_t		expected = now + (pause < 60 ? pause : 60) * S;

		grows = grows && tsk_gate_admit(&g, &l, 1, 0, 0, now, &t, &again) && t.probe && !tsk_gate_admit(&g, &l, 1, 0, 0, now, &u, &again);
		tsk_gate_done(&g, &t, -1, TSK_ILL, false, now);
		grows = grows && !tsk_gate_admit(&g, &l, 1, 0, 0, now, &u, &again) && again == expected;
		now = expected;
	}
	ok(grows, "one call finds out, after 2, 4 ... 60 s");
	tsk_gate_admit(&g, &l, 1, 0, 0, now, &t, &again);
	tsk_gate_done(&g, &t, -1, TSK_NOT_BEGUN, false, now);
	ok(tsk_gate_admit(&g, &l, 1, 0, 0, now, &t, &again) && t.probe, "it was not made: another one");
	tsk_gate_forget(&g, 1, true);
	ok(g.calls == 0 && tsk_gate_admit(&g, &l, 1, 0, 0, now, &t, &again) && t.probe, "who made it is gone: another one");
	tsk_gate_done(&g, &t, -1, TSK_WELL, false, now);
	ok(g.breaker == TSK_CLOSED && g.calls == 0, "it closes it");

	for (int i = 0; i < 10; i++)
	{
		call(&g, &l, TSK_WELL, false, now);
		ok(g.breaker == TSK_CLOSED, "half of %d", 2 * i);
		call(&g, &l, TSK_ILL, false, now);
	}
	ok(g.breaker == TSK_OPEN && g.until == now + S, "half of the last 20 open it");
}

static void
slow_start(void)
{
	tsk_gate	g = {0};
	tsk_limits	l = {.concurrency = 32};
	int			rounds = 0;
	int			n = 0;

	for (; n < 32; rounds++)
	{
		tsk_ticket	t[64];
		int64_t		again;

		for (n = 0; tsk_gate_admit(&g, &l, 1, 0, 0, BEGIN, &t[n], &again);)
			n++;
		ok(n == (2 << rounds), "%d at once", n);
		for (int i = 0; i < n; i++)
			tsk_gate_done(&g, &t[i], -1, TSK_WELL, false, BEGIN);
	}
	ok(rounds == 5 && n == 32, "from two to 32 calls at once in five rounds");
}

/* Three processes that always want more share five calls at once; calls take 0.1 s, who is refused asks again when told. */
static void
turns(void)
{
	tsk_gate	g = {.start = 1000};
	tsk_limits	l = {.concurrency = 5};
	tsk_ticket	call[4][5];
	int64_t		again[4] = {0};
	int			n[4] = {0};
	int			total[4] = {0};
	int			sum = 0;

	for (int64_t now = BEGIN; now < BEGIN + 600 * S; now += S / 10)
		for (int i = 0; i < 6; i++)
		{
			/* the first is always quicker than the others */
			int			who = i % 3 + 1;

			for (; i < 3 && n[who] > 0; again[who] = 0)
				tsk_gate_done(&g, &call[who][--n[who]], -1, TSK_WELL, false, now);
			while (now >= again[who] && tsk_gate_admit(&g, &l, who, n[who], 0, now, &call[who][n[who]], &again[who]))
			{
				n[who]++;
				total[who]++;
			}
		}
	for (int who = 1; who <= 3; who++)
		sum += total[who];
	ok(total[1] > sum / 6 && total[2] > sum / 6 && total[3] > sum / 6 && sum > 0.85 * 5 * 6000,
	   "three processes take turns (%d, %d, %d of %d)", total[1], total[2], total[3], 5 * 6000);
}

int
main(void)
{
	windows();
	edges();
	rates();
	breaker();
	slow_start();
	turns();
	return done_testing();
}
