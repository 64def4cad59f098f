/*
 * shap.c
 *	  Exact SHAP values of trees, path-dependent: algorithm 2 of Lundberg, Erion
 *	  and Lee, "Consistent Individualized Feature Attribution for Tree Ensembles"
 *	  (2018).  A walk through all leaves of a tree carries, for the features on
 *	  the path, the shares of subsets in which the row (one) or the training
 *	  rows' covers (zero) would have come here.
 *
 * What the paper's recursion copies stands here in one slot a level of the
 * tree: the left subtree writes only below its parent's slot, which the right
 * child then still finds.  A one-fraction is always 0 or 1; features with 0
 * all get the same from a leaf, so that a leaf costs features on its path x
 * those the row agrees with.
 *
 * Memory: levels x (features on a path + 2) elements, env's, freed on return.
 */
#include "learn/shap.h"

#include <math.h>
#include <string.h>

#define MOST_BYTES	((size_t) 1 << 30)

typedef struct element
{
	int32_t		feature;		/* -1 = the root's */
	bool		one;			/* the row goes this way at all its splits */
	double		zero;			/* share of the training rows that do */
	double		weight;			/* of the subsets with this many features */
} element;

typedef struct visit
{
	uint32_t	node;
	uint32_t	level;
	uint32_t	length;			/* of the parent's path */
	element		arrival;		/* its weight is not used */
} visit;

typedef struct walk
{
	const mr_env *env;
	const lrn_tree *tree;
	size_t		slot;			/* elements a level */
	element    *path;
	visit	   *stack;
	uint32_t   *level;			/* of the tree's nodes */
	double	   *inverse;		/* 1 / i */
	double	   *mean;			/* leaf values by cover, from the bottom up */
	size_t		path_room,
				node_room;
	int64_t		work;
} walk;

/* Append to a path of n elements. */
static void
extend(element *path, uint32_t n, const element *e, const double *inverse)
{
	double		scale = inverse[n + 1];

	path[n] = *e;
	path[n].weight = n == 0 ? 1 : 0;
	for (uint32_t i = n; i-- > 0;)
	{
		double		share = path[i].weight * scale;

		if (e->one)
			path[i + 1].weight += share * (i + 1);
		path[i].weight = share * (e->zero * (n - i));
	}
}

/* Take element at out of a path of n + 1: as if it had never been appended. */
static void
unwind(element *path, uint32_t n, uint32_t at, const double *inverse)
{
	double		zero = path[at].zero,
				next = path[n].weight;

	/* From one step to the next only a product and a difference wait for each other. */
	if (path[at].one)
		for (uint32_t i = n; i-- > 0;)
		{
			double		old = path[i].weight;

			path[i].weight = next * ((n + 1) * inverse[i + 1]);
			next = old - next * (zero * (n - i) * inverse[i + 1]);
		}
	else
	{
		double		scale = (n + 1) / zero;

		for (uint32_t i = 0; i < n; i++)
			path[i].weight *= scale * inverse[n - i];
	}
	for (uint32_t i = at; i < n; i++)
	{
		path[i].feature = path[i + 1].feature;
		path[i].zero = path[i + 1].zero;
		path[i].one = path[i + 1].one;
	}
}

/* Sum of the weights of a path of n + 1 without element at, which the row
 * agrees with. */
static double
unwound_sum(const element *path, uint32_t n, double zero, const double *inverse)
{
	double		next = path[n].weight,
				sum = 0;

	for (uint32_t i = n; i-- > 0;)
	{
		sum += next * inverse[i + 1];
		next = path[i].weight - next * (zero * (n - i) * inverse[i + 1]);
	}
	return sum * (n + 1);
}

static void
add_leaf(const walk *w, const lrn_tree_node *leaf, const element *path, uint32_t n,
		 int margins, double scale, double *phi)
{
	const double *value = w->tree->values + leaf->value;
	int			first = w->tree->margin < 0 ? 0 : w->tree->margin;
	int			count = w->tree->margin < 0 ? margins : 1;
	double		absent = 0;

	/* (n + 1) / zero x this is the unwound sum of a feature with one = 0; times
	 * one - zero. */
	for (uint32_t i = 0; i < n; i++)
		absent += path[i].weight * w->inverse[n - i];
	absent *= -(double) (n + 1);
	for (uint32_t i = 1; i <= n; i++)
	{
		double		share = absent;
		double	   *out = phi + (size_t) path[i].feature * (size_t) margins + first;

		if (path[i].one)
			share = unwound_sum(path, n, path[i].zero, w->inverse) * (1 - path[i].zero);
		share *= scale;
		for (int c = 0; c < count; c++)
			out[c] += share * value[c];
	}
}

