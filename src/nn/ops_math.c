/*
 * ops_math.c
 *	  Elementwise operators: activations, unary and binary functions, choices.
 *
 * Activations: params.i[0] = nn_act_kind, f[0], f[1] = a, b; i[1] = 1: limits
 * of Clip are inputs.  Unary and binary families: which one is op->arg.
 */
#include <math.h>
#include <string.h>

#include "nn/ops_impl.h"

/* ---- broadcasting ---- */

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

/* Walk the result row by row: BODY sees row r of length cols, operand offsets
 * off[] and inner strides st[]. */
#define BCAST_ROWS(c, b, n, BODY) \
	do { \
		int64_t index_[NN_MAX_RANK] = {0}; \
		int64_t off[3] = {0}; \
		int64_t st[3] = {0}; \
		const int64_t cols = (b).dims[(b).rank - 1]; \
		int64_t r = 0, work_ = 0; \
		for (int k_ = 0; k_ < (n); k_++) \
			st[k_] = (b).stride[k_][(b).rank - 1]; \
		if ((c)->out[0].elements == 0) \
			break; \
		do \
		{ \
			if ((work_ += cols) >= NN_STOP_WORK) \
			{ \
				work_ = 0; \
				if (mr_interrupted((c)->env)) \
					return MR_CANCELED; \
			} \
			BODY \
			r += cols; \
		} while (nn_bcast_next(&(b), (n), index_, off)); \
	} while (0)

/* ---- activations ---- */

bool
nn_activation(const nn_node *n, nn_act *act)
{
	if (n->op->kind != nn_kind_activation || n->params.i[1])
		return false;
	act->kind = (nn_act_kind) n->params.i[0];
	act->a = n->params.f[0];
	act->b = n->params.f[1];
	return true;
}

float
nn_act_one(float x, nn_act act)
{
	switch (act.kind)
	{
		case nn_act_none:
			return x;
		case nn_act_relu:
			return x < 0 ? 0 : x;
		case nn_act_clip:
			x = x < act.a ? act.a : x;
			return x > act.b ? act.b : x;
		case nn_act_leaky:
			return x < 0 ? act.a * x : x;
		case nn_act_sigmoid:
			return 1 / (1 + expf(-x));
		case nn_act_silu:
			return x / (1 + expf(-x));
		case nn_act_tanh:
			return tanhf(x);
		case nn_act_hardsigmoid:
			x = act.a * x + act.b;
			return x < 0 ? 0 : x > 1 ? 1 : x;
		case nn_act_hardswish:
			return x * fminf(fmaxf(x / 6 + 0.5f, 0), 1);
		case nn_act_gelu:
			return 0.5f * x * (1 + erff(x * 0.70710678f));
		case nn_act_elu:
			return x < 0 ? act.a * expm1f(x) : x;
		case nn_act_exp:
			return expf(x);
	}
	return x;
}

mr_code
nn_infer_activation(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_act_kind kind = (nn_act_kind) c->n->op->arg;
	float		a = 0,
				b = 0;
	char		approximate[32];

	NN_TRY(nn_need_float(c, 0));
	switch (kind)
	{
		case nn_act_leaky:
			NN_TRY(nn_get_float(c, "alpha", 0.01f, &a));
			break;
		case nn_act_elu:
			NN_TRY(nn_get_float(c, "alpha", 1, &a));
			break;
		case nn_act_hardsigmoid:
			NN_TRY(nn_get_float(c, "alpha", 0.2f, &a));
			NN_TRY(nn_get_float(c, "beta", 0.5f, &b));
			break;
		case nn_act_gelu:
			if (!nn_get_string(c, "approximate", "none", approximate) || strcmp(approximate, "none") != 0)
				return nn_infer_fail(c, MR_UNSUPPORTED, "only exact Gelu is supported");
			break;
		case nn_act_clip:
			if (c->n->opset < 11)
			{
				NN_TRY(nn_get_float(c, "min", -INFINITY, &a));
				NN_TRY(nn_get_float(c, "max", INFINITY, &b));
				break;
			}
			for (int k = 1; k <= 2; k++)
				if (nn_in(c, k))
				{
					NN_TRY(nn_need_float(c, k));
					if (nn_in(c, k)->elements != 1)
						return nn_infer_fail(c, MR_INVALID, "input %d must be one number", k);
					c->p->i[1] |= nn_in(c, k)->data == NULL;
				}
			if (!c->p->i[1])
			{
				NN_TRY(nn_const_float(c, 1, -INFINITY, &a));
				NN_TRY(nn_const_float(c, 2, INFINITY, &b));
			}
			break;
		default:
			break;
	}
	c->p->i[0] = kind;
	c->p->f[0] = a;
	c->p->f[1] = b;
	return nn_set_out(c, 0, x->dtype, &x->shape);
}

