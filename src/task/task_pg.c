/*
 * task_pg.c
 *	  The task room's settings, and the clock of tasks in SQL.
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "core/core_pg.h"
#include "task/cache.h"
#include "task/limits.h"
#include "task/settings.h"
#include "task/submit.h"
#include "task/tasks.h"

PG_FUNCTION_INFO_V1(millrace_task_now);

int			tsk_quota = 0;
int			tsk_max_bytes = 0;

void
task_init(void)
{
	/* read by name, see tasks.h */
	static int	retention,
				key_retention,
				clock_offset;
	static char *secret_directory;

	tsk_cache_stat_init();
	DefineCustomIntVariable(TSK_RETENTION,
							"How long tasks that have ended, and their attempts, are kept.",
							NULL, &retention, TSK_RETENTION_S, TSK_MIN_RETENTION_S, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable(TSK_KEY_RETENTION,
							"How long an idempotency key stands for the task it was first given to.",
							NULL, &key_retention, TSK_KEY_RETENTION_S, TSK_MIN_RETENTION_S, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable(TSK_CLOCK_OFFSET,
							"The clock that tasks go by is ahead of the server's by so much.",
							"For tests, which move it instead of waiting; for all processes, or tasks are lost sight of.",
							&clock_offset, 0, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomStringVariable(TSK_SECRET_DIRECTORY,
							   "Folder of the files that option secret_file of user mappings names.",
							   NULL, &secret_directory, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.task_quota",
							"Tasks of a role that may wait; more are refused.",
							"Kept to within a hundredth and what transactions under way add. 0: any number.",
							&tsk_quota, 1000000, 0, INT_MAX, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.task_max_bytes",
							"Largest payload of a task.",
							NULL, &tsk_max_bytes, 8 * 1024 * 1024, 1024, 256 * 1024 * 1024, PGC_SUSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
	tsk_limits_init();
}

/* millrace.task_now() -> timestamptz */
Datum
millrace_task_now(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(tsk_now());
}
