/*
 * step_move.c
 *	  Steps that only move: between the layouts, ResNet's option-A shortcut.
 */
#include "nn/steps_impl.h"

#include <string.h>

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
