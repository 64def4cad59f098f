/*
 * boost_flat.c
 *	  Gradient boosting's prediction file: trees cut into pages
 *	  (boost_file.h), and every index of them checked when it is opened.
 */
#include "learn/boost_file.h"

#include <math.h>
#include <string.h>

/* The tree in hand, in preorder: the left child is the next node. */
typedef struct tree
{
	boost_raw  *node;
	uint32_t   *right;
	uint32_t	n;
} tree;

/* A page's inner nodes and leaves as they are chosen, by number in the tree. */
typedef struct cut
{
	uint32_t	inner[BOOST_PAGE];
	uint32_t	leaf[BOOST_PAGE];
	int			n_inner,
				n_leaves;
} cut;

/* A subtree that has yet to become a page, and the leaf that stands for it. */
typedef struct todo
{
	uint32_t	root;
	uint32_t	parent;			/* page; UINT32_MAX = none */
	uint32_t	leaf;
} todo;

typedef struct layout
{
	boost_used *used;
	uint32_t   *used_of;		/* feature -> used + 1 */
	boost_page *page;
	boost_link *link;
	uint32_t  (*set)[8];
	uint32_t	n_pages,
				n_links,
				n_sets;
	tree		t;
	todo	   *todo;			/* as many as a tree has nodes */
} layout;

/* ---- cutting ---- */

/* Grow the page from its root: the inner leaf that most rows reach opens first. */
static void
cut_page(const tree *t, uint32_t root, cut *c)
{
	c->n_inner = 0;
	c->n_leaves = 1;
	c->leaf[0] = root;
	while (c->n_leaves < BOOST_PAGE)
	{
		int			best = -1;

		for (int i = 0; i < c->n_leaves; i++)
			if (!t->node[c->leaf[i]].leaf &&
				(best < 0 || t->node[c->leaf[i]].cover > t->node[c->leaf[best]].cover))
				best = i;
		if (best < 0)
			break;
		/* Leaves stay in order from left to right. */
		memmove(c->leaf + best + 2, c->leaf + best + 1, (size_t) (c->n_leaves - best - 1) * sizeof(uint32_t));
		c->inner[c->n_inner++] = c->leaf[best];
		c->leaf[best + 1] = t->right[c->leaf[best]];
		c->leaf[best] = c->leaf[best] + 1;
		c->n_leaves++;
	}
}

/* Order within a page. */
static int
kind_of(const boost_raw *n)
{
	return n->category ? 2 : n->missing_left ? 0 : 1;
}

static void
fill_page(layout *l, const cut *c, boost_page *p)
{
	const tree *t = &l->t;
	uint8_t		number[BOOST_PAGE]; /* in the page, of each inner node of the cut */
	int			n = 0;

	p->set = l->n_sets;
	for (int kind = 0; kind < 3; kind++)
	{
		for (int i = 0; i < c->n_inner; i++)
			if (kind_of(&t->node[c->inner[i]]) == kind)
				number[i] = (uint8_t) n++;
		if (kind == 0)
			p->n_left = (uint8_t) n;
		else if (kind == 1)
			p->n_numbers = (uint8_t) n;
	}
	p->n_nodes = (uint8_t) n;
	p->root = c->n_inner > 0 ? number[0] : BOOST_PAGE;
	for (int i = 0; i < c->n_inner; i++)
	{
		uint32_t	at = c->inner[i];
		const boost_raw *node = &t->node[at];
		int			k = number[i];
		uint32_t	child[2] = {at + 1, t->right[at]};

		p->threshold[k] = node->category ? 0 : node->threshold;
		p->feature[k] = (uint16_t) (l->used_of[node->feature] - 1);
		/* In preorder the left subtree is at+1 .. right-1. */
		for (int leaf = 0; leaf < c->n_leaves; leaf++)
			if (c->leaf[leaf] > at && c->leaf[leaf] < t->right[at])
				p->clear[k] |= (uint32_t) 1 << leaf;
		for (int side = 0; side < 2; side++)
		{
			for (int j = 0; j < c->n_inner; j++)
				if (c->inner[j] == child[side])
					p->child[k][side] = number[j];
			for (int leaf = 0; leaf < c->n_leaves; leaf++)
				if (c->leaf[leaf] == child[side])
					p->child[k][side] = (uint8_t) (BOOST_PAGE + leaf);
		}
		if (node->category)
			memcpy(l->set[p->set + (uint32_t) (k - p->n_numbers)], node->set, sizeof(node->set));
	}
	l->n_sets += (uint32_t) (p->n_nodes - p->n_numbers);
	for (int leaf = 0; leaf < c->n_leaves; leaf++)
		p->value[leaf] = t->node[c->leaf[leaf]].leaf ? t->node[c->leaf[leaf]].value : 0;
}

