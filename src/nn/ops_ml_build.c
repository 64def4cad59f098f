/*
 * ops_ml_build.c
 *	  ai.onnx.ml: from the attributes of tree ensembles to their flat form.
 *
 * The attributes are lists of nodes with ids, or (TreeEnsemble of version 5)
 * with positions.  Both become a draft; then every tree is walked once, which
 * proves that it is a tree and finds its depth.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/ops_ml_tree.h"

#define ML_MAX_NODES (1 << 28)

/* A node before it is final. */
typedef struct draft_node
{
	float		value;
	uint32_t	feature;
	uint32_t	how;			/* comparisons that go to yes; 0 with leaf */
	int			to[2];			/* no, yes */
	bool		leaf;
	bool		chained;		/* its yes is the next one's too: a set of members */
	bool		seen;
	int			first,			/* weights of a leaf */
				n;
} draft_node;

typedef struct draft
{
	draft_node *nodes;
	int			n_nodes;
	int		   *roots;
	int			n_roots;
	ml_weight  *weights;
	int			n_weights;
	const float *base;
	int			n_base;
	ml_trees	head;
} draft;

/* ---- the flat form ---- */

/* Walk a tree from its root: each inner node is met once.  The stacks have room for all. */
static mr_code
measure(nn_infer_call *c, draft *d, int root, int *stack, uint32_t *depths, uint32_t *depth)
{
	int			n = 1;

	stack[0] = root;
	depths[0] = 0;
	*depth = 0;
	while (n > 0)
	{
		int			i = stack[--n];
		uint32_t	at = depths[n];
		draft_node *t = &d->nodes[i];

		if (t->leaf)
		{
			*depth = at > *depth ? at : *depth;
			continue;
		}
		if (t->seen)
			return nn_infer_fail(c, MR_INVALID, "the nodes do not form trees");
		t->seen = true;
		for (int k = 0; k < 2; k++)
			if (k == 0 || !t->chained)
			{
				stack[n] = t->to[k];
				depths[n++] = at + 1;
			}
	}
	return MR_OK;
}

/*
 * Whatever compares by order asks x <= value: >= and > change their branches, x < value
 * is x <= the float below.  Runs flush denormals: what is below zero, to them, is
 * the least normal number.
 */
static void
make_plain(draft_node *t)
{
	uint32_t	order = t->how & (ml_less | ml_equal | ml_greater);

	if (t->leaf || isnan(t->value) || (order == ml_less && t->value == -INFINITY))
		return;
	if (order == ml_greater || order == (ml_greater | ml_equal))
	{
		int			yes = t->to[1];

		if (order == (ml_greater | ml_equal) && t->value == -INFINITY)
			return;
		t->to[1] = t->to[0];
		t->to[0] = yes;
		t->how ^= ml_less | ml_equal | ml_greater | ml_unordered;
		order ^= ml_less | ml_equal | ml_greater;
	}
	if (order == ml_less)
	{
		t->value = fabsf(t->value) < FLT_MIN ? -FLT_MIN : nextafterf(t->value, -INFINITY);
		t->how |= ml_equal;
	}
}

static bool
is_plain(const draft_node *t)
{
	return t->leaf || (t->how & (ml_less | ml_equal | ml_greater)) == (ml_less | ml_equal);
}

