/*
 * forest_flat.c
 *	  A forest's prediction file: laid out, and every index of it checked when it
 *	  is opened.
 *
 * Packed nodes of 8 bytes (learn_int.h), children in pairs; below each pair
 * first the subtree that more training rows took, so that frequent paths
 * share cache lines.  Where an absolute child number and a feature number do
 * not fit into 31 bits, children stand in an array of their own ("wide").
 * The nodes of a tree's top stand there, too: some rows walk from the root.
 */
#include "learn/forest.h"

#include <string.h>

#define BLOCK	16384			/* nodes between interrupts */

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

/* Grow the top from the root of the tree in hand: the inner leaf that most rows reach opens first. */
static void
lay_top(const layout *l, lrn_top *top)
{
	uint32_t	inner[LRN_TOP],
				leaf[LRN_TOP] = {0};	/* in order from left to right */
	uint32_t	n = 0,
				k = 0;

	while (n + 1 < LRN_TOP)
	{
		uint32_t	best = LRN_TOP,
					at;

		for (uint32_t i = 0; i <= n; i++)
			if (!l->raw[leaf[i]].leaf && (best == LRN_TOP || l->raw[leaf[i]].cover > l->raw[leaf[best]].cover))
				best = i;
		if (best == LRN_TOP)
			break;
		memmove(leaf + best + 2, leaf + best + 1, (n - best) * sizeof(uint32_t));
		at = leaf[best];
		inner[n++] = at;
		leaf[best] = at + 1;
		leaf[best + 1] = l->right[at];
	}
	top->n_nodes = (uint16_t) n;
	for (int missing_left = 1; missing_left >= 0; missing_left--)
	{
		for (uint32_t i = 0; i < n; i++)
		{
			const forest_raw *node = &l->raw[inner[i]];

			if (node->missing_left != missing_left)
				continue;
			top->threshold[k] = node->threshold;
			top->feature[k] = (uint16_t) node->feature;
			/* In preorder the left subtree is what stands before the right one. */
			for (uint32_t j = 0; j <= n; j++)
				if (leaf[j] > inner[i] && leaf[j] < l->right[inner[i]])
					top->clear[k] |= (uint32_t) 1 << j;
			k++;
		}
		if (missing_left)
			top->n_left = (uint16_t) k;
	}
	for (uint32_t j = 0; j <= n; j++)
	{
		uint32_t	at = l->place[leaf[j]];

		top->next[j] = l->raw[leaf[j]].leaf ? (uint32_t) (l->nodes[at] >> 32) : at;
		top->through |= (uint32_t) l->raw[leaf[j]].leaf << j;
	}
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
	lrn_top    *tops;
	uint8_t    *out = NULL;
	size_t		len;
	bool		wide;
	mr_code		code = forest_measure(r, info, &size, st);

	if (code)
		return code;
	memset(&h, 0, sizeof(h));
	h.n_nodes = (uint32_t) size.n_nodes;
	h.n_trees = size.head.n_trees;
	h.n_shares = (uint32_t) size.n_shares;
	h.child_shift = 1 + (uint32_t) bits_of((uint64_t) info->n_features - 1);
	wide = bits_of(size.n_nodes) > 32 - (int) h.child_shift;

	len = lrn_aligned(sizeof(h));
	h.section[0] = len;
	len += lrn_aligned(size.n_nodes * sizeof(uint64_t));
	if (wide)
	{
		h.section[1] = len;
		len += lrn_aligned(size.n_nodes * sizeof(uint32_t));
	}
	h.section[2] = len;
	len += lrn_aligned(size.head.n_trees * sizeof(uint32_t));
	h.section[3] = len;
	len += lrn_aligned(size.n_shares * sizeof(lrn_share));
	h.section[4] = len;
	len += lrn_aligned(size.head.n_trees * sizeof(lrn_top));

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
		tops = (lrn_top *) (out + h.section[4]);
		l.child_shift = (int) h.child_shift;
		code = forest_read_head(&again, &l.head, st);
		for (uint32_t t = 0; t < size.head.n_trees && code == MR_OK; t++)
		{
			code = lay_tree(env, &l, &again, info, &roots[t], st);
			if (code == MR_OK)
				lay_top(&l, &tops[t]);
			if (code == MR_OK && mr_interrupted(env))
				code = lrn_canceled(st);
		}
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

/* NULL, or why a leaf cannot be. */
static const char *
payload_fault(const lrn_model *m, uint32_t payload)
{
	if (m->info.task == LRN_REGRESS)
		return NULL;			/* any value is one */
	if (payload & LRN_PURE)
		return (payload & ~LRN_PURE) < (uint32_t) m->info.n_classes ? NULL : "A leaf has a class that is not there";
	if (payload >= m->n_shares || m->shares[payload].class >= m->n_shares - payload)
		return "A leaf points outside its forest";
	for (uint32_t k = 1; k <= m->shares[payload].class; k++)
		if (m->shares[payload + k].class >= (uint32_t) m->info.n_classes)
			return "A leaf has a class that is not there";
	return NULL;
}

/* The same of a tree's top. */
static const char *
top_fault(const lrn_model *m, const lrn_top *top)
{
	if (top->n_nodes >= LRN_TOP || top->n_left > top->n_nodes)
		return "The top of a tree has more nodes than there are";
	for (uint32_t k = 0; k < LRN_TOP; k++)
	{
		/* Unused nodes are asked with the others. */
		if (top->feature[k] >= m->info.n_features)
			return "A node points outside its forest";
		/* The last leaf remains, so that there is a lowest one. */
		if (k < top->n_nodes ? top->clear[k] >> top->n_nodes : top->clear[k])
			return "A node rules out the last leaf";
	}
	for (uint32_t j = 0; j <= top->n_nodes; j++)
	{
		const char *fault = NULL;

		if (top->through >> j & 1)
			fault = payload_fault(m, top->next[j]);
		else if (top->next[j] >= m->n_nodes)
			fault = "A leaf points outside its forest";
		if (fault)
			return fault;
	}
	return NULL;
}

mr_code
lrn_forest_open(const lrn_flat_header *h, lrn_model *m, mr_status *st)
{
	uint32_t	feature_mask;
	const char *fault = NULL;

	if (h->n_nodes < 1 || h->n_trees < 1 || h->child_shift < 2 || h->child_shift > 17 ||
		(1u << (h->child_shift - 1)) < h->n_features ||
		!lrn_section_fits(h, 0, h->n_nodes, sizeof(uint64_t)) ||
		(h->section[1] != 0 && !lrn_section_fits(h, 1, h->n_nodes, sizeof(uint32_t))) ||
		!lrn_section_fits(h, 2, h->n_trees, sizeof(uint32_t)) ||
		!lrn_section_fits(h, 3, h->n_shares, sizeof(lrn_share)) ||
		!lrn_section_fits(h, 4, h->n_trees, sizeof(lrn_top)))
		return lrn_corrupt(st, "A section lies outside the file");
	m->nodes = lrn_section(h, 0);
	m->wide = lrn_section(h, 1);
	m->roots = lrn_section(h, 2);
	m->shares = lrn_section(h, 3);
	m->tops = lrn_section(h, 4);
	m->n_nodes = h->n_nodes;
	m->n_trees = h->n_trees;
	m->n_shares = h->n_shares;
	m->child_shift = (int) h->child_shift;
	feature_mask = (1u << (m->child_shift - 1)) - 1;

	for (uint32_t t = 0; t < m->n_trees; t++)
	{
		if (m->roots[t] >= m->n_nodes)
			return lrn_corrupt(st, "A root is out of range");
		fault = top_fault(m, &m->tops[t]);
		if (fault)
			return lrn_corrupt(st, fault);
	}
	for (uint32_t i = 0; i < m->n_nodes; i++)
	{
		uint32_t	word = (uint32_t) m->nodes[i];
		uint32_t	child = m->wide ? m->wide[i] : word >> m->child_shift;

		if (child == 0)
			fault = payload_fault(m, (uint32_t) (m->nodes[i] >> 32));
		else if (child <= i || child >= m->n_nodes - 1 ||
				 ((word >> 1) & feature_mask) >= (uint32_t) m->info.n_features)
			fault = "A node points outside its forest";
		if (fault)
			return lrn_corrupt(st, fault);
	}
	return MR_OK;
}
