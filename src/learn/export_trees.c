/*
 * export_trees.c
 *	  Forests and boosting as ONNX: one TreeEnsembleRegressor that sums leaves,
 *	  then what makes answers of the sums.
 *
 * The regressor also for classes, since a classifier's labels would come before
 * calibration.  Forests' leaves are written undivided: the sums of pure leaves
 * are whole numbers, so that ties are ties.
 *
 * The operator has its nodes in columns, each an attribute, while trees come one
 * by one (tree_view.h).  So they are walked twice: for the length of each column,
 * and to fill all columns in place.
 *
 * A split by a set of categories becomes a chain of nodes, each asking for one
 * code and all leading to the same place, as LightGBM's exporters write it: the
 * codes of the smaller side.  Codes out of range, which are in no set, are made
 * -1 before.
 */
#include "learn/export.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "learn/tree_view.h"

enum
{
	TREE, NODE, FEATURE, MODE, VALUE, YES, NO, MISSING, LEAF_TREE, LEAF_NODE, LEAF_TARGET, LEAF_VALUE, COLUMNS
};

static const struct
{
	const char *name;
	int			type;
}			attribute[COLUMNS] =
{
	{"nodes_treeids", MR_ONNX_A_INTS},
	{"nodes_nodeids", MR_ONNX_A_INTS},
	{"nodes_featureids", MR_ONNX_A_INTS},
	{"nodes_modes", MR_ONNX_A_STRINGS},
	{"nodes_values", MR_ONNX_A_FLOATS},
	{"nodes_truenodeids", MR_ONNX_A_INTS},
	{"nodes_falsenodeids", MR_ONNX_A_INTS},
	{"nodes_missing_value_tracks_true", MR_ONNX_A_INTS},
	{"target_treeids", MR_ONNX_A_INTS},
	{"target_nodeids", MR_ONNX_A_INTS},
	{"target_ids", MR_ONNX_A_INTS},
	{"target_weights", MR_ONNX_A_FLOATS},
};

#define FIELD_INTS		8		/* of AttributeProto; numbers are packed */
#define FIELD_FLOATS	7
#define FIELD_STRINGS	9
#define KEY_STRING		(FIELD_STRINGS << 3 | 2)

#define NO_CODE			(-1.0f)	/* what a code out of range becomes */
#define NEVER			(-2.0f)	/* equal to no code */

#define STOP_NODES		4096	/* asked between these whether to stop */

typedef struct writing
{
	lrn_export *e;
	uint8_t    *p;				/* the file; NULL: columns are measured */
	size_t		at[COLUMNS];	/* bytes so far, or where the next go */
	const lrn_tree *tree;
	uint32_t	number;			/* of the tree */
	uint32_t	next;			/* the next free node */
	uint64_t	nodes;			/* of all trees */
	float	   *n_codes;		/* by feature; NaN: numbers */
	bool		categories;		/* there are codes */
} writing;

/* ---- columns ---- */

static void
put_int(writing *w, int column, uint64_t v)
{
	w->at[column] += (size_t) mr_onnx_varint(v, w->p ? w->p + w->at[column] : NULL);
}

static void
put_float(writing *w, int column, float v)
{
	if (w->p)
		memcpy(w->p + w->at[column], &v, sizeof(v));	/* little-endian, as the format is */
	w->at[column] += sizeof(v);
}

static void
put_text(writing *w, int column, const char *s)
{
	size_t		n = strlen(s);

	if (w->p)
	{
		uint8_t    *p = w->p + w->at[column];

		p[0] = KEY_STRING;
		p[1] = (uint8_t) n;
		memcpy(p + 2, s, n);
	}
	w->at[column] += 2 + n;
}

static void
put_node(writing *w, uint32_t id, uint32_t feature, const char *mode, float value, uint32_t yes, uint32_t no, bool missing_yes)
{
	put_int(w, TREE, w->number);
	put_int(w, NODE, id);
	put_int(w, FEATURE, feature);
	put_text(w, MODE, mode);
	put_float(w, VALUE, value);
	put_int(w, YES, yes);
	put_int(w, NO, no);
	put_int(w, MISSING, missing_yes);
	w->nodes++;
}

