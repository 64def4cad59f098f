/*
 * ops_arith.c
 *	  Elementwise operators of two and three operands, with broadcasting, on any
 *	  numeric type: arithmetic, bits, comparisons, logic, choice.
 *
 * The result is walked in rows as long as the broadcasting allows (NN_BCAST_ROWS);
 * which operation and which strides is decided per row, so the loops inside are
 * the compiler's to vectorise.  Integers wrap as the hardware does; division by
 * zero is an error.  params.i[0]: the operation, nn_binary or nn_binary_more.
 */
#include <math.h>

#include "nn/ops_util.h"

/* ---- arithmetic ---- */

mr_code
nn_infer_binary(nn_infer_call *c)
{
	int			op = c->n->op->arg;
	nn_shape	shape = nn_in(c, 0)->shape;
	int			dtype = nn_in(c, 0)->dtype;
	bool		fits = nn_is_number(dtype);
	int64_t		fmod = 0;

	if (op == nn_binary_mean)
		fits = dtype == nn_float32;
	else if (op == nn_binary_mod)
	{
		NN_TRY(nn_get_int(c, "fmod", 0, &fmod));
		op = fmod ? nn_binary_fmod : op;
	}
	else if (op == nn_binary_shift_left)
	{
		static const char *const directions[] = {"LEFT", "RIGHT"};
		int			right = nn_get_choice(c, "direction", "", 2, directions);

		if (right < 0)
			return nn_infer_fail(c, MR_INVALID, "attribute direction must be LEFT or RIGHT");
		op = right ? nn_binary_shift_right : nn_binary_shift_left;
		fits = nn_is_unsigned(dtype);
	}
	else if (op >= nn_binary_and && op <= nn_binary_xor)
		fits = nn_is_integer(dtype);
	if (!fits)
		return nn_infer_fail(c, MR_UNSUPPORTED, "type %s is not supported", nn_dtype_name((nn_dtype) dtype));
	for (int k = 1; k < c->n_in; k++)
	{
		nn_value   *v = nn_in(c, k);

		if (v == NULL)
			return nn_infer_fail(c, MR_INVALID, "input %d is missing", k);
		if (op == nn_binary_pow ? !nn_is_number(v->dtype) : v->dtype != dtype)
			return nn_infer_fail(c, MR_UNSUPPORTED, "inputs of types %s and %s", nn_dtype_name((nn_dtype) dtype),
								 nn_dtype_name((nn_dtype) v->dtype));
		NN_TRY(nn_broadcast(c, &shape, &v->shape, &shape));
	}
	if (op == nn_binary_prelu && !nn_shape_equal(&shape, &nn_in(c, 0)->shape))
		return nn_infer_fail(c, MR_INVALID, "slope does not broadcast to the input");
	c->p->i[0] = op;
	return nn_set_out(c, 0, dtype, &shape);
}

/* y[j] = E(x, z): the strides decide the loop. */
#define ROW(T, E) \
	do { \
		if (sa == 1 && sb == 1) \
			for (int64_t j = 0; j < n; j++) \
			{ \
				const T		x = a[j], z = b[j]; \
				y[j] = (E); \
			} \
		else if (sa == 1 && sb == 0) \
		{ \
			const T		z = b[0]; \
			for (int64_t j = 0; j < n; j++) \
			{ \
				const T		x = a[j]; \
				y[j] = (E); \
			} \
		} \
		else \
			for (int64_t j = 0; j < n; j++) \
			{ \
				const T		x = a[j * sa], z = b[j * sb]; \
				y[j] = (E); \
			} \
	} while (0)

/* Result of C's fmod with the sign of the divisor, as Python has it. */
static inline float
floor_mod(float x, float z)
{
	float		m = fmodf(x, z);

	return m != 0 && (m < 0) != (z < 0) ? m + z : m;
}

static void
row_float(int op, const float *a, int64_t sa, const float *b, int64_t sb, float *y, int64_t n)
{
	switch (op)
	{
		case nn_add:
		case nn_binary_mean:
			ROW(float, x + z);
			break;
		case nn_sub:
			ROW(float, x - z);
			break;
		case nn_mul:
			ROW(float, x * z);
			break;
		case nn_div:
			ROW(float, x / z);
			break;
		case nn_min:
			ROW(float, x < z || x != x ? x : z);
			break;
		case nn_max:
			ROW(float, x > z || x != x ? x : z);
			break;
		case nn_binary_prelu:
			ROW(float, x < 0 ? x * z : x);
			break;
		case nn_binary_mod:
			ROW(float, floor_mod(x, z));
			break;
		case nn_binary_fmod:
			ROW(float, fmodf(x, z));
			break;
	}
}

