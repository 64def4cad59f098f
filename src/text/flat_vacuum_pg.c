/*
 * flat_vacuum_pg.c
 *	  millrace_flat: VACUUM, and the pass over all TIDs that CREATE INDEX CONCURRENTLY asks for.
 *
 * Only sign pages are read: TIDs stand there.  The place of a dead row is emptied; pages with
 * empty places go into the free space map, for later insertions.  The index never shrinks.
 */
#include "postgres.h"

#include "commands/vacuum.h"
#include "core/compat.h"
#include "miscadmin.h"
#include "storage/indexfsm.h"
#include "text/flat_pg.h"

/* Empty the places of a page whose TIDs the callback names; the page is locked. */
static void
empty_places(IndexVacuumInfo *info, const flat_layout *l, Buffer buffer, IndexBulkDeleteResult *stats,
			 IndexBulkDeleteCallback callback, void *state)
{
	Page		page = BufferGetPage(buffer);
	GenericXLogState *xlog = NULL;
	int			used = flat_page_tail(page)->used;

	for (int i = 0; i < used; i++)
	{
		ItemPointer tid = &flat_tids(l, page)[i];

		if (!ItemPointerIsValid(tid) || !callback(tid, state))
			continue;
		if (!xlog)
		{
			xlog = GenericXLogStart(info->index);
			page = GenericXLogRegisterBuffer(xlog, buffer, 0);	/* a copy: the same so far */
		}
		sim_block_remove(flat_block(l, page, i), l->sim.n, i % SIM_BLOCK);
		ItemPointerSetInvalid(&flat_tids(l, page)[i]);
		flat_page_tail(page)->live--;
		stats->tuples_removed += 1;
	}
	if (xlog)
		GenericXLogFinish(xlog);
}

/* Over all sign pages: empty dead places (if there is a callback), count live ones. */
static IndexBulkDeleteResult *
sweep(IndexVacuumInfo *info, IndexBulkDeleteResult *stats, IndexBulkDeleteCallback callback, void *state)
{
	Relation	index = info->index;
	uint32		sign_pages = flat_meta_read(index).sign_pages;
	flat_layout l = flat_layout_get(index); /* behind it: where pages are in use the dimension is known */

	if (!stats)
		stats = palloc0(sizeof *stats);
	stats->estimated_count = false;
	stats->num_index_tuples = 0;
	stats->pages_free = 0;
	for (uint32 s = 0; s < sign_pages; s++)
	{
		BlockNumber block = flat_sign_block(&l, s);
		Buffer		buffer;
		flat_tail  *tail;
		bool		room;

		flat_vacuum_delay();
		buffer = ReadBufferExtended(index, MAIN_FORKNUM, block, RBM_NORMAL, info->strategy);
		LockBuffer(buffer, callback ? BUFFER_LOCK_EXCLUSIVE : BUFFER_LOCK_SHARE);
		if (callback)
			empty_places(info, &l, buffer, stats, callback, state);
		tail = flat_page_tail(BufferGetPage(buffer));
		stats->num_index_tuples += tail->live;
		stats->pages_free += tail->live == 0;
		room = tail->live < tail->used;
		UnlockReleaseBuffer(buffer);
		if (room)
			RecordFreeIndexPage(index, block);
	}
	stats->num_pages = RelationGetNumberOfBlocks(index);
	return stats;
}

IndexBulkDeleteResult *
flat_bulk_delete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats, IndexBulkDeleteCallback callback, void *state)
{
	return sweep(info, stats, callback, state);
}

IndexBulkDeleteResult *
flat_vacuum_cleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
	if (info->analyze_only)
		return stats;
	if (!stats)
		stats = sweep(info, NULL, NULL, NULL);
	IndexFreeSpaceMapVacuum(info->index);
	return stats;
}
