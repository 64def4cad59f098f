/*
 * flat_build_pg.c
 *	  millrace_flat: CREATE INDEX, REINDEX.
 *
 * A sample of the table gives the centre, about which codes are made.  Codes are put together in memory, a group of pages at a time, in the order of the heap; full
 * groups go into shared buffers, and into the WAL as whole pages when all are there.  Nobody else
 * sees the index's file before the end.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xloginsert.h"
#include "catalog/index.h"
#include "core/compat.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "text/flat_pg.h"
#include "utils/memutils.h"
#include "utils/sampling.h"

#define SAMPLE_BLOCKS	1000	/* of the table */
#define SAMPLE_ROWS		10		/* at most, of a block */

typedef struct flat_builder
{
	Relation	index;
	flat_layout l;
	MemoryContext row;			/* of one row: detoasted arrays */
	double	   *sum;			/* of the sample, for the centre */
	int64		n_sample;
	int			n_block;		/* rows sampled of the block */
	float	   *centre;
	char	   *group;			/* pages of the group under construction */
	uint32		n;				/* vectors in it */
	uint32		full_groups;
	void	   *code;			/* a vector's bytes */
} flat_builder;

static Page
group_page(flat_builder *b, uint32 i)
{
	return (Page) (b->group + (size_t) i * BLCKSZ);
}

static uint32
group_places(const flat_builder *b)
{
	return FLAT_GROUP * (uint32) b->l.places;
}

/* Add a page behind the last one. */
static void
append_page(Relation index, BlockNumber expected, Page page)
{
	Buffer		buffer = ReadBuffer(index, P_NEW);

	if (BufferGetBlockNumber(buffer) != expected)
		elog(ERROR, "block %u of index \"%s\" came instead of %u", BufferGetBlockNumber(buffer),
			 RelationGetRelationName(index), expected);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	memcpy(BufferGetPage(buffer), page, BLCKSZ);
	MarkBufferDirty(buffer);
	UnlockReleaseBuffer(buffer);
}

/* Sign pages not in use stay zero: they only keep the place. */
static void
flush_group(flat_builder *b)
{
	uint32		pages = FLAT_GROUP + (b->n + b->l.codes - 1) / b->l.codes;
	BlockNumber first = flat_sign_block(&b->l, b->full_groups * FLAT_GROUP);

	/* an insertion finds all byte pages of the sign pages in use */
	if (b->n < group_places(b))
	{
		uint32		in_use = (b->n + b->l.places - 1) / b->l.places;

		pages = flat_end_block(&b->l, b->full_groups * FLAT_GROUP + in_use) - first;
	}
	for (uint32 i = 0; i < pages; i++)
	{
		CHECK_FOR_INTERRUPTS();
		append_page(b->index, first + i, group_page(b, i));
	}
	memset(b->group, 0, (size_t) (FLAT_GROUP + b->l.byte_pages) * BLCKSZ);
}

/* The numbers of a row's vector; the first one decides how many. */
static const float *
row_vector(flat_builder *b, Datum value)
{
	MemoryContext caller = MemoryContextSwitchTo(b->row);
	int			n;
	const float *vector = flat_vector(value, &n);

	MemoryContextSwitchTo(caller);
	if (b->l.sim.n == 0)
		b->l = flat_layout_make(b->l.sim.metric, n, 0);
	flat_check_dimension(b->index, &b->l, n);
	return vector;
}

static void
sample_row(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	flat_builder *b = state;
	const float *vector;

	if (isnull[0] || b->n_block++ >= SAMPLE_ROWS)
		return;
	vector = row_vector(b, values[0]);
	if (!b->sum)
		b->sum = palloc0(b->l.sim.n * sizeof(double));
	sim_centre_add(b->l.sim.metric, vector, b->l.sim.n, b->sum);
	b->n_sample++;
	MemoryContextReset(b->row);
}

/* The centre of rows of some blocks of the table, if it has any. */
static void
find_centre(flat_builder *b, Relation heap, IndexInfo *info)
{
	BlockSamplerData sampler;
	uint32		seed = 1;		/* the same table gives the same index */
	BlockNumber blocks = RelationGetNumberOfBlocks(heap);

	BlockSampler_Init(&sampler, blocks, SAMPLE_BLOCKS, seed);
	while (BlockSampler_HasMore(&sampler))
	{
		b->n_block = 0;
		CHECK_FOR_INTERRUPTS();
		/* CONCURRENTLY looks with a snapshot, which sees what it sees; else rows in progress need no waiting for */
		table_index_build_range_scan(heap, b->index, info, false, !info->ii_Concurrent, false,
									 BlockSampler_Next(&sampler), 1, sample_row, b, NULL);
	}
	if (b->n_sample == 0)
		return;
	b->l = flat_layout_make(b->l.sim.metric, b->l.sim.n, (b->l.sim.n + FLAT_FLOATS - 1) / FLAT_FLOATS);
	b->centre = palloc(b->l.sim.n * sizeof(float));
	sim_centre_finish(b->sum, b->n_sample, b->l.sim.n, b->centre);
	b->l.sim.centre = b->centre;
}

