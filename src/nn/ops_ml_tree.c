/*
 * ops_ml_tree.c
 *	  ai.onnx.ml: running tree ensembles.
 *
 * Eight trees are walked at a time, so that the waits for memory of one overlap
 * the others', by many rows before the next eight.  Leaves are added up in the order of the trees, in float, as
 * other engines do: the same sums, the same ties.  Indices are kept inside their
 * arrays at each step: a damaged file gives a wrong number, not a wild read.
 */
#include <math.h>
#include <string.h>

#include "nn/ops_ml_tree.h"

#define TOGETHER 8

/* An ensemble at work. */
typedef struct forest
{
	const ml_trees *t;
	const ml_root *roots;
	const ml_node *nodes;
	const ml_weight *weights;
	const float *base;
	const nn_tensor *x;
	uint32_t	columns;
} forest;

static bool
open_forest(const nn_run_call *c, forest *f)
{
	const nn_tensor *packed = &c->in[1];
	const ml_trees *t = packed->data;

	f->t = t;
	f->x = &c->in[0];
	f->columns = (uint32_t) f->x->shape.dims[f->x->shape.rank - 1];
	if ((uint64_t) packed->elements * sizeof(int32_t) < sizeof(*t) ||
		ml_trees_size(t) > (uint64_t) packed->elements * sizeof(int32_t) || t->n_trees < 1 || t->n_nodes < 1 ||
		t->n_targets > ML_MAX_TARGETS || t->columns > f->columns || (t->n_base > 1 && t->n_base != t->n_targets))
		return false;
	f->nodes = (const ml_node *) (t + 1);
	f->roots = (const ml_root *) (f->nodes + t->n_nodes);
	f->weights = (const ml_weight *) (f->roots + t->n_trees);
	f->base = (const float *) (f->weights + t->n_weights);
	return true;
}

/* ---- walking ---- */

static inline uint32_t
step(const forest *f, uint32_t at, const float *x)
{
	const ml_node *n = &f->nodes[at];
	uint32_t	col = n->feature & ML_COUNT_MASK;
	float		v = x[col < f->columns ? col : 0];
	uint32_t	nan_is_yes = n->feature / (ml_unordered << ML_COUNT_BITS) & 1;
	uint32_t	to = n->to[(v <= n->u.value) | (nan_is_yes & (v != v))];

	return to < f->t->n_nodes ? to : 0;
}

/* The same for any comparison and any type of number. */
static inline uint32_t
step_any(const forest *f, uint32_t at, int64_t row)
{
	const ml_node *n = &f->nodes[at];
	uint32_t	col = n->feature & ML_COUNT_MASK;
	float		x = nn_ml_number(f->x, row + (col < f->columns ? col : 0));
	float		v = n->u.value;
	uint32_t	how = x < v ? ml_less : x == v ? ml_equal : x > v ? ml_greater : ml_unordered;
	uint32_t	to = n->to[(n->feature >> ML_COUNT_BITS & how) != 0];

	return to < f->t->n_nodes ? to : 0;
}

/* One step from a node; a leaf stays where it is. */
#define ADVANCE(at) do { uint32_t to_ = step(f, at, x); moved |= to_ ^ at; at = to_; } while (0)

/* Leaves of the trees first .. first + n - 1 for the row that starts at element `row`. */
static void
walk(const forest *f, uint32_t first, uint32_t n, int64_t row, uint32_t leaf[TOGETHER])
{
	uint32_t	depth = 0;

	for (uint32_t k = 0; k < TOGETHER; k++)
	{
		const ml_root *r = &f->roots[first + (k < n ? k : 0)];

		leaf[k] = r->node < f->t->n_nodes ? r->node : 0;
		depth = r->depth > depth ? r->depth : depth;
	}
	depth = depth < f->t->n_nodes ? depth : f->t->n_nodes;
	if (f->t->plain && f->x->dtype == nn_float32)
	{
		const float *x = (const float *) f->x->data + row;
		uint32_t	a = leaf[0],
					b = leaf[1],
					c = leaf[2],
					d = leaf[3],
					e = leaf[4],
					g = leaf[5],
					h = leaf[6],
					i = leaf[7];

		for (; depth; depth--)
		{
			uint32_t	moved = 0;

			ADVANCE(a);
			ADVANCE(b);
			ADVANCE(c);
			ADVANCE(d);
			ADVANCE(e);
			ADVANCE(g);
			ADVANCE(h);
			ADVANCE(i);
			if (moved == 0)
				break;			/* at leaves, all of them */
		}
		leaf[0] = a;
		leaf[1] = b;
		leaf[2] = c;
		leaf[3] = d;
		leaf[4] = e;
		leaf[5] = g;
		leaf[6] = h;
		leaf[7] = i;
	}
	else
		for (; depth; depth--)
			for (uint32_t k = 0; k < n; k++)
				leaf[k] = step_any(f, leaf[k], row);
}

/* ---- adding up ---- */

/* Which targets have a score: a leaf may say nothing about some. */
typedef uint64_t has_scores[ML_MAX_TARGETS / 64];

