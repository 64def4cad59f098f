/*
 * fuse.c
 *	  Rewriting the inferred graph: fewer, larger nodes with the same result.
 *
 * One forward pass, linear in the graph:
 *	Identity, Dropout, casts float to float	-> vanish
 *	constants	-> their nodes vanish
 *	Pad with zeros of lines and pixels, Conv	-> Conv with pads
 *	Conv, BatchNormalization (or scale or shift by constants)	-> Conv
 *	Conv, Add	-> Conv with a residual, placed where the Add was
 *	Conv | Gemm | MatMul | Add | BatchNormalization, activation	-> one node
 *	Slice with steps, Pad of channels	-> one node (ResNet's option A shortcut)
 * A fused value must have no other reader and not be an output.
 */
#include <math.h>
#include <string.h>

#include "nn/fuse.h"

/* The same for a value that may be stored. */
static nn_node *
sole_producer(nn_graph *g, int v)
{
	if (v < 0 || g->values[v].uses != 1 || g->values[v].producer < 0 || nn_is_output(g, v))
		return NULL;
	return &g->nodes[g->values[v].producer];
}

nn_node *
nn_sole_producer(nn_graph *g, int v)
{
	return v >= 0 && nn_may_skip(g, v) ? sole_producer(g, v) : NULL;
}

void
nn_take_output(nn_graph *g, nn_node *into, nn_node *from)
{
	into->out[0] = from->out[0];
	g->values[into->out[0]].producer = (int) (into - g->nodes);
	from->dead = true;
}

int
nn_add_constant(nn_graph *g, const nn_shape *shape, float **data)
{
	pb_bytes	nameless = {NULL, 0};
	int			i = nn_add_value(g, nameless);
	nn_value   *v;

	if (i < 0)
		return -1;
	v = &g->values[i];
	v->dtype = v->declared = nn_float32;
	v->shape = *shape;
	nn_shape_elements(shape, &v->elements);
	*data = v->data = nn_heap_alloc(g->heap, (size_t) v->elements + 1, sizeof(float));
	v->uses = 1;
	return *data ? i : -1;
}

/* conv's weights and bias times scale plus shift, per output channel. */
static mr_code
fold_affine(nn_graph *g, nn_node *conv, const float *scale, const float *shift)
{
	nn_shape	ws = g->values[conv->in[1]].shape;
	nn_shape	bs = {1, {ws.dims[0]}};
	int64_t		per = g->values[conv->in[1]].elements / ws.dims[0];
	const float *w0 = g->values[conv->in[1]].data;
	const float *b0 = conv->n_in > 2 && conv->in[2] >= 0 ? g->values[conv->in[2]].data : NULL;
	float	   *w,
			   *b;
	int			wi = nn_add_constant(g, &ws, &w);
	int			bi = wi < 0 ? -1 : nn_add_constant(g, &bs, &b);
	int		   *in = nn_heap_alloc(g->heap, 3, sizeof(int));

	if (bi < 0 || in == NULL)
		return g->st->code;
	for (int64_t o = 0; o < ws.dims[0]; o++)
	{
		for (int64_t i = 0; i < per; i++)
			w[o * per + i] = w0[o * per + i] * scale[o];
		b[o] = (b0 ? b0[o] * scale[o] : 0) + shift[o];
	}
	in[0] = conv->in[0];
	in[1] = wi;
	in[2] = bi;
	conv->in = in;
	conv->n_in = 3;
	return MR_OK;
}

static bool
fusable(const nn_node *n)
{
	return n && n->act.kind == nn_act_none && n->residual < 0;
}

static mr_code
fuse_affine(nn_graph *g, nn_node *n, bool *done)
{
	float	   *scale,
			   *shift;
	int			x;
	nn_node    *conv;

	if (!nn_affine(g, n, NULL, NULL, &x))
		return MR_OK;
	conv = nn_sole_producer(g, x);
	if (!fusable(conv) || conv->op->kind != nn_kind_conv || !nn_conv_lowers(g, conv) || g->values[conv->in[1]].int8)
		return MR_OK;
	scale = nn_heap_alloc(g->heap, (size_t) g->values[x].shape.dims[1], sizeof(float));
	shift = nn_heap_alloc(g->heap, (size_t) g->values[x].shape.dims[1], sizeof(float));
	if (scale == NULL || shift == NULL)
		return g->st->code;
	nn_affine(g, n, scale, shift, &x);
	NN_TRY(fold_affine(g, conv, scale, shift));
	nn_take_output(g, conv, n);
	*done = true;
	return MR_OK;
}

