/*
 * ops_math.c
 *	  Elementwise operators of one input: activations and unary functions.
 *
 * Activations: params.i[0] = nn_act_kind, f[0], f[1] = a, b; i[1]: not one of
 * nn_act_kind for the planner's kernels (nn_plain_act).  Unary functions: which
 * one is op->arg.
 */
#include <math.h>

#include "nn/ops_util.h"

enum nn_plain_act
{
	plain_limits = 1,			/* limits of Clip are inputs */
	plain_integers = 2			/* Relu or Clip of integers */
};

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
		case nn_act_gelu_tanh:
			return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
		case nn_act_gelu_quick:
			return x / (1 + expf(-1.702f * x));
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

	if (nn_is_integer(x->dtype) && ((kind == nn_act_relu && c->n->opset >= 14) ||
									(kind == nn_act_clip && c->n->opset >= 12)))
		c->p->i[1] = plain_integers;
	else
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
			{
				static const char *const forms[] = {"none", "tanh"};
				int			form = nn_get_choice(c, "approximate", "none", 2, forms);

				if (form < 0)
					return nn_infer_fail(c, MR_INVALID, "attribute approximate must be none or tanh");
				kind = form ? nn_act_gelu_tanh : nn_act_gelu;
				break;
			}
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
					if (nn_in(c, k)->dtype != x->dtype || nn_in(c, k)->elements != 1)
						return nn_infer_fail(c, MR_INVALID, "input %d must be one number of the first one's type", k);
					if (nn_in(c, k)->data == NULL)
						c->p->i[1] |= plain_limits;
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

/* Relu and Clip of integers; limits are inputs, or absent. */
static void
clip_integers(nn_run_call *c, int64_t from, int64_t n)
{
	const nn_tensor *lo = c->n_in > 1 && c->in[1].data ? &c->in[1] : NULL;
	const nn_tensor *hi = c->n_in > 2 && c->in[2].data ? &c->in[2] : NULL;
	bool		relu = c->p->i[0] == nn_act_relu;

	NN_WITH_INTEGER(c->out[0].dtype,
					const T *x = (const T *) c->in[0].data + from;
					T *y = (T *) c->out[0].data + from;
					const T a = lo ? *(const T *) lo->data : 0;
					const T b = hi ? *(const T *) hi->data : 0;
					const bool low = lo || relu;

					for (int64_t j = 0; j < n; j++)
					{
						T			v = low && x[j] < a ? a : x[j];

						y[j] = hi && v > b ? b : v;
					}
		);
}

mr_code
nn_run_activation(nn_run_call *c)
{
	nn_act		act = {(nn_act_kind) c->p->i[0], c->p->f[0], c->p->f[1]};
	int64_t		form = c->p->i[1];
	const float *x = c->in[0].data;
	float	   *y = c->out[0].data;

	if (form == plain_limits)
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
		if (form & plain_integers)
			clip_integers(c, i, n);
		else if (c->kernels)
			c->kernels->activate(x + i, y + i, (size_t) n, act);
		else
			for (int64_t j = i; j < i + n; j++)
				y[j] = nn_act_one(x[j], act);
	}
	return MR_OK;
}

/* ---- unary: f[0], f[1]: alpha and so on ---- */

mr_code
nn_infer_unary(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	int			which = c->n->op->arg;
	float	   *f = c->p->f;
	bool		fits = x->dtype == nn_float32;
	int64_t		negative,
				positive;

	switch (which)
	{
		case nn_unary_abs:
		case nn_unary_neg:
		case nn_unary_sign:
		case nn_unary_shrink:
			fits = nn_is_number(x->dtype);
			break;
		case nn_unary_not:
			fits = x->dtype == nn_bool;
			break;
		case nn_unary_bits:
			fits = nn_is_integer(x->dtype);
			break;
	}
	if (!fits)
		return nn_infer_fail(c, MR_UNSUPPORTED, "type %s is not supported", nn_dtype_name((nn_dtype) x->dtype));
	switch (which)
	{
		case nn_unary_selu:
			NN_TRY(nn_get_float(c, "alpha", 1.67326319217681884765625f, &f[0]));
			NN_TRY(nn_get_float(c, "gamma", 1.05070102214813232421875f, &f[1]));
			break;
		case nn_unary_shrink:
			NN_TRY(nn_get_float(c, "lambd", 0.5f, &f[0]));
			NN_TRY(nn_get_float(c, "bias", 0, &f[1]));
			break;
		case nn_unary_isinf:
			NN_TRY(nn_get_int(c, "detect_negative", 1, &negative));
			NN_TRY(nn_get_int(c, "detect_positive", 1, &positive));
			f[0] = negative != 0;
			f[1] = positive != 0;
			break;
		default:
			NN_TRY(nn_get_float(c, "alpha", 1, &f[0]));
	}
	return nn_set_out(c, 0, which == nn_unary_isnan || which == nn_unary_isinf ? nn_bool : x->dtype, &x->shape);
}

static inline float
softplus(float v)
{
	return v > 0 ? v + log1pf(expf(-v)) : log1pf(expf(v));
}

