/*
 * narrow_pg.c
 *	  Batches of results, narrowed down to the one that cannot be taken.
 *
 * Memory: the caller's context.  Locks: those of each transaction.
 */
#include "postgres.h"

#include "task/worker/narrow.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/timeout.h"

#define SLICE_AFTER_ERROR 16	/* elements tried at once after one was put aside */

tsk_result
tsk_try(tsk_step step, void *subject, int first, int n, tsk_is_fault is_fault, ErrorData **error)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile tsk_result result = TSK_COMMITTED;

	PG_TRY();
	{
		step(subject, first, n);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		*error = CopyErrorData();
		FlushErrorState();
		disable_timeout(STATEMENT_TIMEOUT, false);
		AbortOutOfAnyTransaction();
		QueryCancelPending = false; /* it has been obeyed */
		pgstat_report_activity(STATE_IDLE, NULL);
		result = is_fault((*error)->sqlerrcode) ? TSK_FAULTY : TSK_TROUBLE;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return result;
}

/* Is less at once worth a try? */
static bool
was_too_much(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES || error->sqlerrcode == ERRCODE_QUERY_CANCELED;
}

int
tsk_narrow(tsk_step together, tsk_step aside, void *subject, int n, tsk_is_fault is_fault, ErrorData **error)
{
	int			done = 0;
	int			suspect = 0;	/* a slice up to here failed: the culprit is before it */
	int			limit = n;

	while (done < n)
	{
		int			len = Min(n - done, limit);
		tsk_result	result = tsk_try(together, subject, done, len, is_fault, error);

		if (result == TSK_COMMITTED)
		{
			done += len;
			limit = done < suspect ? Max((suspect - done) / 2, 1) : Min(limit * 2, n);
		}
		else if (len > 1 && (result == TSK_FAULTY || was_too_much(*error)))
		{
			suspect = result == TSK_FAULTY ? done + len : suspect;
			limit = len / 2;
		}
		else if (result == TSK_FAULTY)
		{
			if (tsk_try(aside, subject, done, 1, is_fault, error) != TSK_COMMITTED)
				break;
			done++;
			suspect = 0;
			limit = SLICE_AFTER_ERROR;
		}
		else
			break;
	}
	return done;
}
