/*
 * plan.c
 *	  Lowering: the fused graph becomes steps, every tensor gets a layout.
 *
 * A value may exist plain, blocked or both; it is converted when a reader first
 * needs the other form, so a chain of convolutions, pools, sums and concats
 * stays blocked and is converted at the graph's borders only.  A 1 x 1 tensor
 * is a vector in both layouts: no conversion at all.  Concats of whole blocks
 * of channels cost nothing: their parts are written into the result.
 */
#include "nn/plan.h"


#include <string.h>

#include "nn/onnx.h"

/* Room for one more element of an array in the compile heap. */
static bool
grow(nn_planner *p, void **array, int n, int *cap, size_t size)
{
	int			more = *cap ? *cap * 2 : 64;
	void	   *grown;

	if (n < *cap)
		return true;
	grown = nn_heap_alloc(p->g->heap, (size_t) more, size);
	if (grown == NULL)
		return false;
	if (n)
		memcpy(grown, *array, (size_t) n * size);
	*array = grown;
	*cap = more;
	return true;
}

static int
add_tensor(nn_planner *p, int value, bool blocked)
{
	const nn_value *v = &p->g->values[value];
	nn_ptensor *t;

	if (!grow(p, (void **) &p->tensors, p->n_tensors, &p->cap_tensors, sizeof(*p->tensors)))
		return -1;
	t = &p->tensors[p->n_tensors];
	memset(t, 0, sizeof(*t));
	t->t.shape = v->shape;
	t->t.elements = v->elements;
	t->t.dtype = v->dtype;
	t->t.place = nn_place_arena;
	t->value = value;
	t->alias_of = -1;
	if (blocked)
	{
		t->t.blocked = 1;
		t->t.c = (int32_t) v->shape.dims[1];
		t->t.h = v->shape.rank == 4 ? (int32_t) v->shape.dims[2] : 1;
		t->t.w = (int32_t) v->shape.dims[v->shape.rank - 1];
		t->t.margin = p->margin[value];
		p->blocked_of[value] = p->n_tensors;
	}
	else
		p->plain_of[value] = p->n_tensors;
	return p->n_tensors++;
}

/* A new step with its operands; the caller fills the rest.  NULL: no memory. */
static nn_pstep *
add_step(nn_planner *p, nn_step_kind kind, int n_in, const int *in, int n_out, const int *out)
{
	nn_pstep   *s;

	if (!grow(p, (void **) &p->steps, p->n_steps, &p->cap_steps, sizeof(*p->steps)))
		return NULL;
	s = &p->steps[p->n_steps];
	memset(s, 0, sizeof(*s));
	s->s.kind = kind;
	s->s.n_in = n_in;
	s->s.n_out = n_out;
	s->s.operands = (uint32_t) p->n_operands;
	for (int i = 0; i < n_in + n_out; i++)
	{
		if (!grow(p, (void **) &p->operands, p->n_operands, &p->cap_operands, sizeof(*p->operands)))
			return NULL;
		p->operands[p->n_operands++] = i < n_in ? in[i] : out[i - n_in];
	}
	if (n_in + n_out > p->max_operands)
		p->max_operands = n_in + n_out;
	p->n_steps++;
	return s;
}

static bool
is_vector(const nn_ptensor *t)
{
	const nn_margin *m = &t->t.margin;

	return t->t.blocked && t->t.h == 1 && t->t.w == 1 && !(m->top | m->left | m->bottom | m->right);
}

/* The plain form of a value, made if need be; -1: no memory. */
static int
get_plain(nn_planner *p, int value)
{
	const nn_value *v = &p->g->values[value];
	int			from = p->blocked_of[value];
	int			to;

	if (p->plain_of[value] >= 0)
		return p->plain_of[value];
	to = add_tensor(p, value, false);
	if (to < 0)
		return -1;
	if (v->data)
		p->tensors[to].t.place = nn_place_const;
	else if (is_vector(&p->tensors[from]) && !p->tensors[from].pinned)
		p->tensors[to].alias_of = from;
	else
	{
		nn_pstep   *s = add_step(p, nn_step_from_blocked, 1, &from, 1, &to);

		if (s == NULL)
			return -1;
		s->s.macs = (int64_t) p->tensors[from].t.c * p->tensors[from].t.w * 4;
	}
	return to;
}

static int
get_blocked(nn_planner *p, int value)
{
	int			from,
				to;
	nn_pstep   *s;

	if (p->blocked_of[value] >= 0)
		return p->blocked_of[value];
	from = get_plain(p, value);
	to = from < 0 ? -1 : add_tensor(p, value, true);
	s = to < 0 ? NULL : add_step(p, nn_step_to_blocked, 1, &from, 1, &to);
	if (s == NULL)
		return -1;
	s->s.macs = (int64_t) p->tensors[to].t.c * p->tensors[to].t.w * 4;
	return to;
}

