/*
 * step_norm.c
 *	  LayerNormalization and RMSNorm of row-major rows, constant scale and shift.
 */
#include "nn/steps_impl.h"

#include <stdio.h>
#include <string.h>

/* Is input k omitted, or a constant row? */
static bool
constant_row(const nn_graph *g, const nn_node *n, int k)
{
	const nn_value *v = k < n->n_in && n->in[k] >= 0 ? &g->values[n->in[k]] : NULL;

	return v == NULL || (v->data && v->elements == n->params.i[nn_n_width]);
}

nn_lowered
nn_lower_layernorm(nn_planner *p, nn_node *n)
{
	const nn_graph *g = p->g;
	int64_t		rows = n->params.i[nn_n_rows],
				width = n->params.i[nn_n_width];
	bool		shift = n->n_in > 2 && n->in[2] >= 0;
	int			in,
				out;
	nn_pstep   *s;

	for (int k = 1; k < n->n_out; k++)
		if (n->out[k] >= 0)
			return nn_lower_no;
	if (rows < 1 || rows > INT32_MAX || width < 1 || width > 1 << 24 || !constant_row(g, n, 1) || !constant_row(g, n, 2) ||
		g->values[n->in[0]].data)
		return nn_lower_no;
	in = nn_plan_plain(p, n->in[0]);
	out = in < 0 ? -1 : nn_plan_tensor(p, n->out[0], false);
	s = out < 0 ? NULL : nn_plan_step(p, nn_step_layernorm, 1, &in, 1, &out);
	if (s == NULL)
		return nn_lower_failed;
	s->node = n;
	s->s.u.norm.rows = (int32_t) rows;
	s->s.u.norm.width = (int32_t) width;
	s->s.u.norm.rms = n->params.i[nn_n_rms] != 0;
	s->s.u.norm.eps = n->params.f[0];
	s->s.macs = width * 4;
	nn_plan_data(p, s, (uint64_t) width * (shift ? 2 : 1) * sizeof(float));
	return nn_lower_done;
}

mr_code
nn_step_write_layernorm(nn_planner *p, const nn_pstep *s, void *dst)
{
	size_t		bytes = (size_t) s->s.u.norm.width * sizeof(float);

	memcpy(dst, p->g->values[s->node->in[1]].data, bytes);
	if (s->s.data_len > bytes)
		memcpy((char *) dst + bytes, p->g->values[s->node->in[2]].data, bytes);
	return MR_OK;
}

bool
nn_step_check_layernorm(const nn_step_check *c)
{
	const nn_fstep *s = c->s;
	int64_t		rows = s->u.norm.rows,
				width = s->u.norm.width;
	uint64_t	bytes = (uint64_t) width * sizeof(float);

	return !c->t[0]->blocked && !c->t[1]->blocked && rows >= 1 && width >= 1 && c->t[0]->elements == rows * width &&
		c->t[1]->elements == rows * width && (s->data_len == bytes || s->data_len == 2 * bytes);
}

int
nn_step_count_layernorm(const nn_step_run *c)
{
	return c->s->u.norm.rows * c->images;
}

void
nn_step_run_layernorm_lines(nn_step_run *c, int y0, int y1)
{
	size_t		width = (size_t) c->s->u.norm.width,
				at = (size_t) y0 * width;
	const float *scale = (const float *) (const void *) c->data;

	c->k->layernorm(c->x.data + at, scale, c->s->data_len > width * sizeof(float) ? scale + width : NULL, c->y.data + at,
					(size_t) (y1 - y0), width, c->s->u.norm.eps, c->s->u.norm.rms != 0);
}

void
nn_step_describe_layernorm(const nn_fstep *s, char *text, size_t size)
{
	snprintf(text, size, "%d of %d%s", s->u.norm.rows, s->u.norm.width, s->u.norm.rms ? ", rms" : "");
}