mr_code
nn_run_activation(nn_run_call *c)
{
	nn_act		act = {(nn_act_kind) c->p->i[0], c->p->f[0], c->p->f[1]};
	const float *x = c->in[0].data;
	float	   *y = c->out[0].data;

	if (c->p->i[1])
	{
		act.a = c->n_in > 1 && c->in[1].data ? *(float *) c->in[1].data : -INFINITY;
		act.b = c->n_in > 2 && c->in[2].data ? *(float *) c->in[2].data : INFINITY;
	}
	for (int64_t i = 0; i < c->in[0].elements; i += NN_STOP_WORK / 8)
	{
		int64_t		n = c->in[0].elements - i;

		n = n < NN_STOP_WORK / 8 ? n : NN_STOP_WORK / 8;
		if (i && mr_interrupted(c->env))
			return MR_CANCELED;
		if (c->kernels)
			c->kernels->activate(x + i, y + i, (size_t) n, act);
		else
			for (int64_t j = i; j < i + n; j++)
				y[j] = nn_act_one(x[j], act);
	}
	return MR_OK;
}

/* ---- unary ---- */

mr_code
nn_infer_unary(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);

	if (c->n->op->arg == nn_unary_not ? x->dtype != nn_bool :
		x->dtype != nn_float32 && !((c->n->op->arg == nn_unary_abs || c->n->op->arg == nn_unary_neg ||
									 c->n->op->arg == nn_unary_sign) &&
									(x->dtype == nn_int64 || x->dtype == nn_int32)))
		return nn_infer_fail(c, MR_UNSUPPORTED, "type %s is not supported", nn_dtype_name((nn_dtype) x->dtype));
	if (c->n->op->arg == nn_unary_selu)
	{
		NN_TRY(nn_get_float(c, "alpha", 1.67326319217681884765625f, &c->p->f[0]));
		NN_TRY(nn_get_float(c, "gamma", 1.05070102214813232421875f, &c->p->f[1]));
	}
	else
		NN_TRY(nn_get_float(c, "alpha", 1, &c->p->f[0]));
	return nn_set_out(c, 0, c->n->op->arg == nn_unary_isnan ? nn_bool : x->dtype, &x->shape);
}

static float
unary_one(int which, float x, float a, float b)
{
	switch (which)
	{
		case nn_unary_abs:
			return fabsf(x);
		case nn_unary_neg:
			return -x;
		case nn_unary_sign:
			return x > 0 ? 1 : x < 0 ? -1 : x;
		case nn_unary_sqrt:
			return sqrtf(x);
		case nn_unary_reciprocal:
			return 1 / x;
		case nn_unary_log:
			return logf(x);
		case nn_unary_floor:
			return floorf(x);
		case nn_unary_ceil:
			return ceilf(x);
		case nn_unary_round:
			return rintf(x);
		case nn_unary_erf:
			return erff(x);
		case nn_unary_sin:
			return sinf(x);
		case nn_unary_cos:
			return cosf(x);
		case nn_unary_tan:
			return tanf(x);
		case nn_unary_asin:
			return asinf(x);
		case nn_unary_acos:
			return acosf(x);
		case nn_unary_atan:
			return atanf(x);
		case nn_unary_sinh:
			return sinhf(x);
		case nn_unary_cosh:
			return coshf(x);
		case nn_unary_asinh:
			return asinhf(x);
		case nn_unary_acosh:
			return acoshf(x);
		case nn_unary_atanh:
			return atanhf(x);
		case nn_unary_softplus:
			return x > 0 ? x + log1pf(expf(-x)) : log1pf(expf(x));
		case nn_unary_softsign:
			return x / (1 + fabsf(x));
		case nn_unary_selu:
			return x > 0 ? b * x : b * a * expm1f(x);
		case nn_unary_celu:
			return fmaxf(0, x) + fminf(0, a * expm1f(x / a));
		case nn_unary_thresholded:
			return x > a ? x : 0;
		case nn_unary_mish:
			return x * tanhf(x > 0 ? x + log1pf(expf(-x)) : log1pf(expf(x)));
	}
	return x;
}

