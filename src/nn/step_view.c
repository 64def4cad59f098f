/*
 * step_view.c
 *	  Concat, Split and Slice of channels: views where whole blocks allow it,
 *	  copies of channels elsewhere.
 *
 * A part of a Split is the same memory as its blocks of the input.  A part of a
 * Concat lies in the result from the start, its producer writes it there; so
 * does a tensor that is split and concatenated again in the same order, as a
 * whole, and a concat within a concat.  All this in float32 and with fewer bits
 * (`low`), whose blocks hold more channels.
 */
#include "nn/steps_impl.h"

/* A step that copies n channels of in, from `from` on, to channels [to, ...) of out. */
bool
nn_plan_copy(nn_planner *p, bool low, int in, int from, int n, int out, int to)
{
	nn_pstep   *s = low ? nn_plan_low_step(p, nn_step_low_copy, p->tensors[out].t.dtype == nn_uint8 ? nn_low_u8 : nn_low_bf16,
										   1, &in, out) : nn_plan_step(p, nn_step_copy_channels, 1, &in, 1, &out);

	if (s == NULL)
		return false;
	s->s.u.move.sy = s->s.u.move.sx = 1;
	s->s.u.move.n = n;
	s->s.u.move.from = from;
	s->s.u.move.to = to;
	s->s.macs = (int64_t) n * p->tensors[in].t.w * 4;
	return true;
}

/* ---- Concat ---- */

static int
lanes_of(const nn_planner *p, int t)
{
	return nn_elem_lanes(nn_ftensor_elem(&p->tensors[t].t));
}

/* Do the concat's parts that share memory with root lie as they must if root
 * became its channels from block `base` on?  All of root, and nothing else. */
static bool
parts_match(const nn_planner *p, const nn_node *n, bool low, int root, int base)
{
	int			lanes = lanes_of(p, root);
	int			from = base * lanes,
				end = from + p->tensors[root].t.c;
	int			at = 0;

	for (int k = 0; k < n->n_in; k++)
	{
		int			c = (int) p->g->values[n->in[k]].shape.dims[1];
		int			t = (low ? p->low_of : p->blocked_of)[n->in[k]];
		int			blk;

		if (at < end && at + c > from && (t < 0 || at % lanes || nn_plan_root(p, t, &blk) != root ||
										  blk != at / lanes - base || at + c > end))
			return false;
		at += c;
	}
	return end <= at && (end % lanes == 0 || end == at);
}

bool
nn_plan_place_part(nn_planner *p, const nn_node *n, bool low, int in, int out, int at)
{
	int			blk,
				root = nn_plan_root(p, in, &blk),
				lanes = lanes_of(p, out);
	nn_ptensor *r = &p->tensors[root];

	if (at % lanes)
		return false;
	if (root == out)
		return blk == at / lanes;
	if (r->pinned || r->t.place != nn_place_arena || r->t.h * r->t.w <= 1 || at / lanes < blk ||
		r->t.dtype != p->tensors[out].t.dtype || r->t.scale != p->tensors[out].t.scale ||
		r->t.zero != p->tensors[out].t.zero || p->plain_of[r->value] >= 0 ||
		!parts_match(p, n, low, root, at / lanes - blk))
		return false;
	r->alias_of = out;
	r->alias_blk = at / lanes - blk;
	r->pinned = true;
	return true;
}

nn_lowered
nn_lower_concat(nn_planner *p, nn_node *n)
{
	bool		any = false;
	int			out,
				at = 0;

	if (n->params.i[0] != 1 || !nn_blockable(&p->g->values[n->out[0]]))
		return nn_lower_no;
	for (int k = 0; k < n->n_in; k++)
	{
		any = any || nn_plan_has_blocked(p, n->in[k]);
		if (!nn_blockable(&p->g->values[n->in[k]]))
			return nn_lower_no;
	}
	if (!any)
		return nn_lower_no;
	for (int k = 0; k < n->n_in; k++)
		if (nn_plan_blocked(p, n->in[k]) < 0)
			return nn_lower_failed;
	out = nn_plan_tensor(p, n->out[0], true);
	if (out < 0)
		return nn_lower_failed;
	for (int k = 0; k < n->n_in; k++)
	{
		int			in = p->blocked_of[n->in[k]];
		int			c = p->tensors[in].t.c;

		if (!nn_plan_place_part(p, n, false, in, out, at) && !nn_plan_copy(p, false, in, 0, c, out, at))
			return nn_lower_failed;
		at += c;
	}
	return nn_lower_done;
}

