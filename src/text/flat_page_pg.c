/*
 * flat_page_pg.c
 *	  millrace_flat: pages, where things lie, and the vectors that come in.
 *
 * flat_pg.h has the layout and the order of locks.  The layout of an index whose dimension is
 * known never changes; it is kept in the relation cache entry, which goes when the index gets
 * another file.
 */
#include "postgres.h"

#include "access/genam.h"
#include "core/compat.h"
#include "miscadmin.h"
#include "text/flat_pg.h"
#include "text/similarity_pg.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define ROOM	(BLCKSZ - FLAT_START - MAXALIGN(sizeof(flat_tail)))	/* of a page's contents */

flat_layout
flat_layout_make(sim_metric metric, int dim, uint32 centre_pages)
{
	flat_layout l = {.sim = {.metric = metric, .n = dim}, .first = 1 + centre_pages};

	if (dim == 0)
		return l;
	if (dim > SIM_MAX_DIM)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("millrace_flat indexes vectors of at most %d numbers, not %d", SIM_MAX_DIM, dim)));
	l.block_size = sim_block_size(dim);
	l.blocks = ROOM / (l.block_size + SIM_BLOCK * sizeof(ItemPointerData));
	l.places = l.blocks * SIM_BLOCK;
	l.code_size = sim_bytes_size(dim);
	l.codes = ROOM / l.code_size;
	if (l.blocks < 1 || l.codes < 1)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("pages of %d bytes cannot hold codes of %d numbers", BLCKSZ, dim)));
	l.byte_pages = (FLAT_GROUP * l.places + l.codes - 1) / l.codes;
	return l;
}

BlockNumber
flat_sign_block(const flat_layout *l, uint32 s)
{
	return l->first + s / FLAT_GROUP * (FLAT_GROUP + l->byte_pages) + s % FLAT_GROUP;
}

BlockNumber
flat_code_block(const flat_layout *l, uint32 number)
{
	uint32		group = number / (FLAT_GROUP * (uint32) l->places);
	uint32		in_group = number % (FLAT_GROUP * (uint32) l->places);

	return l->first + group * (FLAT_GROUP + l->byte_pages) + FLAT_GROUP + in_group / l->codes;
}

BlockNumber
flat_end_block(const flat_layout *l, uint32 sign_pages)
{
	return sign_pages == 0 ? l->first : flat_code_block(l, sign_pages * (uint32) l->places - 1) + 1;
}

bool
flat_sign_page_of(const flat_layout *l, BlockNumber block, uint32 *s)
{
	uint32		in_group;

	if (block < l->first)
		return false;
	in_group = (block - l->first) % (FLAT_GROUP + l->byte_pages);
	*s = (block - l->first) / (FLAT_GROUP + l->byte_pages) * FLAT_GROUP + in_group;
	return in_group < FLAT_GROUP;
}

/* Contents end where pd_lower says, so that images of full pages leave out the rest. */
void
flat_page_init(Page page, int kind, const flat_layout *l)
{
	size_t		size = kind == FLAT_CENTRE ? ROOM : sizeof(flat_meta);

	PageInit(page, BLCKSZ, sizeof(flat_tail));
	*flat_page_tail(page) = (flat_tail) {.kind = kind, .page_id = FLAT_PAGE_ID};
	if (kind == FLAT_SIGNS)
		size = l->blocks * l->block_size + l->places * sizeof(ItemPointerData);
	else if (kind == FLAT_BYTES)
		size = l->codes * l->code_size;
	((PageHeader) page)->pd_lower = FLAT_START + size;
	if (kind == FLAT_SIGNS)
		for (int b = 0; b < l->blocks; b++)
			sim_block_clear(flat_block(l, page, b * SIM_BLOCK), l->sim.n);
}

void
flat_meta_fill(Page page, const flat_meta *meta)
{
	memcpy((char *) page + FLAT_START, meta, sizeof *meta);
}

flat_meta
flat_meta_read(Relation index)
{
	Buffer		buffer = ReadBuffer(index, FLAT_META_BLOCK);
	Page		page = BufferGetPage(buffer);
	flat_meta	meta;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	memcpy(&meta, (char *) page + FLAT_START, sizeof meta);
	UnlockReleaseBuffer(buffer);
	if (meta.magic != FLAT_MAGIC || meta.version != FLAT_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_INDEX_CORRUPTED),
				 errmsg("index \"%s\" is not of this version of millrace_flat", RelationGetRelationName(index)),
				 errhint("Please REINDEX it.")));
	return meta;
}