mr_code
nn_run_unary(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	void	   *y = c->out[0].data;
	int			which = c->op->arg;

	for (int64_t i = 0; i < x->elements; i++)
	{
		if (i % (NN_STOP_WORK / 16) == 0 && i && mr_interrupted(c->env))
			return MR_CANCELED;
		if (which == nn_unary_not)
			((uint8_t *) y)[i] = !((uint8_t *) x->data)[i];
		else if (which == nn_unary_isnan)
			((uint8_t *) y)[i] = isnan(((float *) x->data)[i]) != 0;
		else if (x->dtype == nn_float32)
			((float *) y)[i] = unary_one(which, ((float *) x->data)[i], c->p->f[0], c->p->f[1]);
		else
		{
			int64_t		v = x->dtype == nn_int64 ? ((int64_t *) x->data)[i] : ((int32_t *) x->data)[i];

			if (which == nn_unary_sign)
				v = (v > 0) - (v < 0);
			else if (which == nn_unary_neg || v < 0)
				v = (int64_t) (0 - (uint64_t) v);
			if (x->dtype == nn_int64)
				((int64_t *) y)[i] = v;
			else
				((int32_t *) y)[i] = (int32_t) (uint32_t) (uint64_t) v;
		}
	}
	return MR_OK;
}

/* ---- binary arithmetic: Add Sub Mul Div Min Max (nn_binary), Pow, Sum, Mean ---- */

mr_code
nn_infer_binary(nn_infer_call *c)
{
	nn_shape	shape = nn_in(c, 0)->shape;
	int			dtype = nn_in(c, 0)->dtype;
	bool		integers = c->n->op->arg <= nn_max;

	if (dtype != nn_float32 && !(integers && (dtype == nn_int32 || dtype == nn_int64)))
		return nn_infer_fail(c, MR_UNSUPPORTED, "type %s is not supported", nn_dtype_name((nn_dtype) dtype));
	for (int k = 1; k < c->n_in; k++)
	{
		nn_value   *v = nn_in(c, k);

		if (v == NULL)
			return nn_infer_fail(c, MR_INVALID, "input %d is missing", k);
		if (v->dtype != dtype)
			return nn_infer_fail(c, MR_UNSUPPORTED, "inputs of types %s and %s", nn_dtype_name((nn_dtype) dtype),
								 nn_dtype_name((nn_dtype) v->dtype));
		NN_TRY(nn_broadcast(c, &shape, &v->shape, &shape));
	}
	if (c->n->op->arg == nn_binary_prelu && !nn_shape_equal(&shape, &nn_in(c, 0)->shape))
		return nn_infer_fail(c, MR_INVALID, "slope does not broadcast to the input");
	c->p->i[0] = c->n->op->arg;
	return nn_set_out(c, 0, dtype, &shape);
}

static inline float
binary_float(int op, float a, float b)
{
	switch (op)
	{
		case nn_add:
		case nn_binary_mean:
			return a + b;
		case nn_sub:
			return a - b;
		case nn_mul:
			return a * b;
		case nn_div:
			return a / b;
		case nn_min:
			return a < b || a != a ? a : b;
		case nn_max:
			return a > b || a != a ? a : b;
		case nn_binary_pow:
			return powf(a, b);
		case nn_binary_prelu:
			return a < 0 ? a * b : a;
	}
	return a;
}