/* ---- Split, Slice ---- */

/* Channels [from, from + c) of blocked tensor in, as the value. */
static bool
channels(nn_planner *p, bool low, int in, int from, int value)
{
	int			out = in < 0 ? -1 : low ? nn_plan_low_tensor(p, value) : nn_plan_tensor(p, value, true);
	int			c,
				lanes;

	if (out < 0)
		return false;
	c = p->tensors[out].t.c;
	lanes = lanes_of(p, in);
	if (from % lanes || (c % lanes && from + c < p->tensors[in].t.c))
		return nn_plan_copy(p, low, in, from, c, out, 0);
	p->tensors[out].alias_of = in;
	p->tensors[out].alias_blk = from / lanes;
	return true;
}

/* A blocked image, whose channels may be taken apart?  Vectors are plain as well. */
static bool
has_channels(const nn_planner *p, int value)
{
	const nn_value *v = &p->g->values[value];

	return nn_plan_has_blocked(p, value) && nn_blockable(v) && v->elements > v->shape.dims[1];
}

static int
blocked(nn_planner *p, bool low, int value)
{
	return low ? nn_plan_low(p, value) : nn_plan_blocked(p, value);
}

nn_lowered
nn_lower_split_as(nn_planner *p, nn_node *n, bool low)
{
	int			at = 0;

	if (n->params.i[0] != 1 || !has_channels(p, n->in[0]))
		return nn_lower_no;
	for (int k = 0; k < n->n_out; k++)
		if (p->g->values[n->out[k]].elements == 0)
			return nn_lower_no;
	for (int k = 0; k < n->n_out; k++)
	{
		if (!channels(p, low, blocked(p, low, n->in[0]), at, n->out[k]))
			return nn_lower_failed;
		at += (int) p->g->values[n->out[k]].shape.dims[1];
	}
	return nn_lower_done;
}

nn_lowered
nn_lower_split(nn_planner *p, nn_node *n)
{
	return nn_lower_split_as(p, n, false);
}

bool
nn_slices_channels(const nn_graph *g, const nn_node *n)
{
	const nn_shape *x = &g->values[n->in[0]].shape,
			   *y = &g->values[n->out[0]].shape;
	const int64_t *step = n->params.i + 24;

	if (n->shortcut || !nn_blockable(&g->values[n->in[0]]) || g->values[n->out[0]].elements == 0 || step[1] != 1)
		return false;
	for (int i = 0; i < x->rank; i++)
		if (i != 1 && (y->dims[i] != x->dims[i] || step[i] != 1))
			return false;
	return true;
}

nn_lowered
nn_lower_slice_as(nn_planner *p, nn_node *n, bool low)
{
	if (!nn_slices_channels(p->g, n) || !has_channels(p, n->in[0]))
		return nn_lower_no;
	return channels(p, low, blocked(p, low, n->in[0]), (int) n->params.i[17], n->out[0]) ? nn_lower_done : nn_lower_failed;
}

/* A Slice of channels alone; of pixels: the shortcut step. */
nn_lowered
nn_lower_slice(nn_planner *p, nn_node *n)
{
	return n->shortcut ? nn_lower_shortcut(p, n) : nn_lower_slice_as(p, n, false);
}

/* ---- the copies ---- */

bool
nn_step_check_copy_channels(const nn_step_check *c)
{
	const nn_ftensor *x = c->t[0],
			   *y = c->t[1];
	int			n = c->s->u.move.n,
				from = c->s->u.move.from,
				to = c->s->u.move.to;

	return x->blocked && x->h == y->h && x->w == y->w && n >= 1 && from >= 0 && to >= 0 &&
		n <= x->c && from <= x->c - n && n <= y->c && to <= y->c - n;
}

void
nn_step_run_copy_channels_lines(nn_step_run *c, int y0, int y1)
{
	c->k->copy_channels(&c->x, c->s->u.move.from, c->s->u.move.n, 1, 1, &c->y, c->s->u.move.to, y0, y1);
}
