/*
 * forest_file.c
 *	  A forest's model bytes (forest_train.c tells the format) checked and laid
 *	  out for prediction.
 *
 * Prediction file: packed nodes of 8 bytes (learn_int.h), children in pairs;
 * below each pair first the subtree that more training rows took, so that
 * frequent paths share cache lines.  Where an absolute child number and a
 * feature number do not fit into 31 bits, children stand in an array of
 * their own ("wide").
 */
#include "learn/forest.h"

#include <math.h>
#include <string.h>

#define BLOCK	16384			/* nodes between interrupts */

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

typedef struct forest_size
{
	forest_head head;
	uint64_t	n_nodes;
	uint64_t	max_nodes;		/* of one tree */
	uint64_t	n_shares;		/* entries, counts included */
} forest_size;

/*
 * Walk the whole stream.  A preorder stream of n nodes is one tree if the
 * number of open places, which starts at 1, loses 1 with each leaf, gains 1
 * with each inner node and meets 0 exactly at the end.
 */
static mr_code
measure(lrn_reader *r, const lrn_info *info, forest_size *size, mr_status *st)
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

	return measure(r, info, &size, st);
}

static size_t
aligned(size_t n)
{
	return (n + 63) & ~(size_t) 63;
}

static int
bits_of(uint64_t n)				/* to hold 0 .. n */
{
	return n == 0 ? 1 : 64 - __builtin_clzll(n);
}

typedef struct layout
{
	uint64_t   *nodes;
	uint32_t   *wide;
	lrn_share  *shares;
	uint32_t	next_node;
	uint32_t	next_share;
	int			child_shift;
	forest_head head;
	/* of the tree in hand, in preorder */
	forest_raw   *raw;
	uint32_t   *right;			/* preorder number of the right child */
	uint32_t   *place;			/* new number */
	uint32_t   *stack;
} layout;

static void
set_node(layout *l, uint32_t at, uint32_t word, uint32_t upper, uint32_t child)
{
	if (l->wide)
		l->wide[at] = child;
	else
		word |= child << l->child_shift;
	l->nodes[at] = (uint64_t) upper << 32 | word;
}

/* Payload of a leaf; mixed leaves copy their list. */
static uint32_t
leaf_payload(layout *l, const lrn_info *info, const forest_raw *n, const lrn_reader *stream)
{
	lrn_reader	list = {n->list, stream->end, false};
	uint32_t	at = l->next_share;

	if (info->task == LRN_REGRESS)
	{
		memcpy(&at, &n->value, sizeof(at));
		return at;
	}
	if (n->n_shares == 0)
		return LRN_PURE | n->class;
	l->shares[l->next_share++] = (lrn_share) {n->n_shares, 0};
	for (uint32_t i = 0; i < n->n_shares; i++)
	{
		uint32_t	class = (uint32_t) lrn_get_varint(&list);

		l->shares[l->next_share++] = (lrn_share) {class, lrn_get_f32(&list)};
	}
	return at;
}

static mr_code
lay_tree(const mr_env *env, layout *l, lrn_reader *r, const lrn_info *info, uint32_t *root, mr_status *st)
{
	uint32_t	n = (uint32_t) lrn_get_varint(r);
	uint32_t	used = 0,
				laid = 0;

	/* Preorder: a node ends the left subtree of the innermost inner node
	 * still waiting for its right child. */
	for (uint32_t i = 0; i < n; i++)
	{
		if (!forest_read_node(r, info, &l->head, &l->raw[i]))
			return lrn_corrupt(st, "A tree has a node that cannot be");
		if (i > 0 && l->raw[i - 1].leaf)
			l->right[l->stack[--used]] = i;
		if (!l->raw[i].leaf)
			l->stack[used++] = i;
		if (i % BLOCK == 0 && mr_interrupted(env))
			return lrn_canceled(st);
	}

	*root = l->next_node;
	l->place[0] = l->next_node++;
	used = 0;
	l->stack[used++] = 0;
	while (used > 0)
	{
		uint32_t	i = l->stack[--used];
		const forest_raw *node = &l->raw[i];
		uint32_t	upper,
					left,
					a,
					b;

		if (++laid % BLOCK == 0 && mr_interrupted(env))
			return lrn_canceled(st);

		if (node->leaf)
		{
			set_node(l, l->place[i], 0, leaf_payload(l, info, node, r), 0);
			continue;
		}
		memcpy(&upper, &node->threshold, sizeof(upper));
		left = l->next_node;
		l->next_node += 2;
		a = i + 1;
		b = l->right[i];
		l->place[a] = left;
		l->place[b] = left + 1;
		set_node(l, l->place[i], node->feature << 1 | node->missing_left, upper, left);
		if (l->raw[a].cover > l->raw[b].cover)
		{
			l->stack[used++] = b;
			l->stack[used++] = a;
		}
		else
		{
			l->stack[used++] = a;
			l->stack[used++] = b;
		}
	}
	return MR_OK;
}

