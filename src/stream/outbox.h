/*
 * outbox.h
 *	  What the two libraries agree on about outboxes.
 */
#ifndef MILLRACE_STREAM_OUTBOX_H
#define MILLRACE_STREAM_OUTBOX_H

#include "datatype/timestamp.h"

#define KFK_OUTBOX_MAIN "millrace_outbox_main"
#define KFK_OUTBOX_TYPE "millrace outbox"	/* bgw_type, so backend_type */
#define KFK_OUTBOX_TOPIC "millrace-outbox"	/* progress_topic, where none is named */

#define KFK_OUTBOX_ROWS 5000	/* batch_rows */
#define KFK_OUTBOX_BYTES (16 * 1024 * 1024) /* batch_bytes: keys and values of a batch, one message at least */

/*
 * A dead letter's copy (option dead_letter_topic) begins with this header; if
 * the brokers refuse it, it leaves without its value, and a header says so.
 */
#define KFK_LETTER_HEADER "__connect.errors.topic"
#define KFK_OMITTED_HEADER "__millrace.errors.value.omitted"

/* Appends a message to leaf %d; RETURNING id where it is asked for. */
#define KFK_OUTBOX_INSERT "INSERT INTO millrace.outbox_%d (leaf, server, topic, key, value, headers, ts) VALUES (%d, $1, $2, $3, $4, $5, $6)"

/* Tables outbox_0 ... take turns by the minute. */
#define MR_OUTBOX_LEAVES 3

static inline int
mr_outbox_leaf(TimestampTz now)
{
	return (int) ((now / USECS_PER_MINUTE % MR_OUTBOX_LEAVES + MR_OUTBOX_LEAVES) % MR_OUTBOX_LEAVES);
}

#endif							/* MILLRACE_STREAM_OUTBOX_H */