/* Is the value at hand in blocked form, and a blocked kernel thus the choice? */
static bool
has_blocked(const nn_planner *p, int value)
{
	return value >= 0 && p->blocked_of[value] >= 0;
}

nn_conv
nn_plan_conv(const nn_graph *g, const nn_node *n)
{
	const int64_t *q = n->params.i;
	nn_conv		cv;

	memset(&cv, 0, sizeof(cv));
	cv.cin = (int) g->values[n->in[0]].shape.dims[1];
	cv.cout = (int) g->values[n->out[0]].shape.dims[1];
	cv.groups = (int) q[nn_w_groups];
	cv.kh = (int) q[nn_w_kh];
	cv.kw = (int) q[nn_w_kw];
	cv.sh = (int) q[nn_w_sh];
	cv.sw = (int) q[nn_w_sw];
	cv.dh = (int) q[nn_w_dh];
	cv.dw = (int) q[nn_w_dw];
	cv.pt = (int) q[nn_w_pt];
	cv.pl = (int) q[nn_w_pl];
	cv.act = n->act;
	return cv;
}

static bool
is_depthwise(const nn_conv *cv)
{
	return cv->groups > 1 && cv->groups == cv->cin && cv->cin == cv->cout;
}

/* ---- one lowering per kind; false: no memory ---- */

static bool
lower_conv(nn_planner *p, nn_node *n)
{
	nn_graph   *g = p->g;
	nn_conv		cv = nn_plan_conv(g, n);
	nn_step_kind kind = is_depthwise(&cv) ? nn_step_depthwise : nn_step_conv;
	int			in[2];
	int			out,
				n_in = 1;
	nn_pstep   *s;
	const nn_ftensor *x,
			   *y;

	if (n->residual >= 0)
	{
		in[n_in] = get_blocked(p, n->residual);
		if (in[n_in++] < 0)
			return false;
	}
	if (kind == nn_step_conv && cv.groups == 1 && cv.cin <= 4 && !has_blocked(p, n->in[0]))
	{
		kind = nn_step_conv_planar;
		cv.form = nn_conv_planar;
		in[0] = get_plain(p, n->in[0]);
	}
	else
		in[0] = get_blocked(p, n->in[0]);
	out = in[0] < 0 ? -1 : add_tensor(p, n->out[0], true);
	s = out < 0 ? NULL : add_step(p, kind, n_in, in, 1, &out);
	if (s == NULL)
		return false;
	s->node = n;
	s->s.u.conv = cv;
	s->s.act = n->act;
	s->s.residual = n->residual >= 0;
	x = &p->tensors[in[0]].t;
	y = &p->tensors[out].t;
	s->s.macs = (int64_t) (cv.cin / cv.groups) * cv.cout * cv.kh * cv.kw * y->w;
	s->s.data = p->content;
	if (kind == nn_step_depthwise)
		s->s.data_len = nn_depthwise_pack_size(p->isa, &cv);
	else
	{
		const nn_shape *xs = &x->shape;

		s->s.data_len = nn_conv_pack_size(p->isa, &cv);
		s->scratch = p->k->conv_scratch(&cv, xs->rank == 4 ? (int) xs->dims[2] : 1, (int) xs->dims[xs->rank - 1],
										y->h, y->w);
	}
	p->content += (s->s.data_len + 63) & ~UINT64_C(63);
	return true;
}

static bool
lower_pool(nn_planner *p, nn_node *n)
{
	const int64_t *q = n->params.i;
	int			in = get_blocked(p, n->in[0]);
	int			out = in < 0 ? -1 : add_tensor(p, n->out[0], true);
	nn_pstep   *s = out < 0 ? NULL :
		add_step(p, n->op->kind == nn_kind_maxpool ? nn_step_maxpool : nn_step_avgpool, 1, &in, 1, &out);
	nn_pool    *u;

	if (s == NULL)
		return false;
	u = &s->s.u.pool;
	u->kh = (int) q[nn_w_kh];
	u->kw = (int) q[nn_w_kw];
	u->sh = (int) q[nn_w_sh];
	u->sw = (int) q[nn_w_sw];
	u->dh = (int) q[nn_w_dh];
	u->dw = (int) q[nn_w_dw];
	u->pt = (int) q[nn_w_pt];
	u->pl = (int) q[nn_w_pl];
	u->pb = (int) q[nn_w_pb];
	u->pr = (int) q[nn_w_pr];
	u->count_pad = q[nn_w_count_pad] != 0;
	s->s.macs = (int64_t) p->tensors[out].t.c * p->tensors[out].t.w * u->kh * u->kw * 2;
	return true;
}

