/*
 * step_gemm.c
 *	  Products of plain row-major rows with constant, packed matrices.
 */
#include "nn/steps_impl.h"

#include <string.h>

nn_lowered
nn_lower_gemm(nn_planner *p, nn_node *n)
{
	const nn_value *b = &p->g->values[n->in[1]];
	bool		trans = n->op->kind == nn_kind_gemm && n->params.i[1];
	int			in[2],
				n_in = 1,
				out,
				k;
	nn_pstep   *s;

	if (!nn_gemm_lowers(p->g, n))
		return nn_lower_no;
	k = (int) b->shape.dims[trans];
	in[0] = nn_plan_plain(p, n->in[0]);
	if (in[0] >= 0 && n->residual >= 0)
		in[n_in++] = nn_plan_plain(p, n->residual);
	out = in[n_in - 1] < 0 ? -1 : nn_plan_tensor(p, n->out[0], false);
	s = out < 0 ? NULL : nn_plan_step(p, nn_step_gemm, n_in, in, 1, &out);
	if (s == NULL)
		return nn_lower_failed;
	s->node = n;
	s->s.residual = n->residual >= 0;
	s->s.act = n->act;
	s->s.u.gemm.k = k;
	s->s.u.gemm.n = (int32_t) b->shape.dims[!trans];
	s->s.u.gemm.m = (int32_t) (p->tensors[in[0]].t.elements / k);
	s->s.macs = (int64_t) k * s->s.u.gemm.n;
	nn_plan_data(p, s, nn_gemm_pack_size(p->isa, k, s->s.u.gemm.n));
	/* for any number of rows: images of a batch may be folded into them */
	s->scratch = p->k->gemm_scratch(INT32_MAX, k, s->s.u.gemm.n);
	return nn_lower_done;
}

/* B and bias of a Gemm with alpha and beta multiplied in. */
mr_code
nn_step_write_gemm(nn_planner *p, const nn_pstep *s, void *dst)
{
	nn_graph   *g = p->g;
	const nn_node *n = s->node;
	const nn_value *b = &g->values[n->in[1]];
	const nn_value *c = n->n_in > 2 && n->in[2] >= 0 ? &g->values[n->in[2]] : NULL;
	int			k = s->s.u.gemm.k,
				cols = s->s.u.gemm.n;
	bool		gemm = n->op->kind == nn_kind_gemm;
	bool		trans = gemm && n->params.i[1];
	float		alpha = gemm ? n->params.f[0] : 1;
	float	   *scaled = NULL,
			   *bias = NULL;

	if (alpha != 1)
	{
		scaled = nn_heap_alloc(g->heap, (size_t) b->elements, sizeof(float));
		if (scaled == NULL)
			return g->st->code;
		for (int64_t i = 0; i < b->elements; i++)
			scaled[i] = alpha * ((const float *) b->data)[i];
	}
	if (c)
	{
		bias = nn_heap_alloc(g->heap, (size_t) cols, sizeof(float));
		if (bias == NULL)
			return g->st->code;
		for (int i = 0; i < cols; i++)
			bias[i] = n->params.f[1] * ((const float *) c->data)[c->elements == 1 ? 0 : i];
	}
	return nn_step_written(p, nn_gemm_pack(g->env, p->isa, k, cols, scaled ? scaled : b->data, trans ? 1 : (size_t) cols,
										   trans ? (size_t) k : 1, bias, dst));
}

bool
nn_step_check_gemm(const nn_step_check *c)
{
	const nn_fstep *s = c->s;
	int			m = s->u.gemm.m,
				k = s->u.gemm.k,
				n = s->u.gemm.n;
	nn_conv		flat;

	memset(&flat, 0, sizeof(flat));
	flat.cin = k;
	flat.cout = n;
	flat.groups = flat.kh = flat.kw = 1;
	for (int i = 1; i <= s->n_in; i++)	/* residual, result */
		if (c->t[i]->blocked || c->t[i]->elements != (int64_t) m * n)
			return false;
	return !c->t[0]->blocked && m >= 1 && k >= 1 && n >= 1 && c->t[0]->elements == (int64_t) m * k &&
		c->k->gemm_scratch(INT32_MAX, k, n) <= c->h->scratch &&
		nn_pack_check(c->file + s->data, s->data_len, c->k->isa, nn_pack_gemm, &flat);
}

int
nn_step_count_gemm(const nn_step_run *c)
{
	return c->s->u.gemm.m * c->images;
}

void
nn_step_run_gemm_lines(nn_step_run *c, int y0, int y1)
{
	size_t		k = (size_t) c->s->u.gemm.k,
				n = (size_t) c->s->u.gemm.n;

	const float *res = c->s->n_in > 1 ? nn_step_view(c, 1).data + (size_t) y0 * n : NULL;

	c->k->gemm(c->data, y1 - y0, c->x.data + (size_t) y0 * k, k, res, n, c->y.data + (size_t) y0 * n, n,
			   c->s->act, c->r->scratch);
}
