/*
 * forest.h
 *	  Growing of trees: data shared by the forest_*.c files.
 *
 * Every column is replaced once by ranks: the position of each value among
 * the column's distinct values.  Splits are then exact CART splits found by
 * sorting integers; thresholds come back from the table of distinct values.
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

typedef struct forest_split
{
	int			feature;		/* -1 = none found */
	uint32_t	rank;			/* up to this rank goes left */
	float		threshold;
	bool		missing_left;
	double		score;			/* the larger the better; scale by criterion */
} forest_split;

typedef struct forest_node
{
	int32_t		feature;		/* -1 = leaf */
	uint32_t	rank;
	float		threshold;
	bool		missing_left;
	uint32_t	right;			/* left child is the next node */
	uint32_t	leaf;			/* class of a pure leaf, else offset in dists */
	bool		pure;
	uint32_t	cover;			/* drawn rows that reached it */
} forest_node;

typedef struct forest_builder
{
	const mr_env *env;
	const lrn_params *p;
	const lrn_matrix *m;
	int			n_classes;
	forest_column *column;		/* m->cols */

	/* limits of this training */
	uint32_t	min_leaf;
	uint32_t	min_split;
	int			mtry;			/* features looked at a split */
	int			max_depth;

	/* per tree */
	lrn_rng		rng;
	const double *class_weight; /* n_classes */
	bool		weighted;		/* class weights differ from 1 */
	double		root_weight;
	uint32_t	n_items;
	forest_item *item;			/* ordered by node */
	forest_item *item_tmp;
	uint64_t   *key;			/* rank << 32 | class << 16 | count */
	uint64_t   *key_tmp;
	int		   *feature_order;	/* m->cols, shuffled further at each split */
	double	   *total;			/* n_classes: weights of the node in hand */
	double	   *left;			/* n_classes */
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
} forest_builder;

/* forest_rank.c */
extern mr_code forest_rank_columns(forest_builder *b, mr_status *st);

/* forest_split.c: best split of items[0..n); node weights are in b->total. */
extern mr_code forest_best_split(forest_builder *b, const forest_item *items, uint32_t n,
								 double weight, forest_split *best, mr_status *st);
/* Impurity of weights by class: Gini or entropy in nats. */
extern double forest_impurity(const forest_builder *b, const double *w, double sum);

/* forest_tree.c: grow one tree from b->item; the result is in b->node. */
extern mr_code forest_grow(forest_builder *b, mr_status *st);

/* Allocation within p->max_memory. */
extern void *forest_alloc(forest_builder *b, size_t count, size_t size, mr_status *st);

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
