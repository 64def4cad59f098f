/*
 * ops_ml.c
 *	  ai.onnx.ml: what its operators share.  See ops_ml.h.
 */
#include <math.h>
#include <string.h>

#include "nn/ops_ml.h"

/* ---- attributes ---- */

static mr_code
list_of(nn_infer_call *c, const char *name, nn_attr_type type, const nn_attr **a, int *n)
{
	*a = nn_find_attr(c->n, name);
	*n = *a ? (*a)->n : 0;
	if (*a && (*a)->type != type)
		return nn_infer_fail(c, MR_INVALID, "attribute %s has the wrong type", name);
	return MR_OK;
}

mr_code
nn_ml_floats(nn_infer_call *c, const char *name, const float **list, int *n)
{
	const nn_attr *a;

	NN_TRY(list_of(c, name, nn_attr_floats, &a, n));
	*list = *n ? a->floats : NULL;
	return MR_OK;
}

mr_code
nn_ml_ints(nn_infer_call *c, const char *name, const int64_t **list, int *n)
{
	const nn_attr *a;

	NN_TRY(list_of(c, name, nn_attr_ints, &a, n));
	*list = *n ? a->ints : NULL;
	return MR_OK;
}

mr_code
nn_ml_strings(nn_infer_call *c, const char *name, const pb_bytes **list, int *n)
{
	const nn_attr *a;

	NN_TRY(list_of(c, name, nn_attr_strings, &a, n));
	*list = *n ? a->strings : NULL;
	return MR_OK;
}

mr_code
nn_ml_tensor(nn_infer_call *c, const char *name, nn_tensor *t)
{
	const nn_attr *a = nn_find_attr(c->n, name);
	int32_t		declared;
	pb_bytes	unused;

	memset(t, 0, sizeof(*t));
	if (a == NULL)
		return MR_OK;
	if (a->type != nn_attr_tensor)
		return nn_infer_fail(c, MR_INVALID, "attribute %s has the wrong type", name);
	return nn_read_tensor(c->g, a->s, t, &declared, &unused, name);
}

mr_code
nn_ml_attached(nn_infer_call *c, int own, bool *attached)
{
	*attached = c->n->n_in > own && c->n->in[own] >= 0 && c->g->values[c->n->in[own]].name[0] == '\0';
	if (c->n->n_in > own && !*attached)
		return nn_infer_fail(c, MR_INVALID, "%d inputs, must be %d", c->n->n_in, own);
	return MR_OK;
}

mr_code
nn_ml_attach(nn_infer_call *c, int dtype, int64_t n, void **data)
{
	nn_graph   *g = c->g;
	nn_node    *node = c->n;
	const pb_bytes nameless = {NULL, 0};
	int		   *in = nn_heap_alloc(g->heap, (size_t) node->n_in + 1, sizeof(int));
	int			i = in ? nn_add_value(g, nameless) : -1;
	nn_value   *v;

	if (i < 0)
		return g->st->code;
	v = &g->values[i];
	v->dtype = v->declared = dtype;
	v->shape.rank = 1;
	v->shape.dims[0] = n;
	if (!nn_shape_elements(&v->shape, &v->elements))
		return nn_infer_fail(c, MR_LIMIT, "the model in the attributes is too large");
	v->data = *data = nn_heap_alloc(g->heap, (size_t) n + (n == 0), nn_dtype_size(dtype));
	if (v->data == NULL)
		return g->st->code;
	v->initializer = true;
	memcpy(in, node->in, (size_t) node->n_in * sizeof(int));
	in[node->n_in++] = i;
	node->in = in;
	c->n_in = node->n_in;
	if (dtype == nn_float32)
		g->n_parameters += n;
	return MR_OK;
}

mr_code
nn_ml_attach_labels(nn_infer_call *c, const char *ints, int *n)
{
	const int64_t *labels;
	const pb_bytes *strings;
	int			n_strings;
	void	   *data;

	NN_TRY(nn_ml_ints(c, ints, &labels, n));
	NN_TRY(nn_ml_strings(c, "classlabels_strings", &strings, &n_strings));
	*n = n_strings ? n_strings : *n;
	NN_TRY(nn_ml_attach(c, nn_int64, *n, &data));
	for (int i = 0; i < *n; i++)
		((int64_t *) data)[i] = n_strings ? i : labels[i];
	return MR_OK;
}

