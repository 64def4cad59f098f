/*
 * producer.h
 *	  The Kafka side of an outbox worker: one transactional producer and the
 *	  record of its progress, behind a few calls.
 *
 * producer.c knows librdkafka and no PostgreSQL, as kafka.c does.  No call jumps
 * or waits longer than its timeout; all are made from the main thread.
 *
 * A transaction that does not end well is never aborted and taken up again with
 * the same producer: close it, open another, whose kfk_producer_init() ends what
 * was left, and read the progress.  So every doubt is settled by what the
 * brokers have (KAFKA-17754).
 */
#ifndef MILLRACE_STREAM_PRODUCER_H
#define MILLRACE_STREAM_PRODUCER_H

#include "stream/worker/kafka.h"

typedef struct kfk_producer kfk_producer;

typedef enum kfk_sent
{
	KFK_SENT_YES,
	KFK_SENT_WAIT,				/* not within the timeout: call again */
	KFK_SENT_NO,				/* close and open again; error says why */
	KFK_SENT_FENCED				/* another producer has our transactional id */
} kfk_sent;

typedef struct kfk_record
{
	const char *topic;
	const void *key;			/* NULL: none */
	const void *value;			/* NULL: a tombstone */
	size_t		key_len;
	size_t		value_len;
	int64_t		time_ms;		/* since 1970; 0: now */
	const kfk_header *headers;
	int			n_headers;
} kfk_record;

/* id: the transactional id, NULL: idempotent without transactions.  NULL with the reason in error. */
extern kfk_producer *kfk_producer_open(const kfk_settings *settings, const char *id, char *error, size_t error_size);

/* End it at once; what was begun and not committed ends as aborted. */
extern void kfk_producer_close(kfk_producer *producer);

/* Fence earlier producers of the same id and end what they left. */
extern kfk_sent kfk_producer_init(kfk_producer *producer, int timeout_ms, char *error, size_t error_size);

/* A topic that is to be made. */
typedef struct kfk_topic
{
	const char *name;
	int			partitions;
	int			replication;	/* -1: as the brokers say */
	const char *const (*config)[2]; /* name and value */
	int			n_config;
} kfk_topic;

/*
 * topics.c.  Make a topic; true also if it is there already, whatever it is like, and then *made is false.  False,
 * with the reason in error, if the brokers refused or did not answer in time; it may be there all the same.
 */
extern bool kfk_producer_make_topic(kfk_producer *producer, const kfk_topic *topic, int timeout_ms, bool *made, char *error, size_t error_size);

/* Make a compacted topic of one partition, if there is none yet. */
extern bool kfk_producer_make_compacted(kfk_producer *producer, const char *topic, int timeout_ms, char *error, size_t error_size);

/* How many partitions a topic has, 0: there is no such topic.  False: nobody said. */
extern bool kfk_producer_partitions(kfk_producer *producer, const char *topic, int timeout_ms, int *partitions, char *error, size_t error_size);

/* Value of a setting of a topic, such as "cleanup.policy".  False: nobody said. */
extern bool kfk_producer_topic_setting(kfk_producer *producer, const char *topic, const char *name, int timeout_ms, char *value, size_t value_size);

/*
 * A transaction: begin, records in order, commit.  kfk_producer_add() copies
 * what it is given; KFK_SENT_WAIT: the library's queue is full.  mark is what
 * kfk_producer_refused() tells of a record that the brokers, or the library,
 * will never take (too large, malformed): the transaction is lost with it.
 * Without a transactional id records are added one by one, and nothing tells that they arrived but the topic.
 */
extern kfk_sent kfk_producer_begin(kfk_producer *producer, char *error, size_t error_size);
extern kfk_sent kfk_producer_add(kfk_producer *producer, const kfk_record *record, int64_t mark, int timeout_ms, char *error, size_t error_size);
extern kfk_sent kfk_producer_commit(kfk_producer *producer, int timeout_ms, char *error, size_t error_size);

/* The mark of a refused record of this transaction, -1: none.  error, if records failed: why the first, or the refused one, did. */
extern int64_t kfk_producer_refused(kfk_producer *producer, char *error, size_t error_size);

/* The next event of the library, if there is one; as kfk_next_event(). */
extern bool kfk_producer_event(kfk_producer *producer, kfk_event *event);

#endif							/* MILLRACE_STREAM_PRODUCER_H */
