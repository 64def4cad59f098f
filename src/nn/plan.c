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
#include "nn/steps.h"

#include <stdio.h>
#include <string.h>

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

int
nn_plan_tensor(nn_planner *p, int value, bool blocked)
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

nn_pstep *
nn_plan_step(nn_planner *p, nn_step_kind kind, int n_in, const int *in, int n_out, const int *out)
{
	nn_pstep   *s;

	if (n_in + n_out > NN_MAX_OPERANDS)
	{
		mr_fail(p->g->st, MR_UNSUPPORTED, "a node has %d inputs and outputs, at most %d are supported", n_in + n_out,
				NN_MAX_OPERANDS);
		return NULL;
	}
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

int
nn_plan_plain(nn_planner *p, int value)
{
	const nn_value *v = &p->g->values[value];
	int			from = p->blocked_of[value];
	int			to;

	if (p->plain_of[value] >= 0)
		return p->plain_of[value];
	if (nn_plan_is_low(p, value))
		return nn_plan_float(p, value, false);
	to = nn_plan_tensor(p, value, false);
	if (to < 0)
		return -1;
	if (v->data)
		p->tensors[to].t.place = nn_place_const;
	else if (is_vector(&p->tensors[from]) && !p->tensors[from].pinned)
		p->tensors[to].alias_of = from;
	else
	{
		nn_pstep   *s = nn_plan_step(p, nn_step_from_blocked, 1, &from, 1, &to);

		if (s == NULL)
			return -1;
		s->s.macs = (int64_t) p->tensors[from].t.c * p->tensors[from].t.w * 4;
	}
	return to;
}

int
nn_plan_blocked(nn_planner *p, int value)
{
	int			from,
				to;
	nn_pstep   *s;

	if (p->blocked_of[value] >= 0)
		return p->blocked_of[value];
	if (nn_plan_is_low(p, value))
		return nn_plan_float(p, value, true);
	from = nn_plan_plain(p, value);
	to = from < 0 ? -1 : nn_plan_tensor(p, value, true);
	s = to < 0 ? NULL : nn_plan_step(p, nn_step_to_blocked, 1, &from, 1, &to);
	if (s == NULL)
		return -1;
	s->s.macs = (int64_t) p->tensors[to].t.c * p->tensors[to].t.w * 4;
	return to;
}

nn_pstep *
nn_plan_blocked_step(nn_planner *p, nn_step_kind kind, int n_in, const int *in, int value, nn_act act)
{
	int			out = nn_plan_tensor(p, value, true);
	nn_pstep   *s = out < 0 ? NULL : nn_plan_step(p, kind, n_in, in, 1, &out);

	if (s)
	{
		s->s.act = act;
		s->s.macs = (int64_t) p->tensors[out].t.c * p->tensors[out].t.w * 8;
	}
	return s;
}

void
nn_plan_data(nn_planner *p, nn_pstep *s, uint64_t bytes)
{
	s->s.data_len = bytes;
}

/* ---- lowering ---- */

/* The node's name, or its result's; of long names the end, which tells more. */
static void
label(const nn_planner *p, nn_pstep *s, const nn_node *n)
{
	const char *name = n->name && n->name[0] ? n->name : n->n_out > 0 && n->out[0] >= 0 ?
		p->g->values[n->out[0]].name : "";
	size_t		len = strlen(name);
	char		safe[64];

	if (len > 60)
		name += len - 60;
	snprintf(s->s.label, sizeof(s->s.label), "%s", nn_printable(name, safe));
}

static nn_lowered
lower_node(nn_planner *p, nn_node *n)
{
	static nn_lowered (*const lower[]) (nn_planner *, nn_node *) = {
		[nn_kind_alias] = nn_lower_alias,
		[nn_kind_activation] = nn_lower_activation,
		[nn_kind_conv] = nn_lower_conv,
		[nn_kind_batchnorm] = nn_lower_batchnorm,
		[nn_kind_binary] = nn_lower_binary,
		[nn_kind_maxpool] = nn_lower_pool,
		[nn_kind_avgpool] = nn_lower_pool,
		[nn_kind_global_avgpool] = nn_lower_global_pool,
		[nn_kind_global_maxpool] = nn_lower_global_pool,
		[nn_kind_gemm] = nn_lower_gemm,
		[nn_kind_matmul] = nn_lower_gemm,
		[nn_kind_concat] = nn_lower_concat,
		[nn_kind_slice] = nn_lower_slice,
		[nn_kind_split] = nn_lower_split,
		[nn_kind_resize] = nn_lower_resize,
		[nn_kind_pad] = nn_lower_shortcut,
		[nn_kind_softmax] = NULL,
		[nn_kind_layernorm] = nn_lower_layernorm,
		[nn_kind_attention] = nn_lower_attention,
	};
	int			first = p->n_steps;
	nn_lowered	done = nn_lower_low(p, n);

	if (done == nn_lower_no && lower[n->op->kind])
		done = lower[n->op->kind] (p, n);
	if (done == nn_lower_no)
		done = nn_lower_plain(p, n);
	for (int i = first; i < p->n_steps; i++)
		label(p, &p->steps[i], n);
	for (int k = 0; k < n->n_out; k++)
		nn_plan_settle(p, n->out[k]);
	return done;
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
	p->low_of = nn_heap_alloc(g->heap, n, sizeof(int));
	p->rows_of = nn_heap_alloc(g->heap, n, sizeof(int));
	p->raw_of = nn_heap_alloc(g->heap, n, sizeof(int));
	p->margin = nn_heap_alloc(g->heap, n, sizeof(nn_margin));
	if (!p->plain_of || !p->blocked_of || !p->low_of || !p->rows_of || !p->raw_of || !p->margin)
		return g->st->code;
	memset(p->low_of, -1, n * sizeof(int));
	memset(p->rows_of, -1, n * sizeof(int));
	memset(p->raw_of, -1, n * sizeof(int));
	if (g->opt->precision == nn_bfloat16)
		NN_TRY(nn_plan_bf16(p));
	memset(p->plain_of, -1, n * sizeof(int));
	memset(p->blocked_of, -1, n * sizeof(int));
	find_margins(p);
	for (int i = 0; i < g->n_inputs; i++)
	{
		int			t = nn_plan_tensor(p, g->inputs[i], false);

		if (t < 0)
			return g->st->code;
		p->tensors[t].t.place = nn_place_input;
		p->tensors[t].t.offset = (uint64_t) i;
		nn_plan_settle(p, g->inputs[i]);
	}
	for (int i = 0; i < g->n_nodes; i++)
	{
		if ((i & 63) == 63 && mr_interrupted(g->env))
			return mr_fail(g->st, MR_CANCELED, "canceled while compiling a model");
		if (!g->nodes[i].dead && lower_node(p, &g->nodes[i]) == nn_lower_failed)
			return g->st->code;
	}
	for (int i = 0; i < g->n_outputs; i++)
		if ((p->outputs[i] = nn_plan_plain(p, g->outputs[i])) < 0)
			return g->st->code;
	return p->observed ? MR_OK : nn_join_mbconv(p);
}