mr_code
nn_ml_need_number(nn_infer_call *c, int k)
{
	const nn_value *v = nn_in(c, k);

	if (v && v->dtype != nn_float32 && v->dtype != nn_int64 && v->dtype != nn_int32)
		return nn_infer_fail(c, MR_UNSUPPORTED, "input %d has type %s; float, int32 and int64 are supported", k,
							 nn_dtype_name((nn_dtype) v->dtype));
	return MR_OK;
}

mr_code
nn_ml_table(nn_infer_call *c, int64_t *rows, int64_t *columns)
{
	const nn_shape *s = &nn_in(c, 0)->shape;

	NN_TRY(nn_ml_need_number(c, 0));
	if (s->rank != 1 && s->rank != 2)
		return nn_infer_fail(c, MR_INVALID, "the input has %d dimensions, must have 1 or 2", s->rank);
	*rows = s->rank == 2 ? s->dims[0] : 1;
	*columns = s->dims[s->rank - 1];
	return *columns < 1 ? nn_infer_fail(c, MR_INVALID, "the input has no columns") : MR_OK;
}

/* ---- scores ---- */

mr_code
nn_ml_get_post(nn_infer_call *c, int64_t *post)
{
	static const char *const names[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
	char		name[32];

	if (nn_get_string(c, "post_transform", "NONE", name))
		for (*post = nn_ml_none; *post <= nn_ml_probit; (*post)++)
			if (strcmp(name, names[*post]) == 0)
				return MR_OK;
	return nn_infer_fail(c, MR_INVALID, "unknown post_transform");
}

float
nn_ml_logistic_of(float x)
{
	float		v = 1 / (1 + expf(-fabsf(x)));

	return x < 0 ? 1 - v : v;
}

/* The quantile of the normal distribution, by Winitzki's approximation of the
 * inverse error function: what other engines use. */
static float
probit(float p)
{
	float		x = 2 * p - 1;
	float		log_term = logf((1 - x) * (1 + x));
	float		a = 2 / (3.14159f * 0.147f) + 0.5f * log_term;
	float		inverse = sqrtf(sqrtf(a * a - log_term / 0.147f) - a);

	return 1.41421356f * (x < 0 ? -inverse : inverse);
}

void
nn_ml_transform(float *s, int64_t n, nn_ml_post post)
{
	float		top = -INFINITY,
				sum = 0;

	for (int64_t i = 0; i < n; i++)
		top = s[i] > top ? s[i] : top;
	switch (post)
	{
		case nn_ml_none:
			return;
		case nn_ml_logistic:
			for (int64_t i = 0; i < n; i++)
				s[i] = nn_ml_logistic_of(s[i]);
			return;
		case nn_ml_probit:
			for (int64_t i = 0; i < n; i++)
				s[i] = probit(s[i]);
			return;
		case nn_ml_softmax:
			for (int64_t i = 0; i < n; i++)
				sum += s[i] = expf(s[i] - top);
			break;
		case nn_ml_softmax_zero:
			/* scores of zero stay (nearly) zero */
			for (int64_t i = 0; i < n; i++)
				if (fabsf(s[i]) > 1e-7f)
					sum += s[i] = expf(s[i] - top);
				else
					s[i] *= expf(-top);
			break;
	}
	for (int64_t i = 0; i < n; i++)
		s[i] /= sum;
}

void
nn_ml_two_classes(float *s, bool around_zero, nn_ml_post post)
{
	s[1] = s[0];
	if (post == nn_ml_probit)
		s[0] = s[1] = probit(s[1]);
	else if (post == nn_ml_logistic)
	{
		s[0] = nn_ml_logistic_of(-s[1]);
		s[1] = nn_ml_logistic_of(s[1]);
	}
	else
		s[0] = around_zero ? -s[1] : 1 - s[1];
}
