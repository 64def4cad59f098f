/*
 * control_pg.c
 *	  The control topic of a source that several servers share: one partition,
 *	  compacted, read from its first record on and for as long as the worker lives.
 *
 * A server writes under keys of its own only, "topic/partition/identity", so
 * that compaction keeps the last word of each: nobody can wipe out another's.
 * Words are said without waiting; what counts is that they are heard again, in
 * the order of the log, which is the same for all.
 *
 * Memory: librdkafka's; words in the caller's context.  Locks: none.
 */
#include "postgres.h"

#include "stream/worker/share.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "stream/worker/producer.h"

#define ASK_MS 2000				/* for one answer of a broker */
#define MAKE_MS 5000			/* for making the topic */

static kfk_client *reader = NULL;
static kfk_producer *producer = NULL;
static int64 end_at_open;		/* of the topic */
static int64 heard_to;			/* words before it were heard */
static char trouble[512];		/* the last error of the client or the producer since it was opened */

void
kfk_control_close(void)
{
	kfk_client *r = reader;
	kfk_producer *p = producer;

	reader = NULL;
	producer = NULL;
	kfk_close(r);
	kfk_producer_close(p);
}

static bool
give_up(bool result)
{
	if (!result)
		kfk_control_close();
	return result;
}

/* The topic is there, made if need be, and keeps every server's last word. */
static bool
find_topic(const kfk_source *source, char *error, size_t error_size)
{
	char		why[512];
	char		policy[64];
	int			partitions;

	if (strcmp(source->control_topic, source->topic) == 0)
	{
		snprintf(error, error_size, "it is the topic that is shared");
		return false;
	}
	if (!kfk_describe(reader, source->control_topic, ASK_MS, &partitions, error, error_size))
	{
		if (strstr(error, "does not exist") == NULL)
			return false;
		if (!kfk_producer_make_compacted(producer, source->control_topic, MAKE_MS, why, sizeof(why)))
		{
			snprintf(error, error_size, "it does not exist and could not be made: %s", why);
			return false;
		}
		if (!kfk_describe(reader, source->control_topic, ASK_MS, &partitions, error, error_size))
			return false;
	}
	if (partitions != 1)
	{
		snprintf(error, error_size, "it has %d partitions; it must have one, whose order all servers see", partitions);
		return false;
	}
	/* Who may not ask is not told: it is one right more. */
	if (kfk_producer_topic_setting(producer, source->control_topic, "cleanup.policy", ASK_MS, policy, sizeof(policy)) && strcmp(policy, "compact") != 0)
	{
		snprintf(error, error_size, "its cleanup.policy is \"%s\"; it must be \"compact\", for it keeps who owns a partition", policy);
		return false;
	}
	return true;
}

/* Open it.  False, with the reason, if that is not possible now. */
bool
kfk_control_open(const kfk_source *source, char *error, size_t error_size)
{
	kfk_settings settings;
	int32		partition = 0;
	int64		low;

	kfk_control_close();
	trouble[0] = '\0';
	mr_begin("read the server");
	kfk_server_settings(source->server, &settings);
	producer = kfk_producer_open(&settings, NULL, error, error_size);
	if (producer != NULL)
		reader = kfk_open_server(source->server, psprintf("millrace-%s", source->name), 4096);
	mr_commit();
	if (producer == NULL || !find_topic(source, error, error_size))
		return give_up(false);
	if (!kfk_watermarks(reader, source->control_topic, 0, ASK_MS, &low, &end_at_open, error, error_size))
		return give_up(false);
	heard_to = low;
	return give_up(kfk_assign(reader, source->control_topic, 1, &partition, &low, error, error_size));
}

bool
kfk_control_at_end(void)
{
	return heard_to >= end_at_open;
}

/* Why it might be that nothing is heard; "" if nobody said. */
const char *
kfk_control_trouble(void)
{
	(void) kfk_producer_refused(producer, trouble, sizeof(trouble));
	return trouble;
}

/* Say a word; when it is heard again, it counts. */
bool
kfk_control_say(const kfk_source *source, const kfk_word *word, char *error, size_t error_size)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), word->released ? 0 : word->lease_ms);
	char	   *key = psprintf("%s/%d/%s", source->topic, word->partition, word->owner);
	char	   *value = psprintf("{\"epoch\": " INT64_FORMAT ", \"claim\": " INT64_FORMAT ", \"start\": " INT64_FORMAT ", \"next\": " INT64_FORMAT
								 ", \"lease_ms\": %d, \"nonce\": " UINT64_FORMAT ", \"state\": \"%s\", \"until\": \"%s\"}",
								 word->epoch, word->claim, word->start, word->next, word->lease_ms, word->nonce,
								 word->released ? "released" : "owned", timestamptz_to_str(until));
	kfk_record	record = {.topic = source->control_topic,.key = key,.key_len = strlen(key),.value = value,.value_len = strlen(value)};

	return kfk_producer_add(producer, &record, 0, 0, error, error_size) == KFK_SENT_YES;
}

/* What is a word about our topic.  False: it is something else. */
static bool
read_word(const kfk_source *source, const kfk_message *m, kfk_word *word)
{
	size_t		topic_len = strlen(source->topic);
	char	   *key = pnstrdup(m->key ? m->key : "", (Size) m->key_len);
	char	   *value = pnstrdup(m->value ? m->value : "", (Size) m->value_len);
	char		state[16];
	int			owner = 0;

	memset(word, 0, sizeof(*word));
	word->offset = m->offset;
	if (strncmp(key, source->topic, topic_len) != 0 || sscanf(key + topic_len, "/%d/%n", &word->partition, &owner) != 1 || owner == 0 ||
		sscanf(value, "{\"epoch\": " INT64_FORMAT ", \"claim\": " INT64_FORMAT ", \"start\": " INT64_FORMAT ", \"next\": " INT64_FORMAT
			   ", \"lease_ms\": %d, \"nonce\": " UINT64_FORMAT ", \"state\": \"%15[a-z]\"",
			   &word->epoch, &word->claim, &word->start, &word->next, &word->lease_ms, &word->nonce, state) != 7 ||
		word->lease_ms < 0 || word->lease_ms > 3600000 || word->epoch < 1 || word->start < 0 || word->next < 0)
		return false;
	word->released = strcmp(state, "released") == 0;
	word->owner = key + topic_len + owner;
	return true;
}

/* The next word about our topic that is there, without waiting. */
kfk_hearing
kfk_control_hear(const kfk_source *source, kfk_word *word, char *error, size_t error_size)
{
	kfk_message m;
	kfk_event	event;

	while (kfk_next_event(reader, &event) || kfk_producer_event(producer, &event))
		if (!event.log)
			strlcpy(trouble, mr_plain(event.text), sizeof(trouble));
		else
			ereport(event.level <= 4 ? LOG : DEBUG1, (errmsg("source \"%s\", control topic: librdkafka: %s", source->name, mr_plain(event.text))));
	while (kfk_take_messages(reader, &m, 1) == 1)
	{
		bool		is_word = false;

		if (m.error && (m.lost || m.missing))
		{
			snprintf(error, error_size, "%s", mr_plain(m.error));
			kfk_release(&m, 1);
			return KFK_DEAF;
		}
		if (!m.error)
			heard_to = Max(heard_to, m.end ? m.offset : m.offset + 1);
		if (!m.error && !m.end)
			is_word = read_word(source, &m, word);
		kfk_release(&m, 1);
		if (is_word)
			return KFK_HEARD;
	}
	return KFK_SILENCE;
}
