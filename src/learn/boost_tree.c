/*
 * boost_tree.c
 *	  Grow one tree, best leaf first (as LightGBM does), and add it to the
 *	  scores of all rows.
 *
 * The rows of a leaf are a stretch of b->row; a split partitions it stably, so
 * that gathers run forward through memory.  Only the smaller child's histogram
 * is built: the larger one's is what the parent's leaves over.  Histograms
 * stand in a limited number of slots; where they run out, the leaf that gains
 * least loses its own and both its children are built, with the same sums.
 */
#include "learn/boost.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Rows to the left first; returns how many. */
static uint32_t
partition(boost_builder *b, uint32_t *row, uint32_t n, const boost_split *s)
{
	const uint8_t *bin = b->column[s->column].bin;
	uint32_t   *tmp = b->row_tmp;
	uint32_t	l = 0,
				r = 0;
	bool		goes_left[256];

	for (unsigned i = 0; i < 256; i++)
		goes_left[i] = boost_in(&s->set, i);
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t	it = row[i];
		bool		left = goes_left[bin[it]];

		row[l] = it;
		tmp[r] = it;
		l += left;
		r += !left;
	}
	memcpy(row + l, tmp, r * sizeof(uint32_t));
	return l;
}

static boost_sum *
slot_of(const boost_builder *b, int slot)
{
	return b->slot + (size_t) slot * b->slot_size;
}

static void
release(boost_builder *b, boost_leaf *leaf)
{
	if (leaf->slot >= 0)
		b->free_slot[b->n_free++] = leaf->slot;
	leaf->slot = -1;
}

/* A free slot, if need be from the leaf that is least likely to be split soon. */
static int
take_slot(boost_builder *b, const boost_leaf *parent)
{
	if (b->n_free == 0)
	{
		boost_leaf *least = NULL;

		for (int i = 0; i < b->n_leaves; i++)
		{
			boost_leaf *leaf = &b->leaf[i];

			if (leaf->slot >= 0 && leaf->slot != parent->slot &&
				(least == NULL || leaf->best.gain < least->best.gain))
				least = leaf;
		}
		release(b, least);
	}
	return b->free_slot[--b->n_free];
}

static bool
may_split(const boost_builder *b, const boost_leaf *leaf)
{
	return leaf->n >= 2 * b->min_rows && leaf->n >= 2 && b->n_columns > 0 &&
		boost_hessian(b, leaf->sum) >= 2 * b->p->min_child_weight &&
		(b->p->max_depth == 0 || leaf->depth < b->p->max_depth);
}

static mr_code
find_split(boost_builder *b, int i, mr_status *st)
{
	boost_leaf *leaf = &b->leaf[i];

	if (boost_best_split(b, slot_of(b, leaf->slot), leaf, st))
		return MR_CANCELED;
	b->leaf_gain[i] = leaf->best.column < 0 ? 0 : leaf->best.gain;
	if (leaf->best.column < 0)
		release(b, leaf);
	return MR_OK;
}

static void
make_leaf(boost_builder *b, int i, boost_leaf leaf)
{
	b->leaf[i] = leaf;
	b->leaf[i].slot = -1;
	b->leaf[i].best = (boost_split) {.column = -1};
	b->leaf_gain[i] = 0;
	b->node[leaf.node] = (boost_node) {.column = -1, .cover = leaf.n};
	if (leaf.depth > b->depth)
		b->depth = leaf.depth;
}

/* Histograms of two new leaves; slot: their parent's, or -1. */
static mr_code
child_histograms(boost_builder *b, int left, int right, int slot, mr_status *st)
{
	int			small = b->leaf[left].n <= b->leaf[right].n ? left : right,
				large = small == left ? right : left;
	bool		small_splits = may_split(b, &b->leaf[small]),
				large_splits = may_split(b, &b->leaf[large]);
	boost_leaf	parent = {.slot = slot};

	if (small_splits || (large_splits && slot >= 0))
	{
		boost_leaf *l = &b->leaf[small];
		int			own = take_slot(b, &parent);

		l->slot = own;
		if (boost_histogram(b, b->row + l->start, l->n, slot_of(b, own), st))
			return MR_CANCELED;
	}
	if (large_splits)
	{
		boost_leaf *l = &b->leaf[large];

		if (slot >= 0)
			boost_subtract(b, slot_of(b, slot), slot_of(b, b->leaf[small].slot));
		l->slot = slot;
		if (slot < 0)
		{
			l->slot = take_slot(b, &b->leaf[small]);
			if (boost_histogram(b, b->row + l->start, l->n, slot_of(b, l->slot), st))
				return MR_CANCELED;
		}
	}
	else
		release(b, &parent);
	if (!small_splits)
		release(b, &b->leaf[small]);
	return MR_OK;
}