static void
put_leaf_value(writing *w, uint32_t id, uint32_t target, double value)
{
	put_int(w, LEAF_TREE, w->number);
	put_int(w, LEAF_NODE, id);
	put_int(w, LEAF_TARGET, target);
	put_float(w, LEAF_VALUE, (float) value);
}

/* ---- trees ---- */

/* Zeros of a leaf with a value a margin are left out, but for the first. */
static void
put_leaf(writing *w, uint32_t id, int n_margins)
{
	const lrn_tree *t = w->tree;
	const double *value = t->values + t->node[id].value;

	put_node(w, id, 0, "LEAF", 0, 0, 0, false);
	if (t->margin >= 0)
		put_leaf_value(w, id, (uint32_t) t->margin, *value);
	else
		for (int k = 0; k < n_margins; k++)
			if (k == 0 || value[k] != 0)
				put_leaf_value(w, id, (uint32_t) k, value[k]);
}

/* The node id asks for the first code of the smaller side, new nodes for the others. */
static void
put_set(writing *w, uint32_t id)
{
	const lrn_tree_node *n = &w->tree->node[id];
	const uint32_t *set = w->tree->sets + n->set;
	uint32_t	codes = 32 * set[-1],
				n_left = 0,
				todo;
	bool		left;

	for (uint32_t i = 0; i < set[-1]; i++)
		n_left += (uint32_t) __builtin_popcount(set[i]);
	left = n_left <= codes / 2;
	w->n_codes[n->feature] = (float) codes;
	w->categories = true;
	/* to the right also goes what is no code */
	todo = left ? n_left + (n_left == 0) : codes - n_left + 1;
	for (uint32_t code = 0; todo > 0; code++)
	{
		float		value;

		if (code < codes)
		{
			if ((set[code / 32] >> (code % 32) & 1) != left)
				continue;
			value = (float) code;
		}
		else
			value = left ? NEVER : NO_CODE;
		todo--;
		put_node(w, id, (uint32_t) n->feature, "BRANCH_EQ", value, left ? n->left : n->right,
				 todo ? w->next : left ? n->right : n->left, n->missing_left == left);
		id = w->next;
		w->next += todo > 0;
	}
}

static mr_code
put_tree(writing *w, int n_margins)
{
	const lrn_tree *t = w->tree;

	w->next = t->n_nodes;
	for (uint32_t i = 0; i < t->n_nodes; i++)
	{
		const lrn_tree_node *n = &t->node[i];

		if (n->feature < 0)
			put_leaf(w, i, n_margins);
		else if (n->set)
			put_set(w, i);
		else
			put_node(w, i, (uint32_t) n->feature, "BRANCH_LEQ", n->threshold, n->left, n->right, n->missing_left);
		if (i % STOP_NODES == 0 && mr_interrupted(w->e->env))
			return lrn_canceled(w->e->st);
	}
	return MR_OK;
}

static mr_code
put_trees(writing *w, lrn_trees *trees)
{
	mr_code		code;

	lrn_trees_rewind(trees);
	for (w->number = 0; (code = lrn_trees_next(trees, &w->tree, w->e->st)) == MR_OK && w->tree; w->number++)
		if ((code = put_tree(w, trees->n_margins)) != MR_OK)
			return code;
	if (code == MR_OK && w->number == 0)
	{
		/* boosting that stopped before its first tree: the operator needs one */
		put_node(w, 0, 0, "LEAF", 0, 0, 0, false);
		put_leaf_value(w, 0, 0, 0);
	}
	return code;
}

/* ---- the operator ---- */

/* Codes out of range become NO_CODE; comparisons with NaN leave all else alone. */
static void
put_codes(writing *w, const char *out)
{
	lrn_export *e = w->e;
	int64_t		n = e->m->info.n_features;
	const float no_code = NO_CODE;

	lrn_onnx_floats(e, "code_end", 1, &n, w->n_codes);
	for (int64_t i = 0; i < n; i++)
		w->n_codes[i] = isnan(w->n_codes[i]) ? NAN : 0;
	lrn_onnx_floats(e, "code_start", 1, &n, w->n_codes);
	lrn_onnx_floats(e, "no_code", 0, NULL, &no_code);
	lrn_onnx_op(e, "Less", "below", "X", "code_start", NULL);
	lrn_onnx_op(e, "GreaterOrEqual", "above", "X", "code_end", NULL);
	lrn_onnx_op(e, "Or", "outside", "below", "above", NULL);
	lrn_onnx_op(e, "Where", out, "outside", "no_code", "X", NULL);
}

