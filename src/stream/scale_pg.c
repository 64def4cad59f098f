/*
 * scale_pg.c
 *	  How many workers a source has: from workers_min to workers_max, by the work
 *	  that is left and by what the machine bears.
 *
 * The number in force is millrace.sources.workers_now; the supervisor alone
 * writes it.  Worker k of n reads every n-th partition; a worker that sees
 * another n lets go of its partitions after the batch at hand and claims those
 * of the new n, and epochs keep the rest exact, whoever is first.  So more
 * workers are started first, as processes that stand by, and the number is
 * raised when they are there: what cannot be started leaves no partition
 * unread.  With fewer, those that are too many see it, stand by and are stopped.
 *
 * More: when the work left, at the rate of the last 10 s, would take GROW_S, or
 * NOTICED_S and it has not become less for STEADY_MS.  Twice as many then, at
 * most one a partition, and in all sources together CORE_WORKERS a core; none
 * while the load of a core is above millrace.max_load, or no background worker
 * is free.  Fewer: when for CALM_MS as few could have done the work in TARGET of
 * their time.  Where a source lacks a worker for want of room, one that has
 * more than workers_min gives one up.
 *
 * Memory: one entry a source in TopMemoryContext.
 */
#include "postgres.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "core/meter_pg.h"
#include "core/spi_pg.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "stream/scale.h"
#include "stream/stream.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define LOOK_MS		2000		/* between looks at the work left */
#define SETTLE_MS	6000		/* from one change to the next, at least; a child without room is tried again before that */
#define GROW_S		5.0
#define NOTICED_S	1.0
#define STEADY_MS	10000		/* work that did not become less for so long */
#define CALM_MS		20000		/* from work for fewer workers to fewer workers */
#define TARGET		0.6
#define CORE_WORKERS 2			/* a worker also waits: for the disk, for locks */
#define START_MS	10000		/* new processes have to be there by then */
#define RETRY_MS	60000		/* after there was no room */

/* What keeps a source from having more. */
typedef enum limit
{
	NOTHING,
	NO_ROOM,
	TOO_FEW_CORES,
	TOO_MUCH_LOAD,
	TOO_FEW_PARTITIONS
} limit;

typedef struct scaled
{
	char		name[NAMEDATALEN];
	int			low,
				high;			/* workers_min, workers_max */
	int			now;			/* in force; 0: not settled yet */
	int			partitions;		/* known */
	bool		listed;			/* in this turn */

	int			wanted;			/* processes to have: more than now while they are being started */
	TimestampTz wanted_at;
	char		why[160];		/* they are wanted */
	TimestampTz changed;
	TimestampTz no_more_until;
	limit		told;			/* shown as the reason for not being more */

	int			placed;			/* children, in this turn: with a place among background workers, ... */
	int			running;		/* ... and a process */
	bool		no_room;		/* some without */

	int64		behind;			/* the least since ... */
	TimestampTz behind_at;
	TimestampTz calm_since;		/* fewer would do; 0: they would not */
	int			calm_workers;	/* so few, in all that time */
} scaled;

double		mr_max_load = 2.0;

static List *sources = NIL;		/* of scaled * */
static bool starving;			/* some child found no room in this turn */

static const char read_query[] =
"SELECT s.name, s.low, greatest(s.high, s.low), coalesce(s.workers_now, 0),"
"       (SELECT pg_catalog.count(*) FROM millrace.source_offsets o WHERE o.source = s.name)::int4"
"  FROM (SELECT name, state, workers_now,"
"               CASE WHEN coalesce(options->>'workers', options->>'workers_min') ~ '^[0-9]{1,2}$' THEN greatest(coalesce(options->>'workers', options->>'workers_min')::int4, 1) ELSE 1 END AS low,"
"               CASE WHEN coalesce(options->>'workers', options->>'workers_max') ~ '^[0-9]{1,2}$' THEN coalesce(options->>'workers', options->>'workers_max')::int4 END AS high"
"          FROM millrace.sources) s"
" WHERE s.state = 'running'";

/* Not while somebody has the row locked, in a transaction that may stay open: the next turn tries again. */
static const char write_query[] =
"UPDATE millrace.sources SET workers_now = $2, workers_since = CASE WHEN workers_now = $2 THEN workers_since ELSE pg_catalog.now() END, workers_reason = $3"
" WHERE name = (SELECT name FROM millrace.sources WHERE name = $1 AND state = 'running' FOR NO KEY UPDATE SKIP LOCKED)";

static scaled *
find(const char *name)
{
	ListCell   *cell;

	foreach(cell, sources)
		if (strcmp(((scaled *) lfirst(cell))->name, name) == 0)
			return lfirst(cell);
	return NULL;
}

static int
int_column(uint64 row, int column)
{
	bool		null;

	return DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &null));
}

