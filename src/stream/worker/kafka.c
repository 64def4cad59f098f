/*
 * kafka.c
 *	  librdkafka, and nothing else.  See kafka.h.
 *
 * Partitions are assigned by hand at offsets that we keep; there is no group
 * membership, no stored offset and no automatic reset, so that a fault of the
 * library can delay messages but not skip or repeat them unseen.  No callback is
 * registered but the address check: logs and errors come as events on a queue.
 */
#include "stream/worker/library.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* Where a partition is read from. */
typedef struct kfk_place
{
	int32_t		leader;			/* id of a broker; -1: none */
	bool		unsettled;
} kfk_place;

/*
 * What bounds the memory of a client; t/test_stream_memory.py holds it to that.
 * An answer may be so much larger when it is unpacked, and of each message the
 * library keeps some 300 bytes that its count of bytes leaves out: so their
 * number is bounded, too.  An answer that cannot be smaller, for its first batch is
 * larger, comes whole.
 */
#define ANSWER_PART 16			/* an answer is a 16th of the queue, as it is sent */
#define ANSWER_MIN (256 * 1024)
#define ANSWER_MAX (16 * 1024 * 1024)
#define PARTITION_BYTES (1024 * 1024)	/* and of one partition in it */
#define MESSAGE_BYTES 512		/* messages count as so large at least; twice that halves the rate before 2.2, which looks at a full queue once a second */
#define UNPACK_BYTES "131072"	/* first taken to unpack a batch, which need not fill it, and grown: by default it is 1 MB */

#define RETRY_MS 100			/* between brokers, when none is connected */

struct kfk_client
{
	kfk_guard	guard;
	rd_kafka_t *rk;
	rd_kafka_queue_t *messages;
	rd_kafka_queue_t *events;
	rd_kafka_topic_t *topic;	/* the one asked about last */
	char	   *topic_name;
	rd_kafka_message_t **taken; /* scratch of kfk_take_messages() */
	int			taken_size;
	int			bell;
	kfk_statistics statistics;
	kfk_place  *places;			/* partitions of that topic, as last described */
	int			n_places;
};

static bool
set_number(rd_kafka_conf_t *conf, const char *name, int value, char *error, size_t error_size)
{
	char		text[16];

	snprintf(text, sizeof(text), "%d", value);
	return rd_kafka_conf_set(conf, name, text, error, error_size) == RD_KAFKA_CONF_OK;
}

static bool
configure(rd_kafka_conf_t *conf, const kfk_settings *settings, char *error, size_t error_size)
{
	int64_t		queue = (int64_t) settings->prefetch_kb * 1024;
	int64_t		answer = queue / ANSWER_PART;

	answer = answer < ANSWER_MIN ? ANSWER_MIN : answer > ANSWER_MAX ? ANSWER_MAX : answer;

	/* What a server's options may change ... */
	static kfk_properties defaults[] = {
		{"client.id", "millrace"},
		{"isolation.level", "read_committed"},
		{"reconnect.backoff.max.ms", "2000"},
		{"fetch.error.backoff.ms", "100"},
		{"topic.metadata.refresh.interval.ms", "30000"},
		{"socket.keepalive.enable", "true"},
	};

	/* ... and what everything here rests on. */
	static kfk_properties fixed[] = {
		{"enable.auto.commit", "false"},
		{"enable.auto.offset.store", "false"},
		{"auto.offset.reset", "error"},
		{"allow.auto.create.topics", "false"},
		{"enable.partition.eof", "true"},
		{"check.crcs", "true"},
		{"message.max.bytes", UNPACK_BYTES},
		{"log.queue", "true"},
		{"statistics.interval.ms", "2000"},
		{"debug", "topic"},		/* for BROKERUA, see note_event() */
		/* As large as a topic may allow: a response that exceeds it would be asked for again for ever. */
		{"receive.message.max.bytes", "536870912"},
	};

	if (!kfk_configure(conf, defaults, sizeof(defaults) / sizeof(*defaults), settings, fixed, sizeof(fixed) / sizeof(*fixed), error, error_size))
		return false;

	/* From 2.2.0 on; before, a full queue was looked at again after a second. */
	(void) rd_kafka_conf_set(conf, "fetch.queue.backoff.ms", "20", NULL, 0);
	return rd_kafka_conf_set(conf, "group.id", settings->group, error, error_size) == RD_KAFKA_CONF_OK &&
		set_number(conf, "queued.max.messages.kbytes", settings->prefetch_kb, error, error_size) &&
		set_number(conf, "queued.min.messages", (int) (queue / MESSAGE_BYTES), error, error_size) &&
		set_number(conf, "fetch.max.bytes", (int) answer, error, error_size) &&
		set_number(conf, "fetch.message.max.bytes", PARTITION_BYTES, error, error_size);
}

