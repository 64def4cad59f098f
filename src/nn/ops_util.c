/*
 * ops_util.c
 *	  What plain kernels share.  See ops_util.h.
 */
#include "nn/ops_util.h"

void
nn_bcast_init(nn_bcast *b, const nn_shape *out, int n, const nn_tensor *const *operands)
{
	b->rank = out->rank ? out->rank : 1;
	b->dims[0] = 1;
	for (int i = 0; i < out->rank; i++)
		b->dims[i] = out->dims[i];
	for (int k = 0; k < n; k++)
	{
		const nn_shape *s = &operands[k]->shape;
		int64_t		stride = 1;

		for (int i = b->rank - 1; i >= 0; i--)
		{
			int			j = i - (b->rank - s->rank);

			b->stride[k][i] = j < 0 || s->dims[j] == 1 ? 0 : stride;
			if (j >= 0)
				stride *= s->dims[j];
		}
	}
}

/* Neighbouring dimensions that all operands walk alike become one. */
void
nn_bcast_merge(nn_bcast *b, int n)
{
	int			to = 0;

	for (int i = 1; i < b->rank; i++)
	{
		bool		joins = true;

		for (int k = 0; k < n; k++)
			joins = joins && b->stride[k][to] == b->stride[k][i] * b->dims[i];
		if (b->dims[i] == 1)
			continue;
		if (joins || b->dims[to] == 1)
			b->dims[to] *= b->dims[i];
		else
			b->dims[++to] = b->dims[i];
		for (int k = 0; k < n; k++)
			b->stride[k][to] = b->stride[k][i];
	}
	b->rank = to + 1;
}

bool
nn_bcast_next(const nn_bcast *b, int n, int64_t *index, int64_t *offset)
{
	for (int i = b->rank - 2; i >= 0; i--)
	{
		for (int k = 0; k < n; k++)
			offset[k] += b->stride[k][i];
		if (++index[i] < b->dims[i])
			return true;
		for (int k = 0; k < n; k++)
			offset[k] -= b->stride[k][i] * b->dims[i];
		index[i] = 0;
	}
	return false;
}

mr_code
nn_need_type(nn_infer_call *c, int k, bool (*fits) (int dtype))
{
	nn_value   *v = nn_in(c, k);

	if (v && !fits(v->dtype))
		return nn_infer_fail(c, MR_UNSUPPORTED, "input %d has type %s, which is not supported", k,
							 nn_dtype_name((nn_dtype) v->dtype));
	return MR_OK;
}

mr_code
nn_need_index(nn_infer_call *c, int k)
{
	nn_value   *v = nn_in(c, k);

	if (v && v->dtype != nn_int64 && v->dtype != nn_int32)
		return nn_infer_fail(c, MR_INVALID, "input %d has type %s, it must be int32 or int64", k,
							 nn_dtype_name((nn_dtype) v->dtype));
	return MR_OK;
}

mr_code
nn_bad_index(nn_run_call *c, int64_t i, int64_t dim)
{
	return mr_fail(c->st, MR_INVALID, "index %lld of operator %s is out of range for %lld elements",
				   (long long) i, c->op->name, (long long) dim);
}

int
nn_get_choice(nn_infer_call *c, const char *name, const char *dflt, int n, const char *const *choices)
{
	char		s[32];

	if (!nn_get_string(c, name, dflt, s))
		return -1;
	for (int i = 0; i < n; i++)
		if (strcmp(s, choices[i]) == 0)
			return i;
	return -1;
}

mr_code
nn_need_outputs(nn_infer_call *c, int n)
{
	nn_graph   *g = c->g;
	const pb_bytes nameless = {NULL, 0};

	if (c->n->n_out < n)
	{
		int		   *out = nn_heap_alloc(g->heap, (size_t) n, sizeof(int));

		if (out == NULL)
			return g->st->code;
		for (int k = 0; k < n; k++)
			out[k] = k < c->n->n_out ? c->n->out[k] : -1;
		c->n->out = out;
		c->n->n_out = c->n_out = n;
	}
	for (int k = 0; k < n; k++)
		if (c->n->out[k] < 0)
		{
			c->n->out[k] = nn_add_value(g, nameless);
			if (c->n->out[k] < 0)
				return g->st->code;
			g->values[c->n->out[k]].producer = (int) (c->n - g->nodes);
		}
	return MR_OK;
}
