/*
 * held_pg.c
 *	  Messages that are there and may not be read yet: a Kafka transaction that
 *	  is open holds back everything behind its first message from readers of
 *	  what is committed.
 *
 * No batch tells of them, so the end of the partition is written here, and after
 * a while the reason: lag and its cause can be seen.  Called when there is
 * nothing else to do, outside a transaction; locks none.
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/spi_pg.h"

#define NOTE_MS 1000			/* held back for so long: the lag is written */
#define TELL_MS 10000			/* and for so long: why */

/* The row's version changes: the fence finds it by its key, once. */
static void
write_end(const kfk_source *source, kfk_partition *p, int64 high)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, INT4OID, INT8OID, INT8OID};
	Datum		args[] = {CStringGetTextDatum(source->name), Int32GetDatum(p->partition), Int64GetDatum(p->epoch), Int64GetDatum(high)};
	mr_owner_save save;

	mr_begin("note what is held back");
	mr_spi_begin(&save);
	mr_prepare(&plan, "UPDATE millrace.source_offsets SET high_watermark = $4 WHERE source OPERATOR(pg_catalog.=) $1 "
			   "AND partition OPERATOR(pg_catalog.=) $2 AND epoch OPERATOR(pg_catalog.=) $3", 4, types);
	SPI_execute_plan(plan, args, NULL, false, 0);
	mr_spi_end(&save);
	mr_commit();
	p->held_high = high;
}

/* Note what is held back; why, in the current context, if it has been for long; NULL: nothing has. */
char *
kfk_held(const kfk_source *source, kfk_client *client, kfk_partition *partitions, int n)
{
	TimestampTz now = GetCurrentTimestamp();
	char	   *reason = NULL;

	for (int i = 0; i < n; i++)
	{
		kfk_partition *p = &partitions[i];
		int64		high = kfk_last_high(client, source->topic, p->partition);

		if (high <= p->taken || p->taken >= p->end)
			p->held_since = 0;
		else if (p->held_since == 0 || p->held_at != p->taken)
		{
			p->held_since = now;
			p->held_at = p->taken;
			p->held_high = -1;
		}
		else if (TimestampDifferenceExceeds(p->held_since, now, NOTE_MS))
		{
			if (high != p->held_high)
				write_end(source, p, high);
			if (TimestampDifferenceExceeds(p->held_since, now, TELL_MS))
				reason = psprintf("partition %d: messages from offset " INT64_FORMAT " on wait for a Kafka transaction that is open", p->partition, p->taken);
		}
	}
	return reason;
}
