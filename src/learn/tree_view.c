/*
 * tree_view.c
 *	  Decoding of tree models, one tree at a time (tree_view.h).
 *
 * The buffers grow to the largest tree and are env's until lrn_trees_close().
 */
#include "learn/tree_view.h"

#include "learn/learner.h"

#include <string.h>

/* At least `need` elements in *buf; keeps what is there. */
static bool
grow(lrn_trees *v, void *buf, size_t *room, size_t need, size_t size, mr_status *st)
{
	void	   *old = *(void **) buf,
			   *grown;
	size_t		want = *room + *room / 2 + 256,
				bytes;

	if (need <= *room)
		return true;
	want = want < need ? need : want;
	grown = mr_mul_size(want, size, &bytes) ? mr_alloc(v->env, bytes) : NULL;
	if (grown == NULL)
	{
		lrn_out_of_memory(st);
		return false;
	}
	if (old)
		memcpy(grown, old, *room * size);
	mr_free(v->env, old);
	*(void **) buf = grown;
	*room = want;
	return true;
}

lrn_tree_node *
lrn_tree_add(lrn_trees *v, mr_status *st)
{
	lrn_tree_node *n;

	if (!grow(v, &v->node, &v->node_room, (size_t) v->tree.n_nodes + 1, sizeof(lrn_tree_node), st))
		return NULL;
	n = &v->node[v->tree.n_nodes++];
	memset(n, 0, sizeof(*n));
	return n;
}

double *
lrn_tree_add_values(lrn_trees *v, size_t n, mr_status *st)
{
	if (!grow(v, &v->value, &v->value_room, v->n_values + n, sizeof(double), st))
		return NULL;
	v->n_values += n;
	memset(v->value + v->n_values - n, 0, n * sizeof(double));
	return v->value + v->n_values - n;
}

uint32_t *
lrn_tree_add_set(lrn_trees *v, size_t n_words, mr_status *st)
{
	if (!grow(v, &v->set, &v->set_room, v->n_sets + n_words, sizeof(uint32_t), st))
		return NULL;
	v->n_sets += n_words;
	memset(v->set + v->n_sets - n_words, 0, n_words * sizeof(uint32_t));
	return v->set + v->n_sets - n_words;
}

double *
lrn_trees_base(lrn_trees *v, mr_status *st)
{
	v->own_base = mr_alloc(v->env, (size_t) v->n_margins * sizeof(double));
	if (v->own_base == NULL)
		lrn_out_of_memory(st);
	else
		memset(v->own_base, 0, (size_t) v->n_margins * sizeof(double));
	v->base = v->own_base;
	return v->own_base;
}

mr_code
lrn_trees_open(const mr_env *env, const uint8_t *bytes, size_t len, lrn_trees *v, mr_status *st)
{
	const lrn_learner *learner;
	mr_code		code;

	memset(v, 0, sizeof(*v));
	v->env = env;
	v->scale = 1;
	code = lrn_check(bytes, len, &v->info, st);
	if (code == MR_OK)
		code = lrn_file_open(bytes, len, &v->info, &v->reader, st);
	if (code)
		return code;
	learner = lrn_learner_of(v->info.algorithm);
	v->format = learner->trees;
	if (v->format == NULL)
		return mr_fail(st, MR_UNSUPPORTED, "a model of %s has no trees", learner->name);
	code = v->format->begin(v, st);
	v->first = v->reader;
	if (code)
		lrn_trees_close(v);
	return code;
}

void
lrn_trees_rewind(lrn_trees *v)
{
	v->reader = v->first;
	v->done = 0;
}

/* Children of nodes in preorder: a leaf is followed by the right child of the
 * innermost node that still waits for one. */
static mr_code
link_nodes(lrn_trees *v, mr_status *st)
{
	uint32_t	n = v->tree.n_nodes,
				waiting = 0;
	uint32_t   *open = mr_alloc(v->env, ((size_t) n + 1) * sizeof(uint32_t));
	mr_code		code = MR_OK;

	if (open == NULL)
		return lrn_out_of_memory(st);
	for (uint32_t i = 0; i < n && code == MR_OK; i++)
	{
		lrn_tree_node *node = &v->node[i];

		if (i > 0 && v->node[i - 1].feature < 0)
		{
			if (waiting == 0)
				code = lrn_corrupt(st, "A tree has a node that cannot be");
			else
				v->node[open[--waiting]].right = i;
		}
		if (node->feature >= 0)
		{
			node->left = i + 1;
			open[waiting++] = i;
		}
	}
	if (code == MR_OK && (n == 0 || waiting > 0 || v->node[n - 1].feature >= 0))
		code = lrn_corrupt(st, "A tree is not complete");
	mr_free(v->env, open);
	return code;
}

mr_code
lrn_trees_next(lrn_trees *v, const lrn_tree **tree, mr_status *st)
{
	mr_code		code;

	*tree = NULL;
	if (v->done == v->n_trees)
		return MR_OK;
	v->tree.n_nodes = 0;
	v->tree.margin = -1;
	v->n_values = v->n_sets = 0;
	code = v->format->next(v, st);
	if (code == MR_OK && v->reader.bad)
		code = lrn_corrupt(st, "A tree ends too early");
	if (code == MR_OK)
		code = link_nodes(v, st);
	if (code)
		return code;
	v->done++;
	v->tree.node = v->node;
	v->tree.values = v->value;
	v->tree.sets = v->set;
	*tree = &v->tree;
	return MR_OK;
}

void
lrn_trees_close(lrn_trees *v)
{
	mr_free(v->env, v->node);
	mr_free(v->env, v->value);
	mr_free(v->env, v->set);
	mr_free(v->env, v->own_base);
	mr_free(v->env, v->own);
	v->node = NULL;
	v->value = NULL;
	v->set = NULL;
	v->own_base = NULL;
	v->own = NULL;
}
