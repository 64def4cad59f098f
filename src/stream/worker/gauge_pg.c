/*
 * gauge_pg.c
 *	  How far behind a source worker is, and the memory it takes, for all to see:
 *	  core/shared_pg.h, millrace.gauges().
 *
 * Lag is told twice: to the ends of the partitions, and to their last stable
 * offsets, which is as far as a read_committed reader may go.  The first
 * without the second: a producer left a transaction open (RELIABILITY C10).
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "utils/timestamp.h"

#include "core/process_pg.h"
#include "core/shared_pg.h"

#define WEIGH_MS 500

/* The memory of this process, twice a second at most. */
void
kfk_gauge_memory(void)
{
	static TimestampTz weighed = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (!TimestampDifferenceExceeds(weighed, now, WEIGH_MS))
		return;
	mr_worker_gauge(MR_GAUGE_RESIDENT, mr_resident_bytes());
	weighed = now;
}

/* Where the partitions stand, and their ends as last heard. */
void
kfk_gauge(const kfk_source *source, kfk_client *client, kfk_partition *partitions, int n_partitions)
{
	int64		behind = 0;
	int64		stable = 0;

	for (int i = 0; i < n_partitions; i++)
	{
		kfk_partition *p = &partitions[i];
		int64		high = kfk_last_high(client, source->topic, p->partition);
		int64		ls = kfk_last_stable(client, p->partition);

		if (high >= 0)
			p->high = high;
		high = Min(p->high, p->end);
		behind += Max(high - p->next_offset, 0);
		stable += Max((ls >= 0 ? Min(ls, high) : high) - p->next_offset, 0);
	}
	mr_worker_gauge(MR_GAUGE_BEHIND, behind);
	mr_worker_gauge(MR_GAUGE_STABLE, stable);
	mr_worker_gauge(MR_GAUGE_QUEUED, kfk_queued_bytes(client));
	kfk_gauge_memory();
}

/* No partition is ours, for now. */
void
kfk_gauge_nothing(void)
{
	mr_worker_gauge(MR_GAUGE_BEHIND, -1);
	mr_worker_gauge(MR_GAUGE_STABLE, -1);
	mr_worker_gauge(MR_GAUGE_QUEUED, 0);
	mr_worker_gauge(MR_GAUGE_BATCH, 0);
}
