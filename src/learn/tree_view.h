/*
 * tree_view.h
 *	  One way to walk the trees of a model whatever algorithm made them, decoded
 *	  from its model bytes: for TreeSHAP, importances, and export to ONNX.
 *
 * Trees come one at a time, so that memory holds one tree however many a
 * model has:
 *
 *	 lrn_trees v;
 *	 code = lrn_trees_open(env, bytes, len, &v, st);
 *	 while (code == MR_OK && (code = lrn_trees_next(&v, &tree, st)) == MR_OK && tree)
 *		 ...
 *	 lrn_trees_close(&v);
 *
 * margin m of a row = base[m] + scale * sum of the leaf values for m; the
 * link tells how margins become what lrn_predict() answers.
 */
#ifndef MILLRACE_TREE_VIEW_H
#define MILLRACE_TREE_VIEW_H

#include "learn/learn_int.h"

typedef struct lrn_tree_node
{
	int32_t		feature;		/* -1 = leaf */
	bool		missing_left;	/* where NaN goes */
	float		threshold;		/* x <= threshold goes left, where sets is 0 */
	uint32_t	set;			/* a split by categories: 1 + where its set stands in
								 * tree->sets; 0 = by threshold */
	uint32_t	left;			/* node numbers, both greater than this one's */
	uint32_t	right;
	uint32_t	value;			/* leaf: its first number in tree->values */
	double		cover;			/* weight of the training rows that came here */
	double		gain;			/* loss or impurity x weight that the split took away */
} lrn_tree_node;

typedef struct lrn_tree
{
	uint32_t	n_nodes;		/* node[0] is the root; preorder */
	const lrn_tree_node *node;
	int			margin;			/* the one its leaves add to; -1: a leaf has n_margins values */
	const double *values;
	/* A set: the number of words, then the words; code c goes left if bit
	 * c % 32 of word c / 32 is set, and right beyond the last word. */
	const uint32_t *sets;
} lrn_tree;

typedef enum lrn_link
{
	LRN_LINK_NONE,				/* margins are the answer: forests, regression */
	LRN_LINK_SIGMOID,			/* one margin, that of the second of two classes */
	LRN_LINK_SOFTMAX			/* a margin a class */
} lrn_link;

typedef struct lrn_trees
{
	lrn_info	info;
	uint32_t	n_trees;
	int			n_margins;
	const double *base;			/* n_margins; NULL = zeros */
	double		scale;
	lrn_link	link;

	/* lrn_trees_*'s own */
	const mr_env *env;
	const struct lrn_tree_format *format;
	lrn_reader	reader;
	lrn_reader	first;			/* where the first tree stands */
	uint32_t	done;			/* trees given so far */
	lrn_tree	tree;
	lrn_tree_node *node;
	double	   *value;
	uint32_t   *set;
	double	   *own_base;
	size_t		node_room,
				value_room,
				set_room,
				n_values,
				n_sets;
	int			option;			/* the format's */
	void	   *own;			/* the format's, from env; freed by lrn_trees_close() */
} lrn_trees;

/* MR_CORRUPT; MR_UNSUPPORTED if the model has no trees; MR_NOMEM.  bytes stay the caller's. */
extern mr_code lrn_trees_open(const mr_env *env, const uint8_t *bytes, size_t len,
							  lrn_trees *v, mr_status *st);
/* The next tree, valid until the next call; NULL after the last. */
extern mr_code lrn_trees_next(lrn_trees *v, const lrn_tree **tree, mr_status *st);
/* Back to the first tree. */
extern void lrn_trees_rewind(lrn_trees *v);
extern void lrn_trees_close(lrn_trees *v);

/* Whether code c of a set goes left. */
static inline bool
lrn_tree_in_set(const lrn_tree *t, const lrn_tree_node *n, float x)
{
	const uint32_t *set = t->sets + n->set - 1;

	return x >= 0 && x < 32.0f * (float) set[0] && (set[1 + (uint32_t) x / 32] >> ((uint32_t) x % 32) & 1);
}

/* Where a row with value x of the node's feature goes. */
static inline uint32_t
lrn_tree_child(const lrn_tree *t, const lrn_tree_node *n, float x)
{
	bool		left = x != x ? n->missing_left : n->set ? lrn_tree_in_set(t, n, x) : x <= n->threshold;

	return left ? n->left : n->right;
}

/* ---- for the algorithms whose models have trees ---- */

/*
 * How an algorithm's body is decoded; lrn_learner.trees, NULL without trees.
 * The body has passed the learner's check().  begin() reads up to the first
 * tree and sets n_trees, n_margins, base, scale and link; next() puts one
 * tree's nodes in preorder by lrn_tree_add().
 */
typedef struct lrn_tree_format
{
	mr_code		(*begin) (lrn_trees *v, mr_status *st);
	mr_code		(*next) (lrn_trees *v, mr_status *st);
} lrn_tree_format;

/* One more node, or NULL; v->tree.n_nodes counts them. */
extern lrn_tree_node *lrn_tree_add(lrn_trees *v, mr_status *st);
/* Room for n more values or set words at the tree's end; NULL without memory. */
extern double *lrn_tree_add_values(lrn_trees *v, size_t n, mr_status *st);
extern uint32_t *lrn_tree_add_set(lrn_trees *v, size_t n_words, mr_status *st);
/* n_margins zeros to fill, owned by v. */
extern double *lrn_trees_base(lrn_trees *v, mr_status *st);

#endif							/* MILLRACE_TREE_VIEW_H */