/* Wraps as the hardware does; division by zero was refused before. */
static inline int64_t
binary_int(int op, int64_t a, int64_t b)
{
	switch (op)
	{
		case nn_add:
			return (int64_t) ((uint64_t) a + (uint64_t) b);
		case nn_sub:
			return (int64_t) ((uint64_t) a - (uint64_t) b);
		case nn_mul:
			return (int64_t) ((uint64_t) a * (uint64_t) b);
		case nn_div:
			return b == -1 ? (int64_t) (0 - (uint64_t) a) : a / b;
		case nn_min:
			return a < b ? a : b;
		case nn_max:
			return a > b ? a : b;
	}
	return a;
}

static mr_code
binary_pair(nn_run_call *c, const nn_tensor *a, const nn_tensor *b)
{
	nn_tensor  *y = &c->out[0];
	const nn_tensor *operands[2] = {a, b};
	nn_bcast	w;
	int			op = (int) c->p->i[0];

	if (y->dtype == nn_float32 && op <= nn_max && c->kernels && nn_shape_equal(&a->shape, &y->shape) &&
		nn_shape_equal(&b->shape, &y->shape) && y->elements < NN_STOP_WORK)
	{
		nn_act		none = {nn_act_none, 0, 0};

		c->kernels->binary_flat((nn_binary) op, a->data, b->data, y->data, (size_t) y->elements, none);
		return MR_OK;
	}
	if (op == nn_div && y->dtype != nn_float32)
		for (int64_t i = 0; i < b->elements; i++)
			if (y->dtype == nn_int64 ? ((int64_t *) b->data)[i] == 0 : ((int32_t *) b->data)[i] == 0)
				return mr_fail(c->st, MR_INVALID, "integer division by zero in operator Div");
	nn_bcast_init(&w, &y->shape, 2, operands);
	BCAST_ROWS(c, w, 2,
			   if (y->dtype == nn_float32)
			   {
				   const float *pa = (const float *) a->data + off[0];
				   const float *pb = (const float *) b->data + off[1];
				   float	   *py = (float *) y->data + r;

				   for (int64_t j = 0; j < cols; j++)
					   py[j] = binary_float(op, pa[j * st[0]], pb[j * st[1]]);
			   }
			   else if (y->dtype == nn_int64)
				   for (int64_t j = 0; j < cols; j++)
					   ((int64_t *) y->data)[r + j] = binary_int(op, ((int64_t *) a->data)[off[0] + j * st[0]],
																 ((int64_t *) b->data)[off[1] + j * st[1]]);
			   else
				   for (int64_t j = 0; j < cols; j++)
					   ((int32_t *) y->data)[r + j] = (int32_t) (uint32_t) (uint64_t)
						   binary_int(op, ((int32_t *) a->data)[off[0] + j * st[0]],
									  ((int32_t *) b->data)[off[1] + j * st[1]]);
			   );
	return MR_OK;
}

/* More than two inputs (Min, Max, Sum, Mean): the output accumulates. */
mr_code
nn_run_binary(nn_run_call *c)
{
	nn_tensor	acc = c->out[0];

	if (c->n_in == 1)
	{
		memcpy(c->out[0].data, c->in[0].data, (size_t) c->out[0].elements * nn_dtype_size(acc.dtype));
		return MR_OK;
	}
	NN_TRY(binary_pair(c, &c->in[0], &c->in[1]));
	for (int k = 2; k < c->n_in; k++)
		NN_TRY(binary_pair(c, &acc, &c->in[k]));
	if (c->p->i[0] == nn_binary_mean)
		for (int64_t i = 0; i < acc.elements; i++)
			((float *) acc.data)[i] /= (float) c->n_in;
	return MR_OK;
}

/* ---- comparisons and logic: bool results ---- */

