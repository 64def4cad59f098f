/*
 * tick_pg.c
 *	  New rows of a queue, found by snapshots; see tick.h.
 *
 * Memory: a context for each tick, below TopMemoryContext.  Locks: none.
 */
#include "postgres.h"

#include "task/worker/tick.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "core/compat.h"

static void
end_tick(tsk_tick *tick)
{
	char	   *upto = pstrdup(tick->upto);

	MemoryContextReset(tick->cxt);
	tick->done = MemoryContextStrdup(tick->cxt, upto);
	tick->upto = NULL;
}

static void
begin_part(tsk_tick *tick)
{
	tick->after_xid = tick->at < tick->n_xids ? tick->xids[tick->at] : tick->first;
	memset(&tick->after_id, 0, sizeof(tick->after_id));
}

void
tsk_tick_forget(tsk_tick *tick)
{
	if (tick->cxt == NULL)
		tick->cxt = AllocSetContextCreate(TopMemoryContext, "millrace tick", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(tick->cxt);
	tick->done = MemoryContextStrdup(tick->cxt, "1:1:");
	tick->upto = NULL;
}

bool
tsk_tick_begin(tsk_tick *tick, HeapTuple row, TupleDesc desc, int column)
{
	Datum		values[5];
	bool		null;
	Datum	   *xids;

	for (int i = 0; i < 5; i++)
		values[i] = heap_getattr(row, column + i, desc, &null);
	tick->upto = MemoryContextStrdup(tick->cxt, TextDatumGetCString(values[0]));
	deconstruct_array(DatumGetArrayTypeP(values[1]), XID8OID, sizeof(uint64), true, TYPALIGN_DOUBLE, &xids, NULL, &tick->n_xids);
	tick->first = DatumGetUInt64(values[3]);
	tick->last = DatumGetUInt64(values[4]) - 1;
	if (tick->n_xids == 0 && !DatumGetBool(values[2]))
	{
		end_tick(tick);
		return false;
	}
	tick->xids = MemoryContextAlloc(tick->cxt, sizeof(uint64) * (size_t) Max(tick->n_xids, 1));
	for (int i = 0; i < tick->n_xids; i++)
		tick->xids[i] = DatumGetUInt64(xids[i]);
	tick->at = 0;
	begin_part(tick);
	return true;
}

bool
tsk_tick_next(tsk_tick *tick)
{
	if (tick->at == tick->n_xids)
	{
		end_tick(tick);
		return false;
	}
	tick->at++;
	begin_part(tick);
	return true;
}

uint64
tsk_tick_last(const tsk_tick *tick)
{
	return tick->at < tick->n_xids ? tick->xids[tick->at] : tick->last;
}
