/*
 * group_pg.c
 *	  Option group: how far a source is, told to Kafka for those who watch
 *	  consumer groups.  Behind the truth, which is in source_offsets.
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "utils/timestamp.h"

#define TELL_MS 5000

/* Every few seconds, if the partitions have moved on. */
void
kfk_follow_group(const kfk_source *source, kfk_client *client, const kfk_partition *partitions, int n)
{
	static TimestampTz told = 0;
	static int64 sum = 0;
	int64		now = 0;
	int32	   *numbers;
	int64	   *offsets;

	if (source->group == NULL || n == 0 || !TimestampDifferenceExceeds(told, GetCurrentTimestamp(), TELL_MS))
		return;
	for (int i = 0; i < n; i++)
		now += partitions[i].next_offset;
	told = GetCurrentTimestamp();
	if (now == sum)
		return;
	sum = now;
	numbers = palloc(sizeof(int32) * (size_t) n);
	offsets = palloc(sizeof(int64) * (size_t) n);
	for (int i = 0; i < n; i++)
	{
		numbers[i] = partitions[i].partition;
		offsets[i] = partitions[i].next_offset;
	}
	kfk_tell_group(client, source->topic, n, numbers, offsets);
	pfree(numbers);
	pfree(offsets);
}
