/*
 * boost_file.c
 *	  Model bytes of gradient boosting (boost_train.c tells the format): one
 *	  decoder, the check, and the view of their trees.
 */
#include "learn/boost_file.h"

#include <math.h>
#include <string.h>

bool
boost_read_node(lrn_reader *r, const lrn_info *info, boost_raw *n)
{
	uint64_t	tag = lrn_get_varint(r);
	uint64_t	cover;

	memset(n, 0, sizeof(*n));
	if (tag & 1)
	{
		n->leaf = true;
		n->value = lrn_get_f32(r);
		if (tag != 1 || !isfinite(n->value))
			return false;
	}
	else
	{
		if (tag >> 3 >= (uint64_t) info->n_features)
			return false;
		n->feature = (uint32_t) (tag >> 3);
		n->missing_left = tag & 2;
		n->category = tag & 4;
		if (n->category)
		{
			uint64_t	bytes = lrn_get_varint(r);

			if (n->missing_left || bytes > 32 || bytes > (uint64_t) (r->end - r->p))
				return false;
			for (uint64_t i = 0; i < bytes; i++)
				n->set[i / 4] |= (uint32_t) *r->p++ << (i % 4 * 8);
		}
		else
		{
			n->threshold = lrn_get_f32(r);
			if (isnan(n->threshold))
				return false;
		}
		n->gain = lrn_get_f32(r);
		if (!isfinite(n->gain))
			return false;
	}
	cover = lrn_get_varint(r);
	n->cover = cover > UINT32_MAX ? UINT32_MAX : (uint32_t) cover;
	return !r->bad;
}

/* A feature's categories; own is filled if it is not NULL (BOOST_MAX_OWN). */
bool
boost_read_codes(lrn_reader *r, uint32_t *n_categories, uint32_t *n_own, uint32_t *own)
{
	uint64_t	n = lrn_get_varint(r),
				k;

	*n_categories = *n_own = 0;
	if (n == 0)
		return !r->bad;
	k = lrn_get_varint(r);
	if (n > BOOST_MOST_CODES || k > BOOST_MOST_OWN || k > n)
		return false;
	*n_categories = (uint32_t) n;
	*n_own = (uint32_t) k;
	for (uint64_t i = 0; i < k; i++)
	{
		uint64_t	code = lrn_get_varint(r);

		if (code >= n)
			return false;
		if (own)
			own[i] = (uint32_t) code;
	}
	return !r->bad;
}

/*
 * A preorder stream of n nodes is one tree if the number of open places,
 * which starts at 1, loses 1 with each leaf, gains 1 with each inner node and
 * meets 0 exactly at the end.
 */
static bool
check_tree(lrn_reader *r, const lrn_info *info, const uint8_t *is_category)
{
	uint64_t	n = lrn_get_varint(r),
				open = 1;

	if (r->bad || n < 1 || n > (uint64_t) (r->end - r->p) || n > BOOST_MOST_NODES)
		return false;
	for (uint64_t i = 0; i < n; i++)
	{
		boost_raw	node;

		if (open == 0 || !boost_read_node(r, info, &node))
			return false;
		if (!node.leaf && node.category != (is_category[node.feature / 8] >> (node.feature % 8) & 1))
			return false;
		open = node.leaf ? open - 1 : open + 1;
	}
	return open == 0;
}

mr_code
lrn_boost_check(lrn_reader *r, const lrn_info *info, mr_status *st)
{
	uint8_t		is_category[LRN_MAX_FEATURES / 8 + 1] = {0};
	uint64_t	trees;

	for (int k = 0; k < boost_margins(info); k++)
		if (!isfinite(lrn_get_f64(r)))
			return lrn_corrupt(st, "A margin starts nowhere");
	for (int c = 0; c < info->n_features; c++)
	{
		uint32_t	n,
					own;

		if (r->bad || !boost_read_codes(r, &n, &own, NULL))
			return lrn_corrupt(st, "A feature has categories that cannot be");
		if (n)
			is_category[c / 8] |= (uint8_t) (1 << (c % 8));
	}
	trees = (uint64_t) lrn_get_u32(r) * (uint64_t) boost_margins(info);
	if (r->bad || trees > (uint64_t) (r->end - r->p))
		return lrn_corrupt(st, "The number of trees is out of range");
	for (uint64_t t = 0; t < trees; t++)
		if (!check_tree(r, info, is_category))
			return lrn_corrupt(st, "A tree is not complete or has a node that cannot be");
	if (r->p != r->end)
		return lrn_corrupt(st, "Something follows the last tree");
	return MR_OK;
}
