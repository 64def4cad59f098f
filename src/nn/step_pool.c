/*
 * step_pool.c
 *	  Pools over blocked tensors: windows, and whole images.
 */
#include "nn/steps_impl.h"

#include <string.h>

nn_pool
nn_plan_pool(const nn_node *n)
{
	const int64_t *q = n->params.i;
	nn_pool		u;

	memset(&u, 0, sizeof(u));
	u.kh = (int) q[nn_w_kh];
	u.kw = (int) q[nn_w_kw];
	u.sh = (int) q[nn_w_sh];
	u.sw = (int) q[nn_w_sw];
	u.dh = (int) q[nn_w_dh];
	u.dw = (int) q[nn_w_dw];
	u.pt = (int) q[nn_w_pt];
	u.pl = (int) q[nn_w_pl];
	u.pb = (int) q[nn_w_pb];
	u.pr = (int) q[nn_w_pr];
	u.count_pad = q[nn_w_count_pad] != 0;
	return u;
}

nn_lowered
nn_lower_pool(nn_planner *p, nn_node *n)
{
	const nn_value *x = &p->g->values[n->in[0]];
	int			in,
				out;
	nn_pstep   *s;
	nn_pool    *u;

	if (!nn_blockable(x) || !nn_blockable(&p->g->values[n->out[0]]) || x->shape.rank != 4 ||
		(n->n_out > 1 && n->out[1] >= 0))
		return nn_lower_no;
	in = nn_plan_blocked(p, n->in[0]);
	out = in < 0 ? -1 : nn_plan_tensor(p, n->out[0], true);
	s = out < 0 ? NULL :
		nn_plan_step(p, n->op->kind == nn_kind_maxpool ? nn_step_maxpool : nn_step_avgpool, 1, &in, 1, &out);
	if (s == NULL)
		return nn_lower_failed;
	u = &s->s.u.pool;
	*u = nn_plan_pool(n);
	s->s.macs = (int64_t) p->tensors[out].t.c * p->tensors[out].t.w * u->kh * u->kw * 2;
	return nn_lower_done;
}

/* Its result is a dense vector: where a border is wanted, plain. */
nn_lowered
nn_lower_global_pool(nn_planner *p, nn_node *n)
{
	const nn_margin *m = &p->margin[n->out[0]];
	nn_act		none = {nn_act_none, 0, 0};
	int			in;

	if (!nn_plan_has_blocked(p, n->in[0]) || (m->top | m->left | m->bottom | m->right))
		return nn_lower_no;
	in = nn_plan_blocked(p, n->in[0]);
	return in >= 0 && nn_plan_blocked_step(p, n->op->kind == nn_kind_global_avgpool ? nn_step_global_avgpool :
								nn_step_global_maxpool, 1, &in, n->out[0], none) ? nn_lower_done : nn_lower_failed;
}

bool
nn_step_check_pool(const nn_step_check *c)
{
	const nn_pool *u = &c->s->u.pool;
	const nn_ftensor *x = c->t[0],
			   *y = c->t[1];

	return x->blocked && x->c == y->c && u->pb >= 0 && u->pr >= 0 && u->pb <= 1 << 20 && u->pr <= 1 << 20 &&
		nn_good_flag(&u->count_pad) &&
		nn_window_fits(u->kh, u->sh, u->dh, u->pt, x->h, y->h) &&
		nn_window_fits(u->kw, u->sw, u->dw, u->pl, x->w, y->w);
}

bool
nn_step_check_global_pool(const nn_step_check *c)
{
	const nn_ftensor *x = c->t[0],
			   *y = c->t[1];

	return x->blocked && x->c == y->c && y->h == 1 && y->w == 1 && y->blk_pitch == NN_LANES;
}

void
nn_step_run_maxpool_lines(nn_step_run *c, int y0, int y1)
{
	c->k->maxpool(&c->s->u.pool, &c->x, &c->y, y0, y1);
}

void
nn_step_run_avgpool_lines(nn_step_run *c, int y0, int y1)
{
	c->k->avgpool(&c->s->u.pool, &c->x, &c->y, y0, y1);
}

mr_code
nn_step_run_global_pool(nn_step_run *c)
{
	(c->s->kind == nn_step_global_avgpool ? c->k->global_avgpool : c->k->global_maxpool) (&c->x, c->y.data);
	return MR_OK;
}
