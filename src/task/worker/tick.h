/*
 * tick.h
 *	  New rows of a queue, found by snapshots.
 *
 * A tick is what snapshot `upto` sees and `done` did not: the rows of transactions that were under way at `done`, one after the
 * other, then all later ones, in the order of (xid, id).  So a transaction that commits late is found in its tick, and nothing is
 * ever passed over twice: rows long dead, which a held snapshot keeps, cost nobody anything.
 */
#ifndef MILLRACE_TASK_TICK_H
#define MILLRACE_TASK_TICK_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "utils/palloc.h"
#include "utils/uuid.h"

typedef struct tsk_tick
{
	MemoryContext cxt;			/* of the strings and of xids; made by tsk_tick_forget() */
	char	   *done;			/* snapshot up to which all has been read */
	char	   *upto;			/* of the tick; NULL: there is none */
	uint64	   *xids;			/* under way at done, with rows now ... */
	int			n_xids;
	int			at;				/* ... the one being read; n_xids: all later ones */
	uint64		first,
				last;			/* of the later ones */
	uint64		after_xid;		/* how far it has been read: this transaction, */
	union
	{
		int64		number;
		pg_uuid_t	uuid;
	}			after_id;		/* and this row of it; the reader sets both */
} tsk_tick;

/*
 * What a query must select to begin a tick: five columns.  done: an expression, the snapshot; rows: FROM and WHERE behind
 * which a condition on r.xid stands.
 */
#define TSK_TICK_COLUMNS(done, rows) \
	"pg_current_snapshot()::text, " \
	"ARRAY(SELECT x FROM pg_snapshot_xip(" done ") x WHERE EXISTS (SELECT FROM " rows " AND r.xid = x)), " \
	"EXISTS (SELECT FROM " rows " AND r.xid >= pg_snapshot_xmax(" done ")), " \
	"pg_snapshot_xmax(" done "), pg_snapshot_xmax(pg_current_snapshot())"

extern void tsk_tick_forget(tsk_tick *tick);	/* begin with everything */
extern bool tsk_tick_begin(tsk_tick *tick, HeapTuple row, TupleDesc desc, int column);	/* by those columns, from column on; false: there is nothing */
extern bool tsk_tick_next(tsk_tick *tick);	/* a part is read to its end; false: so is the tick */
extern uint64 tsk_tick_last(const tsk_tick *tick);	/* last transaction of the part: read those visible in upto */

#endif							/* MILLRACE_TASK_TICK_H */
