/*
 * topics.c
 *	  What an outbox or a control topic asks of the brokers about topics: to make
 *	  one, what it is like.  See producer.h.
 *
 * Each question waits for its answer, but no longer than its timeout; an answer
 * that comes later goes nowhere.
 */
#include "stream/worker/producer.h"

#include <stdio.h>
#include <string.h>

#include "stream/worker/library.h"

bool
kfk_producer_make_topic(kfk_producer *producer, const kfk_topic *topic, int timeout_ms, bool *made, char *error, size_t error_size)
{
	rd_kafka_t *rk = kfk_producer_handle(producer);
	rd_kafka_NewTopic_t *wanted = rd_kafka_NewTopic_new(topic->name, topic->partitions, topic->replication, error, error_size);
	rd_kafka_queue_t *answers;
	rd_kafka_event_t *event;
	const rd_kafka_topic_result_t **results;
	size_t		n = 0;
	rd_kafka_resp_err_t err;

	*made = false;
	if (wanted == NULL)
		return false;
	for (int i = 0; i < topic->n_config; i++)
		rd_kafka_NewTopic_set_config(wanted, topic->config[i][0], topic->config[i][1]);
	answers = rd_kafka_queue_new(rk);
	rd_kafka_CreateTopics(rk, &wanted, 1, NULL, answers);
	event = rd_kafka_queue_poll(answers, timeout_ms);
	err = event ? rd_kafka_event_error(event) : RD_KAFKA_RESP_ERR__TIMED_OUT;
	snprintf(error, error_size, "%s", rd_kafka_err2str(err));
	if (err == 0)
	{
		results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
		err = n == 1 ? rd_kafka_topic_result_error(results[0]) : RD_KAFKA_RESP_ERR_UNKNOWN;
		if (err && n == 1)
			snprintf(error, error_size, "%s", rd_kafka_topic_result_error_string(results[0]));
	}
	if (event)
		rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(answers);
	rd_kafka_NewTopic_destroy(wanted);
	*made = err == 0;
	return err == 0 || err == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS;
}

bool
kfk_producer_make_compacted(kfk_producer *producer, const char *topic, int timeout_ms, char *error, size_t error_size)
{
	/* Small segments, so that the brokers compact what is read at every start. */
	static const char *const config[][2] = {
		{"cleanup.policy", "compact"},
		{"segment.ms", "600000"},
		{"segment.bytes", "16777216"},
		{"min.cleanable.dirty.ratio", "0.1"},
	};
	const kfk_topic wanted = {.name = topic,.partitions = 1,.replication = -1,.config = config,.n_config = sizeof(config) / sizeof(*config)};
	bool		made;

	return kfk_producer_make_topic(producer, &wanted, timeout_ms, &made, error, error_size);
}

bool
kfk_producer_partitions(kfk_producer *producer, const char *topic, int timeout_ms, int *partitions, char *error, size_t error_size)
{
	rd_kafka_t *rk = kfk_producer_handle(producer);
	rd_kafka_topic_t *handle = rd_kafka_topic_new(rk, topic, NULL);
	const struct rd_kafka_metadata *metadata = NULL;
	rd_kafka_resp_err_t err = handle ? rd_kafka_metadata(rk, 0, handle, &metadata, timeout_ms) : rd_kafka_last_error();

	*partitions = 0;
	if (err == 0)
	{
		err = metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
		if (err == 0)
			*partitions = metadata->topics[0].partition_cnt;
		rd_kafka_metadata_destroy(metadata);
	}
	if (handle)
		rd_kafka_topic_destroy(handle);
	snprintf(error, error_size, "%s", rd_kafka_err2str(err));
	return err == 0 || err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
}

bool
kfk_producer_topic_setting(kfk_producer *producer, const char *topic, const char *name, int timeout_ms, char *value, size_t value_size)
{
	rd_kafka_ConfigResource_t *wanted = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
	rd_kafka_queue_t *answers = rd_kafka_queue_new(kfk_producer_handle(producer));
	rd_kafka_event_t *event;
	bool		found = false;

	rd_kafka_DescribeConfigs(kfk_producer_handle(producer), &wanted, 1, NULL, answers);
	event = rd_kafka_queue_poll(answers, timeout_ms);
	if (event && rd_kafka_event_error(event) == 0)
	{
		size_t		n = 0;
		const rd_kafka_ConfigResource_t **topics = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &n);
		const rd_kafka_ConfigEntry_t **settings = n == 1 ? rd_kafka_ConfigResource_configs(topics[0], &n) : NULL;

		for (size_t i = 0; settings && i < n; i++)
			if (strcmp(rd_kafka_ConfigEntry_name(settings[i]), name) == 0 && rd_kafka_ConfigEntry_value(settings[i]))
			{
				snprintf(value, value_size, "%s", rd_kafka_ConfigEntry_value(settings[i]));
				found = true;
			}
	}
	if (event)
		rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(answers);
	rd_kafka_ConfigResource_destroy(wanted);
	return found;
}
