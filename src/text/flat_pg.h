/*
 * flat_pg.h
 *	  The index access method millrace_flat: pages, and what its files share.
 *
 * Every vector has two codes (similarity.h): signs, which a search reads of all vectors, and
 * bytes, which it reads of the candidates.  Both lie in places counted from 0, so that the
 * number of a vector says where they are:
 *
 *	block 0          the metapage: parameters, and how many sign pages are in use
 *	centre pages     the centre of the vectors, if there were any when the index was built
 *	then groups of   FLAT_GROUP sign pages,
 *	                 as many byte pages as their vectors need
 *
 *	sign page        header | gap to 64 | blocks of 32 vectors' signs | a TID per place | tail
 *	byte page        header | gap to 64 | byte codes                                    | tail
 *
 * A place is free when its TID is invalid.  Places below `used` of the page have been taken once.
 * Sign pages beyond the metapage's count, and byte pages none of whose places was taken, may be
 * missing or all zero.
 *
 * Locks: the buffers' own.  Who needs several takes the metapage's before a sign page's before a
 * byte page's; scans take one at a time.  Nobody keeps a pin between two calls: a place may get
 * another vector while a scan is under way, but only after its row was dead to everybody, and
 * the new row is invisible to the scan's snapshot.
 */
#ifndef MILLRACE_TEXT_FLAT_PG_H
#define MILLRACE_TEXT_FLAT_PG_H

#include "nn/nn_pg.h"
#include "text/similarity.h"

#include "access/amapi.h"
#include "access/generic_xlog.h"
#include "nodes/execnodes.h"
#include "storage/bufmgr.h"
#include "storage/itemptr.h"
#include "utils/rel.h"

#define FLAT_META_BLOCK	0
#define FLAT_MAGIC		0x4d466c74
#define FLAT_VERSION	1
#define FLAT_PAGE_ID	0xFF9A
#define FLAT_GROUP		8		/* sign pages of a group */
#define FLAT_START		64		/* where a page's contents begin: a cache line */

/* Contents of the metapage. */
typedef struct flat_meta
{
	uint32		magic;
	uint16		version;
	uint16		metric;			/* sim_metric */
	uint32		dim;			/* 0: not known yet, the first row decides */
	uint32		centre_pages;	/* 0: codes are made without a centre */
	uint32		sign_pages;		/* in use */
} flat_meta;

/* The last bytes of every page. */
typedef struct flat_tail
{
	uint16		kind;
	uint16		used;			/* sign page: places taken at least once */
	uint16		live;			/* sign page: places that have a TID */
	uint16		page_id;		/* FLAT_PAGE_ID, for tools that look at pages */
} flat_tail;

enum
{
	FLAT_META = 1,
	FLAT_CENTRE = 2,
	FLAT_SIGNS = 3,
	FLAT_BYTES = 4
};

/* What follows from metric, dimension and centre. */
typedef struct flat_layout
{
	sim_params	sim;			/* its n is 0 while the dimension is not known */
	BlockNumber first;			/* block of the first group */
	size_t		block_size;		/* of 32 vectors' signs */
	int			blocks;			/* of a sign page */
	int			places;			/* of a sign page: 32 x blocks */
	size_t		code_size;		/* of a vector's bytes */
	int			codes;			/* of a byte page */
	uint32		byte_pages;		/* of a group */
} flat_layout;

/* Reloptions. */
typedef struct flat_options
{
	int32		vl_len_;
	int			dimensions;		/* 0: the first row decides */
	int			candidates;		/* 0: millrace.flat_candidates decides */
} flat_options;

/* ---- flat_page_pg.c ---- */

#define FLAT_FLOATS	((BLCKSZ - FLAT_START - MAXALIGN(sizeof(flat_tail))) / sizeof(float))	/* of a centre page */

/* Layout of vectors of dim numbers, without a centre; 54000 if the index cannot hold them. */
extern flat_layout flat_layout_make(sim_metric metric, int dim, uint32 centre_pages);

/* Let the kernels be those of millrace.isa. */
static inline void
flat_choose_kernels(void)
{
	sim_force(nn_pg_options().isa);
}

/* Metapage, checked: XX002 if it is not one. */
extern flat_meta flat_meta_read(Relation index);

/* Layout of an index; kept in rd_amcache once the dimension is known.  Its centre lies there too:
 * not to be used after anything that may process invalidations (opening a table, say). */
extern flat_layout flat_layout_get(Relation index);

