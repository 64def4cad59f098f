/*
 * fuse_attention.c
 *	  Attention, whatever operators an exporter wrote it in, becomes one node.
 *
 *	softmax(scale * Q K^T + masks) V
 *
 * Seen from the second MatMul: [Where(IsNaN(p), 0, p)], Softmax, any Adds of
 * masks, a scale (before, behind, or in halves on Q and K), the first MatMul.
 * Q, K and V are mostly Transposes and Reshapes, Splits or Slices of a product's
 * rows: these are followed back to the rows themselves, which the node reads at
 * strides, so that nothing is moved.  The Transpose behind it vanishes likewise.
 *
 * The node: inputs q, k, v, masks; nn_attention_param says how they lie.  It has
 * no operator of its own: every one becomes an attention step (step_attention.c).
 */
#include <string.h>

#include "nn/fuse.h"
#include "nn/onnx.h"

static const nn_op attention_op = {"Attention", "millrace", 1, NN_MAX_OPSET, nn_kind_attention, 3, 5, NULL, NULL, 0};

/* Elements of a value as they lie in another one, the root. */
typedef struct strided
{
	int			root;
	int64_t		at;
	nn_shape	shape;
	int64_t		stride[NN_MAX_RANK];
	float		scale;			/* the root's elements are to be multiplied by */
} strided;

/* The value itself. */
static void
as_root(const nn_graph *g, int v, strided *s)
{
	int64_t		stride = 1;

	memset(s, 0, sizeof(*s));
	s->root = v;
	s->shape = g->values[v].shape;
	s->scale = 1;
	for (int i = s->shape.rank - 1; i >= 0; i--)
	{
		s->stride[i] = stride;
		stride *= s->shape.dims[i];
	}
}

/* The same elements in the same order, of another shape; false: not at strides. */
static bool
reshape(strided *s, const nn_shape *to)
{
	int64_t		dims[NN_MAX_RANK],
				strides[NN_MAX_RANK],
				out[NN_MAX_RANK];
	int			n = 0,
				i = 0,
				j = 0;

	for (int k = 0; k < s->shape.rank; k++)
		if (s->shape.dims[k] != 1)
		{
			dims[n] = s->shape.dims[k];
			strides[n++] = s->stride[k];
		}
	/* groups of old dimensions i.. and of new ones j.. with as many elements */
	while (j < to->rank)
	{
		int64_t		have = 1,
					want = to->dims[j];
		int			i1 = i,
					j1 = j + 1;
		int64_t		stride;

		if (want == 1)
		{
			out[j++] = 0;
			continue;
		}
		while (have != want)
		{
			if (have < want)
			{
				if (i1 == n)
					return false;
				have *= dims[i1++];
			}
			else
			{
				if (j1 == to->rank)
					return false;
				want *= to->dims[j1++];
			}
		}
		for (int k = i; k + 1 < i1; k++)
			if (strides[k] != strides[k + 1] * dims[k + 1])
				return false;
		stride = strides[i1 - 1];
		for (int k = j1 - 1; k >= j; k--)
		{
			out[k] = stride;
			stride *= to->dims[k];
		}
		i = i1;
		j = j1;
	}
	s->shape = *to;
	memcpy(s->stride, out, sizeof(out));
	return i == n;
}

static bool
transpose(const nn_graph *g, const nn_node *n, strided *s)
{
	const nn_attr *perm = nn_find_attr(n, "perm");
	strided		from = *s;

	s->shape = g->values[n->out[0]].shape;
	for (int i = 0; i < s->shape.rank; i++)
	{
		int			j = perm ? (int) perm->ints[i] : s->shape.rank - 1 - i;

		j += j < 0 ? s->shape.rank : 0;
		s->stride[i] = from.stride[j];
	}
	return true;
}

/* One index of a dimension, which goes or stays as 1 with the output's shape. */
static bool
pick(const nn_graph *g, const nn_node *n, strided *s)
{
	const nn_value *index = &g->values[n->in[1]];
	int			axis = (int) n->params.i[0];
	int64_t		at;

	if (index->data == NULL || index->elements != 1)
		return false;
	at = index->dtype == nn_int64 ? *(int64_t *) index->data : *(int32_t *) index->data;
	at += at < 0 ? s->shape.dims[axis] : 0;
	if (at < 0 || at >= s->shape.dims[axis])
		return false;
	s->at += at * s->stride[axis];
	s->shape.dims[axis] = 1;
	return reshape(s, &g->values[n->out[0]].shape);
}

