/*
 * kafka.h
 *	  The Kafka side of a worker: librdkafka behind a dozen calls.
 *
 * kafka.c, producer.c and library.c, which both use, know librdkafka and no
 * PostgreSQL; nothing else knows librdkafka.  No call jumps, none waits longer than its
 * timeout, and all are made from the process's main thread.  librdkafka runs
 * threads of its own: all signals are blocked in them, and nothing of ours runs
 * there but the address check.
 */
#ifndef MILLRACE_STREAM_KAFKA_H
#define MILLRACE_STREAM_KAFKA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sockaddr;

typedef struct kfk_client kfk_client;

typedef struct kfk_settings
{
	const char *const *names;	/* librdkafka's properties, checked by the caller */
	const char *const *values;
	int			n;
	const char *group;			/* for monitoring tools; nobody joins it */
	int			prefetch_kb;	/* of messages kept ready; a 16th may arrive on top, as it is compressed, or one larger message */
	bool		(*refuses) (const struct sockaddr *address);	/* addresses not to be connected to; NULL: none */
} kfk_settings;

/* A client without partitions; NULL with the reason in error. */
extern kfk_client *kfk_open(const kfk_settings *settings, char *error, size_t error_size);

/*
 * End it, without telling the brokers; frozen ones do not delay it.  Messages
 * taken must have been released.
 */
extern void kfk_close(kfk_client *client);

/* Readable when a message or an event is there; read it empty before taking. */
extern int	kfk_bell(const kfk_client *client);
extern void kfk_silence(kfk_client *client);

/*
 * Questions to the brokers.  False, with the reason, when none answered within
 * the timeout or the answer was no; asking again later may help.
 */

/* Number of partitions of a topic. */
extern bool kfk_describe(kfk_client *client, const char *topic, int timeout_ms, int *partitions, char *error, size_t error_size);

/* Id of the cluster, malloc'ed; NULL if it did not say. */
extern char *kfk_cluster_id(kfk_client *client, int timeout_ms);

/* First offset kept and end of a partition. */
extern bool kfk_watermarks(kfk_client *client, const char *topic, int partition, int timeout_ms,
						   int64_t *low, int64_t *high, char *error, size_t error_size);

/* First offset with a timestamp at or after milliseconds since 1970, or the end. */
extern bool kfk_offset_at(kfk_client *client, const char *topic, int partition, int64_t when_ms, int timeout_ms,
						  int64_t *offset, char *error, size_t error_size);

/* The end of a partition as last heard; -1 if never. */
extern int64_t kfk_last_high(kfk_client *client, const char *topic, int partition);

/*
 * What the library says of itself every two seconds: the last stable offset of
 * a partition (-1 if never heard of), as far as a read_committed reader may go; bytes of
 * messages that are kept ready (-1: not yet said).
 */
extern int64_t kfk_last_stable(kfk_client *client, int partition);
extern int64_t kfk_queued_bytes(const kfk_client *client);

/* Read these partitions from these offsets; replaces what was read before, and what kfk_unsettled() says of them. */
extern bool kfk_assign(kfk_client *client, const char *topic, int n, const int32_t *partitions, const int64_t *offsets,
					   char *error, size_t error_size);

/*
 * May another log stand behind a partition than when it was assigned?  Its
 * leader's connection was lost, its leader changed, or a broker said not to have
 * it: meanwhile the topic may have been made anew or truncated, or the brokers
 * replaced.  Ask after taking messages and hearing all events: what unsettles a
 * partition is told before the messages that come after it.
 */
extern bool kfk_unsettled(const kfk_client *client, int32_t partition);

/*
 * Tell the brokers how far the client's group is: for monitoring tools, nobody
 * reads it back.  Not waited for, and no matter if it fails.
 */
extern void kfk_tell_group(kfk_client *client, const char *topic, int n, const int32_t *partitions, const int64_t *offsets);

/* Fetch no more of a partition. */
extern void kfk_leave(kfk_client *client, const char *topic, int32_t partition);

typedef struct kfk_header
{
	const char *name;
	const void *value;			/* NULL: none */
	size_t		len;
} kfk_header;

typedef struct kfk_message
{
	void	   *handle;			/* NULL: not from a broker, or released */
	const void *key;			/* NULL: none */
	const void *value;			/* NULL: a tombstone */
	size_t		key_len;
	size_t		value_len;
	int64_t		offset;
	int64_t		time_ms;		/* since 1970, -1: none */
	int32_t		partition;
	bool		end;			/* no message: the partition ends before this offset */
	bool		lost;			/* no message: the offset is not among those the broker keeps */
	bool		missing;		/* no message: the topic or partition does not exist */
	const char *error;			/* no message: what went wrong with the partition; else NULL */
	const kfk_header *headers;	/* of a message that is not from a broker */
	int			n_headers;
} kfk_message;

/* Up to max messages that are there, without waiting. */
extern int	kfk_take_messages(kfk_client *client, kfk_message *messages, int max);
extern void kfk_release(kfk_message *messages, int n);	/* those already released are passed over */

/* Calls row() for each header in order, until it returns false; value NULL: none. */
typedef bool (*kfk_header_fn) (void *arg, const char *name, const void *value, size_t len);
extern void kfk_headers(const kfk_message *message, kfk_header_fn row, void *arg);

typedef struct kfk_event
{
	bool		log;			/* a line for the log, else an error of the whole client */
	bool		fatal;
	int			level;			/* of syslog(3): 3 error, 4 warning, ... */
	char		text[512];
} kfk_event;

/* The next event, if there is one. */
extern bool kfk_next_event(kfk_client *client, kfk_event *event);

#endif							/* MILLRACE_STREAM_KAFKA_H */
