/*
 * policy.h
 *	  Classes of errors, and what a failed attempt means for the next one.  Pure.
 *
 * The rows of millrace.retry_policies, by position.  Times are microseconds, of any clock: the caller's.
 */
#ifndef MILLRACE_TASK_POLICY_H
#define MILLRACE_TASK_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#define TSK_MAX_POLICIES 32
#define TSK_CLASS_SIZE 32
#define TSK_MAX_PATTERNS 16

typedef struct tsk_policy
{
	char		name[TSK_CLASS_SIZE];
	char		statuses[TSK_MAX_PATTERNS][4];	/* "429", "5xx"; "": no more */
	char		sqlstates[TSK_MAX_PATTERNS][6]; /* or their beginnings; "": no more */
	int			retries;
	bool		exponential;
	double		base_s;
	double		jitter;
	double		max_s;
	bool		slow_down;
	bool		pause;
} tsk_policy;

typedef struct tsk_policies
{
	int			n;
	tsk_policy	policy[TSK_MAX_POLICIES];
} tsk_policies;

/*
 * The class of an error: the first that names its HTTP status (0: none came), else the first that names its SQLSTATE
 * ("": none), else the last.  -1: there are no policies.
 */
extern int	tsk_classify(const tsk_policies *policies, int status, const char *sqlstate);

typedef enum tsk_verdict
{
	TSK_AGAIN,					/* at due_us */
	TSK_WAIT,					/* the provider is paused: it waits without an attempt counted */
	TSK_EXHAUSTED,				/* the class allows no more here: another provider, or failed for good */
	TSK_CAPPED					/* nor does the cap of all classes: failed for good */
} tsk_verdict;

/*
 * After a failed attempt of this class.  failed: failures of the class so far, this one counted (n from 1); attempts: all attempts begun, this
 * one counted, of max_attempts.  chance: within [0, 1).  retry_after_us: what the server asked for, the least pause; 0: nothing.
 */
extern tsk_verdict tsk_after_failure(const tsk_policy *policy, int failed, int attempts, int max_attempts, double chance,
									 int64_t now_us, int64_t retry_after_us, int64_t *due_us);

#endif							/* MILLRACE_TASK_POLICY_H */