/* All leaves of the tree for one row. */
static mr_code
walk_tree(walk *w, const float *row, int margins, double scale, double *phi, mr_status *st)
{
	const lrn_tree_node *node = w->tree->node;
	uint32_t	used = 0;

	w->stack[used++] = (visit) {0, 0, 0, {.feature = -1, .one = true, .zero = 1}};
	while (used > 0)
	{
		visit		v = w->stack[--used];
		const lrn_tree_node *n = &node[v.node];
		element    *path = w->path + (size_t) v.level * w->slot;
		uint32_t	last = v.length;	/* number of the path's last element */
		element		left = {.feature = n->feature, .one = true, .zero = 1},
					right;
		bool		goes_left;

		if (v.level > 0)
			memcpy(path, path - w->slot, v.length * sizeof(element));
		extend(path, v.length, &v.arrival, w->inverse);
		w->work += 20 + (int64_t) last * last;
		if (w->work > 1000000)
		{
			w->work = 0;
			if (mr_interrupted(w->env))
				return lrn_canceled(st);
		}
		if (n->feature < 0)
		{
			add_leaf(w, n, path, last, margins, scale, phi);
			continue;
		}
		/* A feature seen before: its fractions join those of this split. */
		for (uint32_t i = 1; i <= last; i++)
			if (path[i].feature == n->feature)
			{
				left.zero = path[i].zero;
				left.one = path[i].one;
				unwind(path, last, i, w->inverse);
				last--;
				break;
			}
		right = left;
		goes_left = lrn_tree_child(w->tree, n, row[n->feature]) == n->left;
		left.one &= goes_left;
		right.one &= !goes_left;
		left.zero *= n->cover > 0 ? node[n->left].cover / n->cover : 0.5;
		right.zero *= n->cover > 0 ? node[n->right].cover / n->cover : 0.5;
		/* Where neither the row nor a training row goes there is nothing. */
		if (right.one || right.zero > 0)
			w->stack[used++] = (visit) {n->right, v.level + 1, last + 1, right};
		if (left.one || left.zero > 0)
			w->stack[used++] = (visit) {n->left, v.level + 1, last + 1, left};
	}
	return MR_OK;
}

/* Depth of the tree in hand, root 0; nodes stand behind their parents. */
static uint32_t
depth_of(walk *w)
{
	uint32_t	deepest = 0;

	w->level[0] = 0;
	for (uint32_t i = 0; i < w->tree->n_nodes; i++)
	{
		const lrn_tree_node *n = &w->tree->node[i];

		deepest = w->level[i] > deepest ? w->level[i] : deepest;
		if (n->feature >= 0)
			w->level[n->left] = w->level[n->right] = w->level[i] + 1;
	}
	return deepest;
}

static bool
resize(const mr_env *env, void *at, size_t count, size_t size)
{
	void	  **p = at;
	size_t		bytes;

	mr_free(env, *p);
	*p = mr_mul_size(count, size, &bytes) ? mr_alloc(env, bytes) : NULL;
	return *p != NULL;
}

/* Room for the tree in hand. */
static mr_code
make_room(walk *w, const lrn_trees *v, mr_status *st)
{
	size_t		nodes = w->tree->n_nodes,
				margins = (size_t) v->n_margins,
				levels,
				elements;

	if (nodes > w->node_room)
	{
		w->node_room = nodes + nodes / 2;
		if (!resize(v->env, &w->level, w->node_room, sizeof(uint32_t)) ||
			!resize(v->env, &w->mean, w->node_room, margins * sizeof(double)))
			return lrn_out_of_memory(st);
	}
	levels = (size_t) depth_of(w) + 1;
	w->slot = levels < (size_t) v->info.n_features ? levels : (size_t) v->info.n_features;
	w->slot += 2;
	if (!mr_mul_size(levels, w->slot, &elements) || elements > MOST_BYTES / sizeof(element))
	{
		mr_fail(st, MR_LIMIT, "a tree of %zu levels is too deep to be explained", levels);
		mr_hint(st, "Train with max_depth.");
		return MR_LIMIT;
	}
	elements += 2 * levels;		/* never less than the stack needs */
	if (elements > w->path_room)
	{
		w->path_room = elements + elements / 2;
		if (!resize(v->env, &w->path, w->path_room, sizeof(element)) ||
			!resize(v->env, &w->stack, w->path_room, sizeof(visit)) ||
			!resize(v->env, &w->inverse, w->path_room + 2, sizeof(double)))
			return lrn_out_of_memory(st);
		for (size_t i = 0; i < w->path_room + 2; i++)
			w->inverse[i] = i ? 1.0 / (double) i : 0;
	}
	return MR_OK;
}

