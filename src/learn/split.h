/*
 * split.h
 *	  Which rows train and which test: hold-out, k folds, folds by time.
 *
 *	lrn_split	s = {.folds = 5,.class_id = y,.n_classes = k,.seed = 0};
 *
 *	lrn_split_rows(env, &s, rows, part, st);
 *	for each fold f:
 *		for each row i:	lrn_split_role(&s, part[i], f)	-> train, test, unused
 *
 * The same rows in the same order and the same seed give the same parts on
 * every machine.
 */
#ifndef MILLRACE_LEARN_SPLIT_H
#define MILLRACE_LEARN_SPLIT_H

#include <stdint.h>

#include "core/env.h"
#include "core/status.h"

typedef struct lrn_split
{
	int			folds;			/* k of them, each row tested once; 1: a hold-out */
	double		test_share;		/* of the rows, if folds is 1 */
	const int32_t *class_id;	/* keep their shares in all parts; NULL: do not */
	int			n_classes;
	const uint64_t *group;		/* rows of a group stay together; NULL: no groups */
	const double *order;		/* time: train on what lies before what is tested
								 * (an expanding window); NULL: no order */
	uint64_t	seed;			/* of the shuffle; unused with order */
} lrn_split;

typedef enum lrn_role
{
	LRN_UNUSED,					/* later than what is tested */
	LRN_TRAIN,
	LRN_TEST
} lrn_role;

/*
 * The part of each row: the fold that tests it; with order, 1 + that fold, and
 * 0 for the oldest rows, which no fold tests.  With order, rows of one time
 * stay together.  Takes at most 32 bytes a row.  MR_INVALID: too few rows,
 * groups or times for a row to train and a row to test in every fold; order
 * with groups; NaN in order.
 */
extern mr_code lrn_split_rows(const mr_env *env, const lrn_split *s, int64_t rows,
							  int32_t *part, mr_status *st);

static inline lrn_role
lrn_split_role(const lrn_split *s, int32_t part, int fold)
{
	if (s->order)
		return part == fold + 1 ? LRN_TEST : part <= fold ? LRN_TRAIN : LRN_UNUSED;
	return part == fold ? LRN_TEST : LRN_TRAIN;
}

/* The numbers 0 .. n-1 in random order (Fisher and Yates); n below 2^32.
 * stream: independent orders of one seed.  MR_CANCELED. */
extern mr_code lrn_shuffle(const mr_env *env, uint32_t *row, int64_t n, uint64_t seed,
						   uint64_t stream, mr_status *st);

/* A hash of bytes that never changes: frozen splits and groups depend on it. */
extern uint64_t lrn_hash(const void *bytes, size_t n, uint64_t seed);

/* The split 0 .. n-1 that a hash falls into; shares add up to 1, or less, then
 * -1 is none of them. */
extern int	lrn_split_of(uint64_t hash, const double *shares, int n);

#endif							/* MILLRACE_LEARN_SPLIT_H */
