/*
 * infer.c
 *	  Types, shapes and constants of every value, node by node.
 *
 * The batch is a number here: the graph is inferred once with 2 (to learn
 * which outputs grow with it) and then with 1, for which the plan is made.  A
 * node whose inputs are all constant is run at once: chains of Shape, Gather,
 * Concat and so on before a Reshape vanish here.
 */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "nn/onnx.h"
#include "nn/ops.h"

mr_code
nn_infer_fail(nn_infer_call *c, mr_code code, const char *fmt,...)
{
	char		why[200];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	return nn_node_fail(c->g, c->n, code, "%s", why);
}

mr_code
nn_set_out(nn_infer_call *c, int k, int dtype, const nn_shape *shape)
{
	nn_value   *v = nn_out(c, k);

	if (v == NULL)
		return MR_OK;
	if (shape->rank > NN_MAX_RANK)
		return nn_infer_fail(c, MR_UNSUPPORTED, "output of more than %d dimensions", NN_MAX_RANK);
	v->shape = *shape;
	v->dtype = v->declared = dtype;
	memset(v->dynamic, 0, sizeof(v->dynamic));
	if (!nn_shape_elements(&v->shape, &v->elements))
		return nn_infer_fail(c, MR_INVALID, "impossible output shape");
	return MR_OK;
}

static mr_code
typed_attr(nn_infer_call *c, const char *name, nn_attr_type type, const nn_attr **a)
{
	*a = nn_find_attr(c->n, name);
	if (*a && (*a)->type != type)
		return nn_infer_fail(c, MR_INVALID, "attribute %s has the wrong type", name);
	return MR_OK;
}

mr_code
nn_get_int(nn_infer_call *c, const char *name, int64_t dflt, int64_t *out)
{
	const nn_attr *a;

	NN_TRY(typed_attr(c, name, nn_attr_int, &a));
	*out = a ? a->i : dflt;
	return MR_OK;
}

mr_code
nn_get_float(nn_infer_call *c, const char *name, float dflt, float *out)
{
	const nn_attr *a;

	NN_TRY(typed_attr(c, name, nn_attr_float, &a));
	*out = a ? a->f : dflt;
	return MR_OK;
}

mr_code
nn_get_ints(nn_infer_call *c, const char *name, int max, int64_t *out, int *n)
{
	const nn_attr *a;

	NN_TRY(typed_attr(c, name, nn_attr_ints, &a));
	*n = a ? a->n : -1;
	if (a == NULL)
		return MR_OK;
	if (a->n > max)
		return nn_infer_fail(c, MR_INVALID, "attribute %s has %d values, at most %d are possible", name, a->n, max);
	if (a->n)
		memcpy(out, a->ints, (size_t) a->n * sizeof(int64_t));
	return MR_OK;
}

bool
nn_get_string(nn_infer_call *c, const char *name, const char *dflt, char out[32])
{
	const nn_attr *a = nn_find_attr(c->n, name);

	if (a == NULL)
		snprintf(out, 32, "%s", dflt);
	else if (a->type != nn_attr_string || a->s.len >= 32)
		return false;
	else
		snprintf(out, 32, "%.*s", (int) a->s.len, a->s.len ? (const char *) a->s.p : "");
	return true;
}

mr_code
nn_need_const(nn_infer_call *c, int k)
{
	nn_value   *v = nn_in(c, k);
	char		buf[64];

	if (v == NULL || v->data)
		return MR_OK;
	c->g->need = nn_class_need(c->g, c->n->in[k]);
	nn_infer_fail(c, MR_UNSUPPORTED, "input %d must be constant", k);
	if (c->g->need >= 0)
		mr_hint(c->g->st, "It is computed from the model's input \"%s\": export the model with that as a constant.",
				nn_printable(c->g->values[c->g->inputs[c->g->need]].name, buf));
	return MR_UNSUPPORTED;
}

mr_code
nn_const_ints(nn_infer_call *c, int k, int max, int64_t *out, int *n)
{
	nn_value   *v = nn_in(c, k);

	*n = -1;
	if (v == NULL)
		return MR_OK;
	NN_TRY(nn_need_const(c, k));
	if ((v->dtype != nn_int64 && v->dtype != nn_int32) || v->shape.rank > 1)
		return nn_infer_fail(c, MR_INVALID, "input %d must be a list of integers", k);
	if (v->elements > max)
		return nn_infer_fail(c, MR_INVALID, "input %d has %lld values, at most %d are possible", k,
							 (long long) v->elements, max);
	*n = (int) v->elements;
	for (int i = 0; i < *n; i++)
		out[i] = v->dtype == nn_int64 ? ((int64_t *) v->data)[i] : ((int32_t *) v->data)[i];
	return MR_OK;
}

mr_code
nn_const_float(nn_infer_call *c, int k, float dflt, float *out)
{
	nn_value   *v = nn_in(c, k);

	*out = dflt;
	if (v == NULL)
		return MR_OK;
	NN_TRY(nn_need_const(c, k));
	if (v->elements != 1 || v->dtype != nn_float32)
		return nn_infer_fail(c, MR_INVALID, "input %d must be one float", k);
	*out = *(float *) v->data;
	return MR_OK;
}

