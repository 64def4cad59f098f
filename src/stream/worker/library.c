/*
 * library.c
 *	  Handles of librdkafka, and what they tell.  See library.h.
 */
#include "stream/worker/library.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define END_S 2					/* for the end of a handle */

/* In a broker thread: connect, unless the address is refused. */
static int
connect_checked(int fd, const struct sockaddr *address, int len, const char *id, void *opaque)
{
	const kfk_guard *guard = opaque;

	if (guard->refuses(address))
		return EACCES;
	return connect(fd, address, (socklen_t) len) == 0 ? 0 : errno;
}

static bool
set_all(rd_kafka_conf_t *conf, kfk_properties *properties, size_t n, char *error, size_t error_size)
{
	for (size_t i = 0; i < n; i++)
		if (rd_kafka_conf_set(conf, properties[i][0], properties[i][1], error, error_size) != RD_KAFKA_CONF_OK)
			return false;
	return true;
}

bool
kfk_configure(rd_kafka_conf_t *conf, kfk_properties *defaults, size_t n_defaults, const kfk_settings *settings,
			  kfk_properties *fixed, size_t n_fixed, char *error, size_t error_size)
{
	if (!set_all(conf, defaults, n_defaults, error, error_size))
		return false;
	for (int i = 0; i < settings->n; i++)
		if (rd_kafka_conf_set(conf, settings->names[i], settings->values[i], error, error_size) != RD_KAFKA_CONF_OK)
			return false;
	return set_all(conf, fixed, n_fixed, error, error_size);
}

rd_kafka_t *
kfk_start(rd_kafka_type_t type, rd_kafka_conf_t *conf, const kfk_settings *settings, kfk_guard *guard,
		  char *error, size_t error_size)
{
	rd_kafka_t *rk;
	sigset_t	all,
				before;

	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_STATS);
	rd_kafka_conf_set_opaque(conf, guard);
	guard->refuses = settings->refuses;
	if (settings->refuses)
		rd_kafka_conf_set_connect_cb(conf, connect_checked);

	/* Threads inherit the mask: signals are for PostgreSQL's own thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	rk = rd_kafka_new(type, conf, error, error_size);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rk == NULL)
		rd_kafka_conf_destroy(conf);
	else
		rd_kafka_set_log_queue(rk, NULL);
	return rk;
}

/*
 * Before 2.6.1 destroying a handle that reads a topic which was deleted waits
 * for ever (librdkafka #4724).  So it is done in a thread that can be left behind.
 */
typedef struct ending
{
	rd_kafka_t *rk;
	int			flags;
} ending;

static void *
destroy(void *arg)
{
	ending	   *e = arg;

	rd_kafka_destroy_flags(e->rk, e->flags);
	free(e);
	return NULL;
}

bool
kfk_end(rd_kafka_t *rk, int flags)
{
	ending	   *e = malloc(sizeof(*e));
	pthread_t	thread;
	struct timespec end;
	sigset_t	all,
				before;
	int			failed;

	if (e == NULL)
		return false;
	*e = (ending) {rk, flags};
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	failed = pthread_create(&thread, NULL, destroy, e);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failed)
	{
		free(e);
		return false;
	}
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += END_S;
	if (pthread_timedjoin_np(thread, NULL, &end) == 0)
		return true;
	pthread_detach(thread);
	return false;
}

bool
kfk_poll_event(rd_kafka_queue_t *queue, kfk_event *event, kfk_statistics *statistics)
{
	rd_kafka_event_t *from = rd_kafka_queue_poll(queue, 0);
	const char *facility,
			   *text;

	while (from && rd_kafka_event_type(from) == RD_KAFKA_EVENT_STATS)
	{
		if (statistics)
			kfk_read_statistics(statistics, rd_kafka_event_stats(from));
		rd_kafka_event_destroy(from);
		from = rd_kafka_queue_poll(queue, 0);
	}
	if (from == NULL)
		return false;
	memset(event, 0, sizeof(*event));
	switch (rd_kafka_event_type(from))
	{
		case RD_KAFKA_EVENT_LOG:
			event->log = true;
			if (rd_kafka_event_log(from, &facility, &text, &event->level) == 0)
				snprintf(event->text, sizeof(event->text), "%s: %s", facility, text);
			break;
		case RD_KAFKA_EVENT_ERROR:
			/* That all brokers are down only sums up what was said of each, which tells why. */
			event->log = rd_kafka_event_error(from) == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
			event->level = event->log ? 6 : 3;
			event->fatal = rd_kafka_event_error_is_fatal(from) != 0;
			snprintf(event->text, sizeof(event->text), "%s", rd_kafka_event_error_string(from));
			break;
		default:
			event->log = true;
			event->level = 7;
	}
	rd_kafka_event_destroy(from);
	return true;
}
