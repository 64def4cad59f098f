/*
 * forest.h
 *	  Growing of trees: data shared by the forest_*.c files.
 *
 * A random forest replaces every column once by ranks: the position of each
 * value among the column's distinct values.  Splits are then exact CART splits
 * found by sorting integers; thresholds come back from the table of distinct
 * values.  The random cuts of extra trees need the values alone.
 *
 * A regression is one class whose weight is weight x value: the sums of
 * squares that Gini compares are then those of the squared error.
 */
#ifndef MILLRACE_FOREST_H
#define MILLRACE_FOREST_H

#include "learn/learn_int.h"

/* Rank of a missing value: behind all others. */
#define FOREST_MISSING	UINT32_MAX

typedef struct forest_column
{
	uint32_t   *rank;			/* rows */
	float	   *value;			/* n_distinct, ascending */
	uint32_t	n_distinct;		/* without the missing value */
} forest_column;

/*
 * A row in a tree: row number, class and how often the bootstrap drew it.
 * One word, so that moving a row to its node moves all there is to know.
 */
typedef uint64_t forest_item;

#define ITEM(row, class, count) \
	((uint64_t) (row) << 32 | (uint64_t) (class) << 16 | (uint64_t) (count))
#define ITEM_ROW(i)		((uint32_t) ((i) >> 32))
#define ITEM_CLASS(i)	((uint32_t) ((i) >> 16) & 0xFFFF)
#define ITEM_COUNT(i)	((uint32_t) (i) & 0xFFFF)

/* How a row of a node tells its weight. */
typedef enum forest_weighing
{
	FOREST_COUNTS,				/* how often it was drawn */
	FOREST_CLASS_WEIGHTS,		/* that, by the weight of its class */
	FOREST_ROW_WEIGHTS,			/* row_weight[] of the node in hand */
	FOREST_VALUES				/* that, and row_value[]: regression */
} forest_weighing;

typedef struct forest_split
{
	int			feature;		/* -1 = none found */
	uint32_t	rank;			/* up to this rank goes left; not of a random cut */
	float		threshold;		/* the same as a value */
	bool		missing_left;
	double		score;			/* the larger the better; scale by criterion */
} forest_split;

typedef struct forest_node
{
	int32_t		feature;		/* -1 = leaf */
	float		threshold;
	bool		missing_left;
	uint32_t	right;			/* left child is the next node */
	uint32_t	leaf;			/* class of a pure leaf, else offset in dists */
	bool		pure;
	double		cover;			/* weight of the drawn rows that reached it */
} forest_node;

/* The rows of a node, summed up; its weight by class is in b->total. */
typedef struct forest_sums
{
	double		weight;
	bool		pure;			/* one class, or one value */
	int			class;			/* of a pure node */
} forest_sums;

typedef struct forest_builder
{
	const mr_env *env;
	const lrn_params *p;
	const lrn_matrix *m;
	const lrn_target *target;
	int			n_classes;		/* 1 in a regression */
	bool		regress;
	bool		entropy;
	bool		random_cuts;	/* extra trees */
	double		centre;			/* taken from values before they are summed */
	forest_column *column;		/* m->cols; empty for extra trees */

	/* limits of this training */
	uint32_t	min_leaf;
	uint32_t	min_split;
	int			mtry;			/* features looked at a split */
	int			max_depth;

	/* per tree */
	lrn_rng		rng;
	const double *class_weight; /* n_classes */
	forest_weighing weighing;
	double		root_weight;
	uint32_t	n_items;
	forest_item *item;			/* ordered by node */
	forest_item *item_tmp;
	/* rank << 32 | class << 16 | count, or with row weights the number of the
	 * row within its node in the lower half */
	uint64_t   *key;
	uint64_t   *key_tmp;
	double	   *row_weight;		/* by number within the node, or NULL */
	double	   *row_value;		/* weight x value, or NULL */
	int		   *feature_order;	/* m->cols, shuffled further at each split */
	double	   *total;			/* n_classes: weights of the node in hand */
	double	   *left;			/* n_classes */
	uint32_t   *count;			/* 2 x n_classes: scratch of random cuts */
	double	   *nlogn;			/* x ln x for integers, or NULL */
	uint32_t	n_nlogn;

	forest_node *node;
	uint32_t	n_nodes;
	uint32_t	size_nodes;
	float	   *dist;			/* mixed leaves: n_classes each */
	size_t		n_dist;
	size_t		size_dist;
	int			depth;			/* deepest so far, over all trees */

	size_t		memory;			/* bytes taken */
	int64_t		work;			/* since the last look at interrupts */
	bool		stop;			/* interrupted within a sort */
} forest_builder;