static mr_code
attach_trees(nn_infer_call *c, draft *d)
{
	ml_trees   *h = &d->head;
	nn_heap    *heap = c->g->heap;
	int		   *stack = nn_heap_alloc(heap, (size_t) d->n_nodes + 2, sizeof(int));
	uint32_t   *depths = nn_heap_alloc(heap, (size_t) d->n_nodes + 2, sizeof(uint32_t));
	uint8_t    *p;
	void	   *data;

	if (stack == NULL || depths == NULL)
		return c->g->st->code;
	if (d->n_roots < 1 || h->n_targets < 1 || h->n_targets > ML_MAX_TARGETS ||
		(d->n_base != 0 && d->n_base != 1 && d->n_base != (int) h->n_targets))
		return nn_infer_fail(c, MR_UNSUPPORTED, "%d trees, %u targets and %d base values are not supported", d->n_roots,
							 h->n_targets, d->n_base);
	h->n_trees = (uint32_t) d->n_roots;
	h->n_nodes = (uint32_t) d->n_nodes;
	h->n_weights = (uint32_t) d->n_weights;
	h->n_base = (uint32_t) d->n_base;
	h->plain = 1;
	for (int i = 0; i < d->n_nodes; i++)
	{
		draft_node *t = &d->nodes[i];

		make_plain(t);
		h->plain = h->plain && is_plain(t);
		if (!t->leaf && t->feature >= h->columns)
			h->columns = t->feature + 1;
	}
	NN_TRY(nn_ml_attach(c, nn_int32, (int64_t) ((ml_trees_size(h) + 3) / 4), &data));
	p = data;
	memcpy(p, h, sizeof(*h));
	p += sizeof(*h);
	for (int i = 0; i < d->n_nodes; i++, p += sizeof(ml_node))
	{
		const draft_node *t = &d->nodes[i];
		ml_node    *n = (ml_node *) (void *) p;

		if (t->leaf)
		{
			n->u.first = (uint32_t) t->first;
			n->feature = (uint32_t) t->n;
			n->to[0] = n->to[1] = (uint32_t) i;
			continue;
		}
		n->u.value = t->value;
		n->feature = t->feature | t->how << ML_COUNT_BITS;
		n->to[0] = (uint32_t) t->to[0];
		n->to[1] = (uint32_t) t->to[1];
	}
	for (int i = 0; i < d->n_roots; i++, p += sizeof(ml_root))
	{
		ml_root    *r = (ml_root *) (void *) p;

		if ((i & 63) == 63 && mr_interrupted(c->g->env))
			return mr_fail(c->g->st, MR_CANCELED, "canceled while compiling a model");
		r->node = (uint32_t) d->roots[i];
		NN_TRY(measure(c, d, d->roots[i], stack, depths, &r->depth));
	}
	if (d->n_weights)
		memcpy(p, d->weights, (size_t) d->n_weights * sizeof(ml_weight));
	p += (size_t) d->n_weights * sizeof(ml_weight);
	if (d->n_base)
		memcpy(p, d->base, (size_t) d->n_base * sizeof(float));
	return MR_OK;
}

/* Comparison `mode` (0 LEQ, 1 LT, 2 GTE, 3 GT, 4 EQ, 5 NEQ) of a node. */
static uint32_t
how_of(int mode, bool nan_is_yes)
{
	static const uint8_t how[] = {
		ml_less | ml_equal, ml_less, ml_greater | ml_equal, ml_greater, ml_equal, ml_less | ml_greater | ml_unordered
	};

	return how[mode] | (nan_is_yes ? ml_unordered : 0u);
}

/* ---- versions 1 to 3: nodes with ids, weights by ids ---- */

typedef struct node_id
{
	int64_t		tree,
				node;
	int			at;
} node_id;

static int
by_id(const void *a, const void *b)
{
	const node_id *p = a,
			   *q = b;

	return p->tree != q->tree ? (p->tree < q->tree ? -1 : 1) : p->node != q->node ? (p->node < q->node ? -1 : 1) : 0;
}

static int
find_node(const node_id *ids, int n, int64_t tree, int64_t node)
{
	node_id		key = {tree, node, 0};
	const node_id *hit = bsearch(&key, ids, (size_t) n, sizeof(key), by_id);

	return hit ? hit->at : -1;
}

/* A list of floats that version 3 also has as a tensor. */
static mr_code
floats_or_tensor(nn_infer_call *c, const char *name, const char *as_tensor, const float **list, int *n)
{
	nn_tensor	t;

	NN_TRY(nn_ml_floats(c, name, list, n));
	if (*n)
		return MR_OK;
	NN_TRY(nn_ml_tensor(c, as_tensor, &t));
	if (t.elements && (t.dtype != nn_float32 || t.elements > ML_MAX_NODES))
		return nn_infer_fail(c, MR_INVALID, "attribute %s has the wrong type", as_tensor);
	*list = t.data;
	*n = (int) t.elements;
	return MR_OK;
}