static bool
fuse_residual(nn_graph *g, nn_node *n)
{
	nn_node    *best = NULL;
	int			side = 0;

	if (n->op->kind != nn_kind_binary || n->params.i[0] != nn_add || n->n_in != 2 || n->in[0] == n->in[1])
		return false;
	if (g->values[n->in[0]].dtype != nn_float32 ||
		!nn_shape_equal(&g->values[n->in[0]].shape, &g->values[n->in[1]].shape) ||
		!nn_blockable(&g->values[n->in[!side]]))
		return false;
	for (int k = 0; k < 2; k++)
	{
		nn_node    *conv = sole_producer(g, n->in[k]);

		/* a stored value between the two is limited, which kernels of int8 can do on the way */
		if (fusable(conv) && conv->op->kind == nn_kind_conv && nn_conv_lowers(g, conv) && (!best || conv > best) &&
			(nn_may_skip(g, n->in[k]) || nn_conv_is_int8(g, conv)))
		{
			best = conv;
			side = k;
		}
	}
	if (best == NULL)
		return false;
	/* The convolution moves to where the other side is known. */
	{
		int			other = n->in[!side];
		int			out = n->out[0];
		nn_node		moved = *best;

		moved.mid = g->values[n->in[side]].stored;
		best->dead = true;
		moved.residual = other;
		moved.out = n->out;
		moved.out[0] = out;
		moved.n_out = 1;
		*n = moved;
		g->values[out].producer = (int) (n - g->nodes);
	}
	return true;
}

static bool
fuse_activation(nn_graph *g, nn_node *n)
{
	nn_act		act;
	nn_node    *p;

	if (!nn_activation(n, &act))
		return false;
	p = nn_sole_producer(g, n->in[0]);
	if (p == NULL || p->act.kind != nn_act_none || !nn_takes_activation(g, p))
		return false;
	p->act = act;
	nn_take_output(g, p, n);
	return true;
}

/* Zero padding of the last dimensions only, before a convolution. */
static void
fuse_pad(nn_graph *g, nn_node *conv)
{
	nn_node    *pad = nn_sole_producer(g, conv->in[0]);
	int			rank;

	/* a convolution that reads 8 bits goes on to */
	if (g->values[conv->in[0]].stored && (pad == NULL || !g->values[pad->in[0]].stored))
		return;
	if (pad == NULL || pad->op->kind != nn_kind_pad || pad->shortcut || pad->params.i[16] != 0 || pad->params.f[0] != 0)
		return;
	rank = g->values[pad->in[0]].shape.rank;
	if (rank > 4)
		return;
	for (int i = 0; i < rank; i++)
		if (pad->params.i[i] < 0 || pad->params.i[8 + i] < 0 ||
			(i < 2 && (pad->params.i[i] || pad->params.i[8 + i])))
			return;
	for (int i = 2; i < rank; i++)
	{
		int			k = rank == 3 ? 1 : i - 2;

		conv->params.i[nn_w_pt + k] += pad->params.i[i];
		conv->params.i[nn_w_pb + k] += pad->params.i[8 + i];
	}
	conv->in[0] = pad->in[0];
	pad->dead = true;
}

/* A strided pick of pixels, or zero channels around the others, or both: the
 * shortcut step.  Its parameters (nn_shortcut_param) replace the node's own. */
static void
make_shortcut(nn_graph *g, nn_node *n)
{
	const nn_value *x = &g->values[n->in[0]];
	int64_t		p[NN_N_INTS] = {0};
	const int64_t *q = n->params.i;
	nn_node    *slice;

	if (!nn_blockable(x) || x->shape.rank != 4 || !nn_blockable(&g->values[n->out[0]]))
		return;
	p[nn_s_sy] = p[nn_s_sx] = 1;
	if (n->op->kind == nn_kind_slice)
	{
		if (q[24] != 1 || q[25] != 1 || q[26] < 1 || q[27] < 1 ||
			g->values[n->out[0]].shape.dims[1] != x->shape.dims[1])
			return;
		p[nn_s_y0] = q[18];
		p[nn_s_x0] = q[19];
		p[nn_s_sy] = q[26];
		p[nn_s_sx] = q[27];
	}
	else
	{
		if (q[16] != 0 || n->params.f[0] != 0 || q[1] < 0 || q[9] < 0)
			return;
		for (int i = 0; i < 4; i++)
			if (i != 1 && (q[i] || q[8 + i]))
				return;
		p[nn_s_before] = q[1];
		slice = nn_sole_producer(g, n->in[0]);
		if (slice && slice->shortcut && slice->op->kind == nn_kind_slice)
		{
			memcpy(p + nn_s_y0, slice->params.i + nn_s_y0, 4 * sizeof(int64_t));
			n->in[0] = slice->in[0];
			slice->dead = true;
		}
	}
	memcpy(n->params.i, p, sizeof(p));
	n->shortcut = true;
}