/*
 * Pages of the tree in hand; with write they are also filled, from
 * l->n_pages on, each behind those its leaves stand for.
 */
static uint32_t
cut_tree(layout *l, uint32_t n_pages, bool write)
{
	uint32_t	used = 0,
				pages = 0;

	l->todo[used++] = (todo) {0, UINT32_MAX, 0};
	while (used > 0)
	{
		todo		d = l->todo[--used];
		uint32_t	at = l->n_pages + n_pages - 1 - pages++;
		cut			c;

		cut_page(&l->t, d.root, &c);
		if (write)
		{
			fill_page(l, &c, &l->page[at]);
			l->page[at].link = l->n_links;
		}
		for (int leaf = 0; leaf < c.n_leaves; leaf++)
			if (!l->t.node[c.leaf[leaf]].leaf)
			{
				/* The link's page is known when the subtree's turn comes. */
				if (write)
				{
					l->page[at].n_links++;
					l->link[l->n_links].leaf = (uint32_t) leaf;
				}
				l->todo[used++] = (todo) {c.leaf[leaf], at, l->n_links};
				l->n_links++;
			}
		if (write && d.parent != UINT32_MAX)
			l->link[d.leaf].page = at;
	}
	return pages;
}

static mr_code
read_tree(layout *l, lrn_reader *r, const lrn_info *info, mr_status *st)
{
	tree	   *t = &l->t;
	uint32_t	used = 0;

	t->n = (uint32_t) lrn_get_varint(r);
	/* A node ends the left subtree of the innermost one still without a right child. */
	for (uint32_t i = 0; i < t->n; i++)
	{
		if (!boost_read_node(r, info, &t->node[i]))
			return lrn_corrupt(st, "A tree has a node that cannot be");
		if (i > 0 && t->node[i - 1].leaf)
			t->right[l->todo[--used].root] = i;
		if (!t->node[i].leaf)
			l->todo[used++].root = i;
	}
	return MR_OK;
}

/* ---- the file ---- */

/* Sizes of the sections, found by a first walk over the trees. */
typedef struct sizes
{
	uint32_t	n_trees,
				n_used,
				n_pages,
				n_links,
				n_sets,
				n_map;
} sizes;

/* Most nodes of a tree, and which features are used. */
static void
survey(lrn_reader r, const lrn_info *info, uint32_t *used_of, sizes *s, uint32_t *most_nodes)
{
	*most_nodes = 0;
	for (uint32_t t = 0; t < s->n_trees; t++)
	{
		uint32_t	n = (uint32_t) lrn_get_varint(&r);

		*most_nodes = n > *most_nodes ? n : *most_nodes;
		for (uint32_t i = 0; i < n; i++)
		{
			boost_raw	node;

			(void) boost_read_node(&r, info, &node);
			if (!node.leaf)
				used_of[node.feature] = 1;
			s->n_sets += node.category;
		}
	}
}

