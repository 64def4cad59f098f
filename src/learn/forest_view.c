/*
 * forest_view.c
 *	  A forest's trees for tree_view.h: shares, or values, of every leaf, and
 *	  what each split took away, which covers and leaves tell between them.
 */
#include "learn/forest.h"
#include "learn/tree_view.h"

#include <math.h>
#include <string.h>

static mr_code
begin(lrn_trees *v, mr_status *st)
{
	forest_head head;
	mr_code		code = forest_read_head(&v->reader, &head, st);

	if (code)
		return code;
	v->n_trees = head.n_trees;
	v->n_margins = v->info.n_outputs;
	v->scale = 1.0 / head.n_trees;
	v->option = (int) head.flags;
	return MR_OK;
}

static mr_code
add_leaf(lrn_trees *v, const forest_raw *raw, uint32_t at, mr_status *st)
{
	lrn_reader	list = {raw->list, v->reader.end, false};
	double	   *value = lrn_tree_add_values(v, (size_t) v->n_margins, st);

	if (value == NULL)
		return st->code;
	if (v->n_values > UINT32_MAX)
		return mr_fail(st, MR_LIMIT, "a tree is too large to walk");
	v->node[at].feature = -1;
	v->node[at].value = (uint32_t) (v->n_values - (size_t) v->n_margins);
	if (v->info.task == LRN_REGRESS)
		value[0] = (double) raw->value;
	else if (raw->n_shares == 0)
		value[raw->class] = 1;
	for (uint32_t i = 0; i < raw->n_shares; i++)
	{
		uint32_t	class = (uint32_t) lrn_get_varint(&list);

		value[class] = (double) lrn_get_f32(&list);
	}
	return MR_OK;
}

/*
 * Gains from the bottom up: the mean of a node's leaves, by cover, is what the
 * node held.  What a split takes away of Gini or the squared error, weighed:
 * W_l W_r / W x the squared distance of the two means; of entropy: W H - W_l
 * H_l - W_r H_r.
 */
typedef struct gain_stack
{
	double	   *sum;			/* n_margins an entry: cover x mean */
	double	   *cover;
	uint32_t	used;
} gain_stack;

/* Sum of w ln w over classes, less that of all: - W H. */
static double
negentropy(const double *sum, double cover, int n)
{
	double		s = cover > 0 ? -cover * log(cover) : 0;

	for (int c = 0; c < n; c++)
		s += sum[c] > 0 ? sum[c] * log(sum[c]) : 0;
	return s;
}

static double
distance(const double *left, double w_left, const double *right, double w_right, int n)
{
	double		s = 0;

	if (!(w_left > 0) || !(w_right > 0))
		return 0;
	for (int c = 0; c < n; c++)
	{
		double		d = left[c] / w_left - right[c] / w_right;

		s += d * d;
	}
	return s * w_left * w_right / (w_left + w_right);
}

/* Nodes in preorder from the last to the first: children before parents, the
 * left child of a node on top of its right one. */
static mr_code
set_gains(lrn_trees *v, mr_status *st)
{
	int			k = v->n_margins;
	bool		entropy = v->option & FOREST_FLAG_ENTROPY;
	size_t		room = (size_t) v->tree.n_nodes / 2 + 2;
	gain_stack	s = {0};
	mr_code		code = MR_OK;

	s.sum = mr_alloc(v->env, room * (size_t) k * sizeof(double));
	s.cover = mr_alloc(v->env, room * sizeof(double));
	if (s.sum == NULL || s.cover == NULL)
		code = lrn_out_of_memory(st);
	for (uint32_t i = v->tree.n_nodes; i-- > 0 && code == MR_OK;)
	{
		lrn_tree_node *n = &v->node[i];
		double	   *top = s.sum + (size_t) s.used * (size_t) k;

		if (n->feature < 0)
		{
			for (int c = 0; c < k; c++)
				top[c] = v->value[n->value + (uint32_t) c] * n->cover;
			s.cover[s.used++] = n->cover;
			continue;
		}
		if (s.used < 2)
			code = lrn_corrupt(st, "A tree is not complete");
		else
		{
			double	   *left = top - k,
					   *right = left - k;
			double		w_left = s.cover[s.used - 1],
						w_right = s.cover[s.used - 2];

			n->gain = entropy ? negentropy(left, w_left, k) + negentropy(right, w_right, k) :
				distance(left, w_left, right, w_right, k);
			for (int c = 0; c < k; c++)
				right[c] += left[c];
			s.cover[--s.used - 1] = w_left + w_right;
			if (entropy)
				n->gain = fmax(n->gain - negentropy(right, w_left + w_right, k), 0);
		}
	}
	mr_free(v->env, s.sum);
	mr_free(v->env, s.cover);
	return code;
}

static mr_code
next(lrn_trees *v, mr_status *st)
{
	forest_head head = {v->n_trees, (uint32_t) v->option};
	uint64_t	n = lrn_get_varint(&v->reader);

	for (uint64_t i = 0; i < n; i++)
	{
		forest_raw	raw;
		lrn_tree_node *node;
		mr_code		code;

		if (!forest_read_node(&v->reader, &v->info, &head, &raw))
			return lrn_corrupt(st, "A tree has a node that cannot be");
		node = lrn_tree_add(v, st);
		if (node == NULL)
			return st->code;
		node->cover = raw.cover;
		node->feature = (int32_t) raw.feature;
		node->threshold = raw.threshold;
		node->missing_left = raw.missing_left;
		if (raw.leaf && (code = add_leaf(v, &raw, (uint32_t) i, st)) != MR_OK)
			return code;
	}
	return set_gains(v, st);
}

const lrn_tree_format lrn_forest_trees = {begin, next};
