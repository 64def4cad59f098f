/*
 * workers.h
 *	  What launcher, supervisor, hook and SQL functions share.
 */
#ifndef MILLRACE_STREAM_WORKERS_H
#define MILLRACE_STREAM_WORKERS_H

#include "core/shared_pg.h"
#include "nodes/pg_list.h"
#include "postmaster/bgworker.h"

#define MR_LAUNCHER_TYPE	"millrace launcher"
#define MR_SUPERVISOR_TYPE	"millrace supervisor"

#define MR_POLL_MS		2000	/* look even if nobody rang (COMMIT PREPARED, revoked rights) */
#define MR_BACKOFF_MAX	60		/* seconds between attempts at most */
#define MR_SETTLED_S	60		/* a worker that lived so long failed by chance */

extern bool mr_workers_on;		/* GUC millrace.workers */
extern char *mr_launcher_database;	/* GUC millrace.launcher_database */

/* Seconds until attempt n (1, 2, ...) after a failure: 1, 2, 4 ... MR_BACKOFF_MAX. */
extern int	mr_backoff(int failures);

/* Databases that take part, as a list of Oids: ALTER DATABASE ... SET
 * millrace.enabled = on, not a template, connections allowed.  Shared
 * catalogues only; needs a transaction. */
extern List *mr_enabled_databases(void);

/*
 * Register a reserved worker with the postmaster.  NULL if max_worker_processes
 * leaves no room; the caller forgets the slot or shows it as waiting.
 */
extern BackgroundWorkerHandle *mr_register(const mr_worker_args *args, const char *library,
										   const char *function, const char *type);

/* The reason to show when mr_register() returned NULL. */
extern const char *mr_no_room(void);

extern void mr_launcher_register(void);
extern void mr_hook_init(void);

#endif							/* MILLRACE_STREAM_WORKERS_H */