/* The centre's floats, into memory of the layout's dimension. */
static void
read_centre(Relation index, const flat_layout *l, float *centre)
{
	for (BlockNumber block = 1; block < l->first; block++)
	{
		size_t		at = (block - 1) * FLAT_FLOATS;
		Buffer		buffer = ReadBuffer(index, block);

		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		memcpy(centre + at, (char *) BufferGetPage(buffer) + FLAT_START, Min(FLAT_FLOATS, l->sim.n - at) * sizeof(float));
		UnlockReleaseBuffer(buffer);
	}
}

flat_layout
flat_layout_get(Relation index)
{
	flat_meta	meta;
	flat_layout l,
			   *kept;

	if (index->rd_amcache)
		return *(flat_layout *) index->rd_amcache;
	meta = flat_meta_read(index);
	l = flat_layout_make(meta.metric, meta.dim, meta.centre_pages);
	if (l.sim.n == 0)
		return l;
	kept = MemoryContextAlloc(index->rd_indexcxt, sizeof l + l.sim.n * sizeof(float));
	if (meta.centre_pages > 0)
	{
		l.sim.centre = (float *) (kept + 1);
		read_centre(index, &l, (float *) (kept + 1));
	}
	*kept = l;
	index->rd_amcache = kept;
	return l;
}

/* Of the last few indexes: what stands in a slot is replaced in turn. */
Buffer *
flat_hints(Relation index, BlockNumber blocks)
{
	static struct
	{
		Oid			index;
		BlockNumber blocks;
		Buffer	   *buffers;
	}			slots[8];
	static int	turn;
	Oid			id = RelationGetRelid(index);
	int			i = 0;

	if (RelationUsesLocalBuffers(index) || blocks > (BlockNumber) NBuffers)
		return NULL;
	while (i < (int) lengthof(slots) && slots[i].index != id)
		i++;
	if (i == lengthof(slots))
	{
		i = turn++ % lengthof(slots);
		slots[i].index = InvalidOid;
		slots[i].blocks = 0;
	}
	if (slots[i].blocks < blocks)
	{
		BlockNumber room = blocks + blocks / 8;
		Buffer	   *buffers = MemoryContextAllocZero(TopMemoryContext, room * sizeof(Buffer));

		if (slots[i].buffers)
		{
			memcpy(buffers, slots[i].buffers, slots[i].blocks * sizeof(Buffer));
			pfree(slots[i].buffers);
		}
		slots[i].buffers = buffers;
		slots[i].blocks = room;
		slots[i].index = id;
	}
	return slots[i].buffers;
}

/* The number of the one operator in an operator family is its metric. */
sim_metric
flat_metric(Relation index)
{
	Oid			type = index->rd_opcintype[0];

	for (int metric = SIM_COSINE; metric <= SIM_INNER; metric++)
		if (OidIsValid(get_opfamily_member(index->rd_opfamily[0], type, type, metric)))
			return metric;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
			 errmsg("operator class of index \"%s\" has no distance operator", RelationGetRelationName(index))));
}

const float *
flat_vector(Datum value, int *n)
{
	const float *vector = sim_array(DatumGetArrayTypeP(value), n);

	sim_check_finite(vector, *n);
	return vector;
}

void
flat_check_dimension(Relation index, const flat_layout *l, int n)
{
	if (n != l->sim.n)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("vector has %d dimensions, those of index \"%s\" have %d", n, RelationGetRelationName(index),
						l->sim.n)));
}

void
flat_place_fill(const flat_layout *l, Page signs, Page bytes, uint32 number, const sim_signs *sign_code,
				const void *byte_code, ItemPointer tid)
{
	int			place = number % l->places;
	flat_tail  *tail = flat_page_tail(signs);

	sim_block_put(flat_block(l, signs, place), l->sim.n, place % SIM_BLOCK, sign_code);
	flat_tids(l, signs)[place] = *tid;
	memcpy((char *) bytes + flat_code_at(l, number), byte_code, l->code_size);
	tail->live++;
	tail->used = Max(tail->used, place + 1);
}