/*
 * Where in shared buffers each block of an index was last found by this process, for as many
 * blocks as the caller says: InvalidBuffer if it never was.  Never wrong, at worst of no use; to
 * be used until the next call.  NULL where there is nothing to remember: the index of a temporary
 * table, one larger than shared buffers.
 */
extern Buffer *flat_hints(Relation index, BlockNumber blocks);

/* The operator class's metric. */
extern sim_metric flat_metric(Relation index);

extern void flat_page_init(Page page, int kind, const flat_layout *l);
extern void flat_meta_fill(Page page, const flat_meta *meta);

/* Blocks of sign page s, and of the bytes of vector `number`. */
extern BlockNumber flat_sign_block(const flat_layout *l, uint32 s);
extern BlockNumber flat_code_block(const flat_layout *l, uint32 number);

/* Blocks that an index of so many sign pages takes. */
extern BlockNumber flat_end_block(const flat_layout *l, uint32 sign_pages);

/* The sign page that a block is, or false. */
extern bool flat_sign_page_of(const flat_layout *l, BlockNumber block, uint32 *s);

/* The n numbers of an array to be indexed or searched, checked as the operators do.  May point
 * into the datum. */
extern const float *flat_vector(Datum value, int *n);

/* 22000 if the index's vectors do not have n dimensions. */
extern void flat_check_dimension(Relation index, const flat_layout *l, int n);

static inline flat_tail *
flat_page_tail(Page page)
{
	return (flat_tail *) PageGetSpecialPointer(page);
}

static inline char *
flat_block(const flat_layout *l, Page page, int place)
{
	return (char *) page + FLAT_START + place / SIM_BLOCK * l->block_size;
}

static inline ItemPointer
flat_tids(const flat_layout *l, Page page)
{
	return (ItemPointer) ((char *) page + FLAT_START + l->blocks * l->block_size);
}

/* Where in its byte page the code of a vector begins. */
static inline size_t
flat_code_at(const flat_layout *l, uint32 number)
{
	return FLAT_START + number % (FLAT_GROUP * (uint32) l->places) % l->codes * l->code_size;
}

/* Write a vector into a place of its sign page and into its byte page. */
extern void flat_place_fill(const flat_layout *l, Page signs, Page bytes, uint32 number, const sim_signs *sign_code,
							const void *byte_code, ItemPointer tid);

/* ---- the access method's functions ---- */

extern IndexBuildResult *flat_build(Relation heap, Relation index, IndexInfo *info);
extern void flat_build_empty(Relation index);
extern bool flat_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap,
						IndexUniqueCheck unique, bool unchanged, IndexInfo *info);
extern IndexBulkDeleteResult *flat_bulk_delete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
											   IndexBulkDeleteCallback callback, void *state);
extern IndexBulkDeleteResult *flat_vacuum_cleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats);
extern IndexScanDesc flat_begin_scan(Relation index, int nkeys, int norderbys);
extern void flat_rescan(IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys);
extern bool flat_get_tuple(IndexScanDesc scan, ScanDirection direction);
extern void flat_end_scan(IndexScanDesc scan);
extern void flat_cost(struct PlannerInfo *root, struct IndexPath *path, double loop_count, Cost *startup, Cost *total,
					  Selectivity *selectivity, double *correlation, double *pages);

/* Candidates of a search's first step: by the index's option or the setting. */
extern uint64 flat_candidates(Relation index, int dim);

/* Settings and reloptions; called by text_init(). */
extern void flat_init(void);

/* ---- PostgreSQL 15 to 18 ---- */

#if PG_VERSION_NUM >= 160000
#define flat_recent_buffer(index, block, hint) ReadRecentBuffer((index)->rd_locator, MAIN_FORKNUM, (block), (hint))
#else
#define flat_recent_buffer(index, block, hint) ReadRecentBuffer((index)->rd_node, MAIN_FORKNUM, (block), (hint))
#endif

#if PG_VERSION_NUM >= 180000
#define flat_vacuum_delay() vacuum_delay_point(false)
#define flat_count_search(scan) \
	do { pgstat_count_index_scan((scan)->indexRelation); if ((scan)->instrument) (scan)->instrument->nsearches++; } while (0)
#define flat_disable(path) ((path)->path.disabled_nodes = 2)
#else
#define flat_vacuum_delay() vacuum_delay_point()
#define flat_count_search(scan) pgstat_count_index_scan((scan)->indexRelation)
#define flat_disable(path) ((void) (path))
#endif

#endif							/* MILLRACE_TEXT_FLAT_PG_H */
