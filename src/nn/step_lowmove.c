/*
 * step_lowmove.c
 *	  Tensors with fewer bits between the layers: pools, sums, changes of form,
 *	  concats and strided copies (kernels_low.h).
 *
 * All of them read and write any of uint8 or bfloat16 and float32, each tensor
 * with its own scale and zero point.
 */
#include "nn/steps_impl.h"

#include <math.h>
#include <string.h>

/* Is the value stored, or at hand in bfloat16?  Then its readers stay there. */
static bool
is_low(const nn_planner *p, int value, nn_low_kind *kind)
{
	if (value < 0)
		return false;
	*kind = p->g->values[value].stored ? nn_low_u8 : nn_low_bf16;
	return (p->g->values[value].stored || p->low_of[value] >= 0) && nn_blockable(&p->g->values[value]) &&
		nn_low_for(p->isa_asked, *kind) != NULL;
}

/* An operand of a step of that kind: of few bits if it is, else float32. */
static int
operand_of(nn_planner *p, nn_low_kind kind, int value)
{
	return kind == nn_low_bf16 || p->g->values[value].stored ? nn_plan_low(p, value) : nn_plan_blocked(p, value);
}

static int
output_of(nn_planner *p, int value)
{
	return nn_plan_elem(p, value) != nn_elem_f32 ? nn_plan_low_tensor(p, value) : nn_plan_tensor(p, value, true);
}

static nn_lowered
lower_one(nn_planner *p, nn_node *n, nn_step_kind step, nn_low_kind kind, nn_pstep **s)
{
	int			in = nn_plan_low(p, n->in[0]);
	int			out = in < 0 ? -1 : output_of(p, n->out[0]);

	*s = out < 0 ? NULL : nn_plan_low_step(p, step, kind, 1, &in, out);
	return *s ? nn_lower_done : nn_lower_failed;
}

static nn_lowered
lower_pool(nn_planner *p, nn_node *n, nn_low_kind kind)
{
	nn_pstep   *s;
	nn_pool    *u;

	if (p->g->values[n->in[0]].shape.rank != 4 || n->n_out != 1)
		return nn_lower_no;
	NN_LOWER(lower_one(p, n, n->op->kind == nn_kind_maxpool ? nn_step_low_maxpool : nn_step_low_avgpool, kind, &s));
	u = &s->s.u.pool;
	*u = nn_plan_pool(n);
	s->s.macs *= u->kh * u->kw;
	return nn_lower_done;
}

static nn_lowered
lower_binary(nn_planner *p, nn_node *n)
{
	nn_low_kind ka = nn_low_u8,
				kb = nn_low_u8,
				kind;
	const nn_value *a,
			   *b;
	bool		low_a,
				low_b;
	int			in[2];
	int			out;
	nn_pstep   *s;

	if (n->n_in != 2 || n->params.i[0] > nn_max)
		return nn_lower_no;
	a = &p->g->values[n->in[0]];
	b = &p->g->values[n->in[1]];
	low_a = is_low(p, n->in[0], &ka);
	low_b = is_low(p, n->in[1], &kb);
	kind = low_a ? ka : kb;
	if (!(low_a || low_b) || a->data || b->data || !nn_blockable(a) || !nn_blockable(b) ||
		(!nn_shape_equal(&a->shape, &b->shape) &&
		 !(a->shape.rank == 4 && b->shape.rank == 4 && a->shape.dims[1] == b->shape.dims[1] &&
		   b->shape.dims[2] * b->shape.dims[3] == 1)))
		return nn_lower_no;
	in[0] = operand_of(p, kind, n->in[0]);
	in[1] = in[0] < 0 ? -1 : operand_of(p, kind, n->in[1]);
	out = in[1] < 0 ? -1 : output_of(p, n->out[0]);
	s = out < 0 ? NULL : nn_plan_low_step(p, nn_step_low_binary, kind, 2, in, out);
	if (s == NULL)
		return nn_lower_failed;
	s->s.op = (int32_t) n->params.i[0];
	s->s.act = n->act;
	return nn_lower_done;
}

/* Parts of whole blocks and the same scale are written in place by their producers. */
static nn_lowered
lower_concat(nn_planner *p, nn_node *n)
{
	const nn_stored *stored = p->g->values[n->out[0]].stored;
	bool		any = false;
	int			out,
				at = 0;

	if (n->params.i[0] != 1 || !nn_blockable(&p->g->values[n->out[0]]))
		return nn_lower_no;
	for (int k = 0; k < n->n_in; k++)
	{
		nn_low_kind of;
		bool		low = is_low(p, n->in[k], &of);

		/* all the same kind: for uint8 all stored */
		if (!nn_blockable(&p->g->values[n->in[k]]) || p->g->values[n->in[k]].data ||
			(stored != NULL) != (p->g->values[n->in[k]].stored != NULL))
			return nn_lower_no;
		any = any || low;
	}
	if (!any)
		return nn_lower_no;
	out = nn_plan_low_tensor(p, n->out[0]);
	if (out < 0)
		return nn_lower_failed;
	for (int k = 0; k < n->n_in; k++)
		if (nn_plan_low(p, n->in[k]) < 0)
			return nn_lower_failed;
	for (int k = 0; k < n->n_in; k++)
	{
		int			in = p->low_of[n->in[k]];
		int			c = p->tensors[in].t.c;

		if (!nn_plan_place_part(p, n, true, in, out, at) && !nn_plan_copy(p, true, in, 0, c, out, at))
			return nn_lower_failed;
		at += c;
	}
	return nn_lower_done;
}

