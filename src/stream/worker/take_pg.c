/*
 * take_pg.c
 *	  Messages taken from the client and not yet done: taken as a batch needs
 *	  them, sifted, and let go of when their batch is committed.
 *
 * Messages belong to librdkafka until released; each item's handle is the one
 * place that knows of it, so that whatever ends a turn, all are released once.
 *
 * Memory: items in TopMemoryContext, grown as batch_rows asks.  Locks: none.
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "utils/memutils.h"

static int64
message_bytes(const kfk_message *m)
{
	return (int64) (m->key_len + m->value_len);
}

static void *
grow(void *array, size_t size)
{
	return array ? repalloc(array, size) : MemoryContextAlloc(TopMemoryContext, size);
}

/* So many messages are likely to fit into the batch, by what they were like lately; a few at first. */
static int
room_for(kfk_taken *taken, const kfk_source *source)
{
	int64		likely;

	if (taken->likely_bytes == 0)
		taken->likely_bytes = source->batch_bytes / 16 + 1;
	likely = Max((source->batch_bytes - taken->bytes) / taken->likely_bytes, 1);
	return (int) Min(likely, source->batch_rows - taken->n);
}

/* A large message counts at once, small ones by and by. */
static void
learn_size(kfk_taken *taken, const kfk_message *messages, int n)
{
	int64		bytes = 0;

	for (int i = 0; i < n; i++)
		bytes += message_bytes(&messages[i]);
	if (n > 0)
		taken->likely_bytes = Max(bytes / n, (3 * taken->likely_bytes + bytes / n) / 4) + 1;
}

/* Take what is there, up to a batch's rows and about its bytes; how much it was.  To be sifted. */
int
kfk_take_more(kfk_taken *taken, const kfk_source *source, kfk_client *client)
{
	int			n;

	if (taken->room < source->batch_rows)
	{
		taken->items = grow(taken->items, sizeof(kfk_item) * (size_t) source->batch_rows);
		taken->fresh = grow(taken->fresh, sizeof(kfk_message) * (size_t) source->batch_rows);
		taken->room = source->batch_rows;
	}
	n = kfk_take_messages(client, taken->fresh, room_for(taken, source));
	learn_size(taken, taken->fresh, n);
	memset(taken->items + taken->n, 0, sizeof(kfk_item) * (size_t) n);
	for (int i = 0; i < n; i++)
		taken->items[taken->n++].message = taken->fresh[i];
	return n;
}

static kfk_partition *
partition_of(kfk_partition *partitions, int n, int32 number)
{
	for (int i = 0; i < n; i++)
		if (partitions[i].partition == number)
			return &partitions[i];
	return NULL;
}

/* Of a message that was read before: is it still the same? */
static bool
is_another(const kfk_partition *p, const kfk_message *m)
{
	return p->check_offset == m->offset &&
		(kfk_message_crc(m) != p->check_crc || (p->check_time != PG_INT64_MIN && p->check_time != kfk_time(m->time_ms)));
}

/*
 * What was taken last, from item `from` on: messages before the stored offset
 * go, the one that was read last is compared (another one halts the source),
 * errors are told, and make *troubled.  True if the client must be opened again.
 */
bool
kfk_sift(kfk_taken *taken, int from, const kfk_source *source, kfk_client *client, kfk_partition *partitions, int n_partitions,
		 bool *troubled)
{
	int			kept = from;
	bool		reopen = false;

	for (int i = from; i < taken->n; i++)
	{
		kfk_item	item = taken->items[i];
		kfk_message *m = &item.message;
		kfk_partition *p = partition_of(partitions, n_partitions, m->partition);
		bool		keep = false;

		if (p == NULL)
			;
		else if (kfk_unsettled(client, p->partition))
			reopen = true;		/* the claim finds out whether it is still the log that was read */
		else if (m->error)
		{
			*troubled = true;
			kfk_report(source, "waiting", "08006", mr_plain(m->error));

			/* Whether messages are really lost, the claim finds out. */
			reopen = reopen || m->missing || m->lost;
		}
		else
		{
			taken->items[i].message.handle = NULL;
			if (!kfk_cut_message(client, source, p, m))
				;
			else if (m->end)
				keep = m->offset > p->taken;
			else if (is_another(p, m))
			{
				int64		offset = m->offset;

				kfk_release(m, 1);
				kfk_halt(source, "the message at offset " INT64_FORMAT " of partition %d is not the one that was read there: the topic was made anew or truncated",
						 offset, p->partition);
			}
			else
			{
				if (m->offset >= p->check_offset)
					p->check_offset = -1;
				keep = m->offset >= p->taken;
			}
		}
		taken->items[i].message.handle = NULL;
		if (keep)
		{
			p->taken = m->offset + (m->end ? 0 : 1);
			item.partition = p;
			taken->bytes += message_bytes(m);
			taken->items[kept++] = item;
		}
		else
			kfk_release(m, 1);
	}
	taken->n = kept;
	return reopen;
}

/* Items that make one batch, the first so many: as its bytes allow, one at least.  Made ready for it. */
int
kfk_next_batch(kfk_taken *taken, const kfk_source *source)
{
	int64		bytes = 0;
	int			n = 0;

	while (n < taken->n)
	{
		kfk_item   *item = &taken->items[n];

		bytes += message_bytes(&item->message);
		if (bytes > source->batch_bytes && n > 0)
			break;

		/* These belong to the last batch's memory. */
		item->version = 0;
		item->sqlstate = NULL;
		item->rejected = false;
		n++;
	}
	return n;
}

/* The first n are done with. */
void
kfk_let_go(kfk_taken *taken, int n)
{
	for (int i = 0; i < n; i++)
	{
		taken->bytes -= message_bytes(&taken->items[i].message);
		kfk_release(&taken->items[i].message, 1);
	}
	taken->n -= n;
	if (taken->n == 0)
		taken->bytes = 0;		/* also if they were not sifted */
	else
		memmove(taken->items, taken->items + n, sizeof(kfk_item) * (size_t) taken->n);
}
