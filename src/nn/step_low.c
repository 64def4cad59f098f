/*
 * step_low.c
 *	  Layers with fewer bits: convolutions and products whose weights are int8 or
 *	  bfloat16 (kernels_low.h), with activations to match.
 *
 * A layer is int8 when its input is stored as uint8 and its weights come from
 * int8; what it gives is uint8 if that is stored too, else float32.  With the
 * option bfloat16, all layers have weights in bfloat16, and activations too where
 * the CPU computes on them.
 */
#include "nn/steps_impl.h"

#include <math.h>
#include <string.h>

/* Weights of so few numbers stay float32: there is nothing to save, and early
 * layers, which have few, matter most to the result. */
#define SMALL_WEIGHTS 8192

/* ---- lowering ---- */

/* The kind of kernels a layer with input x and weights w takes; false: float32. */
static bool
kind_of_layer(const nn_planner *p, int x, int w, int axis, nn_low_kind *kind)
{
	const nn_int8_weights *o = p->g->values[w].int8;

	if (o && p->g->values[x].stored && (o->n_scales == 1 || o->axis == axis))
		*kind = nn_low_u8;
	else if (p->bf16)
		*kind = nn_low_bf16;
	else if (p->g->opt->precision == nn_bfloat16 && p->g->values[w].elements >= SMALL_WEIGHTS)
		*kind = nn_low_w16;
	else
		return false;
	return nn_low_for(p->isa_asked, *kind) != NULL;
}

static bool
is_depthwise(const nn_conv *cv)
{
	return cv->groups > 1 && cv->groups == cv->cin && cv->cin == cv->cout;
}

/* The tensor that a step of that kind writes for a value. */
static int
output_of(nn_planner *p, nn_low_kind kind, int value)
{
	nn_elem		e = nn_plan_elem(p, value);

	if ((kind == nn_low_u8 && e == nn_elem_u8) || (kind == nn_low_bf16 && e == nn_elem_bf16))
		return nn_plan_low_tensor(p, value);
	return nn_plan_tensor(p, value, true);
}