/* Steps of one blocked input and output without parameters of their own. */
static nn_pstep *
lower_blocked(nn_planner *p, nn_step_kind kind, int n_in, const int *in, int value, nn_act act)
{
	int			out = add_tensor(p, value, true);
	nn_pstep   *s = out < 0 ? NULL : add_step(p, kind, n_in, in, 1, &out);

	if (s)
	{
		s->s.act = act;
		s->s.macs = (int64_t) p->tensors[out].t.c * p->tensors[out].t.w * 8;
	}
	return s;
}

static bool
lower_affine(nn_planner *p, nn_node *n, int x)
{
	int			in = get_blocked(p, x);
	nn_pstep   *s = in < 0 ? NULL : lower_blocked(p, nn_step_scale_shift, 1, &in, n->out[0], n->act);
	size_t		lanes;

	if (s == NULL)
		return false;
	lanes = (size_t) nn_blocks(p->tensors[in].t.c) * NN_LANES;
	s->scale_shift = nn_heap_alloc(p->g->heap, 2 * lanes, sizeof(float));
	if (s->scale_shift == NULL)
		return false;
	nn_affine(p->g, n, s->scale_shift, s->scale_shift + lanes, &x);
	s->s.data = p->content;
	s->s.data_len = 2 * lanes * sizeof(float);
	p->content += s->s.data_len;
	return true;
}

static bool
lower_gemm(nn_planner *p, nn_node *n)
{
	const nn_value *b = &p->g->values[n->in[1]];
	bool		trans = n->op->kind == nn_kind_gemm && n->params.i[1];
	int			in = get_plain(p, n->in[0]);
	int			out = in < 0 ? -1 : add_tensor(p, n->out[0], false);
	nn_pstep   *s = out < 0 ? NULL : add_step(p, nn_step_gemm, 1, &in, 1, &out);
	int			k = (int) b->shape.dims[trans];

	if (s == NULL)
		return false;
	s->node = n;
	s->s.act = n->act;
	s->s.u.gemm.k = k;
	s->s.u.gemm.n = (int32_t) b->shape.dims[!trans];
	s->s.u.gemm.m = (int32_t) (p->tensors[in].t.elements / k);
	s->s.macs = (int64_t) k * s->s.u.gemm.n;
	s->s.data = p->content;
	s->s.data_len = nn_gemm_pack_size(p->isa, k, s->s.u.gemm.n);
	s->scratch = p->k->gemm_scratch(s->s.u.gemm.m, k, s->s.u.gemm.n);
	p->content += (s->s.data_len + 63) & ~UINT64_C(63);
	return true;
}

static bool
lower_concat(nn_planner *p, nn_node *n)
{
	int			out = add_tensor(p, n->out[0], true);
	int			at = 0;

	if (out < 0)
		return false;
	for (int k = 0; k < n->n_in; k++)
	{
		int			in = get_blocked(p, n->in[k]);
		nn_ptensor *t;
		nn_pstep   *s;
		int			c;

		if (in < 0)
			return false;
		t = &p->tensors[in];
		c = t->t.c;
		/* Written in place by its producer, if it is whole blocks of its own. */
		if (at % NN_LANES == 0 && (c % NN_LANES == 0 || k == n->n_in - 1) && t->alias_of < 0 && !t->pinned &&
			t->t.h * t->t.w > 1 && t->t.place == nn_place_arena && p->plain_of[n->in[k]] < 0)
		{
			t->alias_of = out;
			t->alias_blk = at / NN_LANES;
			t->pinned = true;
		}
		else
		{
			s = add_step(p, nn_step_copy_channels, 1, &in, 1, &out);
			if (s == NULL)
				return false;
			s->s.u.move.n = c;
			s->s.u.move.to = at;
			s->s.macs = (int64_t) c * p->tensors[in].t.w * 4;
		}
		at += c;
	}
	return true;
}

static bool
lower_shortcut(nn_planner *p, nn_node *n)
{
	int			in = get_blocked(p, n->in[0]);
	nn_act		none = {nn_act_none, 0, 0};
	nn_pstep   *s = in < 0 ? NULL : lower_blocked(p, nn_step_shortcut, 1, &in, n->out[0], none);

	if (s == NULL)
		return false;
	s->s.u.move.n = p->tensors[in].t.c;
	s->s.u.move.to = (int32_t) n->params.i[nn_s_before];
	s->s.u.move.y0 = (int32_t) n->params.i[nn_s_y0];
	s->s.u.move.x0 = (int32_t) n->params.i[nn_s_x0];
	s->s.u.move.sy = (int32_t) n->params.i[nn_s_sy];
	s->s.u.move.sx = (int32_t) n->params.i[nn_s_sx];
	return true;
}

