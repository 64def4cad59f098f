/*
 * forest_file.c
 *	  A forest's model bytes (forest_train.c tells the format) read and checked.
 */
#include "learn/forest.h"

#include <math.h>
#include <string.h>

mr_code
forest_read_head(lrn_reader *r, forest_head *head, mr_status *st)
{
	uint64_t	trees = lrn_get_varint(r),
				flags = 0;

	if (trees == 0)
	{
		flags = lrn_get_varint(r);
		trees = lrn_get_varint(r);
	}
	if (r->bad || flags > (FOREST_FLAG_WEIGHTS | FOREST_FLAG_ENTROPY))
		return lrn_corrupt(st, "Its body has a flag that is not known");
	if (trees < 1 || trees > (uint64_t) (r->end - r->p))
		return lrn_corrupt(st, "The number of trees is out of range");
	head->n_trees = (uint32_t) trees;
	head->flags = (uint32_t) flags;
	return MR_OK;
}

/* What follows a leaf's tag. */
static bool
read_leaf(lrn_reader *r, const lrn_info *info, bool mixed, uint64_t v, forest_raw *n)
{
	if (info->task == LRN_REGRESS)
	{
		n->value = lrn_get_f32(r);
		return !mixed && v == 0 && isfinite(n->value);
	}
	if (!mixed)
	{
		n->class = (uint32_t) v;
		return v < (uint64_t) info->n_classes;
	}
	if (v < 1 || v > (uint64_t) info->n_classes)
		return false;
	n->n_shares = (uint32_t) v;
	n->list = r->p;
	for (uint32_t i = 0; i < n->n_shares; i++)
	{
		uint64_t	class = lrn_get_varint(r);
		float		share = lrn_get_f32(r);

		if (r->bad || class >= (uint64_t) info->n_classes || !(share >= 0 && share <= 1))
			return false;
	}
	return true;
}

bool
forest_read_node(lrn_reader *r, const lrn_info *info, const forest_head *head, forest_raw *n)
{
	uint64_t	tag = lrn_get_varint(r);
	uint64_t	v = tag >> 2;

	memset(n, 0, sizeof(*n));
	n->leaf = tag & 1;
	if (n->leaf)
	{
		if (!read_leaf(r, info, tag & 2, v, n))
			return false;
	}
	else
	{
		n->missing_left = (tag >> 1) & 1;
		n->threshold = lrn_get_f32(r);
		if (v >= (uint64_t) info->n_features || isnan(n->threshold))
			return false;
		n->feature = (uint32_t) v;
	}
	if (head->flags & FOREST_FLAG_WEIGHTS)
	{
		n->cover = lrn_get_f32(r);
		return !r->bad && n->cover >= 0 && isfinite(n->cover);
	}
	n->cover = (double) lrn_get_varint(r);
	return !r->bad;
}

/*
 * Walk the whole stream.  A preorder stream of n nodes is one tree if the
 * number of open places, which starts at 1, loses 1 with each leaf, gains 1
 * with each inner node and meets 0 exactly at the end.
 */
mr_code
forest_measure(lrn_reader *r, const lrn_info *info, forest_size *size, mr_status *st)
{
	mr_code		code;

	memset(size, 0, sizeof(*size));
	code = forest_read_head(r, &size->head, st);
	if (code)
		return code;
	for (uint64_t t = 0; t < size->head.n_trees; t++)
	{
		uint64_t	n = lrn_get_varint(r);
		uint64_t	open = 1;

		if (r->bad || n < 1 || n > (uint64_t) (r->end - r->p))
			return lrn_corrupt(st, "The number of nodes is out of range");
		for (uint64_t i = 0; i < n; i++)
		{
			forest_raw	node;

			if (open == 0 || !forest_read_node(r, info, &size->head, &node))
				return lrn_corrupt(st, "A tree has a node that cannot be");
			open = node.leaf ? open - 1 : open + 1;
			if (node.n_shares)
				size->n_shares += node.n_shares + 1;
		}
		if (open != 0)
			return lrn_corrupt(st, "A tree is not complete");
		size->n_nodes += n;
		if (n > size->max_nodes)
			size->max_nodes = n;
	}
	if (r->p != r->end)
		return lrn_corrupt(st, "Something follows the last tree");
	if (size->n_nodes > UINT32_MAX - 16 || size->n_shares >= LRN_PURE)
		return mr_fail(st, MR_LIMIT, "forest is too large to predict with");
	return MR_OK;
}

mr_code
lrn_forest_check(lrn_reader *r, const lrn_info *info, mr_status *st)
{
	forest_size size;

	return forest_measure(r, info, &size, st);
}
