/*
 * producer.c
 *	  The producer of an outbox or of a control topic.  See producer.h.
 *
 * Reports of records that were not delivered come by a callback that runs within
 * our own calls; no code of ours runs in a thread of the library but the address
 * check.
 */
#include "stream/worker/producer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream/worker/library.h"

struct kfk_producer
{
	kfk_guard	guard;
	rd_kafka_t *rk;
	rd_kafka_queue_t *events;
	int64_t		refused;		/* mark of a record that will never be taken; -1: none */
	char		why[512];		/* the first record of this transaction that failed did so */
};

/* Will the brokers never take this record, whatever happens? */
static bool
is_refusal(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || err == RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE ||
		err == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE || err == RD_KAFKA_RESP_ERR_INVALID_RECORD ||
		err == RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP || err == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION ||
		err == RD_KAFKA_RESP_ERR__INVALID_ARG;
}

static void
note_failure(kfk_producer *producer, const char *topic, int64_t mark, rd_kafka_resp_err_t err)
{
	if (producer->refused < 0 && is_refusal(err))
		producer->refused = mark;
	else if (producer->why[0] != '\0')
		return;
	snprintf(producer->why, sizeof(producer->why), "topic \"%s\": %s", topic, rd_kafka_err2str(err));
}

static void
not_delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
	note_failure(opaque, m->rkt ? rd_kafka_topic_name(m->rkt) : "?", (int64_t) (intptr_t) m->_private, m->err);
}

static bool
configure(rd_kafka_conf_t *conf, const kfk_settings *settings, const char *id, char *error, size_t error_size)
{
	static kfk_properties defaults[] = {
		{"client.id", "millrace"},
		{"reconnect.backoff.max.ms", "2000"},
		{"socket.keepalive.enable", "true"},
		{"topic.metadata.refresh.interval.ms", "30000"},
		{"topic.metadata.propagation.max.ms", "5000"},	/* until a missing topic is told */
		{"compression.type", "lz4"},
	};

	/* What exactly once and the order of a key rest on, and the partition that Java's producers choose. */
	static kfk_properties fixed[] = {
		{"enable.idempotence", "true"},
		{"acks", "all"},
		{"partitioner", "murmur2_random"},
		{"transaction.timeout.ms", "60000"},
		{"message.timeout.ms", "50000"},
		{"linger.ms", "5"},
		{"allow.auto.create.topics", "false"},
		{"message.max.bytes", "500000000"},	/* the broker decides */
		{"queue.buffering.max.messages", "1000000"},
		{"queue.buffering.max.kbytes", "1048576"},
		{"batch.size", "1000000"},
		{"delivery.report.only.error", "true"},
		{"log.queue", "true"},
	};

	return kfk_configure(conf, defaults, sizeof(defaults) / sizeof(*defaults), settings, fixed, sizeof(fixed) / sizeof(*fixed), error, error_size) &&
		(id == NULL || rd_kafka_conf_set(conf, "transactional.id", id, error, error_size) == RD_KAFKA_CONF_OK);
}

kfk_producer *
kfk_producer_open(const kfk_settings *settings, const char *id, char *error, size_t error_size)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	kfk_producer *producer = calloc(1, sizeof(*producer));

	snprintf(error, error_size, "out of memory");
	if (producer == NULL || conf == NULL || !configure(conf, settings, id, error, error_size))
	{
		if (conf)
			rd_kafka_conf_destroy(conf);
		free(producer);
		return NULL;
	}
	producer->refused = -1;
	rd_kafka_conf_set_dr_msg_cb(conf, not_delivered);
	producer->rk = kfk_start(RD_KAFKA_PRODUCER, conf, settings, &producer->guard, error, error_size);
	if (producer->rk == NULL)
	{
		free(producer);
		return NULL;
	}
	producer->events = rd_kafka_queue_get_main(producer->rk);
	return producer;
}