/* W: unsigned, at least 32 bits: products of small types must not overflow int. */
#define DEFINE_ROW(T, W) \
static void \
row_##T(int op, const T *a, int64_t sa, const T *b, int64_t sb, T *y, int64_t n) \
{ \
	const W		bits = sizeof(T) * 8; \
	switch (op) \
	{ \
		case nn_add: ROW(T, (T) ((W) x + (W) z)); break; \
		case nn_sub: ROW(T, (T) ((W) x - (W) z)); break; \
		case nn_mul: ROW(T, (T) ((W) x * (W) z)); break; \
		case nn_div: ROW(T, z == (T) -1 && (T) -1 < 1 ? (T) (0 - (W) x) : (T) (x / z)); break; \
		case nn_min: ROW(T, x < z ? x : z); break; \
		case nn_max: ROW(T, x > z ? x : z); break; \
		case nn_binary_prelu: ROW(T, x < 1 ? (T) ((W) x * (W) z) : x); break; \
		case nn_binary_mod: \
			ROW(T, z == (T) -1 && (T) -1 < 1 ? (T) 0 : \
				(T) (x % z != 0 && (x % z < 1) != (z < 1) ? x % z + z : x % z)); \
			break; \
		case nn_binary_fmod: ROW(T, z == (T) -1 && (T) -1 < 1 ? (T) 0 : (T) (x % z)); break; \
		case nn_binary_and: ROW(T, (T) (x & z)); break; \
		case nn_binary_or: ROW(T, (T) (x | z)); break; \
		case nn_binary_xor: ROW(T, (T) (x ^ z)); break; \
		case nn_binary_shift_left: ROW(T, (W) z < bits ? (T) ((W) x << (W) z) : (T) 0); break; \
		case nn_binary_shift_right: ROW(T, (W) z < bits ? (T) ((W) x >> (W) z) : (T) 0); break; \
	} \
}

DEFINE_ROW(int8_t, uint32_t)
DEFINE_ROW(uint8_t, uint32_t)
DEFINE_ROW(int16_t, uint32_t)
DEFINE_ROW(uint16_t, uint32_t)
DEFINE_ROW(int32_t, uint32_t)
DEFINE_ROW(uint32_t, uint32_t)
DEFINE_ROW(int64_t, uint64_t)
DEFINE_ROW(uint64_t, uint64_t)

/* One row of the result: elements from r on. */
static void
binary_row(int op, const nn_tensor *a, int64_t oa, int64_t sa, const nn_tensor *b, int64_t ob, int64_t sb,
		   nn_tensor *y, int64_t r, int64_t n)
{
#define CASE(dtype, T) \
	case dtype: \
		row_##T(op, (const T *) a->data + oa, sa, (const T *) b->data + ob, sb, (T *) y->data + r, n); \
		break
	switch (y->dtype)
	{
			CASE(nn_float32, float);
			CASE(nn_int8, int8_t);
			CASE(nn_uint8, uint8_t);
			CASE(nn_int16, int16_t);
			CASE(nn_uint16, uint16_t);
			CASE(nn_int32, int32_t);
			CASE(nn_uint32, uint32_t);
			CASE(nn_int64, int64_t);
			CASE(nn_uint64, uint64_t);
	}
#undef CASE
}

static bool
has_zero(const nn_tensor *t)
{
	NN_WITH_INTEGER(t->dtype,
					for (int64_t i = 0; i < t->elements; i++)
						if (((const T *) t->data)[i] == 0)
							return true;
		);
	return false;
}

