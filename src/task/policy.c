/*
 * policy.c
 *	  See policy.h.  No memory, no clock, no chance of its own: all of it comes in.
 */
#include "task/policy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Is this the status that a pattern, "429" or "5xx", means? */
static bool
names_status(const char *pattern, int status)
{
	char		digits[12];

	if (status < 100 || status > 999)
		return false;
	snprintf(digits, sizeof(digits), "%d", status);
	return pattern[0] == digits[0] && (strcmp(pattern + 1, "xx") == 0 || strcmp(pattern + 1, digits + 1) == 0);
}

int
tsk_classify(const tsk_policies *policies, int status, const char *sqlstate)
{
	for (int i = 0; i < policies->n; i++)
		for (int k = 0; k < TSK_MAX_PATTERNS && policies->policy[i].statuses[k][0]; k++)
			if (names_status(policies->policy[i].statuses[k], status))
				return i;
	for (int i = 0; i < policies->n && sqlstate[0]; i++)
		for (int k = 0; k < TSK_MAX_PATTERNS && policies->policy[i].sqlstates[k][0]; k++)
			if (strncmp(sqlstate, policies->policy[i].sqlstates[k], strlen(policies->policy[i].sqlstates[k])) == 0)
				return i;
	return policies->n - 1;
}

tsk_verdict
tsk_after_failure(const tsk_policy *policy, int failed, int attempts, int max_attempts, double chance,
				  int64_t now_us, int64_t retry_after_us, int64_t *due_us)
{
	double		pause_s = policy->exponential ? ldexp(policy->base_s, failed) : policy->base_s;

	*due_us = now_us;
	if (policy->pause)
		return TSK_WAIT;
	if (attempts >= max_attempts)
		return TSK_CAPPED;
	if (failed > policy->retries)
		return TSK_EXHAUSTED;
	pause_s *= 1 + policy->jitter * chance;
	if (pause_s < retry_after_us / 1e6)
		pause_s = retry_after_us / 1e6;
	if (!(pause_s <= policy->max_s))
		pause_s = policy->max_s;
	*due_us = now_us + (int64_t) ceil(pause_s * 1e6);
	return TSK_AGAIN;
}
