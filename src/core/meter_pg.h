/*
 * meter_pg.h
 *	  Meters in shared memory: what the workers of one source, outbox or HTTP
 *	  queue have done together, and how fast lately.
 *
 * A meter is named by (kind, database, name), not by worker or slot, so it
 * goes on when workers end, change their number or are started again; it
 * begins anew with the server.  Totals since then are exact; rates come from
 * the same numbers, kept by the time they were added at, over windows of about
 * ten seconds and one minute.
 */
#ifndef MILLRACE_METER_PG_H
#define MILLRACE_METER_PG_H

#include "core/shared_pg.h"

/* One piece of work: a committed batch of a source, a Kafka transaction of an outbox, a finished HTTP batch. */
typedef struct mr_work
{
	uint64		messages;
	uint64		bytes;
	uint64		batches;
	uint64		busy_us;		/* spent on it */
} mr_work;

typedef struct mr_meter_reading
{
	mr_worker_kind kind;
	char		name[NAMEDATALEN];
	mr_work		total;			/* since `since` */
	uint64		errors;
	TimestampTz since;			/* the meter's first use after the server's start */
	mr_work		recent[2];		/* in the last 10 s and 60 s, at most */
	double		seconds[2];		/* length of these windows, > 0 */
} mr_meter_reading;

/* From _PG_init: reserves memory when preloading. */
extern void mr_meter_init(void);

/* Add work or errors to this worker's meter.  No worker, or no meter left: nothing happens. */
extern void mr_meter_add(const mr_work *work);
extern void mr_meter_error(void);

/* All meters of a database; palloc'd. */
extern int	mr_meters(Oid database, mr_meter_reading **out);

#endif							/* MILLRACE_METER_PG_H */
