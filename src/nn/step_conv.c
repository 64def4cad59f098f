/*
 * step_conv.c
 *	  Convolutions over blocked tensors, planar images (stems) and depthwise.
 */
#include "nn/steps_impl.h"

#include <string.h>

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
	return cv->groups > 1 && cv->groups == cv->cin && cv->cin == cv->cout && cv->kh <= NN_MAX_DW_LINES;
}

nn_lowered
nn_lower_conv(nn_planner *p, nn_node *n)
{
	nn_graph   *g = p->g;
	nn_conv		cv;
	nn_step_kind kind;
	int			in[2];
	int			out,
				n_in = 1;
	nn_pstep   *s;
	const nn_ftensor *x,
			   *y;

	if (!nn_conv_lowers(g, n))
		return nn_lower_no;
	cv = nn_plan_conv(g, n);
	kind = is_depthwise(&cv) ? nn_step_depthwise : nn_step_conv;
	if (n->residual >= 0)
	{
		in[n_in] = nn_plan_blocked(p, n->residual);
		if (in[n_in++] < 0)
			return nn_lower_failed;
	}
	if (kind == nn_step_conv && cv.groups == 1 && cv.cin <= 4 && !nn_plan_has_blocked(p, n->in[0]))
	{
		kind = nn_step_conv_planar;
		cv.form = nn_conv_planar;
		in[0] = nn_plan_plain(p, n->in[0]);
	}
	else
		in[0] = nn_plan_blocked(p, n->in[0]);
	out = in[0] < 0 ? -1 : nn_plan_tensor(p, n->out[0], true);
	s = out < 0 ? NULL : nn_plan_step(p, kind, n_in, in, 1, &out);
	if (s == NULL)
		return nn_lower_failed;
	s->node = n;
	s->s.u.conv = cv;
	s->s.act = n->act;
	s->s.residual = n->residual >= 0;
	x = &p->tensors[in[0]].t;
	y = &p->tensors[out].t;
	if (kind == nn_step_conv && (cv.form = nn_winograd_choose(cv, y->h, y->w, 1)) != nn_conv_blocked)
	{
		int			tile = cv.form == nn_conv_winograd2 ? 2 : 4;

		s->s.kind = nn_step_winograd;
		s->s.u.conv.form = cv.form;
		s->s.macs = (int64_t) cv.cin * cv.cout * (tile + 2) * (tile + 2) * ((y->w + tile - 1) / tile);
		nn_plan_data(p, s, nn_winograd_pack_size(p->isa, &cv));
		s->scratch = p->k->winograd_scratch(&cv, y->h, y->w);
		return nn_lower_done;
	}
	s->s.macs = (int64_t) (cv.cin / cv.groups) * cv.cout * cv.kh * cv.kw * y->w;
	if (kind == nn_step_depthwise)
		nn_plan_data(p, s, nn_depthwise_pack_size(p->isa, &cv));
	else
	{
		const nn_shape *xs = &x->shape;

		nn_plan_data(p, s, nn_conv_pack_size(p->isa, &cv));
		s->scratch = p->k->conv_scratch(&cv, xs->rank == 4 ? (int) xs->dims[2] : 1, (int) xs->dims[xs->rank - 1],
										y->h, y->w);
	}
	return nn_lower_done;
}

mr_code
nn_step_write_conv(nn_planner *p, const nn_pstep *s, void *dst)
{
	const nn_node *n = s->node;
	const float *w = p->g->values[n->in[1]].data;
	const float *bias = n->n_in > 2 && n->in[2] >= 0 ? p->g->values[n->in[2]].data : NULL;

	bool		whole = true;

	if (s->s.kind == nn_step_depthwise)
		nn_depthwise_pack(p->isa, &s->s.u.conv, w, bias, dst);
	else if (s->s.kind == nn_step_winograd)
		whole = nn_winograd_pack(p->g->env, p->isa, &s->s.u.conv, w, bias, dst);
	else
		whole = nn_conv_pack(p->g->env, p->isa, &s->s.u.conv, w, bias, dst);
	return nn_step_written(p, whole);
}

bool
nn_margin_covers(const nn_margin *have, const nn_margin *need)
{
	return have->top >= need->top && have->left >= need->left && have->bottom >= need->bottom &&
		have->right >= need->right;
}

bool
nn_step_check_conv(const nn_step_check *c)
{
	const nn_fstep *s = c->s;
	const nn_ftensor *x = c->t[0],
			   *y = c->t[s->n_in];
	const nn_conv *cv = &s->u.conv;
	int			ih,
				iw;
	nn_margin	m;

	if (s->n_in != 1 + (s->residual != 0) || (s->residual && !nn_same_view(c->t[1], y)) || !nn_good_act(&cv->act) ||
		cv->cin != (x->shape.rank >= 2 ? x->shape.dims[1] : 0) || cv->cout != y->c || cv->groups < 1 ||
		cv->cin < 1 || cv->cin % cv->groups || cv->cout % cv->groups)
		return false;
	if (s->kind == nn_step_conv_planar)
	{
		if (x->blocked || x->shape.rank < 3 || x->shape.dims[0] != 1 || cv->form != nn_conv_planar || cv->groups != 1)
			return false;
	}
	else if (!x->blocked || (s->kind == nn_step_winograd) != (cv->form != nn_conv_blocked))
		return false;
	ih = x->shape.rank == 4 ? (int) x->shape.dims[2] : 1;
	iw = (int) x->shape.dims[x->shape.rank - 1];
	if (!nn_window_fits(cv->kh, cv->sh, cv->dh, cv->pt, ih, y->h) ||
		!nn_window_fits(cv->kw, cv->sw, cv->dw, cv->pl, iw, y->w))
		return false;
	m = nn_conv_margin(cv, ih, iw, y->h, y->w);
	if (s->kind != nn_step_conv_planar && !nn_margin_covers(&x->margin, &m))
		return false;
	if (s->kind == nn_step_depthwise)
		return cv->groups == cv->cin && cv->cin == cv->cout && cv->kh <= NN_MAX_DW_LINES &&
			nn_pack_check(c->file + s->data, s->data_len, c->k->isa, nn_pack_depthwise, cv);
	if (s->kind == nn_step_winograd)
		return nn_winograd_can(cv) && c->k->winograd_scratch(cv, y->h, y->w) <= c->h->scratch &&
			nn_pack_check(c->file + s->data, s->data_len, c->k->isa, nn_pack_winograd, cv);
	return c->k->conv_scratch(cv, ih, iw, y->h, y->w) <= c->h->scratch &&
		nn_pack_check(c->file + s->data, s->data_len, c->k->isa, nn_pack_conv, cv);
}

void
nn_step_run_conv_lines(nn_step_run *c, int y0, int y1)
{
	const nn_fstep *s = c->s;
	const nn_shape *xs = &c->tx->shape;
	nn_view		res;
	const nn_view *r = NULL;

	if (s->residual)
	{
		res = nn_step_view(c, 1);
		r = &res;
	}
	if (s->kind == nn_step_conv)
		c->k->conv(&s->u.conv, c->data, &c->x, r, &c->y, y0, y1, c->r->scratch);
	else if (s->kind == nn_step_depthwise)
		c->k->depthwise(&s->u.conv, c->data, &c->x, r, &c->y, y0, y1);
	else
		c->k->conv_planar(&s->u.conv, c->data, c->x.data, xs->rank == 4 ? (int) xs->dims[2] : 1,
						  (int) xs->dims[xs->rank - 1], r, &c->y, y0, y1, c->r->scratch);
}
