/*
 * lanes_pg.c
 *	  How many processes each role's tasks of lane sql have.
 *
 * A lane that has nothing to do has none: its last worker notes that and ends, and millrace.task_lanes() says when there is
 * something again.  One that has keeps workers_min of them, one at least.  While tasks wait and all of them are busy their number is
 * doubled, once in GROW_MS, up to workers_max.  Nobody is stopped for being too many: a worker that is idle ends by itself
 * (task/worker/sql_main_pg.c), and one that made room for a new one is started again only if it is missed.
 *
 * Memory: a role's last growth in TopMemoryContext, the rest the turn's.  Locks: none.
 */
#include "postgres.h"

#include "stream/lanes.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "port/pg_bitutils.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/shared_pg.h"

#define GROW_MS 1000

typedef struct lane
{
	char		owner[NAMEDATALEN];
	uint32		workers;		/* bits of those that are there, or being started */
	bool		busy;			/* all of them */
	uint64		upto;			/* of the one that has come farthest */
	TimestampTz grown;
} lane;

static List *lanes = NIL;		/* of lane *, in TopMemoryContext */

static lane *
find_lane(const char *owner)
{
	MemoryContext old = CurrentMemoryContext;
	lane	   *l;
	ListCell   *cell;

	foreach(cell, lanes)
	{
		l = lfirst(cell);
		if (strcmp(l->owner, owner) == 0)
			return l;
	}
	MemoryContextSwitchTo(TopMemoryContext);
	l = palloc0(sizeof(*l));
	strlcpy(l->owner, owner, sizeof(l->owner));
	lanes = lappend(lanes, l);
	MemoryContextSwitchTo(old);
	return l;
}

void
mr_lanes_begin(Datum *owners, Datum *upto)
{
	mr_slot_info *slots;
	int			n_slots = mr_slots(MyDatabaseId, &slots);
	ListCell   *cell;
	Datum	   *names;
	Datum	   *xids;
	int			n = 0;

	foreach(cell, lanes)
	{
		lane	   *l = lfirst(cell);

		l->workers = 0;
		l->upto = 0;
		l->busy = true;
	}
	for (int k = 0; k < n_slots; k++)
	{
		const mr_slot_info *s = &slots[k];
		lane	   *l;

		if (s->kind != MR_TASKS || s->state < MR_SLOT_STARTING || s->index >= MR_TASK_WORKERS)
			continue;
		l = find_lane(s->name);
		if (l->workers == 0)
			l->busy = true;
		l->workers |= UINT32_C(1) << s->index;
		l->busy = l->busy && strcmp(s->text, "busy") == 0;
		if (s->gauges[MR_GAUGE_STABLE] > 0)
			l->upto = Max(l->upto, (uint64) s->gauges[MR_GAUGE_STABLE]);
	}
	names = palloc(sizeof(Datum) * (size_t) Max(list_length(lanes), 1));
	xids = palloc(sizeof(Datum) * (size_t) Max(list_length(lanes), 1));
	foreach(cell, lanes)
	{
		const lane *l = lfirst(cell);

		if (l->workers == 0 || !l->busy)
			continue;
		names[n] = CStringGetTextDatum(l->owner);
		xids[n++] = UInt64GetDatum(l->upto);
	}
	*owners = PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
	*upto = PointerGetDatum(construct_array(xids, n, XID8OID, sizeof(uint64), true, TYPALIGN_DOUBLE));
}

uint32
mr_lane_workers(const char *owner, int low, int high, bool waiting)
{
	TimestampTz now = GetCurrentTimestamp();
	lane	   *l = find_lane(owner);
	uint32		workers = l->workers;
	int			n = pg_popcount32(workers);
	int			target = Max(low, 1);

	if (waiting && n >= target && TimestampDifferenceExceeds(l->grown, now, GROW_MS))
	{
		target = Min(n * 2, high);
		l->grown = now;
	}
	for (int index = 0; index < MR_TASK_WORKERS && n < target; index++)
		if (!(workers & UINT32_C(1) << index))
		{
			workers |= UINT32_C(1) << index;
			n++;
		}
	return workers;
}