/* Whether keys hold numbers of rows instead of classes and counts. */
static inline bool
forest_by_row(const forest_builder *b)
{
	return b->weighing >= FOREST_ROW_WEIGHTS;
}

/* 1: a value goes to the left of a cut.  Without a branch: nothing could predict it. */
static inline uint32_t
forest_goes_left(float value, float threshold, bool missing_left)
{
	return (uint32_t) (value <= threshold) | ((uint32_t) missing_left & (uint32_t) (value != value));
}

#define FOREST_FLAG_WEIGHTS		1	/* covers are f32: weights of classes or rows */
#define FOREST_FLAG_ENTROPY		2	/* grown by entropy */

typedef struct forest_head
{
	uint32_t	n_trees;
	uint32_t	flags;
} forest_head;

/* One decoded node of model bytes. */
typedef struct forest_raw
{
	bool		leaf;
	bool		missing_left;
	uint32_t	feature;
	float		threshold;
	float		value;			/* of a leaf, regression */
	uint32_t	n_shares;		/* 0 = pure */
	uint32_t	class;			/* of a pure leaf */
	const uint8_t *list;		/* where the shares stand in the stream */
	double		cover;
} forest_raw;

/* forest_file.c: the start of a body, and one node; false = it cannot be. */
extern mr_code forest_read_head(lrn_reader *r, forest_head *head, mr_status *st);
extern bool forest_read_node(lrn_reader *r, const lrn_info *info, const forest_head *head, forest_raw *n);

/* What a body holds. */
typedef struct forest_size
{
	forest_head head;
	uint64_t	n_nodes;
	uint64_t	max_nodes;		/* of one tree */
	uint64_t	n_shares;		/* entries, counts included */
} forest_size;

/* The same file: check a whole body. */
extern mr_code forest_measure(lrn_reader *r, const lrn_info *info, forest_size *size, mr_status *st);

/* forest_view.c */
extern const struct lrn_tree_format lrn_forest_trees;

/* forest_rank.c */
extern mr_code forest_rank_columns(forest_builder *b, mr_status *st);

/* forest_split.c: best split of items[0..n); node weights are in b->total. */
extern mr_code forest_best_split(forest_builder *b, const forest_item *items, uint32_t n,
								 double weight, forest_split *best, mr_status *st);
/* What split scores are above when nothing is split. */
extern double forest_score_of(const forest_builder *b, const double *w, double weight);
/* Score of a cut whose left side weighs left[] by class, out of b->total. */
extern double forest_score(const forest_builder *b, const double *left, double w_left, double weight);

/* forest_random.c: look at one feature with one random cut; false = constant. */
extern bool forest_try_random(forest_builder *b, const forest_item *items, uint32_t n, double weight,
							  int feature, forest_split *best);
/* A float32 t with value[rank] <= t < value of the next rank in the node. */
extern float forest_threshold(const forest_column *col, uint32_t rank, uint32_t next);

/* forest_tree.c: grow one tree from b->item; the result is in b->node. */
extern mr_code forest_grow(forest_builder *b, mr_status *st);

/* Allocation within p->max_memory; NULL with st set. */
static inline void *
forest_alloc(forest_builder *b, size_t count, size_t size, mr_status *st)
{
	return lrn_budget_alloc(b->env, b->p->max_memory, &b->memory, count, size, st);
}

/* Account work; MR_CANCELED when asked to stop.  About 2 ns a unit. */
static inline mr_code
forest_work(forest_builder *b, int64_t units, mr_status *st)
{
	b->work += units;
	if (b->work < 1000000)
		return MR_OK;
	b->work = 0;
	return mr_interrupted(b->env) ? lrn_canceled(st) : MR_OK;
}

#endif							/* MILLRACE_FOREST_H */