static void
unary_float(int which, const float *x, float *y, int64_t n, float a, float b)
{
#define EACH(e) for (int64_t j = 0; j < n; j++) { const float v = x[j]; y[j] = (e); } break
	switch (which)
	{
		case nn_unary_abs:
			EACH(fabsf(v));
		case nn_unary_neg:
			EACH(-v);
		case nn_unary_sign:
			EACH(v > 0 ? 1 : v < 0 ? -1 : v);
		case nn_unary_sqrt:
			EACH(sqrtf(v));
		case nn_unary_reciprocal:
			EACH(1 / v);
		case nn_unary_log:
			EACH(logf(v));
		case nn_unary_floor:
			EACH(floorf(v));
		case nn_unary_ceil:
			EACH(ceilf(v));
		case nn_unary_round:
			EACH(rintf(v));
		case nn_unary_erf:
			EACH(erff(v));
		case nn_unary_sin:
			EACH(sinf(v));
		case nn_unary_cos:
			EACH(cosf(v));
		case nn_unary_tan:
			EACH(tanf(v));
		case nn_unary_asin:
			EACH(asinf(v));
		case nn_unary_acos:
			EACH(acosf(v));
		case nn_unary_atan:
			EACH(atanf(v));
		case nn_unary_sinh:
			EACH(sinhf(v));
		case nn_unary_cosh:
			EACH(coshf(v));
		case nn_unary_asinh:
			EACH(asinhf(v));
		case nn_unary_acosh:
			EACH(acoshf(v));
		case nn_unary_atanh:
			EACH(atanhf(v));
		case nn_unary_softplus:
			EACH(softplus(v));
		case nn_unary_softsign:
			EACH(v / (1 + fabsf(v)));
		case nn_unary_selu:
			EACH(v > 0 ? b * v : b * a * expm1f(v));
		case nn_unary_celu:
			EACH(fmaxf(0, v) + fminf(0, a * expm1f(v / a)));
		case nn_unary_thresholded:
			EACH(v > a ? v : 0);
		case nn_unary_mish:
			EACH(v * tanhf(softplus(v)));
		case nn_unary_shrink:
			EACH(v < -a ? v + b : v > a ? v - b : 0);
	}
#undef EACH
}

/* The error function, with the vector exponential: its series near 0, Abramowitz
 * and Stegun's 7.1.26 elsewhere (within 1.5e-7). */
static void
erf_rows(const nn_kernels *k, const float *x, float *y, int64_t n)
{
	const nn_act exponential = {nn_act_exp, 0, 0};
	float		e[256];

	for (int64_t at = 0; at < n; at += 256)
	{
		int64_t		m = n - at < 256 ? n - at : 256;

		for (int64_t j = 0; j < m; j++)
			e[j] = -x[at + j] * x[at + j];
		k->activate(e, e, (size_t) m, exponential);
		for (int64_t j = 0; j < m; j++)
		{
			const float v = x[at + j];
			const float s = v * v;
			const float a = fabsf(v);
			const float t = 1 / (1 + 0.3275911f * a);
			const float far = 1 - e[j] * t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f +
														t * (-1.453152027f + t * 1.061405429f))));
			const float near = v * 1.1283791671f * (1 + s * (-1 / 3.f + s * (1 / 10.f + s * (-1 / 42.f +
								s * (1 / 216.f + s * (-1 / 1320.f + s * (1 / 9360.f + s * (-1 / 75600.f + s * (1 / 685440.f)))))))));

			y[at + j] = a < 0.8f ? near : v < 0 ? -far : far;
		}
	}
}

/* Integers wrap: the least one is its own absolute value. */
static void
unary_integer(nn_run_call *c, int64_t from, int64_t n)
{
	int			which = c->op->arg;
	const float a = c->p->f[0];
	const float b = c->p->f[1];

	NN_WITH_INTEGER(c->in[0].dtype,
					const T *x = (const T *) c->in[0].data + from;
					T *y = (T *) c->out[0].data + from;

					for (int64_t j = 0; j < n; j++)
					{
						const T		v = x[j];

						y[j] = which == nn_unary_sign ? (T) ((v > 0) - !(v > 0 || v == 0)) :
							which == nn_unary_bits ? (T) ~v :
							which == nn_unary_neg || (which == nn_unary_abs && !(v > 0)) ? (T) (0 - (uint64_t) v) :
							which == nn_unary_abs ? v :
							(float) v < -a ? (T) ((float) v + b) : (float) v > a ? (T) ((float) v - b) : 0;
					}
		);
}

mr_code
nn_run_unary(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	int			which = c->op->arg;

	for (int64_t i = 0; i < x->elements; i += NN_STOP_WORK / 16)
	{
		int64_t		n = x->elements - i < NN_STOP_WORK / 16 ? x->elements - i : NN_STOP_WORK / 16;
		const float *f = (const float *) x->data + i;
		uint8_t    *flag = (uint8_t *) c->out[0].data + i;

		if (i && mr_interrupted(c->env))
			return MR_CANCELED;
		if (which == nn_unary_not)
			for (int64_t j = 0; j < n; j++)
				flag[j] = !((const uint8_t *) x->data)[i + j];
		else if (which == nn_unary_isnan)
			for (int64_t j = 0; j < n; j++)
				flag[j] = f[j] != f[j];
		else if (which == nn_unary_isinf)
			for (int64_t j = 0; j < n; j++)
				flag[j] = (c->p->f[0] != 0 && f[j] == -INFINITY) || (c->p->f[1] != 0 && f[j] == INFINITY);
		else if (which == nn_unary_erf && c->kernels)
			erf_rows(c->kernels, f, (float *) c->out[0].data + i, n);
		else if (x->dtype == nn_float32)
			unary_float(which, f, (float *) c->out[0].data + i, n, c->p->f[0], c->p->f[1]);
		else
			unary_integer(c, i, n);
	}
	return MR_OK;
}
