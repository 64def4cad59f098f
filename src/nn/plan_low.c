/*
 * plan_low.c
 *	  Values in 8 or 16 bits: their tensors, and the ways there and back.
 *
 * A stored value (nn_value.stored) is made either by a step for uint8, in its
 * final form, or by a float32 step: then its raw form is set aside, and whoever
 * reads the value reads it after rounding, as the graph says.  Steps that round
 * on the way (a planar convolution, a product) may take the raw form.
 * bfloat16 forms are another matter: they are roundings of our choosing, so the
 * float32 form, where it exists, is as good.
 */
#include "nn/steps_impl.h"

#include <string.h>

nn_elem
nn_plan_elem(const nn_planner *p, int value)
{
	return p->g->values[value].stored ? nn_elem_u8 : p->bf16 && p->bf16[value] ? nn_elem_bf16 : nn_elem_f32;
}

/*
 * Vectors of bfloat16 multiply twice as many numbers as those of float32: Winograd's
 * method, with products of bfloat16, still pays for most layers of 3x3.  Stems and
 * layers of few channels are not bound by arithmetic and stay float32 (YOLOv8n's
 * stem: 2.4 and 1.1 ms).  AMX does 16 times as many.
 */
bool
nn_conv_takes_bf16(const nn_planner *p, const nn_node *n, nn_conv_form *form)
{
	const nn_graph *g = p->g;
	const nn_shape *y = &g->values[n->out[0]].shape;
	nn_conv		cv;

	*form = nn_conv_blocked;
	if (!nn_conv_lowers(g, n) || nn_low_isa(p->isa_asked, nn_low_bf16) == nn_isa_amx)
		return nn_conv_lowers(g, n);
	cv = nn_plan_conv(g, n);
	if ((cv.cin <= 4 && cv.groups == 1) || cv.cout < NN_LANES)
		return false;
	*form = nn_winograd_choose(cv, y->rank == 4 ? (int) y->dims[2] : 1, (int) y->dims[y->rank - 1], 2);
	return *form == nn_conv_blocked ||
		(nn_low_for(p->isa_asked, nn_low_bf16)->winograd && p->bf16[n->out[0]] && nn_low_winograd_does(nn_low_bf16, n->act));
}

/* Does the node read its inputs in bfloat16?  Known of its readers already. */
static bool
reads_bf16(const nn_planner *p, const nn_node *n)
{
	const bool *bf16 = p->bf16;
	nn_conv_form form;

	switch (n->op->kind)
	{
		case nn_kind_conv:
			return nn_conv_takes_bf16(p, n, &form);
		case nn_kind_maxpool:
		case nn_kind_avgpool:
		case nn_kind_global_avgpool:
		case nn_kind_binary:
		case nn_kind_activation:
			return true;
		case nn_kind_concat:
			return bf16[n->out[0]];
		case nn_kind_split:
			for (int k = 0; k < n->n_out; k++)
				if (n->out[k] >= 0 && !bf16[n->out[k]])
					return false;
			return n->params.i[0] == 1;
		case nn_kind_slice:
			return n->shortcut || (bf16[n->out[0]] && nn_slices_channels(p->g, n));
		case nn_kind_pad:
			return n->shortcut;
		case nn_kind_resize:
			return bf16[n->out[0]] && nn_resize_picks(p->g, n);
		default:
			return false;
	}
}

/*
 * Values whose readers all take it; what leaves for float32 (a classifier's
 * scores above all) keeps all its bits.  Not at all in a quantised graph, nor in
 * one with depthwise convolutions: those are bound by memory, not arithmetic,
 * and MobileNets lose too much.
 */
mr_code
nn_plan_bf16(nn_planner *p)
{
	nn_graph   *g = p->g;
	bool	   *bf16;

	if (nn_low_for(p->isa_asked, nn_low_bf16) == NULL)
		return MR_OK;
	bf16 = nn_heap_alloc(g->heap, (size_t) g->n_values + 1, sizeof(bool));
	if (bf16 == NULL)
		return g->st->code;
	for (int i = 0; i < g->n_values; i++)
	{
		if (g->values[i].stored)
			return MR_OK;
		bf16[i] = true;
	}
	p->bf16 = bf16;
	for (int i = 0; i < g->n_outputs; i++)
		bf16[g->outputs[i]] = false;
	for (int i = g->n_nodes - 1; i >= 0; i--)
	{
		const nn_node *n = &g->nodes[i];

		if (n->dead)
			continue;
		if (n->op->kind == nn_kind_conv && n->params.i[nn_w_groups] > 1 &&
			n->params.i[nn_w_groups] == g->values[n->in[0]].shape.dims[1])
		{
			p->bf16 = NULL;
			return MR_OK;
		}
		for (int k = 0; k < n->n_in; k++)
			if (n->in[k] >= 0 && !reads_bf16(p, n))
				bf16[n->in[k]] = false;
	}
	return MR_OK;
}