mr_code
nn_infer_compare(nn_infer_call *c)
{
	nn_value   *a = nn_in(c, 0);
	nn_value   *b = nn_in(c, 1);
	nn_shape	shape;
	bool		logic = c->n->op->arg >= nn_compare_and;

	if (a->dtype != b->dtype || (logic ? a->dtype != nn_bool :
								 a->dtype != nn_float32 && a->dtype != nn_int32 && a->dtype != nn_int64 &&
								 !(a->dtype == nn_bool && c->n->op->arg == nn_compare_equal)))
		return nn_infer_fail(c, MR_UNSUPPORTED, "inputs of types %s and %s", nn_dtype_name((nn_dtype) a->dtype),
							 nn_dtype_name((nn_dtype) b->dtype));
	NN_TRY(nn_broadcast(c, &a->shape, &b->shape, &shape));
	return nn_set_out(c, 0, nn_bool, &shape);
}

#define COMPARE(op, x, y) \
	((op) == nn_compare_equal ? (x) == (y) : (op) == nn_compare_less ? (x) < (y) : \
	 (op) == nn_compare_greater ? (x) > (y) : (op) == nn_compare_less_equal ? (x) <= (y) : \
	 (op) == nn_compare_greater_equal ? (x) >= (y) : (op) == nn_compare_and ? ((x) && (y)) : \
	 (op) == nn_compare_or ? ((x) || (y)) : (!(x) != !(y)))

#define COMPARE_ROW(type) \
	for (int64_t j = 0; j < cols; j++) \
	{ \
		type		x_ = ((type *) a->data)[off[0] + j * st[0]]; \
		type		y_ = ((type *) b->data)[off[1] + j * st[1]]; \
		((uint8_t *) y->data)[r + j] = COMPARE(op, x_, y_); \
	}

mr_code
nn_run_compare(nn_run_call *c)
{
	const nn_tensor *a = &c->in[0];
	const nn_tensor *b = &c->in[1];
	const nn_tensor *operands[2] = {a, b};
	nn_tensor  *y = &c->out[0];
	int			op = c->op->arg;
	nn_bcast	w;

	nn_bcast_init(&w, &y->shape, 2, operands);
	BCAST_ROWS(c, w, 2,
			   if (a->dtype == nn_float32)
			   COMPARE_ROW(float)
			   else if (a->dtype == nn_int64)
			   COMPARE_ROW(int64_t)
			   else if (a->dtype == nn_int32)
			   COMPARE_ROW(int32_t)
			   else
			   COMPARE_ROW(uint8_t)
			   );
	return MR_OK;
}

/* ---- Where ---- */

mr_code
nn_infer_where(nn_infer_call *c)
{
	nn_value   *q = nn_in(c, 0),
			   *a = nn_in(c, 1),
			   *b = nn_in(c, 2);
	nn_shape	shape;

	if (q->dtype != nn_bool || a->dtype != b->dtype)
		return nn_infer_fail(c, MR_INVALID, "inputs of the wrong types");
	NN_TRY(nn_broadcast(c, &a->shape, &b->shape, &shape));
	NN_TRY(nn_broadcast(c, &shape, &q->shape, &shape));
	return nn_set_out(c, 0, a->dtype, &shape);
}

mr_code
nn_run_where(nn_run_call *c)
{
	const nn_tensor *operands[3] = {&c->in[0], &c->in[1], &c->in[2]};
	size_t		size = nn_dtype_size(c->out[0].dtype);
	const uint8_t *q = c->in[0].data;
	nn_bcast	w;

	nn_bcast_init(&w, &c->out[0].shape, 3, operands);
	BCAST_ROWS(c, w, 3,
			   for (int64_t j = 0; j < cols; j++)
			   {
				   int			k = q[off[0] + j * st[0]] ? 1 : 2;

				   memcpy((char *) c->out[0].data + (size_t) (r + j) * size,
						  (const char *) c->in[k].data + (size_t) (off[k] + j * st[k]) * size, size);
			   }
			   );
	return MR_OK;
}
