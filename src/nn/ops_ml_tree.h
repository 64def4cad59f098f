/*
 * ops_ml_tree.h
 *	  The flat form of a tree ensemble: one attached constant (ops_ml.h).
 *
 *	ml_trees | nodes | roots and depths | weights of leaves | base values
 *
 * A walk needs no test for a leaf: a leaf leads to itself, and a walk takes as
 * many steps as its tree is deep.
 */
#ifndef MILLRACE_NN_OPS_ML_TREE_H
#define MILLRACE_NN_OPS_ML_TREE_H

#include "nn/ops_ml.h"

/* How x compares with the threshold: one bit each. */
enum
{
	ml_less = 1, ml_equal = 2, ml_greater = 4, ml_unordered = 8
};

#define ML_COUNT_BITS 24		/* of ml_node.feature */
#define ML_COUNT_MASK ((UINT32_C(1) << ML_COUNT_BITS) - 1)
#define ML_MAX_TARGETS 65536

typedef struct ml_node
{
	union
	{
		float		value;		/* threshold */
		uint32_t	first;		/* leaf: its first weight */
	}			u;
	uint32_t	feature;		/* low bits: column, or a leaf's number of weights; above them: which
								 * comparisons go to yes */
	uint32_t	to[2];			/* no, yes */
} ml_node;

typedef struct ml_root
{
	uint32_t	node;
	uint32_t	depth;
} ml_root;

typedef struct ml_weight
{
	uint32_t	target;
	float		value;
} ml_weight;

typedef enum ml_aggregate
{
	ml_average, ml_sum, ml_min, ml_max
} ml_aggregate;

typedef struct ml_trees
{
	uint32_t	n_trees,
				n_nodes,
				n_weights,
				n_base;
	uint32_t	n_targets;
	uint32_t	columns;		/* that the input must have at least */
	uint32_t	aggregate;		/* ml_aggregate */
	uint32_t	post;			/* nn_ml_post */
	uint32_t	plain;			/* all comparisons are x <= threshold; NaN goes where its bit says */
	uint32_t	one_class;		/* classifier of two classes with weights for one */
	uint32_t	positive;		/* classifier: no weight is negative */
	uint32_t	reserved;
} ml_trees;

static inline uint64_t
ml_trees_size(const ml_trees *t)
{
	return sizeof(*t) + t->n_trees * sizeof(ml_root) + (uint64_t) t->n_nodes * sizeof(ml_node) +
		(uint64_t) t->n_weights * sizeof(ml_weight) + t->n_base * sizeof(float);
}

/* ops_ml_build.c: attributes to the flat form, attached. */
extern mr_code nn_ml_build_trees(nn_infer_call *c, bool classifier, int64_t n_targets);
extern mr_code nn_ml_build_trees5(nn_infer_call *c);

#endif							/* MILLRACE_NN_OPS_ML_TREE_H */