/* A tensor of fewer bits for a value. */
static int
low_tensor(nn_planner *p, int value, bool blocked)
{
	const nn_stored *s = p->g->values[value].stored;
	int		   *of = blocked ? p->blocked_of : p->plain_of;
	int			before = of[value];
	int			t = nn_plan_tensor(p, value, blocked);

	if (t < 0)
		return -1;
	of[value] = before;
	p->tensors[t].t.dtype = s ? nn_uint8 : nn_bfloat16;
	p->tensors[t].t.scale = s ? s->scale : 1;
	p->tensors[t].t.zero = s ? s->zero : 0;
	(blocked ? p->low_of : p->rows_of)[value] = t;
	return t;
}

int
nn_plan_low_tensor(nn_planner *p, int value)
{
	return low_tensor(p, value, true);
}

int
nn_plan_rows_tensor(nn_planner *p, int value)
{
	return low_tensor(p, value, false);
}

/* The step that brings a tensor into another form. */
static int
convert(nn_planner *p, int from, int to)
{
	const nn_ftensor *a,
			   *b;
	nn_step_kind kind;
	nn_pstep   *s;

	if (from < 0 || to < 0)
		return -1;
	a = &p->tensors[from].t;
	b = &p->tensors[to].t;
	kind = a->blocked ? b->blocked ? nn_step_low_convert : nn_step_low_to_plain :
		b->blocked ? nn_step_low_from_plain : nn_step_low_rows;
	s = nn_plan_low_step(p, kind, p->g->values[p->tensors[to].value].stored ? nn_low_u8 : nn_low_bf16, 1, &from, to);
	return s ? to : -1;
}

nn_pstep *
nn_plan_low_step(nn_planner *p, nn_step_kind kind, nn_low_kind low, int n_in, const int *in, int out)
{
	nn_pstep   *s = nn_plan_step(p, kind, n_in, in, 1, &out);
	const nn_ftensor *y = &p->tensors[out].t;

	if (s == NULL)
		return NULL;
	p->low_used[low] = true;
	s->s.low = low;
	s->s.macs = y->blocked ? (int64_t) y->c * y->w * 2 : y->elements / (p->tensors[in[0]].t.blocked ?
																		p->tensors[in[0]].t.h : 1) * 2;
	return s;
}

int
nn_plan_low(nn_planner *p, int value)
{
	int			from;

	if (p->low_of[value] >= 0)
		return p->low_of[value];
	from = p->rows_of[value] >= 0 ? p->rows_of[value] : p->raw_of[value];
	if (from < 0)
		from = p->blocked_of[value] >= 0 ? p->blocked_of[value] : nn_plan_plain(p, value);
	return from < 0 ? -1 : convert(p, from, nn_plan_low_tensor(p, value));
}

int
nn_plan_rows(nn_planner *p, int value)
{
	int			from;

	if (p->rows_of[value] >= 0)
		return p->rows_of[value];
	from = p->low_of[value] >= 0 ? p->low_of[value] : p->raw_of[value];
	if (from >= 0 && p->tensors[from].t.blocked && p->tensors[from].t.dtype == nn_float32)
		from = nn_plan_low(p, value);
	return from < 0 ? -1 : convert(p, from, nn_plan_rows_tensor(p, value));
}

bool
nn_plan_is_low(const nn_planner *p, int value)
{
	return p->plain_of[value] < 0 && p->blocked_of[value] < 0 &&
		(p->low_of[value] >= 0 || p->rows_of[value] >= 0 || p->raw_of[value] >= 0);
}

int
nn_plan_float(nn_planner *p, int value, bool blocked)
{
	int			from = p->low_of[value];
	int			raw = p->raw_of[value];

	if (from < 0)
		from = raw >= 0 && p->tensors[raw].t.blocked ? nn_plan_low(p, value) : nn_plan_rows(p, value);
	if (from < 0)
		return -1;
	if (blocked && !p->tensors[from].t.blocked)
		from = nn_plan_low(p, value);
	return from < 0 ? -1 : convert(p, from, nn_plan_tensor(p, value, blocked));
}

void
nn_plan_settle(nn_planner *p, int value)
{
	if (value < 0 || p->g->values[value].stored == NULL || p->raw_of[value] >= 0)
		return;
	p->raw_of[value] = p->blocked_of[value] >= 0 ? p->blocked_of[value] : p->plain_of[value];
	p->blocked_of[value] = p->plain_of[value] = -1;
}

nn_isa
nn_plan_isa(const nn_planner *p)
{
	nn_isa		isa = p->isa;

	for (nn_low_kind kind = nn_low_u8; kind <= nn_low_w16; kind++)
		if (p->low_used[kind] && nn_low_isa(p->isa_asked, kind) > isa)
			isa = nn_low_isa(p->isa_asked, kind);
	return isa;
}