void
kfk_producer_close(kfk_producer *producer)
{
	if (producer == NULL)
		return;
	rd_kafka_queue_destroy(producer->events);
	/* Without this, destroying waits for messages in flight to be answered. */
	rd_kafka_purge(producer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
	if (kfk_end(producer->rk, 0))
		free(producer);
}

bool
kfk_producer_event(kfk_producer *producer, kfk_event *event)
{
	return kfk_poll_event(producer->events, event, NULL);
}

/* What an error of the transactional calls means for us. */
static kfk_sent
judge(kfk_producer *producer, rd_kafka_error_t *e, char *error, size_t error_size)
{
	kfk_sent	sent = KFK_SENT_NO;
	rd_kafka_resp_err_t code;

	if (e == NULL)
		return KFK_SENT_YES;
	code = rd_kafka_error_code(e);
	snprintf(error, error_size, "%s", rd_kafka_error_string(e));
	if (code == RD_KAFKA_RESP_ERR__FENCED || code == RD_KAFKA_RESP_ERR_PRODUCER_FENCED ||
		rd_kafka_fatal_error(producer->rk, NULL, 0) == RD_KAFKA_RESP_ERR__FENCED)
		sent = KFK_SENT_FENCED;
	else if (rd_kafka_error_is_retriable(e) && !rd_kafka_error_is_fatal(e) && !rd_kafka_error_txn_requires_abort(e))
		sent = KFK_SENT_WAIT;
	rd_kafka_error_destroy(e);
	return sent;
}

kfk_sent
kfk_producer_init(kfk_producer *producer, int timeout_ms, char *error, size_t error_size)
{
	return judge(producer, rd_kafka_init_transactions(producer->rk, timeout_ms), error, error_size);
}

kfk_sent
kfk_producer_begin(kfk_producer *producer, char *error, size_t error_size)
{
	producer->refused = -1;
	producer->why[0] = '\0';
	return judge(producer, rd_kafka_begin_transaction(producer->rk), error, error_size);
}

kfk_sent
kfk_producer_add(kfk_producer *producer, const kfk_record *r, int64_t mark, int timeout_ms, char *error, size_t error_size)
{
	rd_kafka_headers_t *headers = NULL;
	rd_kafka_resp_err_t err;

	if (r->n_headers > 0)
	{
		headers = rd_kafka_headers_new((size_t) r->n_headers);
		for (int i = 0; i < r->n_headers; i++)
			rd_kafka_header_add(headers, r->headers[i].name, -1, r->headers[i].value, (ssize_t) r->headers[i].len);
	}
	err = rd_kafka_producev(producer->rk, RD_KAFKA_V_TOPIC(r->topic),
							RD_KAFKA_V_KEY(r->key, r->key_len), RD_KAFKA_V_VALUE((void *) r->value, r->value_len),
							RD_KAFKA_V_TIMESTAMP(r->time_ms), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
							RD_KAFKA_V_OPAQUE((void *) (intptr_t) mark),
							RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END);
	if (err == 0)
		return KFK_SENT_YES;	/* the library owns the headers now */
	if (headers)
		rd_kafka_headers_destroy(headers);
	if (err == RD_KAFKA_RESP_ERR__QUEUE_FULL)
	{
		(void) rd_kafka_flush(producer->rk, timeout_ms);
		return KFK_SENT_WAIT;
	}
	snprintf(error, error_size, "%s", rd_kafka_err2str(err));
	note_failure(producer, r->topic, mark, err);
	return err == RD_KAFKA_RESP_ERR__FENCED ? KFK_SENT_FENCED : KFK_SENT_NO;
}

kfk_sent
kfk_producer_commit(kfk_producer *producer, int timeout_ms, char *error, size_t error_size)
{
	return judge(producer, rd_kafka_commit_transaction(producer->rk, timeout_ms), error, error_size);
}

int64_t
kfk_producer_refused(kfk_producer *producer, char *error, size_t error_size)
{
	if (producer->why[0] != '\0')
		snprintf(error, error_size, "%s", producer->why);
	return producer->refused;
}

rd_kafka_t *
kfk_producer_handle(kfk_producer *producer)
{
	return producer->rk;
}
