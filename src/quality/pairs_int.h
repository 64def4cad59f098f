/*
 * pairs_int.h
 *	  What the files behind pairs.h share and nobody else sees.
 */
#ifndef MILLRACE_QUALITY_PAIRS_INT_H
#define MILLRACE_QUALITY_PAIRS_INT_H

#include "quality/pairs.h"

/* ---- kernels, one source for each instruction set (pairs_kernels.h) ---- */

#define QLT_TILE_X	64			/* hashes of a tile */
#define QLT_TILE_Y	512
#define QLT_PAD		8			/* readable hashes behind each array of them */

typedef struct qlt_pair_kernels
{
	/* Pairs of a tile that differ in at most max bits: i << 16 | j of each to hit; returns how many. */
	int			(*near_hashes) (const uint64_t *x, int nx, const uint64_t *y, int ny, int max, uint32_t *hit);

	/* Vectors side by side: rows of a (in groups of `rows`) with a panel of `cols` columns, both packed by dimension.
	 * Returns whether a product reaches least; then they are in out, [rows][cols]. */
	bool		(*tile) (const float *a, const float *b, int dims, float least, float *out);
	int			rows;
	int			cols;
} qlt_pair_kernels;

extern const qlt_pair_kernels *qlt_pair_kernels_for(nn_isa isa);
extern const qlt_pair_kernels qlt_pairs_portable;
#if defined(__x86_64__)
extern const qlt_pair_kernels qlt_pairs_avx2;
extern const qlt_pair_kernels qlt_pairs_avx512;
#endif

#define QLT_MOST_ROWS	8
#define QLT_MOST_COLS	48

/* ---- hashes and who has them (pairs_values.c) ---- */

/* Different values in ascending order; the entries of value v are entry[start[v]] … entry[start[v + 1] - 1]. */
typedef struct qlt_values
{
	uint32_t	n;
	uint64_t   *value;
	uint32_t   *start;			/* n + 1 */
	uint32_t   *entry;
	uint32_t   *heads;			/* of qlt_values_heads() */
} qlt_values;

/*
 * Of count entries, entry e with hash hashes[from + e]; entries are numbered from `from` on.  Entries of one item (turns of them)
 * with one value count once.  Frees nothing on failure: memory is the environment's.
 */
extern mr_code qlt_values_make(const mr_env *env, const uint64_t *hashes, uint32_t from, uint32_t count, int turns, qlt_values *v, mr_status *st);
extern void qlt_values_free(const mr_env *env, qlt_values *v);

/* Brings to the front of each value's entries those that can be among the per_item nearest of anybody; heads: how many. */
extern mr_code qlt_values_heads(const mr_env *env, qlt_values *v, int turns, const qlt_pair_options *o, mr_status *st);

/* ---- the join (pairs_join.c) ---- */

typedef mr_code (*qlt_join_sink) (void *arg, uint32_t x, uint32_t y, int distance, mr_status *st);

/* All (x, y) that differ in at most max_distance bits; same: y is x, whose values differ from each other, and x < y. */
extern mr_code qlt_hash_join(const mr_env *env, nn_isa isa, const uint64_t *x, uint32_t nx, const uint64_t *y, uint32_t ny,
							 bool same, int max_distance, qlt_join_sink sink, void *arg, mr_status *st);
extern size_t qlt_hash_join_memory(uint32_t nx, uint32_t ny, bool same);

/* ---- where pairs go (pairs_out.c) ---- */

/* A near item; key: the less the nearer. */
typedef struct qlt_near
{
	float		key;
	uint32_t	item;
} qlt_near;

typedef struct qlt_out
{
	const mr_env *env;
	const qlt_pair_options *o;
	bool		similar;		/* measures are cosines: the greater the nearer */
	uint32_t	n;
	uint64_t	count;
	qlt_near   *nearest;		/* per_item: 2 lists of per_item for each item, its own set's and the others' */
	uint16_t   *filled;
} qlt_out;

extern size_t qlt_out_memory(const qlt_pair_options *o, uint32_t n);
extern mr_code qlt_out_begin(qlt_out *out, const mr_env *env, const qlt_pair_options *o, uint32_t n, bool similar, mr_status *st);

/* A pair of different items, at least one of them from first on; with per_item it may come more than once. */
extern mr_code qlt_out_pair(qlt_out *out, uint32_t a, uint32_t b, float measure, mr_status *st);

/* One side of it: b is near a. */
extern void qlt_out_near(qlt_out *out, uint32_t a, uint32_t b, float measure);

/* Would such a measure still change the lists of a or b? */
extern bool qlt_out_wants(const qlt_out *out, uint32_t a, uint32_t b, float measure);

/* Of different lists: given as it is. */
extern mr_code qlt_out_match(qlt_out *out, uint32_t a, uint32_t b, float measure, mr_status *st);

/* Gives the pairs of the lists, and frees them; after a failure qlt_out_free() does. */
extern mr_code qlt_out_end(qlt_out *out, mr_status *st);
extern void qlt_out_free(qlt_out *out);

/* MR_LIMIT where need is above the options' memory. */
extern mr_code qlt_pairs_fit(const qlt_pair_options *o, size_t need, const char *what, mr_status *st);
extern mr_code qlt_no_memory(mr_status *st);
extern mr_code qlt_canceled(mr_status *st);

#endif							/* MILLRACE_QUALITY_PAIRS_INT_H */