static mr_code
binary_pair(nn_run_call *c, const nn_tensor *a, const nn_tensor *b)
{
	nn_tensor  *y = &c->out[0];
	const nn_tensor *operands[2] = {a, b};
	const nn_act none = {nn_act_none, 0, 0};
	int			op = (int) c->p->i[0];
	bool		fast = y->dtype == nn_float32 && op <= nn_max && c->kernels != NULL;
	nn_bcast	w;

	if ((op == nn_div || op == nn_binary_mod || op == nn_binary_fmod) && has_zero(b))
		return mr_fail(c->st, MR_INVALID, "integer division by zero in operator %s", c->op->name);
	nn_bcast_init(&w, &y->shape, 2, operands);
	nn_bcast_merge(&w, 2);
	NN_BCAST_ROWS(c, w, 2,
				  if (fast && st[0] == 1 && st[1] == 1)
					  c->kernels->binary_flat((nn_binary) op, (const float *) a->data + off[0],
											  (const float *) b->data + off[1], (float *) y->data + r,
											  (size_t) cols, none);
				  else
					  binary_row(op, a, off[0], st[0], b, off[1], st[1], y, r, cols);
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
		if (acc.elements)
			memcpy(acc.data, c->in[0].data, (size_t) acc.elements * nn_dtype_size(acc.dtype));
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

/* ---- Pow: base and exponent may differ in type, the result is the base's ---- */

static double
exponent_at(const nn_tensor *t, int64_t k)
{
	NN_WITH_NUMBER(t->dtype, return (double) ((const T *) t->data)[k];);
	return 0;
}

static void
pow_float(const float *a, int64_t sa, const nn_tensor *b, int64_t ob, int64_t sb, float *y, int64_t n)
{
	float		e = (float) exponent_at(b, ob);

	if (sb == 0 && (e == 2 || e == 1 || e == 3))	/* variances, GELU */
		for (int64_t j = 0; j < n; j++)
		{
			float		x = a[j * sa];

			y[j] = e == 1 ? x : e == 2 ? x * x : x * x * x;
		}
	else if (sb == 0 && e == 0.5f)
		for (int64_t j = 0; j < n; j++)
			y[j] = sqrtf(a[j * sa]);
	else if (b->dtype == nn_float32)
		for (int64_t j = 0; j < n; j++)
			y[j] = powf(a[j * sa], ((const float *) b->data)[ob + j * sb]);
	else
		for (int64_t j = 0; j < n; j++)
			y[j] = (float) pow(a[j * sa], exponent_at(b, ob + j * sb));
}

/* Whole powers wrap like products; others go through double. */
static int64_t
pow_int(int64_t x, double e)
{
	uint64_t	y = 1,
				f = (uint64_t) x,
				k;
	double		d;

	if (e >= 0 && e < 9e18 && e == floor(e))
	{
		for (k = (uint64_t) e; k; k >>= 1, f *= f)
			y *= k & 1 ? f : 1;
		return (int64_t) y;
	}
	d = pow((double) x, e);
	return d > -9e18 && d < 9e18 ? (int64_t) d : 0;
}

mr_code
nn_run_pow(nn_run_call *c)
{
	const nn_tensor *a = &c->in[0];
	const nn_tensor *b = &c->in[1];
	const nn_tensor *operands[2] = {a, b};
	nn_tensor  *y = &c->out[0];
	nn_bcast	w;

	nn_bcast_init(&w, &y->shape, 2, operands);
	nn_bcast_merge(&w, 2);
	NN_BCAST_ROWS(c, w, 2,
				  if (y->dtype == nn_float32)
					  pow_float((const float *) a->data + off[0], st[0], b, off[1], st[1], (float *) y->data + r, cols);
				  else
					  NN_WITH_INTEGER(y->dtype,
									  for (int64_t j = 0; j < cols; j++)
										  ((T *) y->data)[r + j] =
											  (T) pow_int((int64_t) ((const T *) a->data)[off[0] + j * st[0]],
														  exponent_at(b, off[1] + j * st[1]));
						  );
		);
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
								 !nn_is_number(a->dtype) && !(a->dtype == nn_bool && c->n->op->arg == nn_compare_equal)))
		return nn_infer_fail(c, MR_UNSUPPORTED, "inputs of types %s and %s", nn_dtype_name((nn_dtype) a->dtype),
							 nn_dtype_name((nn_dtype) b->dtype));
	NN_TRY(nn_broadcast(c, &a->shape, &b->shape, &shape));
	return nn_set_out(c, 0, nn_bool, &shape);
}

mr_code
nn_run_compare(nn_run_call *c)
{
	const nn_tensor *ta = &c->in[0];
	const nn_tensor *tb = &c->in[1];
	const nn_tensor *operands[2] = {ta, tb};
	int			op = c->op->arg;
	nn_bcast	w;

	nn_bcast_init(&w, &c->out[0].shape, 2, operands);
	nn_bcast_merge(&w, 2);
	NN_BCAST_ROWS(c, w, 2,
				  uint8_t *y = (uint8_t *) c->out[0].data + r;
				  const int64_t n = cols;
				  const int64_t sa = st[0];
				  const int64_t sb = st[1];

				  NN_WITH_NUMBER_OR_BOOL(ta->dtype,
										 const T *a = (const T *) ta->data + off[0];
										 const T *b = (const T *) tb->data + off[1];

										 switch (op)
										 {
											 case nn_compare_equal: ROW(T, x == z); break;
											 case nn_compare_less: ROW(T, x < z); break;
											 case nn_compare_greater: ROW(T, x > z); break;
											 case nn_compare_less_equal: ROW(T, x <= z); break;
											 case nn_compare_greater_equal: ROW(T, x >= z); break;
											 case nn_compare_and: ROW(T, (x != 0) & (z != 0)); break;
											 case nn_compare_or: ROW(T, (x != 0) | (z != 0)); break;
											 case nn_compare_xor: ROW(T, (x != 0) ^ (z != 0)); break;
										 }
					  );
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
	nn_bcast	w;

	nn_bcast_init(&w, &c->out[0].shape, 3, operands);
	nn_bcast_merge(&w, 3);
	NN_BCAST_ROWS(c, w, 3,
				  const uint8_t *q = (const uint8_t *) c->in[0].data + off[0];

				  NN_WITH_SIZE(nn_dtype_size(c->out[0].dtype),
							   const T *a = (const T *) c->in[1].data + off[1];
							   const T *b = (const T *) c->in[2].data + off[2];
							   T *y = (T *) c->out[0].data + r;

							   /* both are read, so that nothing branches on the data */
							   if (st[0] == 1 && st[1] == 1 && st[2] == 0)
							   {
								   const T		v = b[0];

								   for (int64_t j = 0; j < cols; j++)
								   {
									   const T		u = a[j];

									   y[j] = q[j] ? u : v;
								   }
							   }
							   else
								   for (int64_t j = 0; j < cols; j++)
								   {
									   const T		u = a[j * st[1]];
									   const T		v = b[j * st[2]];

									   y[j] = q[j * st[0]] ? u : v;
								   }
					  );
		);
	return MR_OK;
}