void
mr_scale_begin(void)
{
	static SPIPlanPtr plan = NULL;
	ListCell   *cell;

	foreach(cell, sources)
		((scaled *) lfirst(cell))->listed = false;
	starving = false;
	mr_prepare(&plan, read_query, 0, NULL);
	SPI_execute_plan(plan, NULL, NULL, true, 0);
	for (uint64 k = 0; k < SPI_processed; k++)
	{
		char	   *name = SPI_getvalue(SPI_tuptable->vals[k], SPI_tuptable->tupdesc, 1);
		scaled	   *s = find(name);

		if (s == NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

			s = palloc0(sizeof(*s));
			strlcpy(s->name, name, sizeof(s->name));
			sources = lappend(sources, s);
			MemoryContextSwitchTo(old);
		}
		s->listed = true;
		s->low = Min(int_column(k, 2), KFK_MAX_WORKERS);
		s->high = Min(int_column(k, 3), KFK_MAX_WORKERS);
		s->now = int_column(k, 4);
		s->partitions = int_column(k, 5);
		s->placed = s->running = 0;
		s->no_room = false;
	}
	foreach(cell, sources)
	{
		scaled	   *s = lfirst(cell);

		if (s->listed)
			continue;
		sources = foreach_delete_current(sources, cell);
		pfree(s);
	}
}

int
mr_scale_workers(const char *source)
{
	const scaled *s = find(source);

	if (s == NULL)
		return 1;
	return s->now > 0 ? Max(s->now, s->wanted) : s->low;
}

void
mr_scale_child(mr_worker_kind kind, const char *name, int index, mr_place place)
{
	scaled	   *s = kind == MR_SOURCE ? find(name) : NULL;

	/* Nobody gives up a worker for one that would only be welcome. */
	starving = starving || (place == MR_NO_ROOM && (s == NULL || index < s->low));
	if (s == NULL)
		return;
	s->placed += place >= MR_PLACED;
	s->running += place == MR_RUNS;
	s->no_room = s->no_room || place == MR_NO_ROOM;
}

/* Write the number, with the reason.  False: not now. */
static bool
settle(scaled *s, int workers, limit because_of, const char *reason)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, INT4OID, TEXTOID};
	Datum		args[] = {CStringGetTextDatum(s->name), Int32GetDatum(workers), CStringGetTextDatum(reason)};

	if (mr_run(&plan, write_query, lengthof(types), types, args) != 1)
		return false;
	if (workers != s->now)
	{
		ereport(s->now == 0 ? DEBUG1 : LOG, (errmsg("source \"%s\": workers %d -> %d: %s", s->name, s->now, workers, reason)));
		s->changed = GetCurrentTimestamp();
	}
	s->now = s->wanted = workers;
	s->told = because_of;
	s->calm_since = 0;
	s->behind_at = 0;
	return true;
}

/* Say what keeps it from being more, if that is news. */
static void
tell(scaled *s, limit because_of, const char *reason)
{
	if (s->told != because_of)
		(void) settle(s, s->now, because_of, reason);
}

static void
want(scaled *s, int workers, const char *why, TimestampTz now)
{
	s->wanted = workers;
	s->wanted_at = now;
	strlcpy(s->why, why, sizeof(s->why));
}

static char *
no_room_text(int of)
{
	return psprintf("no free background worker for %d: all of max_worker_processes = %d are taken", of, max_worker_processes);
}

/* Processes that were wanted: are they there? */
static void
collect(scaled *s, TimestampTz now)
{
	int			there = Max(s->running, s->now);

	if (s->running >= s->wanted)
		(void) settle(s, s->wanted, NOTHING, s->why);
	else if ((s->no_room && s->running == s->placed) || TimestampDifferenceExceeds(s->wanted_at, now, START_MS))
	{
		if (settle(s, there, NO_ROOM, s->no_room ? no_room_text(s->wanted) : psprintf("%d were wanted, and did not start", s->wanted)))
			s->no_more_until = TimestampTzPlusMilliseconds(now, RETRY_MS);
	}
}

/* How many more workers all sources together may have, by the machine's cores. */
static int
room_on_cores(int *cores)
{
	int			room;
	ListCell   *cell;

	*cores = Max((int) sysconf(_SC_NPROCESSORS_ONLN), 1);
	room = *cores * CORE_WORKERS;
	foreach(cell, sources)
		room -= ((scaled *) lfirst(cell))->now;
	return Max(room, 0);
}