static nn_lowered
lower_conv(nn_planner *p, nn_node *n)
{
	nn_graph   *g = p->g;
	nn_conv		cv;
	nn_conv_form form;
	nn_low_kind kind;
	const nn_low_kernels *k;
	nn_step_kind step = nn_step_low_conv;
	int			in[2];
	int			out,
				n_in = 1;
	nn_pstep   *s;
	const nn_ftensor *x,
			   *y;
	bool		as_is;

	if (!nn_conv_lowers(g, n) || !kind_of_layer(p, n->in[0], n->in[1], 0, &kind) ||
		(kind == nn_low_bf16 && !nn_conv_takes_bf16(p, n, &form)))
		return nn_lower_no;
	cv = nn_plan_conv(g, n);
	if (kind == nn_low_bf16 && form != nn_conv_blocked)
	{
		step = nn_step_low_winograd;
		cv.form = form;
	}
	k = nn_low_for(p->isa_asked, kind);
	if (is_depthwise(&cv))
	{
		if (kind == nn_low_w16)
			return nn_lower_no;
		step = nn_step_low_depthwise;
	}
	if (n->residual >= 0)
	{
		as_is = kind == nn_low_w16 || (kind == nn_low_u8 && !g->values[n->residual].stored);
		in[n_in] = as_is ? nn_plan_blocked(p, n->residual) : nn_plan_low(p, n->residual);
		if (in[n_in++] < 0)
			return nn_lower_failed;
	}
	/* a small image is read as it lies, and rounded on the way */
	in[0] = p->raw_of[n->in[0]] >= 0 ? p->raw_of[n->in[0]] : p->plain_of[n->in[0]];
	if (step == nn_step_low_conv && cv.groups == 1 && cv.cin <= 4 && in[0] >= 0 && !p->tensors[in[0]].t.blocked)
	{
		step = nn_step_low_planar;
		cv.form = nn_conv_planar;
	}
	else
		in[0] = kind == nn_low_w16 ? nn_plan_blocked(p, n->in[0]) : nn_plan_low(p, n->in[0]);
	out = in[0] < 0 ? -1 : output_of(p, kind, n->out[0]);
	s = out < 0 ? NULL : nn_plan_low_step(p, step, kind, n_in, in, out);
	if (s == NULL)
		return nn_lower_failed;
	s->node = n;
	s->s.u.conv = cv;
	s->s.act = n->act;
	s->s.residual = n->residual >= 0;
	if (n->mid)
	{
		s->s.u.conv.lo = (float) (0 - n->mid->zero) * n->mid->scale;
		s->s.u.conv.hi = (float) (255 - n->mid->zero) * n->mid->scale;
	}
	x = &p->tensors[in[0]].t;
	y = &p->tensors[out].t;
	s->s.macs = (int64_t) (cv.cin / cv.groups) * cv.cout * cv.kh * cv.kw * y->w;
	if (step == nn_step_low_planar && g->values[n->in[0]].stored)
	{
		s->s.scale = g->values[n->in[0]].stored->scale;
		s->s.zero = g->values[n->in[0]].stored->zero;
	}
	if (kind == nn_low_w16 && step == nn_step_low_conv && (form = nn_winograd_choose(cv, y->h, y->w, 1)) != nn_conv_blocked)
	{
		s->s.kind = step = nn_step_low_winograd;
		s->s.u.conv.form = cv.form = form;
	}
	if (step == nn_step_low_winograd)
	{
		int			tile = form == nn_conv_winograd2 ? 2 : 4;

		s->s.macs = (int64_t) cv.cin * cv.cout * (tile + 2) * (tile + 2) * ((y->w + tile - 1) / tile);
		nn_plan_data(p, s, nn_low_winograd_pack_size(p->isa_asked, kind, &cv));
		s->scratch = k->winograd_scratch(&cv, y->h, y->w);
	}
	else if (step == nn_step_low_depthwise)
		nn_plan_data(p, s, nn_low_depthwise_pack_size(p->isa_asked, kind, &cv));
	else
	{
		const nn_shape *xs = &x->shape;

		nn_plan_data(p, s, nn_low_conv_pack_size(p->isa_asked, kind, &cv));
		s->scratch = k->conv_scratch(&cv, xs->rank == 4 ? (int) xs->dims[2] : 1, (int) xs->dims[xs->rank - 1],
									 y->h, y->w);
	}
	return nn_lower_done;
}

static nn_lowered
lower_gemm(nn_planner *p, nn_node *n)
{
	nn_graph   *g = p->g;
	const nn_value *b = &g->values[n->in[1]];
	bool		trans = n->op->kind == nn_kind_gemm && n->params.i[1];
	nn_low_kind kind = nn_low_u8;
	int			in[2],
				n_in = 1,
				out = -1,
				k;
	nn_pstep   *s;

	if (!nn_gemm_lowers(g, n) || (n->op->kind == nn_kind_gemm && !(n->params.f[0] > 0)))
		return nn_lower_no;
	if (!(n->dynamic && nn_low_for(p->isa_asked, nn_low_u8)) && !kind_of_layer(p, n->in[0], n->in[1], !trans, &kind))
		return nn_lower_no;
	k = (int) b->shape.dims[trans];
	if (kind == nn_low_u8 && !n->dynamic)
	{
		in[0] = p->raw_of[n->in[0]];
		if (in[0] < 0 || p->tensors[in[0]].t.blocked)
			in[0] = nn_plan_rows(p, n->in[0]);
	}
	else
		in[0] = nn_plan_plain(p, n->in[0]);
	if (in[0] >= 0 && n->residual >= 0)
		in[n_in++] = nn_plan_plain(p, n->residual);
	if (in[n_in - 1] >= 0)
		out = kind == nn_low_u8 && g->values[n->out[0]].stored ? nn_plan_rows_tensor(p, n->out[0]) :
			nn_plan_tensor(p, n->out[0], false);
	s = out < 0 ? NULL : nn_plan_low_step(p, nn_step_low_gemm, kind, n_in, in, out);
	if (s == NULL)
		return nn_lower_failed;
	s->node = n;
	s->s.act = n->act;
	s->s.residual = n->residual >= 0;
	s->s.op = n->dynamic;
	s->s.u.gemm.k = k;
	s->s.u.gemm.n = (int32_t) b->shape.dims[!trans];
	s->s.u.gemm.m = (int32_t) (p->tensors[in[0]].t.elements / k);
	s->s.macs = (int64_t) k * s->s.u.gemm.n;
	if (kind == nn_low_u8 && !n->dynamic)
	{
		s->s.scale = g->values[n->in[0]].stored->scale;
		s->s.zero = g->values[n->in[0]].stored->zero;
	}
	nn_plan_data(p, s, nn_low_gemm_pack_size(p->isa_asked, kind, k, s->s.u.gemm.n));
	s->scratch = nn_low_for(p->isa_asked, kind)->gemm_scratch(s->s.u.gemm.m, k, s->s.u.gemm.n);
	return nn_lower_done;
}

