/*
 * step_channel.c
 *	  Elementwise steps over blocked tensors: two operands, or scale and shift of
 *	  each channel; both with an activation, both in place where the input dies.
 */
#include "nn/steps_impl.h"

#include <string.h>

static nn_lowered
lower_affine(nn_planner *p, nn_node *n, int x)
{
	int			in = nn_plan_blocked(p, x);
	nn_pstep   *s = in < 0 ? NULL : nn_plan_blocked_step(p, nn_step_scale_shift, 1, &in, n->out[0], n->act);
	size_t		lanes;

	if (s == NULL)
		return nn_lower_failed;
	lanes = (size_t) nn_blocks(p->tensors[in].t.c) * NN_LANES;
	s->scale_shift = nn_heap_alloc(p->g->heap, 2 * lanes, sizeof(float));
	if (s->scale_shift == NULL)
		return nn_lower_failed;
	nn_affine(p->g, n, s->scale_shift, s->scale_shift + lanes, &x);
	nn_plan_data(p, s, 2 * lanes * sizeof(float));
	return nn_lower_done;
}

nn_lowered
nn_lower_batchnorm(nn_planner *p, nn_node *n)
{
	int			x;

	if (!nn_plan_has_blocked(p, n->in[0]) || !nn_affine(p->g, n, NULL, NULL, &x))
		return nn_lower_no;
	return lower_affine(p, n, x);
}

nn_lowered
nn_lower_activation(nn_planner *p, nn_node *n)
{
	nn_act		act;
	int			in;

	if (!nn_plan_has_blocked(p, n->in[0]) || !nn_activation(n, &act))
		return nn_lower_no;
	in = nn_plan_blocked(p, n->in[0]);
	return in >= 0 && nn_plan_blocked_step(p, nn_step_scale_shift, 1, &in, n->out[0], act) ? nn_lower_done : nn_lower_failed;
}

/* Is a one value for each channel of b, which has more? */
static bool
small_beside(const nn_value *a, const nn_value *b)
{
	return nn_blockable(a) && nn_blockable(b) && a->shape.rank == 4 && b->shape.rank == 4 &&
		a->shape.dims[1] == b->shape.dims[1] && a->elements == a->shape.dims[1] && b->elements > a->elements;
}

/* Both operands of one shape, or one of them a value a channel. */
nn_lowered
nn_lower_binary(nn_planner *p, nn_node *n)
{
	const nn_value *a = &p->g->values[n->in[0]],
			   *b;
	int			in[2];
	int			x;
	bool		swap;
	nn_pstep   *s;

	if (nn_affine(p->g, n, NULL, NULL, &x) && nn_plan_has_blocked(p, x))
		return lower_affine(p, n, x);
	if (n->n_in != 2 || a->dtype != nn_float32 ||
		!(nn_plan_has_blocked(p, n->in[0]) || nn_plan_has_blocked(p, n->in[1])))
		return nn_lower_no;
	b = &p->g->values[n->in[1]];
	/* one value a channel: a squeeze's factors, written on either side */
	swap = small_beside(a, b) && n->params.i[0] != nn_sub && n->params.i[0] != nn_div;
	if (!nn_shape_equal(&a->shape, &b->shape) && !swap && !small_beside(b, a))
		return nn_lower_no;
	in[0] = nn_plan_blocked(p, n->in[swap]);
	in[1] = in[0] < 0 ? -1 : nn_plan_blocked(p, n->in[!swap]);
	s = in[1] < 0 ? NULL : nn_plan_blocked_step(p, nn_step_binary, 2, in, n->out[0], n->act);
	if (s == NULL)
		return nn_lower_failed;
	s->s.op = (int32_t) n->params.i[0];
	return nn_lower_done;
}

mr_code
nn_step_write_scale_shift(nn_planner *p, const nn_pstep *s, void *dst)
{
	(void) p;
	memcpy(dst, s->scale_shift, s->s.data_len);
	return MR_OK;
}

bool
nn_step_check_binary(const nn_step_check *c)
{
	const nn_ftensor *y = c->t[c->s->n_in];

	return c->s->n_in == 2 && c->s->op >= 0 && c->s->op <= nn_max && nn_same_view(c->t[0], y) &&
		c->t[1]->blocked && c->t[1]->c == y->c && (nn_same_view(c->t[1], y) || (c->t[1]->h == 1 && c->t[1]->w == 1));
}

bool
nn_step_check_scale_shift(const nn_step_check *c)
{
	return nn_same_view(c->t[0], c->t[1]) &&
		(c->s->data_len == 0 ||
		 c->s->data_len == 2 * (uint64_t) nn_blocks(c->t[1]->c) * NN_LANES * sizeof(float));
}

void
nn_step_run_binary_lines(nn_step_run *c, int y0, int y1)
{
	nn_view		b = nn_step_view(c, 1);

	c->k->binary((nn_binary) c->s->op, &c->x, &b, &c->y, c->s->act, y0, y1);
}

void
nn_step_run_scale_shift_lines(nn_step_run *c, int y0, int y1)
{
	const float *scale = c->s->data_len ? (const float *) (const void *) c->data : NULL;
	const float *shift = scale ? scale + (size_t) nn_blocks(c->y.c) * NN_LANES : NULL;

	c->k->scale_shift(&c->x, scale, shift, &c->y, c->s->act, y0, y1);
}
