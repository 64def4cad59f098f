/*
 * flat_insert_pg.c
 *	  millrace_flat: one more vector.
 *
 * It goes into the last sign page in use, else into one where VACUUM made room (free space map),
 * else into a new one; each backend remembers where it was.  A vector is one WAL record: the
 * signs and the TID in the sign page, the bytes in the byte page, both locked until it is written.
 * Insertions wait for each other only while they hold that sign page's lock.
 */
#include "postgres.h"

#include "core/compat.h"
#include "miscadmin.h"
#include "storage/indexfsm.h"
#include "storage/lmgr.h"
#include "text/flat_pg.h"
#include "utils/memutils.h"

#define NO_PAGE	PG_UINT32_MAX	/* no sign page has this number */

typedef struct flat_entry
{
	sim_signs	signs;
	char	   *bytes;
	ItemPointerData tid;
} flat_entry;

/* A free place of a sign page, or -1. */
static int
free_place(const flat_layout *l, Page page)
{
	flat_tail  *tail;

	if (PageIsNew(page))		/* the free space map outlived a crash, the page did not */
		return -1;
	tail = flat_page_tail(page);
	if (tail->used < l->places)
		return tail->used;
	if (tail->live == tail->used)
		return -1;
	for (int i = 0; i < l->places; i++)
		if (!ItemPointerIsValid(&flat_tids(l, page)[i]))
			return i;
	return -1;
}

/* Let the file have blocks up to end.  Nothing is waited for while its lock is held, so any page may be locked. */
static void
extend_to(Relation index, BlockNumber end)
{
	bool		shared = !RELATION_IS_LOCAL(index);

	if (RelationGetNumberOfBlocks(index) >= end)
		return;
	if (shared)
		LockRelationForExtension(index, ExclusiveLock);
	while (RelationGetNumberOfBlocks(index) < end)
		ReleaseBuffer(ReadBuffer(index, P_NEW));
	if (shared)
		UnlockRelationForExtension(index, ExclusiveLock);
}

/* Put an entry into sign page s; false if it is full. */
static bool
put(Relation index, const flat_layout *l, uint32 s, const flat_entry *e)
{
	Buffer		sign_buffer = ReadBuffer(index, flat_sign_block(l, s));
	Buffer		byte_buffer;
	GenericXLogState *xlog;
	Page		signs,
				bytes;
	uint32		number;
	int			place;
	bool		new_bytes;

	LockBuffer(sign_buffer, BUFFER_LOCK_EXCLUSIVE);
	place = free_place(l, BufferGetPage(sign_buffer));
	if (place < 0)
	{
		UnlockReleaseBuffer(sign_buffer);
		return false;
	}
	number = s * (uint32) l->places + place;
	/* empty pages are not in the WAL: after a promotion or a crash the file may end before them */
	extend_to(index, flat_code_block(l, number) + 1);
	byte_buffer = ReadBuffer(index, flat_code_block(l, number));
	LockBuffer(byte_buffer, BUFFER_LOCK_EXCLUSIVE);
	new_bytes = PageIsNew(BufferGetPage(byte_buffer));

	xlog = GenericXLogStart(index);
	signs = GenericXLogRegisterBuffer(xlog, sign_buffer, 0);
	bytes = GenericXLogRegisterBuffer(xlog, byte_buffer, new_bytes ? GENERIC_XLOG_FULL_IMAGE : 0);
	if (new_bytes)
		flat_page_init(bytes, FLAT_BYTES, l);
	flat_place_fill(l, signs, bytes, number, &e->signs, e->bytes, (ItemPointer) &e->tid);
	GenericXLogFinish(xlog);
	UnlockReleaseBuffer(byte_buffer);
	UnlockReleaseBuffer(sign_buffer);
	return true;
}

/*
 * The last sign page in use if it is not `full`, which the caller has just seen full; else a
 * new one.
 */