nn_lowered
nn_lower_low_layer(nn_planner *p, nn_node *n)
{
	return n->op->kind == nn_kind_conv ? lower_conv(p, n) : lower_gemm(p, n);
}

/* ---- packing ---- */

/* A float32 vector of n, multiplied; NULL if there is none. */
static bool
vector_of(nn_planner *p, const float *x, int64_t n_x, int64_t n, float factor, const float **out)
{
	float	   *v;

	*out = NULL;
	if (x == NULL)
		return true;
	v = nn_heap_alloc(p->g->heap, (size_t) n, sizeof(float));
	for (int64_t i = 0; v && i < n; i++)
		v[i] = factor * x[n_x == 1 ? 0 : i];
	*out = v;
	return v != NULL;
}

mr_code
nn_step_write_low(nn_planner *p, const nn_pstep *s, void *dst)
{
	nn_graph   *g = p->g;
	const nn_node *n = s->node;
	const nn_value *w = &g->values[n->in[1]];
	const nn_value *b = n->n_in > 2 && n->in[2] >= 0 ? &g->values[n->in[2]] : NULL;
	const nn_conv *cv = &s->s.u.conv;
	bool		product = s->s.kind == nn_step_low_gemm;
	bool		gemm = n->op->kind == nn_kind_gemm;
	bool		trans = gemm && n->params.i[1];
	float		alpha = gemm ? n->params.f[0] : 1;
	int64_t		cols = product ? s->s.u.gemm.n : cv->cout;
	nn_low_kind kind = (nn_low_kind) s->s.low;
	nn_low_weights lw = {0};
	bool		whole = true;

	if (!vector_of(p, b ? b->data : NULL, b ? b->elements : 0, cols, gemm ? n->params.f[1] : 1, &lw.bias))
		return g->st->code;
	if (kind == nn_low_u8)
	{
		lw.q = w->int8->q;
		if (!vector_of(p, w->int8->scale, w->int8->n_scales, cols, alpha, &lw.scale))
			return g->st->code;
	}
	else if (alpha == 1)
		lw.f = w->data;
	else if (!vector_of(p, w->data, w->elements, w->elements, alpha, &lw.f))
		return g->st->code;
	if (product)
		whole = nn_low_gemm_pack(g->env, p->isa_asked, kind, s->s.u.gemm.k, s->s.u.gemm.n, &lw, trans ? 1 : (size_t) cols,
								 trans ? (size_t) s->s.u.gemm.k : 1, dst);
	else if (s->s.kind == nn_step_low_winograd)
		whole = nn_low_winograd_pack(g->env, p->isa_asked, kind, cv, &lw, dst);
	else if (s->s.kind == nn_step_low_depthwise)
		nn_low_depthwise_pack(p->isa_asked, kind, cv, &lw, dst);
	else
		whole = nn_low_conv_pack(g->env, p->isa_asked, kind, cv, &lw, dst);
	return nn_step_written(p, whole);
}