/* Numbers of the used features and of their categories; fills map if it is not NULL. */
static void
number_features(lrn_reader r, const lrn_info *info, uint32_t *used_of, boost_used *used, uint8_t *map, sizes *s)
{
	s->n_used = 0;
	s->n_map = 0;
	for (int c = 0; c < info->n_features; c++)
	{
		uint32_t	own[BOOST_MOST_OWN],
					n_categories,
					n_own;

		(void) boost_read_codes(&r, &n_categories, &n_own, own);
		if (!used_of[c])
			continue;
		if (map)
		{
			used[s->n_used] = (boost_used) {(uint32_t) c, n_categories, s->n_map, n_own + 1};
			memset(map + s->n_map, (int) n_own, n_categories);
			for (uint32_t i = 0; i < n_own; i++)
				map[s->n_map + own[i]] = (uint8_t) i;
		}
		used_of[c] = ++s->n_used;
		s->n_map += n_categories;
	}
}

static size_t
lay_sections(lrn_flat_header *h, const lrn_info *info, const sizes *s)
{
	const struct
	{
		int			section;
		uint64_t	n;
		size_t		size;
	}			sections[] = {
		{BOOST_BASE, (uint64_t) boost_margins(info), sizeof(double)},
		{BOOST_USED, s->n_used, sizeof(boost_used)},
		{BOOST_MAP, s->n_map, 1},
		{BOOST_PAGES, s->n_pages, sizeof(boost_page)},
		{BOOST_LINKS, s->n_links, sizeof(boost_link)},
		{BOOST_SETS, s->n_sets, 8 * sizeof(uint32_t)},
		{BOOST_ROOTS, (uint64_t) s->n_trees + 1, sizeof(uint32_t)},
	};
	size_t		len = lrn_aligned(sizeof(*h));

	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++)
	{
		h->section[sections[i].section] = len;
		len += lrn_aligned(sections[i].n * sections[i].size);
	}
	h->n_pages = s->n_pages;
	h->n_boosted = s->n_trees;
	h->n_used = s->n_used;
	h->n_links = s->n_links;
	h->n_sets = s->n_sets;
	h->n_map = s->n_map;
	return len;
}

/* Where the parts of the body begin; the body has been checked. */
typedef struct parts
{
	lrn_reader	base,
				features,
				trees;
} parts;

static parts
find_parts(lrn_reader r, const lrn_info *info, uint32_t *n_trees)
{
	parts		p = {.base = r};

	for (int k = 0; k < boost_margins(info); k++)
		(void) lrn_get_f64(&r);
	p.features = r;
	for (int c = 0; c < info->n_features; c++)
	{
		uint32_t	n,
					own;

		(void) boost_read_codes(&r, &n, &own, NULL);
	}
	*n_trees = lrn_get_u32(&r) * (uint32_t) boost_margins(info);
	p.trees = r;
	return p;
}

/* Cut all trees: without a file only to count pages and links, else into it. */
static mr_code
cut_trees(const mr_env *env, layout *l, lrn_reader trees, const lrn_info *info, uint32_t n_trees,
		  uint32_t *roots, mr_status *st)
{
	l->n_pages = l->n_links = l->n_sets = 0;
	for (uint32_t t = 0; t < n_trees; t++)
	{
		uint32_t	n_links = l->n_links,
					pages;
		mr_code		code = read_tree(l, &trees, info, st);

		if (code)
			return code;
		pages = cut_tree(l, 0, false);
		if (roots)
		{
			l->n_links = n_links;
			(void) cut_tree(l, pages, true);
			roots[t] = l->n_pages;
		}
		if (l->n_pages > UINT32_MAX / 2 || l->n_links > UINT32_MAX / 2)
			return mr_fail(st, MR_LIMIT, "model is too large to predict with");
		l->n_pages += pages;
		if (mr_interrupted(env))
			return lrn_canceled(st);
	}
	if (roots)
		roots[n_trees] = l->n_pages;
	return MR_OK;
}