bool
nn_const_number(const nn_graph *g, int v, float *f)
{
	if (v < 0 || g->values[v].data == NULL || g->values[v].elements != 1 || g->values[v].dtype != nn_float32)
		return false;
	*f = *(const float *) g->values[v].data;
	return true;
}

bool
nn_is_number(const nn_graph *g, int v, float f)
{
	float		c;

	return nn_const_number(g, v, &c) && fabsf(c - f) <= 1e-5f * fabsf(f);
}

void
nn_sweep(nn_graph *g)
{
	nn_count_uses(g);
	/* from the last to the first */
	for (int i = g->n_nodes - 1; i >= 0; i--)
	{
		nn_node    *n = &g->nodes[i];
		bool		read = false;

		if (n->dead)
			continue;
		for (int k = 0; k < n->n_out; k++)
			read = read || (n->out[k] >= 0 && g->values[n->out[k]].uses > 0);
		if (read)
			continue;
		n->dead = true;
		for (int k = 0; k < n->n_in; k++)
			if (n->in[k] >= 0)
				g->values[n->in[k]].uses--;
	}
}

/* Rename through identities, drop what is constant or read by nobody. */
static mr_code
simplify(nn_graph *g)
{
	int			values = g->n_values;
	int		   *name = nn_heap_alloc(g->heap, (size_t) values + 1, sizeof(int));

	if (name == NULL)
		return g->st->code;
	for (int i = 0; i < values; i++)
		name[i] = i;

	for (int i = 0; i < g->n_nodes; i++)
	{
		nn_node    *n = &g->nodes[i];
		bool		constant = true;

		for (int k = 0; k < n->n_in; k++)
			if (n->in[k] >= 0)
				n->in[k] = name[n->in[k]];
		for (int k = 0; k < n->n_out; k++)
			constant = constant && (n->out[k] < 0 || g->values[n->out[k]].data != NULL);
		if (constant)
			n->dead = true;
		else if (n->out[0] >= 0 && !nn_is_output(g, n->out[0]) && !g->values[n->out[0]].stored && nn_is_identity(g, n))
		{
			name[n->out[0]] = n->in[0];
			n->dead = true;
		}
	}
	nn_sweep(g);
	return MR_OK;
}

mr_code
nn_fuse_lightly(nn_graph *g)
{
	NN_TRY(simplify(g));
	for (int i = 0; i < g->n_nodes; i++)
	{
		nn_node    *n = &g->nodes[i];
		bool		done;
		nn_act		act;

		if (n->dead)
			continue;
		if ((i & 63) == 63 && mr_interrupted(g->env))
			return mr_fail(g->st, MR_CANCELED, "canceled while reading a model");
		if (n->op->kind == nn_kind_conv)
			fuse_pad(g, n);
		else if (n->op->kind == nn_kind_batchnorm || n->op->kind == nn_kind_binary)
			NN_TRY(fuse_affine(g, n, &done));
		else if (n->op->kind == nn_kind_activation && nn_activation(n, &act) &&
				 (act.kind == nn_act_relu || act.kind == nn_act_clip))
			fuse_activation(g, n);
	}
	nn_count_uses(g);
	return MR_OK;
}

mr_code
nn_fuse(nn_graph *g)
{
	NN_TRY(nn_fuse_quant(g));
	NN_TRY(simplify(g));
	NN_TRY(nn_fuse_norm(g));
	NN_TRY(nn_fuse_attention(g));
	for (int i = 0; i < g->n_nodes; i++)
	{
		nn_node    *n = &g->nodes[i];
		bool		done = false;

		if (n->dead)
			continue;
		if ((i & 63) == 63 && mr_interrupted(g->env))
			return mr_fail(g->st, MR_CANCELED, "canceled while compiling a model");
		if (n->op->kind == nn_kind_conv)
			fuse_pad(g, n);
		else if (n->op->kind == nn_kind_slice || n->op->kind == nn_kind_pad)
			make_shortcut(g, n);
		else if (n->op->kind == nn_kind_activation)
			fuse_activation(g, n);
		else if (n->op->kind == nn_kind_batchnorm || n->op->kind == nn_kind_binary)
		{
			NN_TRY(fuse_affine(g, n, &done));
			if (!done && !fuse_residual(g, n))
				nn_fuse_gemm_add(g, n);
		}
	}
	return nn_fuse_softmax(g);
}