/* ---- checks ---- */

/* Of the kernels' own elements, or float32? */
static bool
native(const nn_ftensor *t, const nn_low_kernels *k)
{
	nn_elem		e = nn_ftensor_elem(t);

	return e == nn_elem_f32 || e == k->elem;
}

/* All native, and an activation that it knows? */
static bool
good_winograd(const nn_step_check *c, const nn_low_kernels *k)
{
	for (int i = 0; i <= c->s->n_in; i++)
		if (nn_ftensor_elem(c->t[i]) != k->elem)
			return false;
	return nn_low_winograd_does(k->kind, c->s->u.conv.act);
}

bool
nn_step_check_low_conv(const nn_step_check *c)
{
	const nn_fstep *s = c->s;
	const nn_low_kernels *k = nn_check_low(c);
	const nn_ftensor *x = c->t[0],
			   *y = c->t[s->n_in];
	const nn_conv *cv = &s->u.conv;
	bool		planar = s->kind == nn_step_low_planar;
	int			ih,
				iw;
	nn_margin	m;

	if (k == NULL || s->n_in != 1 + (s->residual != 0) || (s->residual && !nn_same_view(c->t[1], y)) ||
		!nn_good_act(&cv->act) || x->shape.rank < 3 || x->shape.dims[0] != 1 || cv->cin != x->shape.dims[1] ||
		cv->cout != y->c || cv->groups < 1 || cv->cin < 1 || cv->cin % cv->groups || cv->cout % cv->groups ||
		!x->blocked == !planar)
		return false;
	if (s->kind == nn_step_low_winograd ? !nn_winograd_can(cv) : cv->form != (planar ? nn_conv_planar : nn_conv_blocked))
		return false;
	if ((!planar && nn_ftensor_elem(x) != k->elem) || !native(y, k) || (s->residual && !native(c->t[1], k)))
		return false;
	if (planar && (cv->groups != 1 || cv->cin > 4 || x->dtype != nn_float32 || (s->low == nn_low_u8 && !nn_good_quant(s->scale, s->zero))))
		return false;
	ih = x->shape.rank == 4 ? (int) x->shape.dims[2] : 1;
	iw = (int) x->shape.dims[x->shape.rank - 1];
	if (!nn_window_fits(cv->kh, cv->sh, cv->dh, cv->pt, ih, y->h) ||
		!nn_window_fits(cv->kw, cv->sw, cv->dw, cv->pl, iw, y->w))
		return false;
	m = nn_conv_margin(cv, ih, iw, y->h, y->w);
	if (!planar && !nn_margin_covers(&x->margin, &m))
		return false;
	if (s->kind == nn_step_low_winograd)
		return k->winograd && good_winograd(c, k) && k->winograd_scratch(cv, y->h, y->w) <= c->h->scratch &&
			nn_low_pack_check(c->file + s->data, s->data_len, k->isa, k->kind, nn_pack_winograd, cv);
	if (s->kind == nn_step_low_depthwise)
		return k->depthwise && cv->groups == cv->cin && cv->cin == cv->cout &&
			nn_low_pack_check(c->file + s->data, s->data_len, k->isa, k->kind, nn_pack_depthwise, cv);
	return k->conv_scratch(cv, ih, iw, y->h, y->w) <= c->h->scratch &&
		nn_low_pack_check(c->file + s->data, s->data_len, k->isa, k->kind, nn_pack_conv, cv);
}