mr_code
lrn_forest_compile(const mr_env *env, lrn_reader *r, const lrn_info *info,
				   uint8_t **file, size_t *file_len, mr_status *st)
{
	lrn_reader	again = *r;
	forest_size size;
	lrn_flat_header h;
	layout		l = {0};
	uint32_t   *roots;
	uint8_t    *out = NULL;
	size_t		len;
	bool		wide;
	mr_code		code = measure(r, info, &size, st);

	if (code)
		return code;
	memset(&h, 0, sizeof(h));
	h.n_nodes = (uint32_t) size.n_nodes;
	h.n_trees = size.head.n_trees;
	h.n_shares = (uint32_t) size.n_shares;
	h.child_shift = 1 + (uint32_t) bits_of((uint64_t) info->n_features - 1);
	wide = bits_of(size.n_nodes) > 32 - (int) h.child_shift;

	len = aligned(sizeof(h));
	h.section[0] = len;
	len += aligned(size.n_nodes * sizeof(uint64_t));
	if (wide)
	{
		h.section[1] = len;
		len += aligned(size.n_nodes * sizeof(uint32_t));
	}
	h.section[2] = len;
	len += aligned(size.head.n_trees * sizeof(uint32_t));
	h.section[3] = len;
	len += aligned(size.n_shares * sizeof(lrn_share));

	out = mr_alloc(env, len);
	l.raw = mr_alloc(env, size.max_nodes * sizeof(forest_raw));
	l.right = mr_alloc(env, size.max_nodes * sizeof(uint32_t));
	l.place = mr_alloc(env, size.max_nodes * sizeof(uint32_t));
	l.stack = mr_alloc(env, (size.max_nodes + 1) * sizeof(uint32_t));
	if (!out || !l.raw || !l.right || !l.place || !l.stack)
		code = lrn_out_of_memory(st);
	else
	{
		memset(out, 0, len);
		memcpy(out, &h, sizeof(h));
		l.nodes = (uint64_t *) (out + h.section[0]);
		l.wide = wide ? (uint32_t *) (out + h.section[1]) : NULL;
		roots = (uint32_t *) (out + h.section[2]);
		l.shares = (lrn_share *) (out + h.section[3]);
		l.child_shift = (int) h.child_shift;
		code = forest_read_head(&again, &l.head, st);
		for (uint32_t t = 0; t < size.head.n_trees && code == MR_OK; t++)
			code = lay_tree(env, &l, &again, info, &roots[t], st);
	}
	mr_free(env, l.raw);
	mr_free(env, l.right);
	mr_free(env, l.place);
	mr_free(env, l.stack);
	if (code)
	{
		mr_free(env, out);
		return code;
	}
	*file = out;
	*file_len = len;
	return MR_OK;
}

mr_code
lrn_forest_open(const lrn_flat_header *h, lrn_model *m, mr_status *st)
{
	uint32_t	feature_mask;

	if (h->n_nodes < 1 || h->n_trees < 1 || h->child_shift < 2 || h->child_shift > 17 ||
		(1u << (h->child_shift - 1)) < h->n_features ||
		!lrn_section_fits(h, 0, h->n_nodes, sizeof(uint64_t)) ||
		(h->section[1] != 0 && !lrn_section_fits(h, 1, h->n_nodes, sizeof(uint32_t))) ||
		!lrn_section_fits(h, 2, h->n_trees, sizeof(uint32_t)) ||
		!lrn_section_fits(h, 3, h->n_shares, sizeof(lrn_share)))
		return lrn_corrupt(st, "A section lies outside the file");
	m->nodes = lrn_section(h, 0);
	m->wide = lrn_section(h, 1);
	m->roots = lrn_section(h, 2);
	m->shares = lrn_section(h, 3);
	m->n_nodes = h->n_nodes;
	m->n_trees = h->n_trees;
	m->n_shares = h->n_shares;
	m->child_shift = (int) h->child_shift;
	feature_mask = (1u << (m->child_shift - 1)) - 1;

	for (uint32_t t = 0; t < m->n_trees; t++)
		if (m->roots[t] >= m->n_nodes)
			return lrn_corrupt(st, "A root is out of range");
	for (uint32_t i = 0; i < m->n_nodes; i++)
	{
		uint32_t	word = (uint32_t) m->nodes[i];
		uint32_t	upper = (uint32_t) (m->nodes[i] >> 32);
		uint32_t	child = m->wide ? m->wide[i] : word >> m->child_shift;

		if (child != 0)
		{
			if (child <= i || child >= m->n_nodes - 1 ||
				((word >> 1) & feature_mask) >= (uint32_t) m->info.n_features)
				return lrn_corrupt(st, "A node points outside its forest");
		}
		else if (m->info.task == LRN_REGRESS)
			continue;			/* any value is one */
		else if (upper & LRN_PURE)
		{
			if ((upper & ~LRN_PURE) >= (uint32_t) m->info.n_classes)
				return lrn_corrupt(st, "A leaf has a class that is not there");
		}
		else
		{
			if (upper >= m->n_shares || m->shares[upper].class >= m->n_shares - upper)
				return lrn_corrupt(st, "A leaf points outside its forest");
			for (uint32_t k = 1; k <= m->shares[upper].class; k++)
				if (m->shares[upper + k].class >= (uint32_t) m->info.n_classes)
					return lrn_corrupt(st, "A leaf has a class that is not there");
		}
	}
	return MR_OK;
}