kfk_client *
kfk_open(const kfk_settings *settings, char *error, size_t error_size)
{
	static const uint64_t ring = 1;	/* an eventfd takes eight bytes or none */
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	kfk_client *client = calloc(1, sizeof(*client));

	snprintf(error, error_size, "out of memory");
	if (client == NULL || conf == NULL || !configure(conf, settings, error, error_size))
	{
		if (conf)
			rd_kafka_conf_destroy(conf);
		free(client);
		return NULL;
	}
	client->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (client->bell < 0)
	{
		snprintf(error, error_size, "could not create an eventfd: %s", strerror(errno));
		rd_kafka_conf_destroy(conf);
		free(client);
		return NULL;
	}

	client->rk = kfk_start(RD_KAFKA_CONSUMER, conf, settings, &client->guard, error, error_size);
	if (client->rk == NULL)
	{
		close(client->bell);
		free(client);
		return NULL;
	}
	client->events = rd_kafka_queue_get_main(client->rk);
	client->messages = rd_kafka_queue_get_consumer(client->rk);
	rd_kafka_queue_io_event_enable(client->events, client->bell, &ring, sizeof(ring));
	rd_kafka_queue_io_event_enable(client->messages, client->bell, &ring, sizeof(ring));
	return client;
}

void
kfk_close(kfk_client *client)
{
	if (client == NULL)
		return;
	rd_kafka_queue_io_event_enable(client->messages, -1, NULL, 0);
	rd_kafka_queue_io_event_enable(client->events, -1, NULL, 0);
	rd_kafka_queue_destroy(client->messages);
	rd_kafka_queue_destroy(client->events);
	if (client->topic)
		rd_kafka_topic_destroy(client->topic);
	if (!kfk_end(client->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE))
		return;
	close(client->bell);
	free(client->topic_name);
	free(client->taken);
	free(client->statistics.stable);
	free(client->places);
	free(client);
}

int
kfk_bell(const kfk_client *client)
{
	return client->bell;
}

void
kfk_silence(kfk_client *client)
{
	uint64_t	rings;

	while (read(client->bell, &rings, sizeof(rings)) < 0 && errno == EINTR)
		;
}

/* The library's handle of a topic; NULL if it cannot be. */
static rd_kafka_topic_t *
topic_of(kfk_client *client, const char *topic)
{
	if (client->topic == NULL || strcmp(client->topic_name, topic) != 0)
	{
		if (client->topic)
			rd_kafka_topic_destroy(client->topic);
		free(client->topic_name);
		client->topic_name = strdup(topic);
		client->n_places = 0;
		client->topic = client->topic_name ? rd_kafka_topic_new(client->rk, topic, NULL) : NULL;
	}
	return client->topic;
}