/* Words of a row's bits. */
static inline uint32_t
words_of(const forest *f)
{
	return (f->t->n_targets + 63) / 64;
}

static inline bool
has(const uint64_t *bits, uint32_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static void
add_leaf(const forest *f, uint32_t leaf, float *score, uint64_t *bits)
{
	uint32_t	first = f->nodes[leaf].u.first,
				n = f->nodes[leaf].feature & ML_COUNT_MASK;

	if (first > f->t->n_weights || n > f->t->n_weights - first)
		return;
	for (const ml_weight *w = f->weights + first; w < f->weights + first + n; w++)
	{
		uint32_t	i = w->target < f->t->n_targets ? w->target : 0;
		float		v = w->value;

		switch (f->t->aggregate)
		{
			case ml_min:
				score[i] = !has(bits, i) || v < score[i] ? v : score[i];
				break;
			case ml_max:
				score[i] = !has(bits, i) || v > score[i] ? v : score[i];
				break;
			default:
				score[i] += v;
		}
		bits[i / 64] |= UINT64_C(1) << (i % 64);
	}
}

#define ROWS_AT_ONCE 128

/* How many rows' bits fit. */
static int64_t
rows_at_once(const forest *f)
{
	int64_t		fit = ML_MAX_TARGETS / 64 / words_of(f);

	return fit < ROWS_AT_ONCE ? fit : ROWS_AT_ONCE;
}

/* Scores of rows, before base values and transforms: trees outside, so that they
 * stay in the cache for all rows.  False: asked to stop. */
static bool
score_rows(const nn_run_call *c, const forest *f, int64_t row, int64_t n_rows, float *score, uint64_t *bits)
{
	uint32_t	leaf[TOGETHER];

	memset(score, 0, (size_t) n_rows * f->t->n_targets * sizeof(float));
	memset(bits, 0, (size_t) n_rows * words_of(f) * sizeof(uint64_t));
	for (uint32_t i = 0; i < f->t->n_trees; i += TOGETHER)
	{
		uint32_t	n = f->t->n_trees - i < TOGETHER ? f->t->n_trees - i : TOGETHER;

		if (mr_interrupted(c->env))
			return false;
		for (int64_t r = 0; r < n_rows; r++)
		{
			walk(f, i, n, (row + r) * f->columns, leaf);
			for (uint32_t k = 0; k < n; k++)
				add_leaf(f, leaf[k], score + r * f->t->n_targets, bits + r * words_of(f));
		}
	}
	return true;
}

static int64_t
rows_of(const nn_tensor *x)
{
	return x->shape.rank == 2 ? x->shape.dims[0] : 1;
}

/* ---- TreeEnsembleRegressor, TreeEnsemble ---- */

static mr_code
infer_regressor(nn_infer_call *c)
{
	nn_shape	s = {2, {0}};
	int64_t		columns;
	const ml_trees *t = nn_in(c, 1)->data;

	NN_TRY(nn_ml_table(c, &s.dims[0], &columns));
	if (columns < t->columns)
		return nn_infer_fail(c, MR_INVALID, "the trees ask for column %u of %lld", t->columns - 1, (long long) columns);
	s.dims[1] = t->n_targets;
	return nn_set_out(c, 0, nn_float32, &s);
}

mr_code
nn_infer_ml_tree_regressor(nn_infer_call *c)
{
	int64_t		targets;
	bool		attached;

	NN_TRY(nn_ml_attached(c, 1, &attached));
	NN_TRY(nn_get_int(c, "n_targets", 1, &targets));
	if (!attached)
		NN_TRY(nn_ml_build_trees(c, false, targets));
	return infer_regressor(c);
}

mr_code
nn_infer_ml_trees(nn_infer_call *c)
{
	bool		attached;

	NN_TRY(nn_ml_attached(c, 1, &attached));
	if (!attached)
		NN_TRY(nn_ml_build_trees5(c));
	return infer_regressor(c);
}

mr_code
nn_run_ml_tree_regressor(nn_run_call *c)
{
	forest		f;
	has_scores	bits;
	float	   *y = c->out[0].data;

	if (!open_forest(c, &f))
		return mr_fail(c->st, MR_CORRUPT, "compiled trees are damaged");
	for (int64_t r = 0, scored = 0; r < rows_of(f.x); r++, y += f.t->n_targets)
	{
		if (r == scored)
		{
			int64_t		n = rows_of(f.x) - r < rows_at_once(&f) ? rows_of(f.x) - r : rows_at_once(&f);

			if (!score_rows(c, &f, r, n, y, bits))
				return MR_CANCELED;
			scored += n;
		}
		for (uint32_t i = 0; i < f.t->n_targets; i++)
		{
			if (f.t->aggregate == ml_average)
				y[i] /= (float) f.t->n_trees;
			if (f.t->n_base == f.t->n_targets)
				y[i] += f.base[i];
		}
		/* softmax of one score would say nothing */
		if (f.t->n_targets > 1 || f.t->post == nn_ml_probit || f.t->post == nn_ml_logistic)
			nn_ml_transform(y, f.t->n_targets, (nn_ml_post) f.t->post);
	}
	return MR_OK;
}

mr_code
nn_run_ml_trees(nn_run_call *c)
{
	return nn_run_ml_tree_regressor(c);
}

/* ---- TreeEnsembleClassifier: trees, labels ---- */

mr_code
nn_infer_ml_tree_classifier(nn_infer_call *c)
{
	nn_shape	s = {2, {0}};
	const int64_t *ints;
	const pb_bytes *strings;
	const ml_trees *t;
	int64_t		columns;
	int			n,
				n_strings;
	bool		attached;

	NN_TRY(nn_ml_table(c, &s.dims[0], &columns));
	NN_TRY(nn_ml_ints(c, "classlabels_int64s", &ints, &n));
	NN_TRY(nn_ml_strings(c, "classlabels_strings", &strings, &n_strings));
	n = n_strings ? n_strings : n;
	if (n < 2)
		return nn_infer_fail(c, MR_UNSUPPORTED, "%d classes; at least 2 are supported", n);
	NN_TRY(nn_ml_attached(c, 1, &attached));
	if (!attached)
	{
		NN_TRY(nn_ml_build_trees(c, true, n));
		NN_TRY(nn_ml_attach_labels(c, "classlabels_int64s", &n));
	}
	t = nn_in(c, 1)->data;
	if (columns < t->columns)
		return nn_infer_fail(c, MR_INVALID, "the trees ask for column %u of %lld", t->columns - 1, (long long) columns);
	s.dims[1] = n;
	NN_TRY(nn_set_out(c, 1, nn_float32, &s));
	s.rank = 1;
	return nn_set_out(c, 0, nn_int64, &s);
}

/* Base values and transform of n > 2 classes; the best one. */
static uint32_t
finish_many(const forest *f, float *s, uint64_t *bits)
{
	uint32_t	best = UINT32_MAX;

	for (uint32_t i = 0; i < f->t->n_targets; i++)
	{
		if (i < f->t->n_base)
		{
			s[i] += f->base[i];
			bits[i / 64] |= UINT64_C(1) << (i % 64);
		}
		if (has(bits, i) && (best == UINT32_MAX || s[i] > s[best]))
			best = i;
	}
	nn_ml_transform(s, f->t->n_targets, (nn_ml_post) f->t->post);
	return best == UINT32_MAX ? 0 : best;
}

/*
 * Two classes.  Trees may score one of them only: then its score stands for
 * both, around a half if all weights are positive, else around zero.
 */
static uint32_t
finish_two(const forest *f, float *s, uint64_t *bits)
{
	bool		both = has(bits, 1);
	float		decisive;
	nn_ml_post	post = (nn_ml_post) f->t->post;
	uint32_t	best;

	if (f->t->n_base == 2)
	{
		if (both)
		{
			s[1] = f->base[1] + s[0];
			s[0] = -s[1];
		}
		else
		{
			s[1] += f->base[1];
			s[0] += f->base[0];
		}
	}
	else if (f->t->n_base == 1)
		s[0] += f->base[0];
	decisive = both ? s[1] : s[0];
	best = f->t->one_class && f->t->positive ? decisive > 0.5f : decisive > 0;
	if (both || f->t->n_base == 2)
		nn_ml_transform(s, 2, post);
	else if (f->t->one_class)
		nn_ml_two_classes(s, !f->t->positive, post);
	return best;
}

mr_code
nn_run_ml_tree_classifier(nn_run_call *c)
{
	const int64_t *labels = c->in[2].data;
	int64_t    *label = c->out[0].data;
	forest		f;
	has_scores	bits;
	float		few[64];
	bool		wanted;			/* the scores are an output */

	if (!open_forest(c, &f) || c->in[2].elements != f.t->n_targets || f.t->n_targets < 2)
		return mr_fail(c->st, MR_CORRUPT, "compiled trees are damaged");
	wanted = c->n_out > 1 && c->out[1].data;
	if (!wanted && f.t->n_targets > sizeof(few) / sizeof(few[0]))
		return mr_fail(c->st, MR_UNSUPPORTED, "operator TreeEnsembleClassifier: the scores must be an output");
	for (int64_t first = 0, n; first < rows_of(f.x); first += n)
	{
		float	   *s = wanted ? (float *) c->out[1].data + first * f.t->n_targets : few;

		n = !wanted ? 1 : rows_of(f.x) - first < rows_at_once(&f) ? rows_of(f.x) - first : rows_at_once(&f);
		if (!score_rows(c, &f, first, n, s, bits))
			return MR_CANCELED;
		for (int64_t r = 0; r < n; r++, s += f.t->n_targets)
		{
			uint64_t   *b = bits + r * words_of(&f);
			uint32_t	best = f.t->n_targets > 2 ? finish_many(&f, s, b) : finish_two(&f, s, b);

			if (label)
				label[first + r] = labels[best];
		}
	}
	return MR_OK;
}
