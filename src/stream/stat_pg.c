/*
 * stat_pg.c
 *	  What workers do, for the views stat_sources, stat_outbox and stat_http:
 *	  meters (core/meter_pg.h) and what each worker is like now.
 */
#include "postgres.h"

#include "core/compat.h"
#include "core/meter_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(millrace_meters);
PG_FUNCTION_INFO_V1(millrace_gauges);

/*
 * millrace.meters() -> setof (kind, name, since, messages, bytes, batches,
 * errors, busy (s), then of the last 10 s and of the last minute: messages/s,
 * bytes/s, messages and ms a batch, seconds of work per second).
 */
Datum
millrace_meters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	mr_meter_reading *meters;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	n = mr_meters(MyDatabaseId, &meters);
	for (int k = 0; k < n; k++)
	{
		const mr_meter_reading *m = &meters[k];
		Datum		values[18] = {0};
		bool		nulls[18] = {false};

		values[0] = CStringGetTextDatum(mr_kind_name(m->kind));
		values[1] = CStringGetTextDatum(m->name);
		values[2] = TimestampTzGetDatum(m->since);
		values[3] = Int64GetDatum((int64) m->total.messages);
		values[4] = Int64GetDatum((int64) m->total.bytes);
		values[5] = Int64GetDatum((int64) m->total.batches);
		values[6] = Int64GetDatum((int64) m->errors);
		values[7] = Float8GetDatum((double) m->total.busy_us / USECS_PER_SEC);
		for (int w = 0; w < 2; w++)
		{
			const mr_work *recent = &m->recent[w];
			double		batches = (double) recent->batches;
			Datum	   *to = &values[8 + 5 * w];

			to[0] = Float8GetDatum((double) recent->messages / m->seconds[w]);
			to[1] = Float8GetDatum((double) recent->bytes / m->seconds[w]);
			to[2] = Float8GetDatum((double) recent->messages / Max(batches, 1));
			to[3] = Float8GetDatum((double) recent->busy_us / 1000 / Max(batches, 1));
			to[4] = Float8GetDatum((double) recent->busy_us / USECS_PER_SEC / m->seconds[w]);
			nulls[8 + 5 * w + 2] = nulls[8 + 5 * w + 3] = recent->batches == 0;
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * millrace.gauges() -> setof (kind, name, worker, pid, behind, behind_stable,
 * queued_bytes, batch_bytes, resident_bytes) of the running workers of this database.
 */
Datum
millrace_gauges(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	mr_slot_info *slots;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	n = mr_slots(MyDatabaseId, &slots);
	for (int k = 0; k < n; k++)
	{
		const mr_slot_info *s = &slots[k];
		Datum		values[4 + MR_N_GAUGES];
		bool		nulls[4 + MR_N_GAUGES] = {false};

		if (s->kind < MR_SOURCE || s->pid == 0)
			continue;
		values[0] = CStringGetTextDatum(mr_kind_name(s->kind));
		values[1] = CStringGetTextDatum(s->name);
		values[2] = Int32GetDatum(s->index);
		values[3] = Int32GetDatum(s->pid);
		for (int g = 0; g < MR_N_GAUGES; g++)
		{
			values[4 + g] = Int64GetDatum(s->gauges[g]);
			nulls[4 + g] = s->gauges[g] < 0;
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