static bool
refuse(char *error, size_t error_size, rd_kafka_resp_err_t err)
{
	if (err == RD_KAFKA_RESP_ERR__TRANSPORT || err == RD_KAFKA_RESP_ERR__TIMED_OUT || err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		snprintf(error, error_size, "no broker answers");
	else
		snprintf(error, error_size, "%s", rd_kafka_err2str(err));
	return false;
}

/* Remember the leaders of the topic's partitions; those that have another one by now are unsettled. */
static bool
note_leaders(kfk_client *client, const struct rd_kafka_metadata_topic *topic)
{
	if (client->n_places < topic->partition_cnt)
	{
		kfk_place  *more = realloc(client->places, sizeof(*more) * (size_t) topic->partition_cnt);

		if (more == NULL)
			return false;
		for (int i = client->n_places; i < topic->partition_cnt; i++)
			more[i] = (kfk_place) {-1, false};
		client->places = more;
		client->n_places = topic->partition_cnt;
	}
	for (int i = 0; i < topic->partition_cnt; i++)
	{
		const struct rd_kafka_metadata_partition *p = &topic->partitions[i];
		kfk_place  *place = p->id >= 0 && p->id < client->n_places ? &client->places[p->id] : NULL;

		if (place == NULL || p->leader < 0)
			continue;
		place->unsettled = place->unsettled || (place->leader >= 0 && place->leader != p->leader);
		place->leader = p->leader;
	}
	return true;
}

/*
 * What an event says of where partitions are read from.  An error of a
 * connection begins with the broker's name, "host:port/id: "; those that are not
 * known by an id yet lead nothing.  That a broker has a partition no longer is
 * told in the log alone, "BROKERUA: ... topic [partition]: broker unavailable".
 */
static void
note_event(kfk_client *client, const kfk_event *event)
{
	char	   *end;
	long		id;

	if (event->log && strncmp(event->text, "BROKERUA: ", 10) == 0)
	{
		const char *p = strstr(event->text, "]: broker unavailable");

		while (p != NULL && p > event->text && *p != '[')
			p--;
		id = p ? strtol(p + 1, &end, 10) : -1;
		if (id >= 0 && id < client->n_places)
			client->places[id].unsettled = true;
	}
	for (const char *slash = event->log ? NULL : strchr(event->text, '/'); slash != NULL; slash = strchr(slash + 1, '/'))
	{
		id = strtol(slash + 1, &end, 10);
		if (end == slash + 1 || end[0] != ':')
			continue;
		for (int i = 0; i < client->n_places; i++)
			client->places[i].unsettled = client->places[i].unsettled || client->places[i].leader == id;
		break;
	}
}

bool
kfk_unsettled(const kfk_client *client, int32_t partition)
{
	return partition >= 0 && partition < client->n_places && client->places[partition].unsettled;
}

static int64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

bool
kfk_describe(kfk_client *client, const char *topic, int timeout_ms, int *partitions, char *error, size_t error_size)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_topic_t *handle = topic_of(client, topic);
	rd_kafka_resp_err_t err;

	if (handle == NULL)
		return refuse(error, error_size, rd_kafka_last_error());

	/*
	 * Each time the library tries one more broker: of those it was given, all
	 * but one may be down.  One that is frozen uses up the time at once.
	 */
	for (int64_t end = now_ms() + timeout_ms, left = timeout_ms;; left = end - now_ms())
	{
		err = rd_kafka_metadata(client->rk, 0, handle, &metadata, (int) (left > 0 ? left : 0));
		if ((err != RD_KAFKA_RESP_ERR__TRANSPORT && err != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) || end - now_ms() <= RETRY_MS)
			break;
		(void) poll(NULL, 0, RETRY_MS);
	}
	if (err)
		return refuse(error, error_size, err);
	err = metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC;
	*partitions = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
	if (err == 0 && !note_leaders(client, &metadata->topics[0]))
		err = RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE;
	rd_kafka_metadata_destroy(metadata);
	if (err || *partitions == 0)
	{
		if (err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC)
			snprintf(error, error_size, "topic \"%s\" does not exist", topic);
		else
			snprintf(error, error_size, "topic \"%s\": %s", topic, err ? rd_kafka_err2str(err) : "no partitions yet");
		return false;
	}
	return true;
}

char *
kfk_cluster_id(kfk_client *client, int timeout_ms)
{
	char	   *id = rd_kafka_clusterid(client->rk, timeout_ms);
	char	   *copy = id ? strdup(id) : NULL;

	if (id)
		rd_kafka_mem_free(client->rk, id);
	return copy;
}

/*
 * The first offset with a timestamp at or after milliseconds since 1970, or an
 * end of the partition (RD_KAFKA_OFFSET_BEGINNING, RD_KAFKA_OFFSET_END: what
 * brokers mean by these times); -1: nothing that late.  Ends, too, since before
 * 2.3 rd_kafka_query_watermark_offsets() waits for ever where a leader is away.
 */
static bool
ask_offset(kfk_client *client, const char *topic, int partition, int64_t when, int timeout_ms,
		   int64_t *offset, char *error, size_t error_size)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_t *p = rd_kafka_topic_partition_list_add(list, topic, partition);
	rd_kafka_resp_err_t err;

	p->offset = when;
	err = rd_kafka_offsets_for_times(client->rk, list, timeout_ms);
	if (!err)
		err = p->err;
	*offset = p->offset;
	rd_kafka_topic_partition_list_destroy(list);
	return err ? refuse(error, error_size, err) : true;
}

bool
kfk_watermarks(kfk_client *client, const char *topic, int partition, int timeout_ms,
			   int64_t *low, int64_t *high, char *error, size_t error_size)
{
	return ask_offset(client, topic, partition, RD_KAFKA_OFFSET_BEGINNING, timeout_ms, low, error, error_size) &&
		ask_offset(client, topic, partition, RD_KAFKA_OFFSET_END, timeout_ms, high, error, error_size);
}

