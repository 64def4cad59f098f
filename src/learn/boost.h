/*
 * boost.h
 *	  Gradient boosting on histograms: data shared by the boost_*.c files.
 *
 * Every column is replaced once by bins of one byte.  A leaf's histogram adds,
 * per bin, the gradients, hessians and number of its rows; a split is found by
 * reading the histograms, not the rows (as LightGBM does: Ke et al., 2017).
 *
 * Gradients and hessians are rounded to integers of a fixed unit a round, so
 * that a histogram is exact: any order of the rows and the difference of two
 * histograms give the same bits on every machine.
 */
#ifndef MILLRACE_BOOST_H
#define MILLRACE_BOOST_H

#include "learn/boost_file.h"

#define BOOST_MAX_BINS	255		/* of values; one more code for the missing value */

/*
 * From one column's histogram to the next, in entries: not 256, because equal
 * bins of neighbouring columns would stand 4096 bytes apart, which processors
 * mistake for one address.
 */
#define BOOST_STRIDE	260
#define BOOST_GROUP		8		/* columns whose bins of a row are one word */

/* [0] gradients; [1] hessians << row_bits | rows.  One addition serves all three. */
typedef int64_t boost_sum __attribute__((vector_size(16)));

/* Gradient and hessian of a row in units, as they are added up. */
typedef struct boost_pair
{
	int32_t		g;
	uint32_t	h;
} boost_pair;

typedef struct boost_column
{
	int			feature;		/* number in the matrix */
	bool		category;
	bool		missing;		/* the training data has missing values here */
	int			n_bins;			/* the missing value's bin is n_bins */
	float	   *upper;			/* numbers: n_bins - 1; x <= upper[b] is in bin b or below */
	uint8_t    *bin;			/* rows */
} boost_column;

/* Bins that go left, a bit each. */
typedef struct boost_set
{
	uint64_t	bit[4];
} boost_set;

static inline bool
boost_in(const boost_set *s, unsigned bin)
{
	return s->bit[bin >> 6] >> (bin & 63) & 1;
}

static inline void
boost_put(boost_set *s, unsigned bin)
{
	s->bit[bin >> 6] |= (uint64_t) 1 << (bin & 63);
}

typedef struct boost_split
{
	int			column;			/* -1 = none found */
	double		gain;
	int			bin;			/* numbers: the last one to the left */
	boost_sum	left;
	boost_set	set;
} boost_split;

typedef struct boost_node
{
	int32_t		column;			/* -1 = leaf */
	int			bin;
	boost_set	set;
	uint32_t	left,
				right;
	uint32_t	cover;			/* rows */
	float		gain;
	float		value;			/* of a leaf */
} boost_node;

/* A leaf that may still be split. */
typedef struct boost_leaf
{
	uint32_t	start,
				n;				/* its stretch of b->row */
	uint32_t	node;
	int			depth;
	int			slot;			/* of its histogram; -1 = none */
	boost_sum	sum;
	double		min_hessian;	/* of either side of a split */
	boost_split best;
} boost_leaf;

/* A category column's codes in the order of their bins. */
typedef struct boost_codes
{
	int32_t		n_categories;	/* 0 = a column of numbers */
	int			n_own;
	int32_t    *own;			/* n_own, most frequent first */
} boost_codes;

typedef enum boost_loss
{
	BOOST_SQUARED,
	BOOST_LOGISTIC,				/* two classes from one margin */
	BOOST_SOFTMAX
} boost_loss;