/* Weights of leaves: counted, then put where the leaf's begin. */
static mr_code
read_weights(nn_infer_call *c, draft *d, const node_id *ids, bool classifier)
{
	const char *prefix = classifier ? "class" : "target";
	static const char *const kinds[] = {"treeids", "nodeids", "ids"};
	const int64_t *list[3];
	const float *weights;
	char		name[32],
				as_tensor[32];
	int			n[4];
	int			at = 0;
	int64_t		only = -1;

	for (int i = 0; i < 3; i++)
	{
		snprintf(name, sizeof(name), "%s_%s", prefix, kinds[i]);
		NN_TRY(nn_ml_ints(c, name, &list[i], &n[i]));
	}
	snprintf(name, sizeof(name), "%s_weights", prefix);
	snprintf(as_tensor, sizeof(as_tensor), "%s_weights_as_tensor", prefix);
	NN_TRY(floats_or_tensor(c, name, as_tensor, &weights, &n[3]));
	if (n[0] < 1 || n[1] != n[0] || n[2] != n[0] || n[3] != n[0])
		return nn_infer_fail(c, MR_INVALID, "the lists of weights have different lengths");
	d->weights = nn_heap_alloc(c->g->heap, (size_t) n[0], sizeof(ml_weight));
	if (d->weights == NULL)
		return c->g->st->code;
	d->head.positive = d->head.one_class = 1;
	for (int pass = 0; pass < 2; pass++)
	{
		for (int i = 0; i < n[0]; i++)
		{
			int			k = find_node(ids, d->n_nodes, list[0][i], list[1][i]);
			draft_node *t = k < 0 ? NULL : &d->nodes[k];

			if (t == NULL || list[2][i] < 0 || list[2][i] >= d->head.n_targets)
				return nn_infer_fail(c, MR_INVALID, "weight %d belongs to no node or no target", i);
			if (!t->leaf)
				continue;
			if (pass)
			{
				d->weights[t->first + t->n].target = (uint32_t) list[2][i];
				d->weights[t->first + t->n].value = weights[i];
				d->head.positive = d->head.positive && weights[i] >= 0;
				d->head.one_class = d->head.one_class && (only < 0 || only == list[2][i]);
				only = list[2][i];
			}
			t->n++;
		}
		for (int i = 0; pass == 0 && i < d->n_nodes; i++)
		{
			d->nodes[i].first = at;
			at += d->nodes[i].n;
			d->nodes[i].n = 0;
		}
	}
	d->n_weights = at;
	return MR_OK;
}

/*
 * Is a node one of a chain of comparisons for equality that all lead to the same
 * yes?  So exporters write a set of categories (LightGBM's, ours).
 */
static bool
continues(const draft *d, const draft_node *t)
{
	const draft_node *next = &d->nodes[t->to[0]];

	return !t->leaf && !next->leaf && (t->how & ~(uint32_t) ml_unordered) == ml_equal && next->how == t->how &&
		next->feature == t->feature && next->to[1] == t->to[1];
}