/* Follow v back through everything that only moves or scales its elements. */
static void
trace(const nn_graph *g, int v, int depth, bool scaled, strided *s)
{
	const nn_node *n = nn_producer(g, v);
	const nn_shape *shape = &g->values[v].shape;
	bool		good = false;
	float		c;

	if (depth > 0 && n && n->act.kind == nn_act_none && n->n_in > 0 && n->in[0] >= 0)
	{
		trace(g, n->in[0], depth - 1, scaled, s);
		if (n->op->kind == nn_kind_alias)
			good = reshape(s, shape);
		else if (n->op->run == nn_run_transpose)
			good = transpose(g, n, s);
		else if (n->op->run == nn_run_gather)
			good = pick(g, n, s);
		else if (n->op->run == nn_run_slice)
		{
			for (int i = 0; i < shape->rank; i++)
			{
				s->at += n->params.i[16 + i] * s->stride[i];
				s->stride[i] *= n->params.i[24 + i];
			}
			s->shape = *shape;
			good = true;
		}
		else if (n->op->run == nn_run_split)
		{
			int			axis = (int) n->params.i[0];

			for (int k = 0; n->out[k] != v; k++)
				s->at += g->values[n->out[k]].shape.dims[axis] * s->stride[axis];
			s->shape = *shape;
			good = true;
		}
		else if (scaled && n->op->run == nn_run_binary && n->n_in == 2 && nn_shape_equal(&g->values[n->in[0]].shape, shape) &&
				 (n->op->arg == nn_mul || n->op->arg == nn_div) && nn_const_number(g, n->in[1], &c))
		{
			s->scale *= n->op->arg == nn_mul ? c : 1 / c;
			good = true;
		}
	}
	if (!good)
		as_root(g, v, s);
}

/* A matrix operand: rows of contiguous elements, in up to two outer dimensions. */
typedef struct rows
{
	int			root;
	int64_t		at,
				row,
				head,
				batch;
} rows;

/* s has the outer dimensions of out before rows and columns (dimension `inner`
 * of the last two is the contiguous one); broadcast ones have stride 0. */
static bool
as_rows(const strided *s, const nn_shape *out, int inner, int64_t outer[2], rows *r)
{
	int			rank = s->shape.rank;
	int64_t		dim[2] = {1, 1},
				stride[2] = {0, 0};
	int			n = 0;

	if (rank < 2 || rank > out->rank || (s->shape.dims[rank - 2 + inner] != 1 && s->stride[rank - 2 + inner] != 1))
		return false;
	for (int i = out->rank - 3; i >= 0; i--)
	{
		int			j = i - (out->rank - rank);

		if (out->dims[i] == 1)
			continue;
		if (n == 2)
			return false;
		dim[n] = out->dims[i];
		stride[n++] = j < 0 || s->shape.dims[j] == 1 ? 0 : s->stride[j];
	}
	r->root = s->root;
	r->at = s->at;
	r->row = s->shape.dims[rank - 1 - inner] == 1 ? 0 : s->stride[rank - 1 - inner];
	r->head = stride[0];
	r->batch = stride[1];
	outer[0] = dim[0];
	outer[1] = dim[1];
	return r->at >= 0 && r->row >= 0 && r->head >= 0 && r->batch >= 0;
}

typedef struct attention
{
	const nn_node *first;		/* MatMul of Q and K^T */
	float		scale;
	bool		safe;
	int			n_masks;
	int			mask[2];
	int			masked[2];		/* the sum with it */
} attention;

/* Does v come from a MatMul through scales and masks? */
static bool
leads_to_scores(const nn_graph *g, int v, int depth)
{
	const nn_node *n = nn_producer(g, v);

	if (n == NULL || depth == 0)
		return false;
	if (n->op->kind == nn_kind_matmul)
		return g->values[n->in[1]].data == NULL;
	if (n->op->kind == nn_kind_alias)
		return leads_to_scores(g, n->in[0], depth - 1);
	return n->op->run == nn_run_binary && n->n_in == 2 &&
		(leads_to_scores(g, n->in[0], depth - 1) || leads_to_scores(g, n->in[1], depth - 1));
}