static mr_code
build(const mr_env *env, layout *l, lrn_reader *r, const lrn_info *info,
	  uint8_t **file, size_t *file_len, mr_status *st)
{
	lrn_flat_header h = {0};
	sizes		s = {0};
	parts		p = find_parts(*r, info, &s.n_trees);
	uint32_t	most_nodes;
	uint8_t    *out;
	double	   *base;
	mr_code		code;

	l->used_of = mr_alloc(env, (size_t) info->n_features * sizeof(uint32_t));
	if (l->used_of == NULL)
		return lrn_out_of_memory(st);
	memset(l->used_of, 0, (size_t) info->n_features * sizeof(uint32_t));
	survey(p.trees, info, l->used_of, &s, &most_nodes);
	number_features(p.features, info, l->used_of, NULL, NULL, &s);
	l->t.node = mr_alloc(env, ((size_t) most_nodes + 1) * sizeof(boost_raw));
	l->t.right = mr_alloc(env, ((size_t) most_nodes + 1) * sizeof(uint32_t));
	l->todo = mr_alloc(env, ((size_t) most_nodes + 1) * sizeof(todo));
	if (!l->t.node || !l->t.right || !l->todo)
		return lrn_out_of_memory(st);
	code = cut_trees(env, l, p.trees, info, s.n_trees, NULL, st);
	if (code)
		return code;
	s.n_pages = l->n_pages;
	s.n_links = l->n_links;

	*file_len = lay_sections(&h, info, &s);
	out = mr_alloc(env, *file_len);
	if (out == NULL)
		return lrn_out_of_memory(st);
	*file = out;
	memset(out, 0, *file_len);
	memcpy(out, &h, sizeof(h));
	base = (double *) (out + h.section[BOOST_BASE]);
	for (int k = 0; k < boost_margins(info); k++)
		base[k] = lrn_get_f64(&p.base);
	l->used = (boost_used *) (out + h.section[BOOST_USED]);
	l->page = (boost_page *) (out + h.section[BOOST_PAGES]);
	l->link = (boost_link *) (out + h.section[BOOST_LINKS]);
	l->set = (uint32_t (*)[8]) (out + h.section[BOOST_SETS]);
	number_features(p.features, info, l->used_of, l->used, out + h.section[BOOST_MAP], &s);
	return cut_trees(env, l, p.trees, info, s.n_trees, (uint32_t *) (out + h.section[BOOST_ROOTS]), st);
}

mr_code
lrn_boost_compile(const mr_env *env, lrn_reader *r, const lrn_info *info,
				  uint8_t **file, size_t *file_len, mr_status *st)
{
	lrn_reader	whole = *r;
	layout		l = {0};
	mr_code		code = lrn_boost_check(&whole, info, st);

	if (code)
		return code;
	*file = NULL;
	code = build(env, &l, r, info, file, file_len, st);
	mr_free(env, l.used_of);
	mr_free(env, l.t.node);
	mr_free(env, l.t.right);
	mr_free(env, l.todo);
	if (code)
		mr_free(env, *file);
	return code;
}

/*
 * A page's walk ends if no node has two parents and the root has none; its
 * links lead to earlier pages of the tree.
 */