static int
activation_op(void)
{
	bool		known;

	return (int) (nn_find_op("", "Relu", NN_MAX_OPSET, &known) - nn_ops);
}

static bool
lower_plain(nn_planner *p, nn_node *n)
{
	int		   *t = nn_heap_alloc(p->g->heap, (size_t) (n->n_in + n->n_out) + 1, sizeof(int));
	nn_pstep   *s;

	if (t == NULL)
		return false;
	for (int k = 0; k < n->n_in; k++)
		if ((t[k] = n->in[k] < 0 ? -1 : get_plain(p, n->in[k])) < 0 && n->in[k] >= 0)
			return false;
	for (int k = 0; k < n->n_out; k++)
		if ((t[n->n_in + k] = n->out[k] < 0 ? -1 : add_tensor(p, n->out[k], false)) < 0 && n->out[k] >= 0)
			return false;
	s = add_step(p, nn_step_plain, n->n_in, t, n->n_out, t + n->n_in);
	if (s == NULL)
		return false;
	s->s.op = (int32_t) (n->op - nn_ops);
	s->s.u.params = n->params;
	if (n->act.kind != nn_act_none)
	{
		/* fused, but not lowered to a kernel that takes it: in place */
		int			y = t[n->n_in];

		s = add_step(p, nn_step_plain, 1, &y, 1, &y);
		if (s == NULL)
			return false;
		s->s.op = activation_op();
		s->s.u.params.i[0] = n->act.kind;
		s->s.u.params.f[0] = n->act.a;
		s->s.u.params.f[1] = n->act.b;
	}
	return true;
}

static bool
lower_alias(nn_planner *p, nn_node *n)
{
	int			in = get_plain(p, n->in[0]);
	int			out = in < 0 ? -1 : add_tensor(p, n->out[0], false);

	if (out < 0)
		return false;
	p->tensors[out].alias_of = in;
	p->tensors[out].t.place = p->tensors[in].t.place;
	p->tensors[out].value = p->tensors[in].value;
	p->tensors[out].t.offset = p->tensors[in].t.offset;
	return true;
}

/* Both operands the same shape, or the second one value a channel. */
static bool
lower_binary(nn_planner *p, nn_node *n, bool *done)
{
	const nn_value *a = &p->g->values[n->in[0]];
	int			in[2];
	int			x;
	nn_pstep   *s;

	*done = true;
	if (nn_affine(p->g, n, NULL, NULL, &x) && has_blocked(p, x))
		return lower_affine(p, n, x);
	if (n->n_in == 2 && (has_blocked(p, n->in[0]) || has_blocked(p, n->in[1])) && a->dtype == nn_float32)
	{
		const nn_value *b = &p->g->values[n->in[1]];
		bool		same = nn_shape_equal(&a->shape, &b->shape);
		bool		small_b = nn_blockable(a) && nn_blockable(b) && a->shape.rank == 4 && b->shape.rank == 4 &&
			a->shape.dims[1] == b->shape.dims[1] && b->shape.dims[2] * b->shape.dims[3] == 1;

		if (same || small_b)
		{
			in[0] = get_blocked(p, n->in[0]);
			in[1] = in[0] < 0 ? -1 : get_blocked(p, n->in[1]);
			s = in[1] < 0 ? NULL : lower_blocked(p, nn_step_binary, 2, in, n->out[0], n->act);
			if (s == NULL)
				return false;
			s->s.op = (int32_t) n->params.i[0];
			return true;
		}
	}
	*done = false;
	return true;
}