static uint32
last_page(Relation index, const flat_layout *l, uint32 full)
{
	Buffer		meta_buffer = ReadBuffer(index, FLAT_META_BLOCK);
	Buffer		sign_buffer;
	GenericXLogState *xlog;
	flat_meta  *meta;
	uint32		s;

	LockBuffer(meta_buffer, BUFFER_LOCK_EXCLUSIVE);
	meta = (flat_meta *) ((char *) BufferGetPage(meta_buffer) + FLAT_START);
	s = meta->sign_pages;
	if (s > 0 && s - 1 != full)
	{
		UnlockReleaseBuffer(meta_buffer);
		return s - 1;
	}
	if (s >= (PG_UINT32_MAX - 1) / l->places || (uint64) (s / FLAT_GROUP + 1) * (FLAT_GROUP + l->byte_pages) >= MaxBlockNumber)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("index \"%s\" is full", RelationGetRelationName(index))));
	extend_to(index, flat_end_block(l, s + 1));

	sign_buffer = ReadBuffer(index, flat_sign_block(l, s));
	LockBuffer(sign_buffer, BUFFER_LOCK_EXCLUSIVE);
	xlog = GenericXLogStart(index);
	meta = (flat_meta *) ((char *) GenericXLogRegisterBuffer(xlog, meta_buffer, 0) + FLAT_START);
	meta->sign_pages = s + 1;
	flat_page_init(GenericXLogRegisterBuffer(xlog, sign_buffer, GENERIC_XLOG_FULL_IMAGE), FLAT_SIGNS, l);
	GenericXLogFinish(xlog);
	UnlockReleaseBuffer(sign_buffer);
	UnlockReleaseBuffer(meta_buffer);
	return s;
}

/* The first vector of an index without a dimension decides it. */
static flat_layout
settle_dimension(Relation index, int dim)
{
	Buffer		buffer = ReadBuffer(index, FLAT_META_BLOCK);
	flat_layout l = flat_layout_make(flat_metric(index), dim, 0);	/* it may refuse */
	flat_meta  *meta;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	meta = (flat_meta *) ((char *) BufferGetPage(buffer) + FLAT_START);
	if (meta->dim == 0)
	{
		GenericXLogState *xlog = GenericXLogStart(index);

		meta = (flat_meta *) ((char *) GenericXLogRegisterBuffer(xlog, buffer, 0) + FLAT_START);
		meta->dim = l.sim.n;
		GenericXLogFinish(xlog);
	}
	UnlockReleaseBuffer(buffer);
	return flat_layout_get(index);
}

bool
flat_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap,
			IndexUniqueCheck unique, bool unchanged, IndexInfo *info)
{
	flat_layout l;
	flat_entry	e;
	const float *vector;
	int			n;
	uint32		s;
	MemoryContext cxt,
				caller;

	if (isnull[0])
		return false;
	cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace_flat insert", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(cxt);

	vector = flat_vector(values[0], &n);
	l = flat_layout_get(index);
	if (l.sim.n == 0)
		l = settle_dimension(index, n);
	flat_check_dimension(index, &l, n);
	flat_choose_kernels();
	e.tid = *tid;
	e.bytes = palloc(l.code_size);
	sim_encode(&l.sim, vector, &e.signs, e.bytes);

	if (RelationGetTargetBlock(index) == InvalidBlockNumber ||
		!flat_sign_page_of(&l, RelationGetTargetBlock(index), &s))
		s = last_page(index, &l, NO_PAGE);
	while (!put(index, &l, s, &e))
	{
		uint32		full = s;
		BlockNumber block;

		CHECK_FOR_INTERRUPTS();
		block = GetFreeIndexPage(index);
		if (block == InvalidBlockNumber || block >= RelationGetNumberOfBlocks(index) ||
			!flat_sign_page_of(&l, block, &s))
			s = last_page(index, &l, full);
	}
	RelationSetTargetBlock(index, flat_sign_block(&l, s));
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(cxt);
	return false;
}