static bool
page_is_good(const lrn_model *m, uint32_t at, uint32_t first)
{
	const boost_page *p = &m->pages[at];
	uint32_t	seen = 0;

	if (p->n_left > p->n_numbers || p->n_numbers > p->n_nodes || p->n_nodes >= BOOST_PAGE ||
		(p->n_nodes == 0 ? p->root != BOOST_PAGE : p->root >= p->n_nodes) ||
		p->n_links > BOOST_PAGE || p->link > m->n_links || p->n_links > m->n_links - p->link ||
		p->set > m->n_sets || (uint32_t) (p->n_nodes - p->n_numbers) > m->n_sets - p->set)
		return false;
	if (p->n_nodes > 0)
		seen = (uint32_t) 1 << p->root;
	for (int k = 0; k < BOOST_PAGE; k++)
	{
		if (p->feature[k] >= (m->n_used ? m->n_used : 1))
			return false;
		for (int side = 0; side < 2; side++)
		{
			uint8_t		child = p->child[k][side];

			if (k >= p->n_nodes ? child != 0 : child >= 2 * BOOST_PAGE)
				return false;
			if (k >= p->n_nodes || child >= BOOST_PAGE)
				continue;
			if (child >= p->n_nodes || seen >> child & 1)
				return false;
			seen |= (uint32_t) 1 << child;
		}
		/* A set is asked by number, a threshold by value: kinds must agree. */
		if (k < p->n_nodes && (k >= p->n_numbers) != (m->used[p->feature[k]].n_categories > 0))
			return false;
	}
	for (uint32_t i = 0; i < p->n_links; i++)
	{
		const boost_link *l = &m->links[p->link + i];

		if (l->leaf >= BOOST_PAGE || l->page < first || l->page >= at)
			return false;
	}
	return true;
}

mr_code
lrn_boost_open(const lrn_flat_header *h, lrn_model *m, mr_status *st)
{
	uint32_t	margins = (uint32_t) boost_margins(&m->info);

	if (h->n_boosted % margins != 0 ||
		!lrn_section_fits(h, BOOST_BASE, margins, sizeof(double)) ||
		!lrn_section_fits(h, BOOST_USED, h->n_used, sizeof(boost_used)) ||
		!lrn_section_fits(h, BOOST_MAP, h->n_map, 1) ||
		!lrn_section_fits(h, BOOST_PAGES, h->n_pages, sizeof(boost_page)) ||
		!lrn_section_fits(h, BOOST_LINKS, h->n_links, sizeof(boost_link)) ||
		!lrn_section_fits(h, BOOST_SETS, h->n_sets, 8 * sizeof(uint32_t)) ||
		!lrn_section_fits(h, BOOST_ROOTS, (uint64_t) h->n_boosted + 1, sizeof(uint32_t)))
		return lrn_corrupt(st, "A section lies outside the file");
	m->bias = lrn_section(h, BOOST_BASE);
	m->used = lrn_section(h, BOOST_USED);
	m->map = lrn_section(h, BOOST_MAP);
	m->pages = lrn_section(h, BOOST_PAGES);
	m->links = lrn_section(h, BOOST_LINKS);
	m->sets = lrn_section(h, BOOST_SETS);
	m->roots = lrn_section(h, BOOST_ROOTS);
	m->n_pages = h->n_pages;
	m->n_trees = h->n_boosted;
	m->n_used = h->n_used;
	m->n_links = h->n_links;
	m->n_sets = h->n_sets;
	for (uint32_t i = 0; i < m->n_used; i++)
	{
		const boost_used *u = &m->used[i];

		if (u->feature >= (uint32_t) m->info.n_features || u->missing > 255 ||
			u->map > h->n_map || u->n_categories > h->n_map - u->map)
			return lrn_corrupt(st, "A feature is out of range");
	}
	if (m->roots[0] != 0 || m->roots[m->n_trees] != m->n_pages)
		return lrn_corrupt(st, "A root is out of range");
	for (uint32_t t = 0; t < m->n_trees; t++)
	{
		if (m->roots[t] >= m->roots[t + 1] || m->roots[t + 1] > m->n_pages)
			return lrn_corrupt(st, "A root is out of range");
		if (m->roots[t + 1] - m->roots[t] > m->most_pages)
			m->most_pages = m->roots[t + 1] - m->roots[t];
		for (uint32_t at = m->roots[t]; at < m->roots[t + 1]; at++)
			if (!page_is_good(m, at, m->roots[t]))
				return lrn_corrupt(st, "A page points outside its tree");
	}
	return MR_OK;
}
