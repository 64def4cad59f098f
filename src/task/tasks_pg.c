/*
 * tasks_pg.c
 *	  Settings, clock and leaves of tasks, alike in both libraries.
 */
#include "postgres.h"

#include "utils/guc.h"
#include "utils/timestamp.h"

#include "task/settings.h"
#include "task/tasks.h"

/* A whole number in the unit of flags, wherever it was set. */
static int
setting(const char *name, int flags, int fallback)
{
	const char *text = GetConfigOption(name, true, false);
	int			value;

	return text != NULL && parse_int(text, &value, flags, NULL) ? value : fallback;
}

int
tsk_retention_s(void)
{
	return Max(setting(TSK_RETENTION, GUC_UNIT_S, TSK_RETENTION_S), TSK_MIN_RETENTION_S);
}

int
tsk_key_retention_s(void)
{
	return Max(setting(TSK_KEY_RETENTION, GUC_UNIT_S, TSK_KEY_RETENTION_S), TSK_MIN_RETENTION_S);
}

TimestampTz
tsk_now(void)
{
	return GetCurrentTimestamp() + setting(TSK_CLOCK_OFFSET, GUC_UNIT_MS, 0) * INT64_C(1000);
}

/* Which of n leaves that take turns, each for so long. */
static int
leaf_of(TimestampTz at, int64 turn, int n)
{
	int64		turns = at / turn - (at % turn < 0);	/* from 2000 on, and before */

	return (int) ((turns % n + n) % n);
}

int
tsk_queue_leaf(TimestampTz created_at)
{
	return leaf_of(created_at, TSK_QUEUE_LEAF_MINUTES * USECS_PER_MINUTE, TSK_QUEUE_LEAVES);
}

int
tsk_done_leaf(TimestampTz finished_at)
{
	return leaf_of(finished_at, tsk_retention_s() * USECS_PER_SEC / (TSK_DONE_LEAVES - 1), TSK_DONE_LEAVES);
}