mr_code
nn_ml_build_trees(nn_infer_call *c, bool classifier, int64_t n_targets)
{
	static const char *const names[] = {
		"nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids"
	};
	static const char *const mode_names[] = {
		"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "LEAF"
	};
	static const char *const aggregates[] = {"AVERAGE", "SUM", "MIN", "MAX"};
	const int64_t *list[5],
			   *missing;
	const float *values;
	const pb_bytes *modes;
	int			n[8];
	int64_t		post;
	char		aggregate[32];
	draft		d = {0};
	node_id    *ids;

	for (int i = 0; i < 5; i++)
		NN_TRY(nn_ml_ints(c, names[i], &list[i], &n[i]));
	NN_TRY(nn_ml_ints(c, "nodes_missing_value_tracks_true", &missing, &n[5]));
	NN_TRY(nn_ml_strings(c, "nodes_modes", &modes, &n[6]));
	NN_TRY(floats_or_tensor(c, "nodes_values", "nodes_values_as_tensor", &values, &n[7]));
	NN_TRY(floats_or_tensor(c, "base_values", "base_values_as_tensor", &d.base, &d.n_base));
	NN_TRY(nn_ml_get_post(c, &post));
	if (!nn_get_string(c, "aggregate_function", "SUM", aggregate))
		return nn_infer_fail(c, MR_INVALID, "unknown aggregate_function");
	while (d.head.aggregate < 4 && strcmp(aggregate, aggregates[d.head.aggregate]) != 0)
		d.head.aggregate++;
	for (int i = 1; i < 8; i++)
		if (n[i] != n[0] && !(i == 5 && n[i] == 0))
			return nn_infer_fail(c, MR_INVALID, "the lists of nodes have different lengths");
	if (n[0] < 1 || n[0] > ML_MAX_NODES || n_targets < 1 || n_targets > ML_MAX_TARGETS || d.head.aggregate > ml_max ||
		(classifier && d.head.aggregate != ml_sum))
		return nn_infer_fail(c, MR_INVALID, "no nodes, no targets, or an unknown aggregate_function");
	d.head.post = (uint32_t) post;
	d.head.n_targets = (uint32_t) n_targets;
	d.n_nodes = n[0];
	d.nodes = nn_heap_alloc(c->g->heap, (size_t) n[0], sizeof(draft_node));
	d.roots = nn_heap_alloc(c->g->heap, (size_t) n[0], sizeof(int));
	ids = nn_heap_alloc(c->g->heap, (size_t) n[0], sizeof(node_id));
	if (d.nodes == NULL || d.roots == NULL || ids == NULL)
		return c->g->st->code;
	for (int i = 0; i < n[0]; i++)
	{
		draft_node *t = &d.nodes[i];
		int			mode = 0;

		while (mode < 7 && (strlen(mode_names[mode]) != modes[i].len || memcmp(mode_names[mode], modes[i].p, modes[i].len) != 0))
			mode++;
		if (mode == 7 || list[2][i] < 0 || list[2][i] >= ML_COUNT_MASK)
			return nn_infer_fail(c, MR_INVALID, "node %d has an unknown mode or feature", i);
		t->leaf = mode == 6;
		t->feature = (uint32_t) list[2][i];
		t->value = values[i];
		t->how = t->leaf ? 0 : how_of(mode, n[5] && missing[i] == 1);
		ids[i].tree = list[0][i];
		ids[i].node = list[1][i];
		ids[i].at = i;
		/* a tree's first node is its root */
		if (i == 0 || list[0][i] != list[0][i - 1])
			d.roots[d.n_roots++] = i;
	}
	qsort(ids, (size_t) n[0], sizeof(node_id), by_id);
	for (int i = 1; i < n[0]; i++)
		if (by_id(&ids[i - 1], &ids[i]) == 0)
			return nn_infer_fail(c, MR_INVALID, "a node is there twice");
	for (int i = 0; i < n[0]; i++)
		for (int k = 0; k < 2 && !d.nodes[i].leaf; k++)
			if ((d.nodes[i].to[k] = find_node(ids, n[0], list[0][i], list[4 - k][i])) < 0)
				return nn_infer_fail(c, MR_INVALID, "node %d leads nowhere", i);
	for (int i = 0; i < n[0]; i++)
		d.nodes[i].chained = continues(&d, &d.nodes[i]);
	NN_TRY(read_weights(c, &d, ids, classifier));
	return attach_trees(c, &d);
}

/* ---- version 5: positions; leaves and inner nodes apart ---- */

/*
 * Draft nodes: first all leaves, then inner nodes in order, a node of a set of
 * members as a chain of comparisons for equality.  start[i]: node i's first.
 */
static mr_code
chain_members(nn_infer_call *c, draft *d, int n, int n_leaves, const uint8_t *modes, const nn_tensor *members, int *start)
{
	const float *m = members->data;
	int64_t		at = 0,
				total = n_leaves;

	for (int i = 0; i < n; i++)
	{
		start[i] = (int) total;
		total++;
		if (modes[i] != 6)
			continue;
		if (at >= members->elements || isnan(m[at]))
			return nn_infer_fail(c, MR_INVALID, "node %d has no members", i);
		while (++at < members->elements && !isnan(m[at]))
			total++;
		at++;
	}
	if (total > ML_MAX_NODES)
		return nn_infer_fail(c, MR_LIMIT, "too many nodes");
	d->n_nodes = (int) total;
	d->nodes = nn_heap_alloc(c->g->heap, (size_t) total, sizeof(draft_node));
	return d->nodes ? MR_OK : c->g->st->code;
}