static mr_code
put_ensemble(writing *w, lrn_trees *trees)
{
	lrn_export *e = w->e;
	size_t		node,
				total = 0;
	mr_code		code = put_trees(w, trees);

	if (code)
		return code;
	if (w->nodes > INT32_MAX)
		return mr_fail(e->st, MR_LIMIT, "the model has more nodes than ONNX Runtime can count");
	for (int c = 0; c < COLUMNS; c++)
		total += w->at[c];
	if (!mr_onnx_reserve(&e->w, total))
		return mr_onnx_code(&e->w, e->st);
	if (w->categories)
		put_codes(w, "codes");
	node = lrn_onnx_node(e, "TreeEnsembleRegressor", "sums", w->categories ? "codes" : "X", NULL);
	mr_onnx_text(&e->w, 7, "ai.onnx.ml");
	mr_onnx_attr_int(&e->w, "n_targets", trees->n_margins);
	mr_onnx_attr_text(&e->w, "aggregate_function", "SUM");
	mr_onnx_attr_text(&e->w, "post_transform", "NONE");
	for (int c = 0; c < COLUMNS; c++)
	{
		size_t		at = mr_onnx_attr_begin(&e->w, attribute[c].name, attribute[c].type);

		if (attribute[c].type != MR_ONNX_A_STRINGS)
			mr_onnx_head(&e->w, attribute[c].type == MR_ONNX_A_INTS ? FIELD_INTS : FIELD_FLOATS, w->at[c]);
		w->at[c] = mr_onnx_gap(&e->w, w->at[c]);
		mr_onnx_end(&e->w, at);
	}
	mr_onnx_end(&e->w, node);
	if (e->w.code != MR_OK)
		return mr_onnx_code(&e->w, e->st);
	w->p = e->w.p;
	return put_trees(w, trees);
}

/* Sums become answers as kernels_predict.h and kernels_pages.h make them. */
static void
put_answers(lrn_export *e, const lrn_trees *trees, const char *out)
{
	int64_t		n = trees->n_margins;

	if (trees->base == NULL)
	{
		const float count = (float) trees->n_trees;

		lrn_onnx_floats(e, "trees", 0, NULL, &count);
		lrn_onnx_op(e, "Div", out, "sums", "trees", NULL);
		return;
	}
	lrn_onnx_cast(e, "sums_wide", "sums", MR_ONNX_DOUBLE);
	lrn_onnx_doubles(e, "base", 1, &n, trees->base);
	lrn_onnx_op(e, "Add", "margins", "sums_wide", "base", NULL);
	if (trees->link == LRN_LINK_SIGMOID)
		lrn_onnx_two_classes(e, "margins", out);
	else if (trees->link == LRN_LINK_SOFTMAX)
		lrn_onnx_softmax(e, "margins", out);
	else
		lrn_onnx_cast(e, out, "margins", MR_ONNX_FLOAT);
}

mr_code
lrn_trees_export(lrn_export *e, const char *out)
{
	writing		w = {.e = e};
	size_t		n = (size_t) e->m->info.n_features;
	lrn_trees	trees;
	mr_code		code = lrn_trees_open(e->env, e->bytes, e->len, &trees, e->st);

	if (code)
		return code;
	w.n_codes = mr_alloc(e->env, n * sizeof(float));
	if (w.n_codes == NULL)
		code = lrn_out_of_memory(e->st);
	else
	{
		for (size_t i = 0; i < n; i++)
			w.n_codes[i] = NAN;
		code = put_ensemble(&w, &trees);
	}
	if (code == MR_OK)
		put_answers(e, &trees, out);
	mr_free(e->env, w.n_codes);
	lrn_trees_close(&trees);
	return code;
}