static mr_code
split_leaf(boost_builder *b, int i, mr_status *st)
{
	boost_leaf	parent = b->leaf[i];
	boost_node *node = &b->node[parent.node];
	int			other = b->n_leaves++;
	uint32_t	n_left = partition(b, b->row + parent.start, parent.n, &parent.best);

	if (n_left != boost_rows(b, parent.best.left))
		return mr_fail(st, MR_INTERNAL, "a split of %u rows moved %u instead of %u to the left",
					   parent.n, n_left, boost_rows(b, parent.best.left));
	node->column = parent.best.column;
	node->bin = parent.best.bin;
	node->set = parent.best.set;
	node->gain = (float) fmin(parent.best.gain, FLT_MAX);
	node->left = b->n_nodes++;
	node->right = b->n_nodes++;
	make_leaf(b, i, (boost_leaf) {
		.start = parent.start, .n = n_left, .node = node->left,
		.depth = parent.depth + 1, .sum = parent.best.left
	});
	make_leaf(b, other, (boost_leaf) {
		.start = parent.start + n_left, .n = parent.n - n_left, .node = node->right,
		.depth = parent.depth + 1, .sum = parent.sum - parent.best.left
	});
	if (boost_work(b, (int64_t) parent.n * 4, st))
		return MR_CANCELED;
	/* Nobody will split the children of the last split. */
	if (b->n_leaves == b->max_leaves)
		return MR_OK;
	if (child_histograms(b, i, other, parent.slot, st))
		return MR_CANCELED;
	if (b->leaf[i].slot >= 0 && find_split(b, i, st))
		return MR_CANCELED;
	if (b->leaf[other].slot >= 0 && find_split(b, other, st))
		return MR_CANCELED;
	return MR_OK;
}

/* The leaf whose split gains most, -1 if none gains; ties by age. */
static int
best_leaf(const boost_builder *b)
{
	int			best = -1;
	double		gain = 0;

	for (int i = 0; i < b->n_leaves; i++)
		if (b->leaf_gain[i] > gain)
		{
			gain = b->leaf_gain[i];
			best = i;
		}
	return best;
}

/* A leaf's step against its gradient. */
static float
value_of(const boost_builder *b, boost_sum s)
{
	double		h = boost_hessian(b, s) + b->p->l2_regularization;
	float		v = h > 0 ? (float) (-b->p->learning_rate * (double) s[0] * b->g_unit / h) : 0;

	return isfinite(v) ? v : 0;
}

/* Rows the tree did not learn from go down it by their bins. */
static mr_code
score_others(boost_builder *b, float *score, mr_status *st)
{
	const uint8_t *bins = (const uint8_t *) b->bins;
	size_t		width = (size_t) b->stride * BOOST_GROUP;

	for (uint32_t i = b->n_row; i < b->rows; i++)
	{
		uint32_t	r = b->row[i];
		const boost_node *n = b->node;

		while (n->column >= 0)
		{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
			uint8_t		bin = bins[r * width + (size_t) n->column];
#else
			uint8_t		bin = bins[r * width + (size_t) (n->column ^ 7)];
#endif

			n = b->node + (boost_in(&n->set, bin) ? n->left : n->right);
		}
		score[r] += n->value;
		if (i % 1024 == 0 && boost_work(b, 1024 * 30, st))
			return MR_CANCELED;
	}
	return MR_OK;
}

mr_code
boost_grow(boost_builder *b, float *score, mr_status *st)
{
	/* A tree that learns from all rows finds them in order. */
	const uint32_t *root_rows = b->n_row == b->rows ? NULL : b->row;
	int			i;

	b->n_leaves = 1;
	b->n_nodes = 1;
	b->n_free = b->n_slots;
	for (int s = 0; s < b->n_slots; s++)
		b->free_slot[s] = s;
	make_leaf(b, 0, (boost_leaf) {.n = b->n_row, .sum = boost_total(b, root_rows, b->n_row)});
	if (boost_work(b, (int64_t) b->n_row * 4, st))
		return MR_CANCELED;
	if (may_split(b, &b->leaf[0]) && b->max_leaves > 1)
	{
		b->leaf[0].slot = take_slot(b, &b->leaf[0]);
		if (boost_histogram(b, root_rows, b->n_row, slot_of(b, b->leaf[0].slot), st) ||
			find_split(b, 0, st))
			return MR_CANCELED;
	}
	while (b->n_leaves < b->max_leaves && (i = best_leaf(b)) >= 0)
	{
		mr_code		code = split_leaf(b, i, st);

		if (code)
			return code;
	}

	for (i = 0; i < b->n_leaves; i++)
	{
		const boost_leaf *leaf = &b->leaf[i];
		const uint32_t *row = b->row + leaf->start;
		float		value = value_of(b, leaf->sum);

		b->node[leaf->node].value = value;
		for (uint32_t k = 0; k < leaf->n; k++)
			score[row[k]] += value;
		if (boost_work(b, (int64_t) leaf->n * 8, st))
			return MR_CANCELED;
	}
	return score_others(b, score, st);
}