/* What the tree gives on average over its training rows: by cover. */
static void
add_expected(walk *w, const lrn_trees *v, double *expected)
{
	const lrn_tree *t = w->tree;
	int			first = t->margin < 0 ? 0 : t->margin,
				count = t->margin < 0 ? v->n_margins : 1;

	for (uint32_t i = t->n_nodes; i-- > 0;)
	{
		const lrn_tree_node *n = &t->node[i];
		double	   *mean = w->mean + (size_t) i * (size_t) count;

		for (int c = 0; c < count; c++)
			if (n->feature < 0)
				mean[c] = t->values[n->value + (uint32_t) c];
			else
			{
				double		left = n->cover > 0 ? t->node[n->left].cover / n->cover : 0.5,
							right = n->cover > 0 ? t->node[n->right].cover / n->cover : 0.5;

				mean[c] = left * w->mean[(size_t) n->left * (size_t) count + (size_t) c] +
					right * w->mean[(size_t) n->right * (size_t) count + (size_t) c];
			}
	}
	for (int c = 0; c < count; c++)
		expected[first + c] += v->scale * w->mean[c];
}

mr_code
lrn_shap(lrn_trees *v, const float *rows, int64_t n, double *out, mr_status *st)
{
	size_t		d = (size_t) v->info.n_features,
				k = (size_t) v->n_margins,
				numbers = (d + 1) * k;
	walk		w = {.env = v->env};
	mr_code		code = MR_OK;

	lrn_trees_rewind(v);
	memset(out, 0, (size_t) n * numbers * sizeof(double));
	for (int64_t r = 0; r < n && v->base; r++)
		memcpy(out + (size_t) r * numbers + d * k, v->base, k * sizeof(double));
	while (code == MR_OK && (code = lrn_trees_next(v, &w.tree, st)) == MR_OK && w.tree)
	{
		code = make_room(&w, v, st);
		for (int64_t r = 0; r < n && code == MR_OK; r++)
		{
			double	   *phi = out + (size_t) r * numbers;

			add_expected(&w, v, phi + d * k);
			code = walk_tree(&w, rows + (size_t) r * d, v->n_margins, v->scale, phi, st);
		}
		w.work += w.tree->n_nodes * 10;
		if (code == MR_OK && mr_interrupted(v->env))
			code = lrn_canceled(st);
	}
	mr_free(v->env, w.path);
	mr_free(v->env, w.stack);
	mr_free(v->env, w.level);
	mr_free(v->env, w.inverse);
	mr_free(v->env, w.mean);
	return code;
}

mr_code
lrn_tree_importances(lrn_trees *v, double *out, mr_status *st)
{
	size_t		d = (size_t) v->info.n_features;
	bool		each_alike = v->info.algorithm != LRN_GRADIENT_BOOSTING;
	const lrn_tree *t;
	double		sum = 0;
	mr_code		code;

	lrn_trees_rewind(v);
	memset(out, 0, d * sizeof(double));
	while ((code = lrn_trees_next(v, &t, st)) == MR_OK && t)
	{
		double		total = 0;

		for (uint32_t i = 0; i < t->n_nodes; i++)
			total += t->node[i].feature >= 0 ? t->node[i].gain : 0;
		for (uint32_t i = 0; i < t->n_nodes; i++)
			if (t->node[i].feature >= 0 && total > 0)
				out[t->node[i].feature] += t->node[i].gain / (each_alike ? total : 1);
		if (mr_interrupted(v->env))
			return lrn_canceled(st);
	}
	for (size_t f = 0; f < d; f++)
		sum += out[f];
	for (size_t f = 0; f < d && sum > 0; f++)
		out[f] /= sum;
	return code;
}

mr_code
lrn_linear_open_coefficients(const mr_env *env, const uint8_t *bytes, size_t len,
							 lrn_info *info, lrn_coefficients *out, mr_status *st)
{
	const lrn_learner *l;
	lrn_reader	r;
	mr_code		code = lrn_check(bytes, len, info, st);

	memset(out, 0, sizeof(*out));
	if (code == MR_OK)
		code = lrn_file_open(bytes, len, info, &r, st);
	if (code)
		return code;
	l = lrn_learner_of(info->algorithm);
	if (l->coefficients == NULL)
		return mr_fail(st, MR_UNSUPPORTED, "a model of %s has no coefficients", l->name);
	return l->coefficients(env, &r, info, out, st);
}

void
lrn_linear_contributions(const lrn_info *info, const lrn_coefficients *c, const float *row, double *out)
{
	size_t		d = (size_t) info->n_features,
				k = (size_t) c->rows;

	for (size_t m = 0; m < k; m++)
	{
		for (size_t f = 0; f < d; f++)
			out[f * k + m] = c->weight[m * d + f] * ((double) row[f] - (c->mean ? c->mean[f] : 0));
		out[d * k + m] = c->bias[m];
	}
}

void
lrn_linear_importances(const lrn_info *info, const lrn_coefficients *c, double *out)
{
	size_t		d = (size_t) info->n_features;
	double		sum = 0;

	for (size_t f = 0; f < d; f++)
	{
		out[f] = 0;
		for (size_t m = 0; m < (size_t) c->rows; m++)
			out[f] += fabs(c->weight[m * d + f]);
		sum += out[f];
	}
	for (size_t f = 0; f < d && sum > 0; f++)
		out[f] /= sum;
}