static void
write_centre(flat_builder *b)
{
	PGAlignedBlock page;

	for (BlockNumber block = 1; block < b->l.first; block++)
	{
		size_t		at = (block - 1) * FLAT_FLOATS;

		flat_page_init(page.data, FLAT_CENTRE, NULL);
		memcpy(page.data + FLAT_START, b->centre + at, Min(FLAT_FLOATS, b->l.sim.n - at) * sizeof(float));
		append_page(b->index, block, page.data);
	}
}

static void
build_row(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	flat_builder *b = state;
	const float *vector;
	sim_signs	signs;
	Page		sign_page,
				byte_page;

	if (isnull[0])
		return;
	vector = row_vector(b, values[0]);
	if (!b->group)
	{
		b->code = palloc(b->l.code_size);
		b->group = palloc0((size_t) (FLAT_GROUP + b->l.byte_pages) * BLCKSZ);
	}
	sim_encode(&b->l.sim, vector, &signs, b->code);
	MemoryContextReset(b->row);

	sign_page = group_page(b, b->n / b->l.places);
	byte_page = group_page(b, FLAT_GROUP + b->n / b->l.codes);
	if (PageIsNew(sign_page))
		flat_page_init(sign_page, FLAT_SIGNS, &b->l);
	if (PageIsNew(byte_page))
		flat_page_init(byte_page, FLAT_BYTES, &b->l);
	flat_place_fill(&b->l, sign_page, byte_page, b->n, &signs, b->code, tid);
	if (++b->n == group_places(b))
	{
		flush_group(b);
		b->full_groups++;
		b->n = 0;
	}
}

/* The metapage's buffer, locked, its page initialised. */
static Buffer
new_metapage(Relation index, ForkNumber fork, const flat_meta *meta)
{
	Buffer		buffer = ReadBufferExtended(index, fork, P_NEW, RBM_NORMAL, NULL);
	Page		page = BufferGetPage(buffer);

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	START_CRIT_SECTION();
	flat_page_init(page, FLAT_META, NULL);
	flat_meta_fill(page, meta);
	MarkBufferDirty(buffer);
	if (fork == INIT_FORKNUM)
		log_newpage_buffer(buffer, true);
	END_CRIT_SECTION();
	return buffer;
}

static flat_meta
first_meta(Relation index)
{
	flat_options *options = (flat_options *) index->rd_options;

	return (flat_meta) {.magic = FLAT_MAGIC, .version = FLAT_VERSION, .metric = flat_metric(index),
		.dim = options ? options->dimensions : 0};
}

IndexBuildResult *
flat_build(Relation heap, Relation index, IndexInfo *info)
{
	IndexBuildResult *result = palloc0(sizeof *result);
	flat_meta	meta = first_meta(index);
	flat_builder b = {.index = index};
	Buffer		metapage;

	if (RelationGetNumberOfBlocks(index) != 0)
		elog(ERROR, "index \"%s\" already contains data", RelationGetRelationName(index));
	flat_choose_kernels();
	b.l = flat_layout_make(meta.metric, meta.dim, 0);
	b.row = AllocSetContextCreate(CurrentMemoryContext, "millrace_flat row", ALLOCSET_DEFAULT_SIZES);
	UnlockReleaseBuffer(new_metapage(index, MAIN_FORKNUM, &meta));

	find_centre(&b, heap, info);
	write_centre(&b);
	result->heap_tuples = table_index_build_scan(heap, index, info, true, true, build_row, &b, NULL);
	if (b.n > 0)
		flush_group(&b);
	meta.dim = b.l.sim.n;
	meta.centre_pages = b.l.first - 1;
	if (b.group)
	{
		meta.sign_pages = b.full_groups * FLAT_GROUP + (b.n + b.l.places - 1) / b.l.places;
		result->index_tuples = (double) b.full_groups * group_places(&b) + b.n;
	}

	metapage = ReadBuffer(index, FLAT_META_BLOCK);
	LockBuffer(metapage, BUFFER_LOCK_EXCLUSIVE);
	flat_meta_fill(BufferGetPage(metapage), &meta);
	MarkBufferDirty(metapage);
	UnlockReleaseBuffer(metapage);
	if (RelationNeedsWAL(index))
		log_newpage_range(index, MAIN_FORKNUM, 0, RelationGetNumberOfBlocks(index), true);
	MemoryContextDelete(b.row);
	return result;
}

/* The file that an unlogged index has after a crash. */
void
flat_build_empty(Relation index)
{
	flat_meta	meta = first_meta(index);

	UnlockReleaseBuffer(new_metapage(index, INIT_FORKNUM, &meta));
}