/* Whole pixels: lines of 64 bytes, whatever is in them. */
static nn_lowered
lower_resize(nn_planner *p, nn_node *n, nn_low_kind kind)
{
	nn_pstep   *s;

	if (kind != nn_low_bf16 || !nn_resize_picks(p->g, n))
		return nn_lower_no;
	NN_LOWER(lower_one(p, n, nn_step_low_resize, kind, &s));
	s->s.u.params = n->params;
	return nn_lower_done;
}

static nn_lowered
lower_shortcut(nn_planner *p, nn_node *n, nn_low_kind kind)
{
	nn_pstep   *s;

	if (!n->shortcut || (kind == nn_low_u8 && !p->g->values[n->out[0]].stored))
		return nn_lower_no;
	NN_LOWER(lower_one(p, n, nn_step_low_copy, kind, &s));
	s->s.op = 1;				/* zeros around */
	s->s.u.move.n = p->tensors[p->low_of[n->in[0]]].t.c;
	s->s.u.move.to = (int32_t) n->params.i[nn_s_before];
	s->s.u.move.y0 = (int32_t) n->params.i[nn_s_y0];
	s->s.u.move.x0 = (int32_t) n->params.i[nn_s_x0];
	s->s.u.move.sy = (int32_t) n->params.i[nn_s_sy];
	s->s.u.move.sx = (int32_t) n->params.i[nn_s_sx];
	return nn_lower_done;
}

nn_lowered
nn_lower_low(nn_planner *p, nn_node *n)
{
	nn_low_kind kind;
	nn_pstep   *s;
	nn_act		act;
	bool		low;

	if (n->n_in < 1 || n->n_out < 1 || n->in[0] < 0 || n->out[0] < 0 || p->g->values[n->in[0]].dtype != nn_float32)
		return nn_lower_no;
	low = is_low(p, n->in[0], &kind) && nn_blockable(&p->g->values[n->out[0]]);
	switch (n->op->kind)
	{
		case nn_kind_conv:
		case nn_kind_gemm:
		case nn_kind_matmul:
			return nn_lower_low_layer(p, n);
		case nn_kind_binary:
			return lower_binary(p, n);
		case nn_kind_concat:
			return lower_concat(p, n);
		case nn_kind_maxpool:
		case nn_kind_avgpool:
			return low ? lower_pool(p, n, kind) : nn_lower_no;
		case nn_kind_global_avgpool:
			return low ? lower_one(p, n, nn_step_low_global_avgpool, kind, &s) : nn_lower_no;
		case nn_kind_slice:
			if (low && !n->shortcut && kind == nn_low_bf16)
				return nn_lower_slice_as(p, n, true);
			return low ? lower_shortcut(p, n, kind) : nn_lower_no;
		case nn_kind_pad:
			return low ? lower_shortcut(p, n, kind) : nn_lower_no;
		case nn_kind_split:
			return low && kind == nn_low_bf16 ? nn_lower_split_as(p, n, true) : nn_lower_no;
		case nn_kind_resize:
			return low ? lower_resize(p, n, kind) : nn_lower_no;
		case nn_kind_activation:
			if (!low || !nn_activation(n, &act))
				return nn_lower_no;
			NN_LOWER(lower_one(p, n, nn_step_low_convert, kind, &s));
			s->s.act = act;
			return nn_lower_done;
		default:
			return nn_lower_no;
	}
}

/* ---- checks ---- */

/* Every tensor of the kind's own elements or float32, one of them its own. */
static const nn_low_kernels *
elements_fit(const nn_step_check *c)
{
	const nn_low_kernels *k = nn_check_low(c);
	bool		own = false;

	if (k == NULL || k->convert == NULL)
		return NULL;
	for (int i = 0; i < c->s->n_in + 1; i++)
	{
		nn_elem		e = nn_ftensor_elem(c->t[i]);

		if (e != nn_elem_f32 && e != k->elem)
			return NULL;
		own = own || e == k->elem;
	}
	return own ? k : NULL;
}

bool
nn_step_check_low_pool(const nn_step_check *c)
{
	const nn_pool *u = &c->s->u.pool;
	const nn_ftensor *x = c->t[0],
			   *y = c->t[1];

	return elements_fit(c) && x->blocked && x->c == y->c && u->pb >= 0 && u->pr >= 0 && u->pb <= 1 << 20 &&
		u->pr <= 1 << 20 && nn_good_flag(&u->count_pad) && nn_window_fits(u->kh, u->sh, u->dh, u->pt, x->h, y->h) &&
		nn_window_fits(u->kw, u->sw, u->dw, u->pl, x->w, y->w);
}

