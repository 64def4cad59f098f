/*
 * stream.h
 *	  What the two libraries agree on about source workers: millrace.so
 *	  (launcher, supervisor, SQL functions) starts them, millrace_worker.so
 *	  (librdkafka) is what they run.
 */
#ifndef MILLRACE_STREAM_H
#define MILLRACE_STREAM_H

#include "postmaster/bgworker.h"

#define KFK_WORKER_LIBRARY "millrace_worker"
#define KFK_SOURCE_MAIN "millrace_source_main"	/* void (Datum), argument unused */
#define KFK_SOURCE_TYPE "millrace source"		/* bgw_type, so backend_type */

/*
 * bgw_extra of a source worker.  It reads everything else from
 * millrace.sources.  Register it with BGWORKER_SHMEM_ACCESS |
 * BGWORKER_BACKEND_DATABASE_CONNECTION, BgWorkerStart_RecoveryFinished and
 * BGW_NEVER_RESTART.
 *
 * Exit codes: 0, there is nothing to do for this (source, worker) now: paused,
 * halted, dropped, another generation or extension version, fenced by another
 * worker, SIGTERM; look at millrace.sources before starting it again.  1, an
 * error that it could not wait out itself; start it again after a pause.
 */
#define KFK_WORKER_MAGIC 0x6d6b3031

typedef struct kfk_worker_arg
{
	uint32		magic;			/* KFK_WORKER_MAGIC */
	Oid			database;
	Oid			role;			/* the source's owner */
	int32		worker;			/* k: reads partitions p with p % workers = k */
	int32		workers;		/* n */
	int64		generation;		/* of the sources row; another one: exit 0 */
	char		source[NAMEDATALEN];	/* sources.name */
} kfk_worker_arg;

StaticAssertDecl(sizeof(kfk_worker_arg) <= BGW_EXTRALEN, "bgw_extra is too small for kfk_worker_arg");

#define KFK_MAX_WORKERS 64		/* of one source */

/* Defaults and bounds of create_source's numeric options. */
#define KFK_BATCH_ROWS 5000
#define KFK_BATCH_BYTES (16 * 1024 * 1024)
#define KFK_BATCH_MS 50			/* longest a batch is collected */
#define KFK_BATCH_TIMEOUT_MS 60000	/* of its transaction; 57014 past it */
#define KFK_MAX_MESSAGE_BYTES (16 * 1024 * 1024)
#define KFK_MAX_DEAD_PERCENT 50 /* of the last thousand messages: the source halts past it; 100: never */

#endif							/* MILLRACE_STREAM_H */