mr_code
nn_ml_build_trees5(nn_infer_call *c)
{
	static const char *const names[] = {
		"nodes_featureids", "nodes_falsenodeids", "nodes_truenodeids", "nodes_falseleafs", "nodes_trueleafs",
		"nodes_missing_value_tracks_true", "tree_roots", "leaf_targetids"
	};
	const int64_t *list[8];
	int			n[8];
	nn_tensor	modes,
				splits,
				members,
				weights;
	int64_t		aggregate,
				post,
				targets,
				member = 0;
	draft		d = {0};
	int		   *start;

	for (int i = 0; i < 8; i++)
		NN_TRY(nn_ml_ints(c, names[i], &list[i], &n[i]));
	NN_TRY(nn_ml_tensor(c, "nodes_modes", &modes));
	NN_TRY(nn_ml_tensor(c, "nodes_splits", &splits));
	NN_TRY(nn_ml_tensor(c, "membership_values", &members));
	NN_TRY(nn_ml_tensor(c, "leaf_weights", &weights));
	NN_TRY(nn_get_int(c, "aggregate_function", ml_sum, &aggregate));
	NN_TRY(nn_get_int(c, "post_transform", nn_ml_none, &post));
	NN_TRY(nn_get_int(c, "n_targets", 1, &targets));
	for (int i = 0; i < 6; i++)
		if (n[i] != n[0] && !(i == 5 && n[i] == 0))
			return nn_infer_fail(c, MR_INVALID, "the lists of nodes have different lengths");
	if (n[0] < 1 || n[6] < 1 || n[7] < 1 || n[0] > ML_MAX_NODES || n[7] > ML_MAX_NODES || modes.dtype != nn_uint8 ||
		splits.dtype != nn_float32 || weights.dtype != nn_float32 || modes.elements != n[0] || splits.elements != n[0] ||
		weights.elements != n[7] || (members.elements && members.dtype != nn_float32) || aggregate < 0 || aggregate > ml_max ||
		post < 0 || post > nn_ml_probit || targets < 1 || targets > ML_MAX_TARGETS)
		return nn_infer_fail(c, MR_INVALID, "the attributes do not fit each other");
	for (int i = 0; i < n[0]; i++)
		if (((uint8_t *) modes.data)[i] > 6)
			return nn_infer_fail(c, MR_INVALID, "node %d has an unknown mode", i);
	start = nn_heap_alloc(c->g->heap, (size_t) n[0], sizeof(int));
	d.roots = nn_heap_alloc(c->g->heap, (size_t) n[6], sizeof(int));
	d.weights = nn_heap_alloc(c->g->heap, (size_t) n[7], sizeof(ml_weight));
	if (start == NULL || d.roots == NULL || d.weights == NULL)
		return c->g->st->code;
	NN_TRY(chain_members(c, &d, n[0], n[7], modes.data, &members, start));
	d.head.aggregate = (uint32_t) aggregate;
	d.head.post = (uint32_t) post;
	d.head.n_targets = (uint32_t) targets;
	for (d.n_weights = 0; d.n_weights < n[7]; d.n_weights++)
	{
		draft_node *t = &d.nodes[d.n_weights];
		int64_t		target = list[7][d.n_weights];

		if (target < 0 || target >= targets)
			return nn_infer_fail(c, MR_INVALID, "leaf %d has no target", d.n_weights);
		t->leaf = true;
		t->first = d.n_weights;
		t->n = 1;
		d.weights[d.n_weights].target = (uint32_t) target;
		d.weights[d.n_weights].value = ((float *) weights.data)[d.n_weights];
	}
	for (int i = 0; i < n[0]; i++)
	{
		int			mode = ((uint8_t *) modes.data)[i];
		int			end = i + 1 < n[0] ? start[i + 1] : d.n_nodes;
		int			to[2];

		for (int k = 0; k < 2; k++)
		{
			int64_t		at = list[1 + k][i];

			if (at < 0 || at >= (list[3 + k][i] ? n[7] : n[0]) || list[0][i] < 0 || list[0][i] >= ML_COUNT_MASK)
				return nn_infer_fail(c, MR_INVALID, "node %d leads nowhere or has no feature", i);
			to[k] = list[3 + k][i] ? (int) at : start[at];
		}
		for (int k = start[i]; k < end; k++)
		{
			draft_node *t = &d.nodes[k];

			t->feature = (uint32_t) list[0][i];
			t->value = mode == 6 ? ((float *) members.data)[member++] : ((float *) splits.data)[i];
			t->how = how_of(mode == 6 ? 4 : mode, n[5] && list[5][i] == 1);
			t->chained = k + 1 < end;
			t->to[0] = t->chained ? k + 1 : to[0];
			t->to[1] = to[1];
		}
		member += mode == 6;	/* the NaN behind the set */
	}
	for (; d.n_roots < n[6]; d.n_roots++)
	{
		if (list[6][d.n_roots] < 0 || list[6][d.n_roots] >= n[0])
			return nn_infer_fail(c, MR_INVALID, "tree %d has no root", d.n_roots);
		d.roots[d.n_roots] = start[list[6][d.n_roots]];
	}
	return attach_trees(c, &d);
}