/* There is work for more: have them, or say why not. */
static void
grow(scaled *s, double seconds, int64 behind, double rate, TimestampTz now)
{
	int			cores;
	int			room = room_on_cores(&cores);
	int			workers = Min(2 * s->now, s->high);
	double		load[1] = {0};

	if (s->now >= s->high || TimestampDifferenceMilliseconds(s->changed, now) < SETTLE_MS || now < s->no_more_until)
		return;
	if (s->partitions <= s->now)
		tell(s, TOO_FEW_PARTITIONS, "each partition has a worker");
	else if (mr_max_load > 0 && getloadavg(load, 1) == 1 && load[0] / cores > mr_max_load)
		tell(s, TOO_MUCH_LOAD, psprintf("more are not started while the load of a core (%.1f) is above millrace.max_load", load[0] / cores));
	else if (room == 0)
		tell(s, TOO_FEW_CORES, psprintf("sources have %d workers a core already", CORE_WORKERS));
	else
		want(s, Min(Min(workers, s->partitions), s->now + room),
			 psprintf("%.0f s of work were left: " INT64_FORMAT " messages at %.0f/s", seconds, behind, rate), now);
}

/* Fewer, if so few could have done the work for a while. */
static void
shrink(scaled *s, double load, TimestampTz now)
{
	int			enough = Max((int) ceil(load / TARGET), s->low);

	if (enough >= s->now)
	{
		s->calm_since = 0;
		return;
	}
	if (s->calm_since == 0)
	{
		s->calm_since = now;
		s->calm_workers = enough;
	}
	s->calm_workers = Max(s->calm_workers, enough);
	if (TimestampDifferenceExceeds(s->calm_since, now, CALM_MS) && TimestampDifferenceExceeds(s->changed, now, CALM_MS))
		(void) settle(s, s->calm_workers, NOTHING, psprintf("in the last 10 s there was work for %.2f", load));
}

/* Look at the work that is left and at the time it takes. */
static void
look(scaled *s, const mr_slot_info *slots, int n_slots, const mr_meter_reading *meters, int n_meters, TimestampTz now)
{
	const mr_work *recent = NULL;
	double		rate = 0;
	double		load = 0;
	int64		behind = 0;
	double		seconds;

	for (int k = 0; k < n_slots; k++)
		if (slots[k].kind == MR_SOURCE && slots[k].state == MR_SLOT_RUNNING && slots[k].index < s->now && strcmp(slots[k].name, s->name) == 0)
		{
			if (slots[k].gauges[MR_GAUGE_STABLE] < 0)
				return;			/* it is claiming its partitions */
			behind += slots[k].gauges[MR_GAUGE_STABLE];
		}
	for (int k = 0; k < n_meters; k++)
		if (meters[k].kind == MR_SOURCE && strcmp(meters[k].name, s->name) == 0)
		{
			recent = &meters[k].recent[0];
			rate = (double) recent->messages / meters[k].seconds[0];
			load = (double) recent->busy_us / USECS_PER_SEC / meters[k].seconds[0];
		}
	if (behind > 0 && rate <= 0)
		return;					/* it waits for something: more workers would, too */
	seconds = behind > 0 ? (double) behind / rate : 0;
	if (s->behind_at == 0 || behind < s->behind)
	{
		s->behind = behind;
		s->behind_at = now;
	}
	if (seconds >= GROW_S || (seconds >= NOTICED_S && TimestampDifferenceExceeds(s->behind_at, now, STEADY_MS)))
	{
		s->calm_since = 0;
		grow(s, seconds, behind, rate, now);
	}
	else
		shrink(s, load, now);
}

void
mr_scale_end(void)
{
	static TimestampTz looked = 0;
	TimestampTz now = GetCurrentTimestamp();
	bool		look_now = TimestampDifferenceExceeds(looked, now, LOOK_MS - 100);
	mr_slot_info *slots = NULL;
	mr_meter_reading *meters = NULL;
	int			n_slots = 0;
	int			n_meters = 0;
	ListCell   *cell;

	if (look_now)
	{
		looked = now;
		n_slots = mr_slots(MyDatabaseId, &slots);
		n_meters = mr_meters(MyDatabaseId, &meters);
	}
	foreach(cell, sources)
	{
		scaled	   *s = lfirst(cell);

		if (s->now == 0)
			(void) settle(s, s->low, NOTHING, "workers_min");
		else if (s->now > s->high)
			(void) settle(s, s->high, NOTHING, "workers_max");
		else if (s->wanted > s->now)
			collect(s, now);
		else if (s->no_room && s->placed > 0 && s->placed < s->now)
		{
			if (settle(s, s->placed, NO_ROOM, no_room_text(s->now)))
				s->no_more_until = TimestampTzPlusMilliseconds(now, RETRY_MS);
		}
		else if (s->now < s->low)
		{
			if (now >= s->no_more_until)
				want(s, s->low, "workers_min", now);
		}
		else if (starving && s->now > s->low && s->running == s->now && TimestampDifferenceExceeds(s->changed, now, SETTLE_MS))
		{
			starving = false;	/* one source gives up one worker, then we see */
			if (settle(s, s->now - 1, NO_ROOM, "its background worker is needed elsewhere"))
				s->no_more_until = TimestampTzPlusMilliseconds(now, RETRY_MS);
		}
		else if (look_now && s->low < s->high && s->running == s->now)
			look(s, slots, n_slots, meters, n_meters, now);
	}
}
