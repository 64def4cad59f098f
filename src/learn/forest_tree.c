/*
 * forest_tree.c
 *	  Grow one tree, depth first, left child before right: nodes come out in
 *	  the order in which model bytes hold them.
 *
 * The rows of a node are a stretch of b->item; a split partitions the stretch
 * stably, so that rows stay in ascending order and the gathers of values run
 * forward through memory.
 */
#include "learn/forest.h"

#include <math.h>
#include <string.h>

typedef struct todo
{
	uint32_t	start,
				n;
	uint32_t	parent;			/* whose right child this is; UINT32_MAX = left or root */
	uint32_t	depth;
} todo;

/* Rows to the left first; returns how many. */
static uint32_t
partition(forest_builder *b, forest_item *items, uint32_t n, const forest_split *s)
{
	const float *x = b->m->col[s->feature];
	forest_item *tmp = b->item_tmp;
	uint32_t	l = 0,
				r = 0;

	for (uint32_t i = 0; i < n; i++)
	{
		forest_item it = items[i];
		bool		left = forest_goes_left(x[ITEM_ROW(it)], s->threshold, s->missing_left);

		items[l] = it;
		tmp[r] = it;
		l += left;
		r += !left;
	}
	memcpy(items + l, tmp, r * sizeof(forest_item));
	return l;
}

/* Room for one more node and one more mixed leaf. */
static mr_code
reserve(forest_builder *b, mr_status *st)
{
	if (b->n_nodes == b->size_nodes)
	{
		uint32_t	size = b->size_nodes ? b->size_nodes * 2 : 1024;
		forest_node *grown = forest_alloc(b, size, sizeof(forest_node), st);

		if (grown == NULL)
			return st->code;
		if (b->n_nodes)
			memcpy(grown, b->node, b->n_nodes * sizeof(forest_node));
		mr_free(b->env, b->node);
		b->memory -= b->size_nodes * sizeof(forest_node);
		b->node = grown;
		b->size_nodes = size;
	}
	if (b->n_dist + (size_t) b->n_classes > b->size_dist)
	{
		size_t		size = b->size_dist * 2 + (size_t) b->n_classes * 64;
		float	   *grown = forest_alloc(b, size, sizeof(float), st);

		if (grown == NULL)
			return st->code;
		if (b->n_dist)
			memcpy(grown, b->dist, b->n_dist * sizeof(float));
		mr_free(b->env, b->dist);
		b->memory -= b->size_dist * sizeof(float);
		b->dist = grown;
		b->size_dist = size;
	}
	return MR_OK;
}

/*
 * Sum up the rows of a node into b->total, and list what keys alone cannot
 * tell: weights and values by number within the node.
 */
static forest_sums
sum_rows(forest_builder *b, const forest_item *items, uint32_t n)
{
	forest_sums s = {0};
	double	   *total = b->total;

	memset(total, 0, (size_t) b->n_classes * sizeof(double));
	if (b->regress)
	{
		const float *value = b->target->value;
		float		first = value[ITEM_ROW(items[0])];

		s.pure = true;
		for (uint32_t i = 0; i < n; i++)
		{
			uint32_t	row = ITEM_ROW(items[i]);
			double		w = ITEM_COUNT(items[i]);

			if (b->target->weight)
				w *= (double) b->target->weight[row];
			b->row_weight[i] = w;
			b->row_value[i] = w * ((double) value[row] - b->centre);
			total[0] += b->row_value[i];
			s.weight += w;
			s.pure &= value[row] == first;
		}
		return s;
	}
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t	c = ITEM_CLASS(items[i]);
		double		w = ITEM_COUNT(items[i]);

		if (b->weighing != FOREST_COUNTS)
			w *= b->class_weight[c];
		if (b->weighing == FOREST_ROW_WEIGHTS)
		{
			w *= (double) b->target->weight[ITEM_ROW(items[i])];
			b->row_weight[i] = w;
		}
		total[c] += w;
	}
	s.pure = true;
	for (int c = 0; c < b->n_classes; c++)
	{
		s.pure &= total[c] == 0 || s.weight == 0;
		s.class = total[c] > 0 ? c : s.class;
		s.weight += total[c];
	}
	return s;
}