static bool
lower_node(nn_planner *p, nn_node *n)
{
	const nn_graph *g = p->g;
	const nn_value *x = n->n_in > 0 && n->in[0] >= 0 ? &g->values[n->in[0]] : NULL;
	int			in,
				v;
	nn_act		act;
	bool		done;
	const nn_margin no_margin = {0, 0, 0, 0};

	switch (n->op->kind)
	{
		case nn_kind_conv:
			if (nn_conv_lowers(g, n))
				return lower_conv(p, n);
			break;
		case nn_kind_maxpool:
		case nn_kind_avgpool:
			if (nn_blockable(x) && nn_blockable(&g->values[n->out[0]]) && x->shape.rank == 4)
				return lower_pool(p, n);
			break;
		case nn_kind_global_avgpool:
		case nn_kind_global_maxpool:
			/* its result is a dense vector: where a border is wanted, plain */
			if (!has_blocked(p, n->in[0]) || memcmp(&p->margin[n->out[0]], &no_margin, sizeof(no_margin)) != 0)
				break;
			in = p->blocked_of[n->in[0]];
			act.kind = nn_act_none;
			act.a = act.b = 0;
			return lower_blocked(p, n->op->kind == nn_kind_global_avgpool ? nn_step_global_avgpool :
								 nn_step_global_maxpool, 1, &in, n->out[0], act) != NULL;
		case nn_kind_batchnorm:
			if (has_blocked(p, n->in[0]) && nn_affine(g, n, NULL, NULL, &v))
				return lower_affine(p, n, v);
			break;
		case nn_kind_activation:
			if (has_blocked(p, n->in[0]) && nn_activation(n, &act))
			{
				in = p->blocked_of[n->in[0]];
				return lower_blocked(p, nn_step_scale_shift, 1, &in, n->out[0], act) != NULL;
			}
			break;
		case nn_kind_binary:
			if (!lower_binary(p, n, &done))
				return false;
			if (done)
				return true;
			break;
		case nn_kind_gemm:
		case nn_kind_matmul:
			if (nn_gemm_lowers(g, n))
				return lower_gemm(p, n);
			break;
		case nn_kind_concat:
			if (n->params.i[0] == 1 && nn_blockable(&g->values[n->out[0]]))
			{
				bool		any = false;

				done = true;
				for (int k = 0; k < n->n_in; k++)
				{
					any = any || has_blocked(p, n->in[k]);
					done = done && nn_blockable(&g->values[n->in[k]]);
				}
				if (any && done)
					return lower_concat(p, n);
			}
			break;
		case nn_kind_slice:
		case nn_kind_pad:
			if (n->shortcut)
				return lower_shortcut(p, n);
			break;
		case nn_kind_alias:
			return lower_alias(p, n);
		default:
			break;
	}
	return lower_plain(p, n);
}

/* Borders that convolutions read, by value. */
static void
find_margins(nn_planner *p)
{
	nn_graph   *g = p->g;

	for (int i = 0; i < g->n_nodes; i++)
	{
		const nn_node *n = &g->nodes[i];
		nn_margin	m,
				   *to;
		nn_conv		cv;
		const nn_shape *x,
				   *y;

		if (n->dead || n->op->kind != nn_kind_conv || !nn_conv_lowers(g, n))
			continue;
		cv = nn_plan_conv(g, n);
		x = &g->values[n->in[0]].shape;
		y = &g->values[n->out[0]].shape;
		m = nn_conv_margin(&cv, x->rank == 4 ? (int) x->dims[2] : 1, (int) x->dims[x->rank - 1],
						   y->rank == 4 ? (int) y->dims[2] : 1, (int) y->dims[y->rank - 1]);
		to = &p->margin[n->in[0]];
		to->top = m.top > to->top ? m.top : to->top;
		to->left = m.left > to->left ? m.left : to->left;
		to->bottom = m.bottom > to->bottom ? m.bottom : to->bottom;
		to->right = m.right > to->right ? m.right : to->right;
	}
}

mr_code
nn_lower_graph(nn_planner *p)
{
	nn_graph   *g = p->g;
	size_t		n = (size_t) g->n_values + 1;

	p->plain_of = nn_heap_alloc(g->heap, n, sizeof(int));
	p->blocked_of = nn_heap_alloc(g->heap, n, sizeof(int));
	p->margin = nn_heap_alloc(g->heap, n, sizeof(nn_margin));
	if (!p->plain_of || !p->blocked_of || !p->margin)
		return g->st->code;
	memset(p->plain_of, -1, n * sizeof(int));
	memset(p->blocked_of, -1, n * sizeof(int));
	find_margins(p);
	for (int i = 0; i < g->n_inputs; i++)
	{
		int			t = add_tensor(p, g->inputs[i], false);

		if (t < 0)
			return g->st->code;
		p->tensors[t].t.place = nn_place_input;
		p->tensors[t].t.offset = (uint64_t) i;
	}
	for (int i = 0; i < g->n_nodes; i++)
	{
		if ((i & 63) == 63 && mr_interrupted(g->env))
			return mr_fail(g->st, MR_CANCELED, "canceled while compiling a model");
		if (!g->nodes[i].dead && !lower_node(p, &g->nodes[i]))
			return g->st->code;
	}
	for (int i = 0; i < g->n_outputs; i++)
		if ((p->outputs[i] = get_plain(p, g->outputs[i])) < 0)
			return g->st->code;
	return MR_OK;
}
