/*
 * failpoint_pg.c
 *	  What a failpoint does in the fault suite's build of the workers' library.
 *
 * The file failpoints/NAME in the data directory, one word and a number, says
 *
 *	  error			ereport(ERROR), of the kind that is waited out and tried again
 *	  sleep MS		whatever signals come meanwhile
 *	  kill			SIGKILL to this process
 *	  stop			SIGSTOP to this process; the suite continues it
 *
 * Whoever reaches the place first renames the file to NAME.PID, so each file
 * works once and the suite can see whom it hit.
 */
#include "postgres.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "core/failpoint.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

void
mr_failpoint(const char *name)
{
	char		path[MAXPGPATH];
	char		fired[MAXPGPATH];
	char		action[16] = "";
	long		ms = 0;
	FILE	   *file;

	snprintf(path, sizeof(path), "failpoints/%s", name);
	snprintf(fired, sizeof(fired), "%s.%d", path, MyProcPid);
	file = fopen(path, "r");
	if (file == NULL)
		return;
	if (fscanf(file, "%15s %ld", action, &ms) < 1 || rename(path, fired) != 0)
		action[0] = '\0';		/* somebody else was first */
	fclose(file);

	if (strcmp(action, "error") == 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("failpoint %s", name)));
	else if (strcmp(action, "sleep") == 0)
	{
		TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);

		while (GetCurrentTimestamp() < end)
			pg_usleep(10000);
	}
	else if (strcmp(action, "kill") == 0)
		kill(MyProcPid, SIGKILL);
	else if (strcmp(action, "stop") == 0)
		kill(MyProcPid, SIGSTOP);
}