/* A leaf: its class, its classes' shares, or the mean of its values. */
static void
make_leaf(forest_builder *b, forest_node *node, const forest_sums *s)
{
	node->feature = -1;
	node->pure = s->pure && !b->regress;
	if (node->pure)
	{
		node->leaf = (uint32_t) s->class;
		return;
	}
	node->leaf = (uint32_t) b->n_dist;
	for (int c = 0; c < b->n_classes; c++)
		b->dist[b->n_dist++] = (float) (b->total[c] / s->weight + b->centre);
}

/*
 * Impurity taken away by a split, as scikit-learn counts it:
 * N_t/N * (impurity - N_l/N_t * left - N_r/N_t * right).
 */
static double
decrease(const forest_builder *b, const forest_split *s, double weight)
{
	return (s->score - forest_score_of(b, b->total, weight)) / b->root_weight;
}

mr_code
forest_grow(forest_builder *b, mr_status *st)
{
	todo	   *stack = NULL;
	uint32_t	size = 0,
				used = 0;
	mr_code		code = MR_OK;

	b->n_nodes = 0;
	b->n_dist = 0;
	b->root_weight = 0;

	/* Depth first leaves at most one open right child a level. */
	size = 64;
	stack = forest_alloc(b, size, sizeof(todo), st);
	if (stack == NULL)
		return st->code;
	stack[used++] = (todo) {0, b->n_items, UINT32_MAX, 0};

	while (used > 0 && code == MR_OK)
	{
		todo		t = stack[--used];
		forest_item *items = b->item + t.start;
		forest_node *node;
		forest_split split = {.feature = -1};
		forest_sums sums;
		uint32_t	n_left;

		code = reserve(b, st);
		if (code)
			break;
		if (t.parent != UINT32_MAX)
			b->node[t.parent].right = b->n_nodes;

		sums = sum_rows(b, items, t.n);
		if (t.depth == 0)
			b->root_weight = sums.weight;
		if ((int) t.depth > b->depth)
			b->depth = (int) t.depth;

		if (!sums.pure && t.n >= b->min_split && t.n >= 2 * b->min_leaf &&
			(b->max_depth == 0 || (int) t.depth < b->max_depth))
		{
			code = forest_best_split(b, items, t.n, sums.weight, &split, st);
			if (code)
				break;
			if (split.feature >= 0 && b->p->min_impurity_decrease > 0 &&
				decrease(b, &split, sums.weight) + 2.220446049250313e-16 < b->p->min_impurity_decrease)
				split.feature = -1;
		}

		node = &b->node[b->n_nodes++];
		node->cover = sums.weight;
		node->right = 0;
		if (split.feature < 0)
		{
			make_leaf(b, node, &sums);
			continue;
		}
		node->feature = split.feature;
		node->threshold = split.threshold;
		node->missing_left = split.missing_left;
		node->pure = false;
		node->leaf = 0;
		n_left = partition(b, items, t.n, &split);
		if (n_left == 0 || n_left == t.n)
		{
			code = mr_fail(st, MR_INTERNAL, "a split of %u rows left one side empty", t.n);
			break;
		}
		if (used + 2 > size)
		{
			todo	   *grown = forest_alloc(b, size * 2, sizeof(todo), st);

			if (grown == NULL)
			{
				code = st->code;
				break;
			}
			memcpy(grown, stack, used * sizeof(todo));
			mr_free(b->env, stack);
			b->memory -= size * sizeof(todo);
			stack = grown;
			size *= 2;
		}
		stack[used++] = (todo) {t.start + n_left, t.n - n_left, b->n_nodes - 1, t.depth + 1};
		stack[used++] = (todo) {t.start, n_left, UINT32_MAX, t.depth + 1};
		code = forest_work(b, (int64_t) t.n * 2 + b->n_classes, st);
	}
	mr_free(b->env, stack);
	b->memory -= size * sizeof(todo);
	return code;
}