bool
nn_step_check_low_global(const nn_step_check *c)
{
	return elements_fit(c) && c->t[0]->blocked && c->t[0]->c == c->t[1]->c && c->t[1]->h == 1 && c->t[1]->w == 1;
}

bool
nn_step_check_low_binary(const nn_step_check *c)
{
	const nn_ftensor *y = c->t[c->s->n_in];

	return elements_fit(c) && c->s->n_in == 2 && c->s->op >= 0 && c->s->op <= nn_max && nn_same_view(c->t[0], y) &&
		c->t[1]->blocked && c->t[1]->c == y->c && (nn_same_view(c->t[1], y) || (c->t[1]->h == 1 && c->t[1]->w == 1));
}

bool
nn_step_check_low_form(const nn_step_check *c)
{
	const nn_ftensor *x = c->t[0],
			   *y = c->t[1];

	if (!elements_fit(c) || x->elements != y->elements || x->elements > INT32_MAX)
		return false;
	switch (c->s->kind)
	{
		case nn_step_low_convert:
			return nn_same_view(x, y);
		case nn_step_low_from_plain:
			return !x->blocked;
		case nn_step_low_to_plain:
			return x->blocked;
		default:
			return !x->blocked && !y->blocked;
	}
}

bool
nn_step_check_low_copy(const nn_step_check *c)
{
	const nn_fstep *s = c->s;
	const nn_ftensor *x = c->t[0],
			   *y = c->t[1];

	return elements_fit(c) && x->blocked && x->dtype == y->dtype && s->u.move.n >= 1 && s->u.move.n <= x->c &&
		s->u.move.from >= 0 && s->u.move.from <= x->c - s->u.move.n && s->u.move.to >= 0 && s->u.move.n <= y->c &&
		s->u.move.to <= y->c - s->u.move.n && s->u.move.sy >= 1 && s->u.move.sx >= 1 && s->u.move.y0 >= 0 &&
		s->u.move.x0 >= 0 && s->u.move.y0 + (int64_t) (y->h - 1) * s->u.move.sy < x->h &&
		s->u.move.x0 + (int64_t) (y->w - 1) * s->u.move.sx < x->w;
}

/* ---- runs ---- */

void
nn_step_run_low_pool_lines(nn_step_run *c, int y0, int y1)
{
	nn_low_view x = nn_step_low_view(c, 0),
				y = nn_step_low_view(c, 1);

	(c->s->kind == nn_step_low_maxpool ? nn_run_low(c)->maxpool : nn_run_low(c)->avgpool) (&c->s->u.pool, &x, &y, y0, y1);
}

mr_code
nn_step_run_low_global(nn_step_run *c)
{
	nn_low_view x = nn_step_low_view(c, 0),
				y = nn_step_low_view(c, 1);

	nn_run_low(c)->global_avgpool(&x, &y);
	return MR_OK;
}

void
nn_step_run_low_binary_lines(nn_step_run *c, int y0, int y1)
{
	nn_low_view a = nn_step_low_view(c, 0),
				b = nn_step_low_view(c, 1),
				y = nn_step_low_view(c, 2);

	nn_run_low(c)->binary((nn_binary) c->s->op, &a, &b, &y, c->s->act, y0, y1);
}

int
nn_step_count_low_form(const nn_step_run *c)
{
	return c->ty->blocked ? c->ty->h : c->tx->blocked ? c->tx->h : 1;
}

void
nn_step_run_low_form_lines(nn_step_run *c, int y0, int y1)
{
	const nn_low_kernels *k = nn_run_low(c);
	nn_low_view x = nn_step_low_view(c, 0),
				y = nn_step_low_view(c, 1);
	nn_low_rows from = {x.v.data, (size_t) c->tx->elements, x.q},
				to = {y.v.data, (size_t) c->ty->elements, y.q};

	switch (c->s->kind)
	{
		case nn_step_low_convert:
			k->convert(&x, &y, c->s->act, y0, y1);
			break;
		case nn_step_low_from_plain:
			k->from_plain(&from, &y, y0, y1);
			break;
		case nn_step_low_to_plain:
			k->to_plain(&x, &to, y0, y1);
			break;
		default:
			k->convert_rows(&from, &to, c->s->act, 1, (int) c->tx->elements);
	}
}

void
nn_step_run_low_copy_lines(nn_step_run *c, int y0, int y1)
{
	const nn_fstep *s = c->s;
	nn_low_view x = nn_step_low_view(c, 0),
				y = nn_step_low_view(c, 1);

	for (int b = 0; s->op && b < nn_elem_blocks(y.q.elem, y.v.c); b++)
		for (int line = y0; line < y1; line++)
			memset(y.v.data + (size_t) b * y.v.blk_pitch + (size_t) line * y.v.row_pitch,
				   y.q.elem == nn_elem_u8 ? y.q.zero : 0, (size_t) y.v.w * 64);
	x.v.data += (size_t) s->u.move.y0 * x.v.row_pitch + (size_t) s->u.move.x0 * NN_LANES;
	nn_run_low(c)->copy_channels(&x, s->u.move.from, s->u.move.n, s->u.move.sy, s->u.move.sx, &y, s->u.move.to, y0, y1);
}