bool
kfk_offset_at(kfk_client *client, const char *topic, int partition, int64_t when_ms, int timeout_ms,
			  int64_t *offset, char *error, size_t error_size)
{
	if (!ask_offset(client, topic, partition, when_ms, timeout_ms, offset, error, error_size))
		return false;
	return *offset >= 0 || ask_offset(client, topic, partition, RD_KAFKA_OFFSET_END, timeout_ms, offset, error, error_size);
}

int64_t
kfk_last_high(kfk_client *client, const char *topic, int partition)
{
	int64_t		low,
				high;

	if (rd_kafka_get_watermark_offsets(client->rk, topic, partition, &low, &high) || high < 0)
		return -1;
	return high;
}

int64_t
kfk_last_stable(kfk_client *client, int partition)
{
	return partition < client->statistics.n_stable ? client->statistics.stable[partition] : -1;
}

int64_t
kfk_queued_bytes(const kfk_client *client)
{
	return client->statistics.known ? client->statistics.queued_bytes : -1;
}

bool
kfk_assign(kfk_client *client, const char *topic, int n, const int32_t *partitions, const int64_t *offsets,
		   char *error, size_t error_size)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);
	rd_kafka_resp_err_t err;

	for (int i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, topic, partitions[i])->offset = offsets[i];
	for (int i = 0; i < client->n_places; i++)
		client->places[i].unsettled = false;
	err = rd_kafka_assign(client->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	return err ? refuse(error, error_size, err) : true;
}

void
kfk_tell_group(kfk_client *client, const char *topic, int n, const int32_t *partitions, const int64_t *offsets)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);

	for (int i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, topic, partitions[i])->offset = offsets[i];
	(void) rd_kafka_commit(client->rk, list, 1);
	rd_kafka_topic_partition_list_destroy(list);
}

void
kfk_leave(kfk_client *client, const char *topic, int32_t partition)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

	rd_kafka_topic_partition_list_add(list, topic, partition);
	(void) rd_kafka_pause_partitions(client->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
}

int
kfk_take_messages(kfk_client *client, kfk_message *messages, int max)
{
	ssize_t		n;

	if (client->taken_size < max)
	{
		rd_kafka_message_t **more = realloc(client->taken, (size_t) max * sizeof(*more));

		if (more == NULL)
			return 0;
		client->taken = more;
		client->taken_size = max;
	}
	n = rd_kafka_consume_batch_queue(client->messages, 0, client->taken, (size_t) max);
	for (ssize_t i = 0; i < n; i++)
	{
		rd_kafka_message_t *from = client->taken[i];
		kfk_message *to = &messages[i];
		rd_kafka_timestamp_type_t type;

		memset(to, 0, sizeof(*to));
		to->handle = from;
		to->partition = from->partition;
		to->offset = from->offset;
		if (from->err == 0)
		{
			to->key = from->key;
			to->key_len = from->key_len;
			to->value = from->payload;
			to->value_len = from->len;
			to->time_ms = rd_kafka_message_timestamp(from, &type);
			if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE)
				to->time_ms = -1;
			continue;
		}
		to->end = from->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
		to->lost = from->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET || from->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE;
		to->missing = from->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || from->err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
			from->err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
		to->error = to->end ? NULL : rd_kafka_message_errstr(from);
	}
	return n > 0 ? (int) n : 0;
}

void
kfk_release(kfk_message *messages, int n)
{
	for (int i = 0; i < n; i++)
		if (messages[i].handle)
		{
			rd_kafka_message_destroy(messages[i].handle);
			messages[i].handle = NULL;
		}
}

void
kfk_headers(const kfk_message *message, kfk_header_fn row, void *arg)
{
	rd_kafka_headers_t *headers;
	const char *name;
	const void *value;
	size_t		len;

	for (int i = 0; i < message->n_headers; i++)
		if (!row(arg, message->headers[i].name, message->headers[i].value, message->headers[i].len))
			return;
	if (message->handle == NULL || rd_kafka_message_headers(message->handle, &headers))
		return;
	for (size_t i = 0; !rd_kafka_header_get_all(headers, i, &name, &value, &len); i++)
		if (!row(arg, name, value, len))
			return;
}

bool
kfk_next_event(kfk_client *client, kfk_event *event)
{
	if (!kfk_poll_event(client->events, event, &client->statistics))
		return false;
	note_event(client, event);
	return true;
}
