/*
 * worker.h
 *	  What the files of an http worker share.
 *
 *	main_pg.c		life of the process: claim, start, deliver, wait
 *	queue_pg.c		rows of http_queues and http_progress: taking over, counters, reports
 *	claim_pg.c		which requests are next, and taking them
 *	settings_pg.c	the foreign server
 *	options_pg.c	its options, as lane call has them, too (options_pg.h)
 *	settle_pg.c		results: delivered, tried again, put aside
 *	deliver_pg.c	a batch of them, in one transaction
 *	outcome.c		what an answer means
 *	s3.c sigv4.c	requests to stores
 *	transfer*.c		libcurl
 */
#ifndef MILLRACE_TASK_WORKER_H
#define MILLRACE_TASK_WORKER_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "storage/itemptr.h"
#include "utils/palloc.h"

#include "core/spi_pg.h"
#include "task/worker/outcome.h"
#include "task/worker/s3.h"
#include "task/worker/transfer.h"

#define TSK_OUTGOING (INT64CONST(64) << 20)	/* bytes of contents that are put at once, one at least */
#define TSK_LATENCIES 64		/* elements of http_progress.latency */

/* http_progress's numbers. */
typedef struct tsk_counts
{
	int64		succeeded,
				failed,
				undelivered,
				retries,
				late,
				batches,
				bytes_in,
				bytes_out,
				latency_sum_us,
				latency_max_us;
	int64		faults[TSK_N_FAULTS];
	int64		latency[TSK_LATENCIES];
} tsk_counts;

typedef struct tsk_settings
{
	MemoryContext cxt;			/* of its strings; wiped and reset when read again */
	tsk_store	store;
	tsk_net_options net;
	int			concurrency;
	int			max_attempts;
	int			backoff_ms;
	int			batch_timeout_ms;
} tsk_settings;

/* A row of http_queues, in a context that lives as long as the process. */
typedef struct tsk_queue
{
	int			id;
	char	   *server;
	int64		generation;
	int64		epoch;			/* ours */
	ItemPointerData version;	/* of its row of http_progress: see queue_pg.c */
	tsk_counts	counts;
} tsk_queue;

/* A request that is ours, from claim to settlement; lies in its own context. */
typedef struct tsk_job
{
	dlist_node	node;
	MemoryContext cxt;
	int64		id;
	int			attempts;		/* this one counted */
	TimestampTz created_at;
	char	   *method;
	char	   *path;
	char	   *content_type;	/* NULL: none */
	char	   *deliver;		/* NULL: nobody */
	char	   *tag;			/* NULL: none */
	bytea	   *content;		/* of a PUT */
	tsk_transfer *transfer;		/* its answer, once it has one */
	/* what it came to */
	tsk_fault	fault;
	char		sqlstate[6];	/* "" : it succeeded */
	char	   *error;
	bool		again;			/* try it again ... */
	TimestampTz due_at;			/* ... not before */
} tsk_job;

/* settings_pg.c; within a transaction */
extern void tsk_load_settings(const char *server, tsk_settings *settings);	/* ERROR if the server is not to be used */
extern bool tsk_settings_stale(void);	/* may they have changed since? */

/* queue_pg.c */
extern void tsk_own_begin(mr_owner_save *save);	/* as mr_spi_begin, with plans by the indexes whatever the statistics say */
extern bool tsk_take_over(tsk_queue *queue);	/* false: nothing to do here, end */
extern bool tsk_queue_unchanged(const tsk_queue *queue);
extern void tsk_write_counts(tsk_queue *queue, const tsk_counts *counts, const char *last_error, ItemPointer version);	/* in a transaction; ERROR if fenced */
extern void tsk_go_idle(tsk_queue *queue, const char *snapshot);
extern void tsk_report(const tsk_queue *queue, const char *state, const char *sqlstate, const char *reason);

/* claim_pg.c */
extern void tsk_forget_all(void);	/* begin again from the table */
extern int	tsk_claim(const tsk_queue *queue, int most, int most_new, int64 room, dlist_head *jobs);	/* appended; how many, -1: settings first; a transaction */
extern void tsk_schedule(int64 id, int64 weight, TimestampTz due_at);	/* to be claimed again then */
extern int64 tsk_weight(const tsk_job *job);	/* bytes that it puts */
extern bool tsk_more_waits(void);	/* is there more to be claimed at once? */
extern TimestampTz tsk_next_due(void);	/* of those scheduled; DT_NOEND: none */
extern const char *tsk_seen(void);	/* every request that this snapshot saw is dealt with, but for scheduled ones */

/* deliver_pg.c */
extern int64 tsk_bytes_in(const tsk_job *job);	/* fetched */
extern void tsk_count_attempt(tsk_counts *counts, const tsk_job *job);	/* that is over */
extern const char *tsk_last_error(tsk_job **jobs, int n);
extern void tsk_deliver(tsk_queue *queue, const tsk_settings *settings, tsk_job **jobs, int n);	/* to one function, or nobody; a transaction */
/* in a transaction, as the extension's owner */
extern int	tsk_take_off(const tsk_queue *queue, tsk_job **jobs, int n, bool *ours);
extern void tsk_put_aside(const tsk_queue *queue, const tsk_job *job, const char *stage, const char *sqlstate, const char *error, const char *detail);

/* settle_pg.c; in transactions of its own */
extern bool tsk_settle(tsk_queue *queue, const tsk_settings *settings, tsk_job **jobs, int n);	/* false: not now; what is settled has id 0 */

#endif							/* MILLRACE_TASK_WORKER_H */
