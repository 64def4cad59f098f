/*
 * step_plain.c
 *	  Operators run by the table's own kernels on plain tensors, and those that
 *	  need no work at all.
 */
#include "nn/steps_impl.h"

#include <limits.h>
#include <string.h>

#include "nn/onnx.h"

static int
activation_op(void)
{
	bool		known;

	return (int) (nn_find_op("", "Relu", NN_MAX_OPSET, &known) - nn_ops);
}

nn_lowered
nn_lower_plain(nn_planner *p, nn_node *n)
{
	int		   *t = nn_heap_alloc(p->g->heap, (size_t) (n->n_in + n->n_out) + 1, sizeof(int));
	nn_pstep   *s;

	if (t == NULL)
		return nn_lower_failed;
	for (int k = 0; k < n->n_in; k++)
		if ((t[k] = n->in[k] < 0 ? -1 : nn_plan_plain(p, n->in[k])) < 0 && n->in[k] >= 0)
			return nn_lower_failed;
	for (int k = 0; k < n->n_out; k++)
		if ((t[n->n_in + k] = n->out[k] < 0 ? -1 : nn_plan_tensor(p, n->out[k], false)) < 0 && n->out[k] >= 0)
			return nn_lower_failed;
	s = nn_plan_step(p, nn_step_plain, n->n_in, t, n->n_out, t + n->n_in);
	if (s == NULL)
		return nn_lower_failed;
	s->s.op = (int32_t) (n->op - nn_ops);
	s->s.u.params = n->params;
	if (n->act.kind != nn_act_none)
	{
		/* fused, but not lowered to a kernel that takes it: in place */
		int			y = t[n->n_in];

		s = nn_plan_step(p, nn_step_plain, 1, &y, 1, &y);
		if (s == NULL)
			return nn_lower_failed;
		s->s.op = activation_op();
		s->s.u.params.i[0] = n->act.kind;
		s->s.u.params.f[0] = n->act.a;
		s->s.u.params.f[1] = n->act.b;
	}
	return nn_lower_done;
}

/* Same elements, same order: same memory. */
nn_lowered
nn_lower_alias(nn_planner *p, nn_node *n)
{
	int			in = nn_plan_plain(p, n->in[0]);
	int			out = in < 0 ? -1 : nn_plan_tensor(p, n->out[0], false);

	if (out < 0)
		return nn_lower_failed;
	p->tensors[out].alias_of = in;
	p->tensors[out].t.place = p->tensors[in].t.place;
	p->tensors[out].value = p->tensors[in].value;
	p->tensors[out].t.offset = p->tensors[in].t.offset;
	return nn_lower_done;
}

/* Any number of operands.  The operator's parameters rest on the checksum. */
bool
nn_step_check_plain(const nn_step_check *c)
{
	const nn_fstep *s = c->s;
	const nn_op *op;

	if (s->op < 0 || s->op >= nn_n_ops)
		return false;
	op = &nn_ops[s->op];
	/* models attached to a node (ops_ml.h) are always there */
	if (op->domain[0] && op->max_in != INT_MAX && s->n_in != op->max_in)
		return false;
	if (s->n_in < op->min_in || s->n_in > op->max_in || c->t[s->n_in] == NULL)
		return false;
	for (int i = 0; i < s->n_in + s->n_out; i++)
		if (c->t[i] == NULL ? i < op->min_in :
			(c->t[i]->blocked || (i >= s->n_in && c->t[i]->place != nn_place_arena)))
			return false;
	return true;
}

mr_code
nn_step_run_plain(nn_step_run *c)
{
	nn_runner  *r = c->r;
	const nn_fstep *s = c->s;
	nn_run_call call;
	mr_code		rc;

	memset(&call, 0, sizeof(call));
	call.p = &s->u.params;
	call.op = &nn_ops[s->op];
	call.kernels = r->k;
	call.env = r->env;
	call.st = r->st;
	call.n_in = s->n_in;
	call.n_out = s->n_out;
	call.in = r->plain;
	call.out = r->plain + s->n_in;
	call.counts = r->counts;
	for (int i = 0; i < s->n_in + s->n_out; i++)
	{
		const nn_ftensor *t = nn_step_operand(r, s, i);

		memset(&r->plain[i], 0, sizeof(nn_tensor));
		if (t == NULL)
			continue;
		r->plain[i].dtype = t->dtype;
		r->plain[i].shape = t->shape;
		r->plain[i].elements = t->elements;
		r->plain[i].data = nn_step_address(r, t);
		if (c->images > 1 && t->place != nn_place_const)
		{
			r->plain[i].shape.dims[0] *= c->images;
			r->plain[i].elements *= c->images;
		}
	}
	rc = call.op->run(&call);
	return rc == MR_CANCELED ? mr_fail(r->st, MR_CANCELED, "canceled") : rc;
}