bool
nn_step_check_low_gemm(const nn_step_check *c)
{
	const nn_fstep *s = c->s;
	const nn_low_kernels *kernels = nn_check_low(c);
	const nn_ftensor *y = c->t[s->n_in];
	int			m = s->u.gemm.m,
				k = s->u.gemm.k,
				n = s->u.gemm.n;
	nn_conv		flat;

	memset(&flat, 0, sizeof(flat));
	flat.cin = k;
	flat.cout = n;
	flat.groups = flat.kh = flat.kw = 1;
	if (kernels == NULL || s->n_in != 1 + (s->residual != 0) ||
		(s->residual && (c->t[1]->blocked || c->t[1]->elements != y->elements || c->t[1]->dtype != nn_float32)))
		return false;
	return !c->t[0]->blocked && m >= 1 && k >= 1 && n >= 1 && native(c->t[0], kernels) && native(y, kernels) &&
		c->t[0]->elements == (int64_t) m * k && y->elements == (int64_t) m * n &&
		(s->op == 0 || (s->op == 1 && c->t[0]->dtype == nn_float32 && s->low == nn_low_u8)) &&
		(s->op == 1 || (s->low != nn_low_u8 || nn_good_quant(s->scale, s->zero))) &&
		kernels->gemm_scratch(m, k, n) <= c->h->scratch &&
		nn_low_pack_check(c->file + s->data, s->data_len, kernels->isa, kernels->kind, nn_pack_gemm, &flat);
}

/* ---- runs ---- */

void
nn_step_run_low_conv_lines(nn_step_run *c, int y0, int y1)
{
	const nn_fstep *s = c->s;
	const nn_low_kernels *k = nn_run_low(c);
	const nn_shape *xs = &c->tx->shape;
	nn_low_view x = nn_step_low_view(c, 0),
				y = nn_step_low_view(c, s->n_in),
				res;
	nn_low_view *r = NULL;

	if (s->residual)
	{
		res = nn_step_low_view(c, 1);
		r = &res;
	}
	if (s->kind == nn_step_low_conv)
		k->conv(&s->u.conv, c->data, &x, r, &y, y0, y1, c->r->scratch);
	else if (s->kind == nn_step_low_depthwise)
		k->depthwise(&s->u.conv, c->data, &x, r, &y, y0, y1);
	else
	{
		nn_low_rows image = {x.v.data, 0, {nn_elem_f32, s->scale, s->zero}};

		k->conv_planar(&s->u.conv, c->data, &image, xs->rank == 4 ? (int) xs->dims[2] : 1,
					   (int) xs->dims[xs->rank - 1], r, &y, y0, y1, c->r->scratch);
	}
}

/* Rows [y0, y1) of an operand with `width` elements a row. */
static nn_low_rows
rows_at(const nn_ftensor *t, uint8_t *data, size_t width, int y0)
{
	nn_quant	q = nn_ftensor_quant(t);
	nn_low_rows r = {data + (size_t) y0 * width * (size_t) nn_elem_bytes(q.elem), width, q};

	return r;
}

void
nn_step_run_low_gemm_lines(nn_step_run *c, int y0, int y1)
{
	const nn_fstep *s = c->s;
	size_t		k = (size_t) s->u.gemm.k,
				n = (size_t) s->u.gemm.n;
	nn_low_rows a = rows_at(c->tx, nn_step_address(c->r, c->tx), k, y0),
				y = rows_at(c->ty, nn_step_address(c->r, c->ty), n, y0),
				res = y;

	if (s->residual)
	{
		const nn_ftensor *t = nn_step_operand(c->r, s, 1);

		res = rows_at(t, nn_step_address(c->r, t), n, y0);
	}

	if (s->op)
		a.q = nn_low_dynamic(c->x.data, (size_t) c->tx->elements);
	else
	{
		a.q.scale = s->scale;
		a.q.zero = s->zero;
	}
	a.q.elem = nn_ftensor_elem(c->tx);
	nn_run_low(c)->gemm(c->data, y1 - y0, &a, s->residual ? &res : NULL, &y, s->act, c->r->scratch);
}