/* From the softmax's input up to the first MatMul. */
static bool
find_scores(const nn_graph *g, int v, attention *a)
{
	for (int depth = 0; depth < 6; depth++)
	{
		const nn_node *n = nn_producer(g, v);
		float		c;

		if (n == NULL || n->act.kind != nn_act_none)
			return false;
		if (n->op->kind == nn_kind_matmul)
		{
			a->first = n;
			return true;
		}
		if (n->op->kind == nn_kind_alias)
		{
			/* heads and batch may be split or joined, rows not */
			const nn_shape *x = &g->values[n->in[0]].shape,
					   *y = &g->values[v].shape;

			if (x->rank < 2 || y->rank < 2 || x->dims[x->rank - 1] != y->dims[y->rank - 1] ||
				x->dims[x->rank - 2] != y->dims[y->rank - 2])
				return false;
			v = n->in[0];
			continue;
		}
		if (n->op->run != nn_run_binary || n->n_in != 2)
			return false;
		if ((n->op->arg == nn_mul || n->op->arg == nn_div) && nn_const_number(g, n->in[1], &c))
		{
			a->scale *= n->op->arg == nn_mul ? c : 1 / c;
			v = n->in[0];
		}
		else if (n->op->arg == nn_mul && nn_const_number(g, n->in[0], &c))
		{
			a->scale *= c;
			v = n->in[1];
		}
		else if (n->op->arg == nn_add && a->n_masks < 2 && a->scale == 1)
		{
			int			side = leads_to_scores(g, n->in[0], 5) ? 0 : 1;

			if (!nn_shape_equal(&g->values[n->in[side]].shape, &g->values[n->out[0]].shape))
				return false;
			a->masked[a->n_masks] = n->out[0];
			a->mask[a->n_masks++] = n->in[!side];
			v = n->in[side];
		}
		else
			return false;
	}
	return false;
}

/* p, the weights: the Softmax behind it, with or without its guard against NaN. */
static const nn_node *
find_softmax(const nn_graph *g, int p, bool *safe)
{
	const nn_node *n = nn_producer(g, p);
	const nn_node *test;
	float		zero;

	*safe = false;
	if (n && n->op->run == nn_run_where)
	{
		test = nn_producer(g, n->in[0]);
		if (test == NULL || test->op->run != nn_run_unary || test->op->arg != nn_unary_isnan || test->in[0] != n->in[2] ||
			!nn_const_number(g, n->in[1], &zero) || zero != 0)
			return NULL;
		*safe = true;
		n = nn_producer(g, n->in[2]);
	}
	if (n == NULL || n->op->kind != nn_kind_softmax || n->op->arg != 0 || n->params.i[2] != 1 ||
		n->params.i[1] != g->values[n->in[0]].shape.dims[g->values[n->in[0]].shape.rank - 1])
		return NULL;
	return n;
}

/* Is t a Transpose of y whose rows are all heads of a token side by side? */
static bool
joins_heads(const nn_graph *g, int y, int t, const int64_t *outer, int64_t rows_, int64_t width)
{
	strided		s;
	nn_shape	want = {4, {outer[1], rows_, outer[0], width}};

	trace(g, t, 4, false, &s);
	return s.root == y && s.at == 0 && reshape(&s, &want) &&
		(outer[1] == 1 || s.stride[0] == outer[0] * rows_ * width) && (rows_ == 1 || s.stride[1] == width) &&
		(outer[0] == 1 || s.stride[2] == rows_ * width) && (width == 1 || s.stride[3] == 1);
}

