/*
 * outbox_progress_pg.c
 *	  The last batch that the brokers have of an outbox, from its progress topic.
 *
 * The topic is compacted and small.  It is read when our producer has been
 * initialised, so that no transaction of ours is open; those of other outboxes
 * that share the topic may be, and hide what lies behind them from a reader of
 * committed messages: so the end is asked for as an uncommitted reader and
 * waited for.
 */
#include "postgres.h"

#include "stream/worker/outbox_worker.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "core/process_pg.h"

#define ASK_MS 2000				/* for one answer of a broker */
#define READ_MS 90000			/* longer than a transaction of another outbox can stay open */

static kfk_client *reader = NULL;

static bool
open_reader(const kfk_settings *settings, const char *isolation, char *error, size_t error_size)
{
	const char **names = palloc(sizeof(char *) * (size_t) (settings->n + 1));
	const char **values = palloc(sizeof(char *) * (size_t) (settings->n + 1));
	kfk_settings ours = *settings;

	for (int i = 0; i < settings->n; i++)
	{
		names[i] = settings->names[i];
		values[i] = settings->values[i];
	}
	names[settings->n] = "isolation.level";
	values[settings->n] = isolation;
	ours.names = names;
	ours.values = values;
	ours.n++;
	ours.group = "millrace-outbox";
	ours.prefetch_kb = 4096;
	reader = kfk_open(&ours, error, error_size);
	return reader != NULL;
}

/* Also at exit: the library's threads must be gone by then. */
void
kfk_close_progress(void)
{
	kfk_close(reader);
	reader = NULL;
}

static bool
close_reader(bool result)
{
	kfk_close_progress();
	return result;
}

/*
 * *mark: the newest record under the outbox's transactional id, palloc'd, or
 * NULL.  False, with the reason, if that cannot be told now.
 */
bool
kfk_read_progress(const kfk_outbox *outbox, const kfk_settings *settings, char **mark, char *error, size_t error_size)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), READ_MS);
	const char *topic = outbox->progress_topic;
	int32		partition = 0;
	int64		low,
				high,
				at;

	*mark = NULL;
	if (!open_reader(settings, "read_uncommitted", error, error_size))
		return false;
	if (!close_reader(kfk_watermarks(reader, topic, 0, ASK_MS, &low, &high, error, error_size)))
		return false;
	if (low >= high)
		return true;
	if (!open_reader(settings, "read_committed", error, error_size))
		return false;
	if (!kfk_assign(reader, topic, 1, &partition, &low, error, error_size))
		return close_reader(false);
	at = low;
	while (at < high)
	{
		kfk_message m;
		kfk_event	event;

		while (kfk_next_event(reader, &event))
			;
		if (kfk_take_messages(reader, &m, 1) == 0)
		{
			if (GetCurrentTimestamp() > end)
			{
				snprintf(error, error_size, "topic \"%s\" could not be read to its end: a transaction of another outbox is open, or brokers are away", topic);
				return close_reader(false);
			}
			mr_wait_latch(10);
			continue;
		}
		if (m.error)
		{
			snprintf(error, error_size, "%s", m.error);
			kfk_release(&m, 1);
			return close_reader(false);
		}
		if (m.end)
			at = m.offset;
		else
		{
			at = m.offset + 1;
			if (m.key_len == strlen(outbox->id) && memcmp(m.key, outbox->id, m.key_len) == 0 && m.value != NULL)
				*mark = pnstrdup(m.value, (Size) m.value_len);
		}
		kfk_release(&m, 1);
	}
	return close_reader(true);
}
