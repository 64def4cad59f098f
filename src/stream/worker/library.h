/*
 * library.h
 *	  What a reader (kafka.c) and a producer (producer.c, topics.c) share of librdkafka.
 *	  For these files only: nothing else knows the library.
 */
#ifndef MILLRACE_STREAM_LIBRARY_H
#define MILLRACE_STREAM_LIBRARY_H

#include <librdkafka/rdkafka.h>

#include "stream/worker/kafka.h"

/* Properties as pairs of name and value. */
typedef const char *const kfk_properties[2];

/*
 * Defaults, then what a server's options say, then what is fixed.  False, with
 * the reason in error.
 */
extern bool kfk_configure(rd_kafka_conf_t *conf, kfk_properties *defaults, size_t n_defaults, const kfk_settings *settings,
						  kfk_properties *fixed, size_t n_fixed, char *error, size_t error_size);

/* First member of what a handle belongs to: its callbacks get the address of both. */
typedef struct kfk_guard
{
	bool		(*refuses) (const struct sockaddr *address);
} kfk_guard;

/*
 * A handle whose logs and errors are events of its main queue, and whose
 * threads get no signals and connect to no address that settings->refuses.
 * Takes conf; NULL with the reason in error.
 */
extern rd_kafka_t *kfk_start(rd_kafka_type_t type, rd_kafka_conf_t *conf, const kfk_settings *settings, kfk_guard *guard,
							 char *error, size_t error_size);

/* What statistics say that we want to know; zeroed at first, malloc'ed memory in it. */
typedef struct kfk_statistics
{
	bool		known;
	int64_t		queued_bytes;
	int64_t    *stable;			/* last stable offset by partition, -1 unknown */
	int			n_stable;
} kfk_statistics;

/*
 * End a handle, with rd_kafka_destroy_flags().  False: that would not end; what
 * its threads may still look at, the guard too, must stay for ever.
 */
extern bool kfk_end(rd_kafka_t *rk, int flags);

/* The next event of a main queue, if there is one.  Statistics are no event: they are taken in on the way. */
extern bool kfk_poll_event(rd_kafka_queue_t *queue, kfk_event *event, kfk_statistics *statistics);

/* producer.c: what its questions about topics (topics.c) are asked with. */
struct kfk_producer;
extern rd_kafka_t *kfk_producer_handle(struct kfk_producer *producer);

/* statistics.c: from librdkafka's JSON. */
extern void kfk_read_statistics(kfk_statistics *statistics, const char *json);

#endif							/* MILLRACE_STREAM_LIBRARY_H */
