/*
 * step_move.c
 *	  Steps that only move: between the layouts, channels into a concat,
 *	  ResNet's option-A shortcut.
 */
#include "nn/steps_impl.h"

#include <string.h>

/* Blocked inputs; parts of whole blocks are written in place by their producers. */
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
	out = nn_plan_tensor(p, n->out[0], true);
	if (out < 0)
		return nn_lower_failed;
	for (int k = 0; k < n->n_in; k++)
	{
		int			in = nn_plan_blocked(p, n->in[k]);
		nn_ptensor *t;
		int			c;

		if (in < 0)
			return nn_lower_failed;
		t = &p->tensors[in];
		c = t->t.c;
		if (at % NN_LANES == 0 && (c % NN_LANES == 0 || k == n->n_in - 1) && t->alias_of < 0 && !t->pinned &&
			t->t.h * t->t.w > 1 && t->t.place == nn_place_arena && p->plain_of[n->in[k]] < 0)
		{
			t->alias_of = out;
			t->alias_blk = at / NN_LANES;
			t->pinned = true;
		}
		else
		{
			nn_pstep   *s = nn_plan_step(p, nn_step_copy_channels, 1, &in, 1, &out);

			if (s == NULL)
				return nn_lower_failed;
			s->s.u.move.n = c;
			s->s.u.move.to = at;
			s->s.macs = (int64_t) c * p->tensors[in].t.w * 4;
		}
		at += c;
	}
	return nn_lower_done;
}

nn_lowered
nn_lower_shortcut(nn_planner *p, nn_node *n)
{
	nn_act		none = {nn_act_none, 0, 0};
	int			in;
	nn_pstep   *s;

	if (!n->shortcut)
		return nn_lower_no;
	in = nn_plan_blocked(p, n->in[0]);
	s = in < 0 ? NULL : nn_plan_blocked_step(p, nn_step_shortcut, 1, &in, n->out[0], none);
	if (s == NULL)
		return nn_lower_failed;
	s->s.u.move.n = p->tensors[in].t.c;
	s->s.u.move.to = (int32_t) n->params.i[nn_s_before];
	s->s.u.move.y0 = (int32_t) n->params.i[nn_s_y0];
	s->s.u.move.x0 = (int32_t) n->params.i[nn_s_x0];
	s->s.u.move.sy = (int32_t) n->params.i[nn_s_sy];
	s->s.u.move.sx = (int32_t) n->params.i[nn_s_sx];
	return nn_lower_done;
}

bool
nn_step_check_layout(const nn_step_check *c)
{
	const nn_ftensor *x = c->t[0],
			   *y = c->t[1];

	return !x->blocked != !y->blocked && x->elements == y->elements;
}

bool
nn_step_check_copy_channels(const nn_step_check *c)
{
	const nn_ftensor *x = c->t[0],
			   *y = c->t[1];
	int			n = c->s->u.move.n,
				to = c->s->u.move.to;

	return x->blocked && x->h == y->h && x->w == y->w && n == x->c && to >= 0 && to <= y->c - n;
}

bool
nn_step_check_shortcut(const nn_step_check *c)
{
	const nn_fstep *s = c->s;
	const nn_ftensor *x = c->t[0],
			   *y = c->t[1];

	return x->blocked && s->u.move.n == x->c && s->u.move.to >= 0 &&
		s->u.move.to <= y->c - s->u.move.n && s->u.move.sy >= 1 && s->u.move.sx >= 1 &&
		s->u.move.y0 >= 0 && s->u.move.x0 >= 0 &&
		s->u.move.y0 + (int64_t) (y->h - 1) * s->u.move.sy < x->h &&
		s->u.move.x0 + (int64_t) (y->w - 1) * s->u.move.sx < x->w;
}

int
nn_step_count_from_blocked(const nn_step_run *c)
{
	return c->tx->h;
}

void
nn_step_run_to_blocked_lines(nn_step_run *c, int y0, int y1)
{
	c->k->to_blocked(c->x.data, &c->y, y0, y1);
}

void
nn_step_run_from_blocked_lines(nn_step_run *c, int y0, int y1)
{
	c->k->from_blocked(&c->x, c->y.data, y0, y1);
}

void
nn_step_run_copy_channels_lines(nn_step_run *c, int y0, int y1)
{
	c->k->copy_channels(&c->x, 0, c->s->u.move.n, 1, 1, &c->y, c->s->u.move.to, y0, y1);
}

/* Pixels of every sy-th line and sx-th column, channels moved up by `to`, zeros
 * around them. */
void
nn_step_run_shortcut_lines(nn_step_run *c, int y0, int y1)
{
	const nn_fstep *s = c->s;
	nn_view		from = c->x;
	int			first = s->u.move.to / NN_LANES;
	int			last = (s->u.move.to + s->u.move.n) / NN_LANES;	/* first block not covered to its end */

	for (int b = 0; b < nn_blocks(c->y.c); b++)
	{
		if (b > first && b < last)
			continue;
		if (b == first && b < last && s->u.move.to % NN_LANES == 0)
			continue;
		for (int line = y0; line < y1; line++)
			memset(c->y.data + (size_t) b * c->y.blk_pitch + (size_t) line * c->y.row_pitch, 0,
				   (size_t) c->y.w * NN_LANES * sizeof(float));
	}
	from.data += (size_t) s->u.move.y0 * c->x.row_pitch + (size_t) s->u.move.x0 * NN_LANES;
	c->k->copy_channels(&from, 0, s->u.move.n, s->u.move.sy, s->u.move.sx, &c->y, s->u.move.to, y0, y1);
}
