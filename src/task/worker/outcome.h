/*
 * outcome.h
 *	  What an answer means: success, a fault of one kind or another, whether to try again and when.
 *
 * Pure.  Classes as in RFC 9110 and as clients of S3 have them; 529 is "overloaded" of some.
 */
#ifndef MILLRACE_TASK_OUTCOME_H
#define MILLRACE_TASK_OUTCOME_H

#include "task/worker/transfer.h"

/* Kinds of faults, in the order of http_progress.faults and of stat_http.errors. */
typedef enum tsk_fault
{
	TSK_FINE = -1,
	TSK_F_MISSING,				/* 404, 410 */
	TSK_F_FORBIDDEN,			/* 403 */
	TSK_F_UNKNOWN,				/* 401, or 403 for a key or signature: who are you? */
	TSK_F_LARGE,
	TSK_F_TRUNCATED,
	TSK_F_SLOW,
	TSK_F_UNCONNECTED,
	TSK_F_LOST,
	TSK_F_OVERLOADED,			/* 429, 503 and the like */
	TSK_F_SERVER,				/* 500 and the like */
	TSK_F_REFUSED,				/* anything else it answered; paths and addresses that are not asked for */
	TSK_N_FAULTS
} tsk_fault;

typedef struct tsk_outcome
{
	tsk_fault	fault;
	const char *sqlstate;		/* "": none */
	bool		again;			/* may succeed later */
	char		error[512];		/* begins after 'object "...": ' */
} tsk_outcome;

extern void tsk_judge(const tsk_transfer *transfer, tsk_outcome *outcome);

/*
 * Milliseconds to wait before attempt n + 1: full jitter, chance within [0, 1), over base 2^(n - 1), a minute at
 * most; what the server asked for (seconds, 0: nothing) is the floor, an hour at most.
 */
extern int64_t tsk_pause_ms(int n, int64_t base_ms, double chance, int64_t retry_after_s);

/* Element of http_progress.latency that a duration counts in: 0 ... TSK_LATENCIES - 1. */
extern int	tsk_latency_class(int64_t us, int n_classes);

#endif							/* MILLRACE_TASK_OUTCOME_H */