mr_code
nn_norm_axis(nn_infer_call *c, int64_t *axis, int64_t limit)
{
	if (*axis < -limit || *axis >= limit)
		return nn_infer_fail(c, MR_INVALID, "axis %lld is out of range for %lld dimensions",
							 (long long) *axis, (long long) limit);
	if (*axis < 0)
		*axis += limit;
	return MR_OK;
}

mr_code
nn_broadcast(nn_infer_call *c, const nn_shape *a, const nn_shape *b, nn_shape *out)
{
	nn_shape	r;

	memset(&r, 0, sizeof(r));
	r.rank = a->rank > b->rank ? a->rank : b->rank;
	for (int i = 0; i < r.rank; i++)
	{
		int			ia = i - (r.rank - a->rank);
		int			ib = i - (r.rank - b->rank);
		int64_t		da = ia < 0 ? 1 : a->dims[ia];
		int64_t		db = ib < 0 ? 1 : b->dims[ib];

		if (da != db && da != 1 && db != 1)
			return nn_infer_fail(c, MR_INVALID, "shapes do not broadcast: %lld against %lld in dimension %d",
								 (long long) da, (long long) db, i);
		r.dims[i] = da == 1 ? db : da;
	}
	*out = r;
	return MR_OK;
}

/* All inputs constant: run the plain kernel now. */
static mr_code
fold(nn_graph *g, nn_node *n)
{
	nn_run_call c;
	int64_t		counts[NN_MAX_SLOTS];
	mr_code		rc;

	memset(&c, 0, sizeof(c));
	c.counts = counts;
	c.p = &n->params;
	c.op = n->op;
	c.env = g->env;
	c.st = g->st;
	c.n_in = n->n_in;
	c.n_out = n->n_out;
	c.in = nn_heap_alloc(g->heap, (size_t) (n->n_in + n->n_out) + 1, sizeof(nn_tensor));
	if (c.in == NULL)
		return g->st->code;
	c.out = c.in + n->n_in;
	for (int k = 0; k < n->n_in + n->n_out; k++)
	{
		int			i = k < n->n_in ? n->in[k] : n->out[k - n->n_in];
		nn_value   *v = i >= 0 ? &g->values[i] : NULL;

		if (v == NULL)
			continue;
		if (k >= n->n_in)
		{
			v->data = nn_heap_alloc(g->heap, (size_t) v->elements + (v->elements == 0), nn_dtype_size(v->dtype));
			if (v->data == NULL)
				return g->st->code;
		}
		c.in[k].dtype = v->dtype;
		c.in[k].shape = v->shape;
		c.in[k].elements = v->elements;
		c.in[k].data = v->data;
	}
	rc = n->op->run(&c);
	if (rc == MR_CANCELED)
		return mr_fail(g->st, MR_CANCELED, "canceled while compiling a model");
	if (rc != MR_OK)
	{
		char		why[160];

		snprintf(why, sizeof(why), "%.150s", g->st->message);
		return nn_node_fail(g, n, rc, "%s", why);
	}
	return MR_OK;
}

mr_code
nn_infer(nn_graph *g, int64_t batch)
{
	g->n_slots = 0;
	for (int i = 0; i < g->n_values; i++)
		if (!g->values[i].initializer && !g->values[i].bound)
			g->values[i].data = NULL;
	for (int i = 0; i < g->n_inputs; i++)
	{
		nn_value   *v = &g->values[g->inputs[i]];
		char		buf[64];

		if (v->batch)
			v->shape.dims[0] = batch;
		if (!nn_shape_elements(&v->shape, &v->elements))
			return mr_fail(g->st, MR_INVALID, "input \"%s\" has an impossible shape", nn_printable(v->name, buf));
	}
	for (int i = 0; i < g->n_nodes; i++)
	{
		nn_node    *n = &g->nodes[i];
		nn_infer_call c = {g, n, &n->params, n->n_in, n->n_out};
		bool		constant = true;
		bool		done = true;

		if ((i & 63) == 63 && mr_interrupted(g->env))
			return mr_fail(g->st, MR_CANCELED, "canceled while compiling a model");
		memset(&n->params, 0, sizeof(n->params));
		for (int k = 0; k < n->op->min_in; k++)
			if (n->in[k] < 0)
				return nn_node_fail(g, n, MR_INVALID, "input %d is missing", k);
		NN_TRY(n->op->infer(&c));
		NN_TRY(nn_follow_dynamic(&c));
		for (int k = 0; k < n->n_in; k++)
			constant = constant && (n->in[k] < 0 || g->values[n->in[k]].data != NULL);
		for (int k = 0; k < n->n_out; k++)
		{
			const nn_value *v = n->out[k] >= 0 ? &g->values[n->out[k]] : NULL;

			if (v && v->dtype == nn_none)
				return nn_node_fail(g, n, MR_UNSUPPORTED, "output %d is not supported", k);
			done = done && (v == NULL || v->data != NULL);
		}
		if (constant && !done)
			NN_TRY(fold(g, n));
	}
	return MR_OK;
}
