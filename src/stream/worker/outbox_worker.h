/*
 * outbox_worker.h
 *	  What the files of an outbox worker share.
 *
 *	outbox_main_pg.c	 life of the process: open, claim, send, confirm
 *	outbox_claim_pg.c	 rows of outboxes and outbox_progress; messages of a batch
 *	outbox_state_pg.c	 dead letters, emptied leaves, reports
 *	outbox_progress_pg.c what the brokers have: the progress topic
 *	outbox_topics_pg.c	 topics that are to be made
 *	producer.c, topics.c librdkafka
 */
#ifndef MILLRACE_STREAM_OUTBOX_WORKER_H
#define MILLRACE_STREAM_OUTBOX_WORKER_H

#include "postgres.h"

#include "utils/palloc.h"

#include "stream/worker/producer.h"

/* A row of millrace.outboxes. */
typedef struct kfk_outbox
{
	MemoryContext cxt;			/* its strings; reset when it is loaded again */
	char	   *server;
	char	   *id;				/* transactional id */
	char	   *progress_topic;
	int64		generation;
	int64		epoch;			/* ours, of its row of outbox_progress */
	int			batch_rows;
	int64		batch_bytes;
	bool		topics_due;		/* some topic is to be looked at */
	char		topics_reason[300]; /* why topics are not ready; "": they are */
} kfk_outbox;

/* A batch: what goes in one Kafka transaction. */
typedef struct kfk_outbatch
{
	MemoryContext cxt;			/* of all below */
	int64		number;
	char	   *mark;			/* its progress record */
	kfk_record *records;
	int64	   *ids;
	int			n;
	int64		bytes;
	int64		confirmed;		/* messages of the batch before, if this claim has confirmed it */
	int64		confirmed_bytes;
} kfk_outbatch;

/* outbox_claim_pg.c; each is a transaction of its own */
extern bool kfk_outbox_load(kfk_outbox *outbox);	/* and take over; false: nothing to do here, end */
extern bool kfk_outbox_unchanged(kfk_outbox *outbox);	/* sets topics_due and topics_reason */
extern char *kfk_outbox_last_mark(const kfk_outbox *outbox, int64 *batch, bool *confirmed, bool *adopt);
extern void kfk_outbox_adopt(const kfk_outbox *outbox, int64 batch);
extern bool kfk_outbox_next(const kfk_outbox *outbox, bool confirm, kfk_outbatch *batch);	/* false: nothing waits */

/* outbox_state_pg.c */
extern void kfk_outbox_bury(const kfk_outbox *outbox, int64 id, const char *error);
extern bool kfk_outbox_rotate(int leaf);	/* true: the leaf is empty */
extern void kfk_outbox_report(const kfk_outbox *outbox, const char *state, const char *sqlstate, const char *reason);
extern void kfk_outbox_halt(const kfk_outbox *outbox, const char *reason) __attribute__((noreturn));

/* outbox_progress_pg.c */
extern bool kfk_read_progress(const kfk_outbox *outbox, const kfk_settings *settings, char **mark,
							  char *error, size_t error_size);
extern void kfk_close_progress(void);

/* outbox_topics_pg.c: makes what is missing of topics that are due, or looks at all of them */
extern void kfk_outbox_topics(const kfk_outbox *outbox, kfk_producer *producer, bool all);

#endif							/* MILLRACE_STREAM_OUTBOX_WORKER_H */
