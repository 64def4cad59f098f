/*
 * stream.h
 *	  What the two libraries agree on about source workers: millrace.so
 *	  (launcher, supervisor, SQL functions) starts them, millrace_worker.so
 *	  (librdkafka) is what they run.
 */
#ifndef MILLRACE_STREAM_H
#define MILLRACE_STREAM_H

#define KFK_WORKER_LIBRARY "millrace_worker"
#define KFK_SOURCE_MAIN "millrace_source_main"
#define KFK_SOURCE_TYPE "millrace source"	/* bgw_type, so backend_type */

/*
 * A source worker gets mr_worker_args (core/shared_pg.h) in bgw_extra and reads
 * everything else from millrace.sources.  Exit code 0: there is nothing to do
 * for this (source, worker) now: paused, halted, dropped, changed, another
 * extension version; look at millrace.sources before starting it again.  1: an
 * error it could not wait out, or SIGTERM.
 */

#define KFK_MAX_WORKERS 64		/* of one source */
#define KFK_MAX_PARTITION 99999 /* in option partitions */

/* Defaults and bounds of create_source's numeric options. */
#define KFK_BATCH_ROWS 5000
#define KFK_BATCH_BYTES (16 * 1024 * 1024)
#define KFK_BATCH_MS 50			/* longest a batch is collected */
#define KFK_BATCH_TIMEOUT_MS 60000	/* of its transaction; 57014 past it */
#define KFK_MAX_MESSAGE_BYTES (16 * 1024 * 1024)
#define KFK_LEASE_MS 15000		/* a partition of a shared topic is ours for so long after its owner's last word */
#define KFK_MAX_DEAD_PERCENT 50 /* of the last dead_window messages: the source halts past it; 100: never */
#define KFK_DEAD_WINDOW 1000

/*
 * Option memory, divided by workers_max, is what a worker may take beyond a
 * process that does nothing.  In eighths of this share: two for the queue of
 * messages that are kept ready; one for an answer of a broker that arrives when
 * the queue is just short of being full (an eighth of that as it is sent: most
 * topics are compressed); five for a batch, whose messages may be one: as
 * received, as decoded, and in rows on their way.
 */
#define KFK_MEMORY (256 * 1024 * 1024)	/* of each worker, if the option is absent and nothing else asks for more */
#define KFK_MEMORY_MIN (32 * 1024 * 1024)
#define KFK_MEMORY_PARTS 8
#define KFK_QUEUE_PARTS 2		/* kafka.c makes an answer a 16th of the queue */

/* Keys of option columns that stand for a property of the message, not for a part of its value. */
#define KFK_PROPERTIES "$source|$topic|$partition|$offset|$time|$key|$headers"

#endif							/* MILLRACE_STREAM_H */
