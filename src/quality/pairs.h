/*
 * pairs.h
 *	  Pairs of items that are near each other: 64-bit hashes by the number of bits that differ, vectors by
 *	  their cosine.  Exact: no pair is missed, every instruction set gives the same ones.
 *
 * Items are numbered from 0.  A pair (a, b), a < b, is given once.  Results go to a sink as they are
 * found, in no order that means anything; it may jump, as everything here is the environment's.
 *
 * All pairs of m equal items are m * m / 2 of them.  Where a data set may have big groups ask for the nearest of each item
 * (per_item) or for groups: both are linear in the number of items.
 */
#ifndef MILLRACE_QUALITY_PAIRS_H
#define MILLRACE_QUALITY_PAIRS_H

#include "core/env.h"
#include "core/status.h"
#include "nn/isa.h"

#define QLT_MOST_NEAREST	1000	/* per_item */
#define QLT_MOST_DIMS		65536

/* measure: bits that differ, or the cosine. */
typedef mr_code (*qlt_pair_sink) (void *arg, uint32_t a, uint32_t b, float measure, mr_status *st);

typedef struct qlt_pair_options
{
	nn_isa		isa;
	uint32_t	first;			/* only pairs with an item from here on: what is new */
	int			per_item;		/* > 0: pairs that are among this many nearest of one of their items, in its set and outside; 0: all */
	const uint8_t *sets;		/* of each item; NULL: all are of one */
	uint64_t	max_pairs;		/* of a result with all pairs: more are MR_LIMIT; 0: any number */
	size_t		max_memory;		/* bytes: MR_LIMIT before they are taken */
	qlt_pair_sink sink;
	void	   *arg;
} qlt_pair_options;

/*
 * Pairs of n items whose hashes differ in at most max_distance (0 to 63) bits.  An item has `turns` hashes, those of the
 * image flipped and turned: the first one of an item is compared with all of the other's, and the least distance counts.
 */
extern mr_code qlt_hash_pairs(const mr_env *env, const uint64_t *hashes, uint32_t n, int turns, int max_distance,
							  const qlt_pair_options *o, mr_status *st);

/* a of n hashes with b of n_queries others; first, per_item and sets are not looked at. */
extern mr_code qlt_hash_matches(const mr_env *env, const uint64_t *hashes, uint32_t n, const uint64_t *queries, uint32_t n_queries,
								int max_distance, const qlt_pair_options *o, mr_status *st);

/* For each of n hashes the first item that chains of pairs lead to. */
extern mr_code qlt_hash_groups(const mr_env *env, const uint64_t *hashes, uint32_t n, int max_distance,
							   const qlt_pair_options *o, uint32_t *group, mr_status *st);

/*
 * Pairs of n vectors (rows of dims floats) whose cosine is at least min_cosine, by sums in double.  Elements must be finite;
 * a vector of length 0 is near none.
 */
extern mr_code qlt_embedding_pairs(const mr_env *env, const float *vectors, uint32_t n, int dims, double min_cosine,
								   const qlt_pair_options *o, mr_status *st);

/* Groups: item i alone is group[i] = i; joined ones are led by their first. */
extern void qlt_group_join(uint32_t *group, uint32_t a, uint32_t b);
extern uint32_t qlt_group_of(uint32_t *group, uint32_t item);

#endif							/* MILLRACE_QUALITY_PAIRS_H */