static mr_code
fuse(nn_graph *g, nn_node *last, const int *reader)
{
	attention	a = {NULL, 1, false, 0, {-1, -1}, {-1, -1}};
	const nn_node *softmax = find_softmax(g, last->in[0], &a.safe);
	const nn_shape *sq,
			   *sy;
	strided		s;
	rows		r[5];
	int64_t		outer[5][2];
	int64_t		queries,
				keys,
				dim,
				vdim;
	nn_node    *into = last;
	int64_t    *p;
	int		   *in;

	if (softmax == NULL || !find_scores(g, softmax->in[0], &a))
		return MR_OK;
	sq = &g->values[a.first->out[0]].shape;
	sy = &g->values[last->out[0]].shape;
	if (sq->rank < 2 || sy->rank < 2)
		return MR_OK;
	queries = sq->dims[sq->rank - 2];
	keys = sq->dims[sq->rank - 1];
	vdim = sy->dims[sy->rank - 1];
	dim = g->values[a.first->in[0]].shape.dims[g->values[a.first->in[0]].shape.rank - 1];
	if (queries < 1 || keys < 1 || vdim < 1 || dim < 1 || g->values[last->out[0]].elements < 1)
		return MR_OK;
	for (int k = 0; k < 3; k++)
	{
		trace(g, k == 0 ? a.first->in[0] : k == 1 ? a.first->in[1] : last->in[1], 12, k < 2, &s);
		a.scale *= s.scale;
		if (!as_rows(&s, k < 2 ? sq : sy, k != 1, outer[k], &r[k]) || memcmp(outer[k], outer[0], sizeof(outer[0])) != 0)
			return MR_OK;
	}
	for (int k = 0; k < a.n_masks; k++)
	{
		const nn_shape *m = &g->values[a.mask[k]].shape;

		/* rows of keys, or one for all */
		if (m->rank < 1 || m->dims[m->rank - 1] != keys || g->values[a.mask[k]].dtype != nn_float32)
			return MR_OK;
		as_root(g, a.mask[k], &s);
		if (m->rank == 1)
		{
			s.shape = (nn_shape) {2, {1, keys}};
			s.stride[1] = 1;
		}
		if (!as_rows(&s, &g->values[a.masked[k]].shape, 1, outer[3 + k], &r[3 + k]) ||
			memcmp(outer[3 + k], outer[0], sizeof(outer[0])) != 0)
			return MR_OK;
	}
	/* The Transpose that follows, perhaps behind a Reshape. */
	for (int v = last->out[0], depth = 0; depth < 3 && g->values[v].uses == 1 && !nn_is_output(g, v); depth++)
	{
		nn_node    *n = &g->nodes[reader[v]];

		if (n->op->run == nn_run_transpose && joins_heads(g, last->out[0], n->out[0], outer[0], queries, vdim))
		{
			into = n;
			break;
		}
		if (n->op->kind != nn_kind_alias)
			break;
		v = n->out[0];
	}
	in = nn_heap_alloc(g->heap, 5, sizeof(int));
	if (in == NULL)
		return g->st->code;
	memset(&into->params, 0, sizeof(into->params));
	p = into->params.i;
	p[nn_a_batch] = outer[0][1];
	p[nn_a_heads] = outer[0][0];
	p[nn_a_queries] = queries;
	p[nn_a_keys] = keys;
	p[nn_a_dim] = dim;
	p[nn_a_vdim] = vdim;
	p[nn_a_safe] = a.safe;
	p[nn_a_joined] = into != last;
	into->params.f[0] = a.scale;
	into->n_in = 3 + a.n_masks;
	for (int k = 0; k < into->n_in; k++)
	{
		in[k] = r[k].root;
		p[nn_a_at + 4 * k] = r[k].at;
		p[nn_a_at + 4 * k + 1] = r[k].row;
		p[nn_a_at + 4 * k + 2] = r[k].head;
		p[nn_a_at + 4 * k + 3] = r[k].batch;
	}
	into->in = in;
	into->op = &attention_op;
	return MR_OK;
}

mr_code
nn_fuse_attention(nn_graph *g)
{
	int		   *reader = nn_heap_alloc(g->heap, (size_t) g->n_values + 1, sizeof(int));

	if (reader == NULL)
		return g->st->code;
	for (int i = 0; i < g->n_nodes; i++)
		for (int k = 0; !g->nodes[i].dead && k < g->nodes[i].n_in; k++)
			if (g->nodes[i].in[k] >= 0)
				reader[g->nodes[i].in[k]] = i;
	for (int i = 0; i < g->n_nodes; i++)
	{
		nn_node    *n = &g->nodes[i];

		if ((i & 63) == 63 && mr_interrupted(g->env))
			return mr_fail(g->st, MR_CANCELED, "canceled while compiling a model");
		if (!n->dead && n->op->kind == nn_kind_matmul)
			NN_TRY(fuse(g, n, reader));
	}
	nn_sweep(g);
	return MR_OK;
}