typedef struct boost_builder
{
	const mr_env *env;
	const lrn_params *p;
	const lrn_matrix *m;
	const lrn_target *t;
	const lrn_kernels *kernels;
	boost_loss	loss;
	int			n_margins;		/* trees a round */

	/* columns: those with at least two bins, in order of the matrix */
	boost_column *column;
	boost_codes *codes;			/* of all features */
	int			n_columns;
	int			stride;			/* words of a row in bins: columns by eights */
	uint64_t   *bins;			/* rows x stride: byte c is column c's bin */
	bool	   *use;			/* columns that the tree in hand may split on */
	bool	   *use_group;		/* eights with such a column */

	/* rows; arrays are padded to a multiple of 16 */
	uint32_t	rows;
	uint32_t   *base_row;		/* n_train rows to learn from, ascending; then those
								 * held out for early stopping */
	uint32_t	n_train;
	uint32_t   *row;			/* n_row that the tree in hand learns from, ordered
								 * by leaf; then the rows it only scores */
	uint32_t   *row_tmp;
	uint32_t	n_row;
	float	   *weight;			/* sample x class weight, or NULL */
	float	   *valid_weight;	/* the same, 0 where not held out; or NULL */
	float	   *target;			/* BOOST_SQUARED: value - base; else NULL */
	int32_t    *class_id;

	/* scores without the base: n_margins x padded rows */
	size_t		padded;
	float	   *score;
	double	   *base;			/* n_margins */
	float	   *top;			/* BOOST_SOFTMAX: largest score of a row */
	float	   *inverse;		/* and 1 / sum of exponentials */
	boost_pair *pair;			/* of the margin in hand */

	/* units */
	int			row_bits;		/* bits of a sum that count rows */
	double		g_unit,
				h_unit;
	float		h_factor;		/* LightGBM's: n / (n - 1) for n classes, else 1 */
	double		min_rows;
	int			max_leaves;

	/* histograms */
	size_t		slot_size;		/* entries */
	int			n_slots;
	boost_sum  *slot;
	int		   *free_slot;
	int			n_free;

	boost_leaf *leaf;			/* max_leaves */
	double	   *leaf_gain;		/* of its best split, 0 = none */
	int			n_leaves;
	boost_node *node;			/* 2 * max_leaves - 1 */
	uint32_t	n_nodes;
	uint32_t   *stack;			/* as long as node */
	int			depth;			/* deepest so far, over all trees */
	int64_t		all_nodes;

	size_t		memory;			/* bytes taken */
	int64_t		work;			/* since the last look at interrupts */
} boost_builder;

/* boost_start.c: what is settled before the first round. */
extern mr_code boost_find_weights(boost_builder *b, mr_status *st);
extern mr_code boost_hold_out(boost_builder *b, mr_status *st);
extern mr_code boost_find_base(boost_builder *b, mr_status *st);
extern void boost_find_units(boost_builder *b);
/* The largest power of two that is at most limit / x. */
extern double boost_scale(double x, double limit);
/*
 * Choose want of have rows, each set as likely as any other: to holds those
 * chosen first, then the rest, both in the order of from.
 */
extern mr_code boost_choose(boost_builder *b, lrn_rng *rng, const uint32_t *from, uint32_t have,
							uint32_t want, uint32_t *to, mr_status *st);

/* boost_bin.c: columns to bins; fills column, codes, bins. */
extern mr_code boost_bin_columns(boost_builder *b, mr_status *st);

/* boost_hist.c */
extern boost_sum boost_total(const boost_builder *b, const uint32_t *row, uint32_t n);
/* Add rows to a histogram that is set to zero first; row NULL = 0 .. n-1. */
extern mr_code boost_histogram(boost_builder *b, const uint32_t *row, uint32_t n,
							   boost_sum *hist, mr_status *st);
/* a -= b */
extern void boost_subtract(const boost_builder *b, boost_sum *a, const boost_sum *other);

/* boost_split.c: the best split of a leaf by its histogram. */
extern mr_code boost_best_split(boost_builder *b, const boost_sum *hist, boost_leaf *leaf, mr_status *st);

/* boost_tree.c: grow one tree from b->row and b->pair; add it to the scores. */
extern mr_code boost_grow(boost_builder *b, float *score, mr_status *st);

/* Allocation within p->max_memory; NULL with st set. */
static inline void *
boost_alloc(boost_builder *b, size_t count, size_t size, mr_status *st)
{
	return lrn_budget_alloc(b->env, b->p->max_memory, &b->memory, count, size, st);
}
extern void boost_free(boost_builder *b, void *ptr, size_t count, size_t size);

static inline double
boost_hessian(const boost_builder *b, boost_sum s)
{
	return (double) (uint64_t) ((uint64_t) s[1] >> b->row_bits) * b->h_unit;
}

static inline uint32_t
boost_rows(const boost_builder *b, boost_sum s)
{
	return (uint32_t) ((uint64_t) s[1] & (((uint64_t) 1 << b->row_bits) - 1));
}

/* Account work; MR_CANCELED when asked to stop.  About 1 ns a unit. */
static inline mr_code
boost_work(boost_builder *b, int64_t units, mr_status *st)
{
	b->work += units;
	if (b->work < 2000000)
		return MR_OK;
	b->work = 0;
	return mr_interrupted(b->env) ? lrn_canceled(st) : MR_OK;
}

#endif							/* MILLRACE_BOOST_H */
