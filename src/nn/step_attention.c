/*
 * step_attention.c
 *	  Attention over row-major queries, keys and values, at strides in whatever
 *	  products they came from.
 */
#include "nn/steps_impl.h"

#include <stdio.h>
#include <string.h>

nn_lowered
nn_lower_attention(nn_planner *p, nn_node *n)
{
	const int64_t *q = n->params.i;
	int			in[5],
				out;
	nn_pstep   *s;
	nn_attend  *a;

	for (int k = 0; k < n->n_in; k++)
		if ((in[k] = nn_plan_plain(p, n->in[k])) < 0)
			return nn_lower_failed;
	out = nn_plan_tensor(p, n->out[0], false);
	s = out < 0 ? NULL : nn_plan_step(p, nn_step_attention, n->n_in, in, 1, &out);
	if (s == NULL)
		return nn_lower_failed;
	a = &s->s.u.attention.shape;
	a->heads = (int) q[nn_a_heads];
	a->queries = (int) q[nn_a_queries];
	a->keys = (int) q[nn_a_keys];
	a->dim = (int) q[nn_a_dim];
	a->vdim = (int) q[nn_a_vdim];
	a->safe = q[nn_a_safe] != 0;
	a->scale = n->params.f[0];
	s->s.u.attention.batch = (int32_t) q[nn_a_batch];
	for (int k = 0; k < n->n_in; k++)
	{
		const int64_t *lie = q + nn_a_at + 4 * k;
		size_t	   *row = k == 0 ? &a->q_row : k == 1 ? &a->k_row : k == 2 ? &a->v_row : &a->m_row[k - 3];
		size_t	   *head = k == 0 ? &a->q_head : k == 1 ? &a->k_head : k == 2 ? &a->v_head : &a->m_head[k - 3];

		s->s.u.attention.at[k] = (uint64_t) lie[0];
		*row = (size_t) lie[1];
		*head = (size_t) lie[2];
		s->s.u.attention.batch_pitch[k] = (uint64_t) lie[3];
	}
	a->y_row = q[nn_a_joined] ? (size_t) a->heads * (size_t) a->vdim : (size_t) a->vdim;
	a->y_head = q[nn_a_joined] ? (size_t) a->vdim : (size_t) a->queries * (size_t) a->vdim;
	s->s.macs = (int64_t) a->keys * (a->dim + a->vdim);
	s->scratch = p->k->attend_scratch(a);
	return nn_lower_done;
}

/* Are n rows of width elements for each head and image within the tensor? */
static bool
within(const nn_ftensor *t, uint64_t at, uint64_t batch, uint64_t batch_pitch, int heads, size_t head, int n, size_t row,
	   int width)
{
	uint64_t	a,
				b,
				c,
				last;

	return !t->blocked && t->elements > 0 &&
		!__builtin_mul_overflow(batch - 1, batch_pitch, &a) && !__builtin_mul_overflow((uint64_t) heads - 1, head, &b) &&
		!__builtin_mul_overflow((uint64_t) n - 1, row, &c) && !__builtin_add_overflow(at, a, &last) &&
		!__builtin_add_overflow(last, b, &last) && !__builtin_add_overflow(last, c, &last) &&
		!__builtin_add_overflow(last, (uint64_t) width, &last) && last <= (uint64_t) t->elements;
}

bool
nn_step_check_attention(const nn_step_check *c)
{
	const nn_fstep *s = c->s;
	const nn_attend *a = &s->u.attention.shape;
	const uint64_t *at = s->u.attention.at,
			   *pitch = s->u.attention.batch_pitch;
	const nn_ftensor *y = c->t[s->n_in];
	uint64_t	batch = (uint64_t) s->u.attention.batch;
	int64_t		rows,
				want;

	if (s->n_in < 3 || s->u.attention.batch < 1 || a->heads < 1 || a->queries < 1 || a->keys < 1 || a->dim < 1 ||
		a->vdim < 1 || a->keys > 1 << 24 || a->dim > 1 << 24 || a->vdim > 1 << 24 || *(const uint8_t *) &a->safe > 1)
		return false;
	if (__builtin_mul_overflow((int64_t) batch * a->heads, (int64_t) a->queries * a->vdim, &want) || y->blocked ||
		y->elements != want)
		return false;
	rows = (int64_t) a->heads * a->vdim;
	if (!(a->y_row == (size_t) rows && a->y_head == (size_t) a->vdim) &&
		!(a->y_row == (size_t) a->vdim && a->y_head == (size_t) a->queries * (size_t) a->vdim))
		return false;
	for (int k = 3; k < s->n_in; k++)
		if (!within(c->t[k], at[k], batch, pitch[k], a->heads, a->m_head[k - 3], a->queries, a->m_row[k - 3], a->keys))
			return false;
	return within(c->t[0], at[0], batch, pitch[0], a->heads, a->q_head, a->queries, a->q_row, a->dim) &&
		within(c->t[1], at[1], batch, pitch[1], a->heads, a->k_head, a->keys, a->k_row, a->dim) &&
		within(c->t[2], at[2], batch, pitch[2], a->heads, a->v_head, a->keys, a->v_row, a->vdim) &&
		c->k->attend_scratch(a) <= c->h->scratch;
}

mr_code
nn_step_run_attention(nn_step_run *c)
{
	const nn_fstep *s = c->s;
	const nn_attend *a = &s->u.attention.shape;
	double		fit = 5 * c->k->mac_rate / (double) s->macs;
	int			slice = fit >= a->queries ? a->queries : fit < 1 ? 1 : (int) fit;
	const float *in[5] = {NULL};
	size_t		size = (size_t) a->heads * (size_t) a->queries * (size_t) a->vdim;

	for (int k = 0; k < s->n_in; k++)
		in[k] = (const float *) (const void *) nn_step_address(c->r, nn_step_operand(c->r, s, k)) + s->u.attention.at[k];
	for (int b = 0; b < s->u.attention.batch; b++)
	{
		for (int h = 0; h < a->heads; h++)
			for (int i = 0; i < a->queries; i += slice)
			{
				if (mr_interrupted(c->r->env))
					return mr_fail(c->r->st, MR_CANCELED, "canceled");
				c->k->attend(a, h, i, a->queries - i < slice ? a->queries : i + slice, in[0], in[1], in[2], in + 3,
							 c->y.data + (size_t) b * size, c->r->scratch);
			}
		for (int k = 0; k < s->n_in; k++)
			in[k] += s->u.attention.batch_pitch[k];
	}
	return MR_OK;
}

void
nn_step_describe_attention(const nn_fstep *s, char *text, size_t size)
{
	const nn_attend *a = &s->u.attention.shape;

	snprintf(text, size, "%d heads of %d, %d to %d rows%s", a->heads, a->dim, a->queries, a->keys,
			 s->n_in > 3 ? ", masked" : "");
}
