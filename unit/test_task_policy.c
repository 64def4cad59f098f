/*
 * test_task_policy.c
 *	  Classes of errors, and what a failed attempt means for the next one.
 */
#include "unit.h"

#include <math.h>

#include "task/policy.h"

#define S INT64_C(1000000)
#define NOW (INT64_C(800000000) * S)

static const tsk_policies policies = {.n = 5,.policy = {
		{.name = "overload",.statuses = {"429", "503"},.sqlstates = {"HYT00"},.retries = 3,.exponential = true,.base_s = 1,.jitter = 0.25,.max_s = 3600},
		{.name = "quota",.statuses = {"402"},.retries = 5,.base_s = 60,.max_s = 3600},
		{.name = "auth",.statuses = {"401", "403"},.sqlstates = {"28"},.max_s = 3600,.pause = true},
		{.name = "network",.statuses = {"408", "5xx"},.sqlstates = {"08"},.retries = 5,.exponential = true,.base_s = 0.5,.jitter = 1,.max_s = 3600},
		{.name = "function",.max_s = 3600}
	}
};

enum
{
	OVERLOAD,
	QUOTA,
	AUTH,
	NETWORK,
	FUNCTION
};

static void
classes(void)
{
	static const struct
	{
		int			status;
		const char *sqlstate;
		int			class;
	}			cases[] = {
		{429, "", OVERLOAD}, {503, "", OVERLOAD}, {500, "", NETWORK}, {599, "", NETWORK}, {402, "", QUOTA}, {401, "", AUTH}, {403, "", AUTH},
		{404, "", FUNCTION}, {0, "HYT00", OVERLOAD}, {200, "HYT00", OVERLOAD}, {0, "08006", NETWORK}, {0, "28000", AUTH}, {0, "22012", FUNCTION},
		{0, "", FUNCTION}, {429, "28000", OVERLOAD}, {404, "08006", NETWORK}, {-1, "", FUNCTION}, {5000, "", FUNCTION}, {42, "", FUNCTION}
	};
	static const tsk_policies none = {0};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ok(tsk_classify(&policies, cases[i].status, cases[i].sqlstate) == cases[i].class, "%d \"%s\" is %s", cases[i].status, cases[i].sqlstate,
		   policies.policy[cases[i].class].name);
	ok(tsk_classify(&none, 429, "53000") == -1, "no policies, no class");
}

static double
pause_s(int class, int failed, double chance, int64_t retry_after_s)
{
	int64_t		due;

	return tsk_after_failure(&policies.policy[class], failed, failed, 11, chance, NOW, retry_after_s * S, &due) == TSK_AGAIN ? (due - NOW) / 1e6 : -1;
}

static void
pauses(void)
{
	bool		good = true;

	for (int n = 1; n <= 3; n++)
		good = good && pause_s(OVERLOAD, n, 0, 0) == ldexp(1, n) && pause_s(OVERLOAD, n, 0.5, 0) == 1.125 * ldexp(1, n) &&
			pause_s(OVERLOAD, n, 0.999999999, 0) <= 1.25 * ldexp(1, n);
	ok(good, "overload: uniform in [2^n, 1.25 2^n] s");
	ok(pause_s(OVERLOAD, 4, 0, 0) < 0, "three times");
	for (int n = 1; n <= 5; n++)
		good = good && pause_s(QUOTA, n, 0.9, 0) == 60;
	ok(good && pause_s(QUOTA, 6, 0, 0) < 0, "quota: 60 s, five times");
	ok(pause_s(OVERLOAD, 1, 0.9, 7) == 7 && pause_s(OVERLOAD, 3, 0, 7) == 8, "Retry-After is the floor");
	ok(pause_s(OVERLOAD, 1, 0, 100000) == 3600, "an hour at most");
	ok(pause_s(OVERLOAD, 1, 0, INT64_MAX / S) == 3600, "whatever is asked for");
}

static void
verdicts(void)
{
	tsk_policy	p = policies.policy[NETWORK];
	int64_t		due;

	ok(tsk_after_failure(&policies.policy[AUTH], 1, 11, 11, 0, NOW, 0, &due) == TSK_WAIT, "auth pauses the provider, even at the cap");
	ok(tsk_after_failure(&p, 1, 10, 11, 0, NOW, 0, &due) == TSK_AGAIN && tsk_after_failure(&p, 1, 11, 11, 0, NOW, 0, &due) == TSK_CAPPED &&
	   tsk_after_failure(&p, 1, 12, 11, 0, NOW, 0, &due) == TSK_CAPPED, "the cap of all classes");
	ok(tsk_after_failure(&p, 6, 7, 11, 0, NOW, 0, &due) == TSK_EXHAUSTED && tsk_after_failure(&p, 6, 11, 11, 0, NOW, 0, &due) == TSK_CAPPED,
	   "one class is exhausted; the cap ends it");
	ok(tsk_after_failure(&policies.policy[FUNCTION], 1, 1, 11, 0, NOW, 0, &due) == TSK_EXHAUSTED, "no retries at all");
	p.retries = 100;
	p.base_s = 86400;
	ok(tsk_after_failure(&p, 100, 100, 1000, 0.5, NOW, 0, &due) == TSK_AGAIN && due - NOW == 3600 * S, "2^100 days are an hour, too");
	p.base_s = 0;
	p.max_s = 0;
	ok(tsk_after_failure(&p, 100, 100, 1000, 0.5, NOW, 5 * S, &due) == TSK_AGAIN && due == NOW, "none, where none is allowed");
}

int
main(void)
{
	classes();
	pauses();
	verdicts();
	return done_testing();
}
