/*
 * ops_quant_product.c
 *	  Quantised products on plain tensors of any shape, any zero point:
 *	  MatMulInteger, QLinearMatMul, ConvInteger, QLinearConv.
 *
 * Products are exact sums of int32 (they wrap, as ONNX's do); QLinear operators
 * scale a sum by the float x_scale * w_scale / y_scale, as ONNX Runtime does, so
 * that the planner's int8 steps can be compared with these bit by bit.
 * Sums are made tile by tile on the stack: a run takes no memory.
 */
#include <string.h>

#include "nn/ops_quant.h"

#define TILE 256				/* sums at a time */

static mr_code
need_8bit(nn_infer_call *c, int k)
{
	const nn_value *v = nn_in(c, k);

	if (v && !nn_q_is_8bit(v->dtype))
		return nn_infer_fail(c, MR_UNSUPPORTED, "input %d has type %s; uint8 and int8 are supported", k,
							 nn_dtype_name((nn_dtype) v->dtype));
	return MR_OK;
}

/* Input k is one number, or `many` of them. */
static mr_code
need_count(nn_infer_call *c, int k, int64_t many)
{
	const nn_value *v = nn_in(c, k);

	if (v && v->elements != 1 && v->elements != many)
		return nn_infer_fail(c, MR_INVALID, "input %d has %lld values, must have 1 or %lld", k,
							 (long long) v->elements, (long long) many);
	return MR_OK;
}

/* Scale at input k, zero point at k + 1: as many, the latter of type dtype. */
static mr_code
need_pair(nn_infer_call *c, int k, int dtype, int64_t many)
{
	const nn_value *scale = nn_in(c, k);
	const nn_value *zero = nn_in(c, k + 1);

	NN_TRY(nn_need_float(c, k));
	NN_TRY(need_count(c, k, many));
	if (zero && (zero->dtype != dtype || zero->elements != scale->elements))
		return nn_infer_fail(c, MR_INVALID, "zero point (input %d) does not fit the scale or the type", k + 1);
	return MR_OK;
}

/* ---- products ----
 *
 * Bytes are read as uint8: int8 ones with their sign bit flipped, that is with
 * 128 added, and their zero points likewise.
 */
typedef struct q_bytes
{
	const uint8_t *data;
	uint8_t		flip;
	const nn_tensor *zero;		/* NULL: 0 */
} q_bytes;

static q_bytes
bytes_of(const nn_run_call *c, int k, int zero)
{
	q_bytes		b = {c->in[k].data, c->in[k].dtype == nn_int8 ? 0x80 : 0, NULL};

	if (zero < c->n_in && c->in[zero].data)
		b.zero = &c->in[zero];
	return b;
}

/* The zero point of row, column or channel i, as the flipped bytes have it. */
static inline int32_t
zero_of(const q_bytes *b, int64_t i)
{
	return (b->zero ? nn_q_value(b->zero, b->zero->elements == 1 ? 0 : i) : 0) + b->flip;
}

/* How sums of int32 become the output: themselves, or scaled to 8 bits. */
typedef struct q_finish
{
	nn_tensor  *y;
	const float *x_scale;		/* NULL: int32 */
	const nn_tensor *w_scale;	/* one, or one per column or channel */
	const float *y_scale;
	float		y_zero,
				lo,
				hi;
} q_finish;

static q_finish
finish_as_is(nn_run_call *c)
{
	q_finish	f = {&c->out[0], NULL, NULL, NULL, 0, 0, 0};

	return f;
}

/* Both QLinear operators have their scales and zero points at the same inputs. */
static q_finish
finish_scaled(nn_run_call *c)
{
	q_finish	f = {&c->out[0], c->in[1].data, &c->in[4], c->in[6].data, (float) nn_q_zero(c, 7, 0), 0, 0};

	nn_q_limits(f.y->dtype, &f.lo, &f.hi);
	return f;
}

static inline void
finish(const q_finish *f, int64_t at, uint32_t sum, int64_t row, int64_t column)
{
	float		scale;

	if (f->x_scale == NULL)
	{
		((int32_t *) f->y->data)[at] = (int32_t) sum;
		return;
	}
	scale = f->x_scale[row] * ((const float *) f->w_scale->data)[f->w_scale->elements == 1 ? 0 : column] / f->y_scale[0];
	nn_q_store(f->y, at, nn_q_saturate((float) (int32_t) sum * scale, f->y_zero, f->lo, f->hi));
}

/* ---- MatMulInteger, QLinearMatMul: numpy rules ---- */

/* Rows of a matrix; a vector is one. */
static int64_t
rows_of(const nn_value *a)
{
	return a->shape.rank > 1 ? a->shape.dims[a->shape.rank - 2] : 1;
}

/* Columns of a matrix; a vector is one. */
static int64_t
columns_of(const nn_value *b)
{
	return b->shape.rank > 1 ? b->shape.dims[b->shape.rank - 1] : 1;
}

/* Shapes; za, zb: inputs with zero points of a and b; b is input kb. */
static mr_code
infer_product(nn_infer_call *c, int kb, int za, int zb, int dtype)
{
	const nn_value *a = nn_in(c, 0),
			   *b = nn_in(c, kb);
	nn_shape	s;

	NN_TRY(need_8bit(c, 0));
	NN_TRY(need_8bit(c, kb));
	NN_TRY(nn_infer_product(c, a->shape, b->shape, &s));
	if (nn_in(c, za) && nn_in(c, za)->dtype != a->dtype)
		return nn_infer_fail(c, MR_INVALID, "zero point (input %d) has another type than the matrix", za);
	if (nn_in(c, zb) && nn_in(c, zb)->dtype != b->dtype)
		return nn_infer_fail(c, MR_INVALID, "zero point (input %d) has another type than the matrix", zb);
	NN_TRY(need_count(c, za, rows_of(a)));
	NN_TRY(need_count(c, zb, columns_of(b)));
	return nn_set_out(c, 0, dtype, &s);
}

mr_code
nn_infer_matmul_integer(nn_infer_call *c)
{
	return infer_product(c, 1, 2, 3, nn_int32);
}

mr_code
nn_infer_qlinear_matmul(nn_infer_call *c)
{
	const nn_value *a = nn_in(c, 0),
			   *b = nn_in(c, 3),
			   *y_zero = nn_in(c, 7);

	NN_TRY(need_8bit(c, 7));
	NN_TRY(infer_product(c, 3, 2, 5, y_zero->dtype));
	NN_TRY(need_pair(c, 1, a->dtype, rows_of(a)));
	NN_TRY(need_pair(c, 4, b->dtype, columns_of(b)));
	return need_pair(c, 6, y_zero->dtype, 1);
}

/* y[at ..] = a (m x k) b (k x n). */
static mr_code
product(nn_run_call *c, int64_t m, int64_t k, int64_t n, q_bytes a, q_bytes b, bool row_scales, const q_finish *f, int64_t at)
{
	int64_t		work = 0;

	for (int64_t i = 0; i < m; i++)
		for (int64_t j0 = 0; j0 < n; j0 += TILE)
		{
			int64_t		cols = n - j0 < TILE ? n - j0 : TILE;
			int32_t		zero_a = zero_of(&a, i);
			int32_t		zero_b[TILE];
			uint32_t	sum[TILE] = {0};

			for (int64_t j = 0; j < cols; j++)
				zero_b[j] = zero_of(&b, j0 + j);
			for (int64_t l = 0; l < k; l++)
			{
				int32_t		x = (a.data[i * k + l] ^ a.flip) - zero_a;
				const uint8_t *row = b.data + l * n + j0;

				if ((work += cols) >= NN_STOP_WORK)
				{
					work = 0;
					if (mr_interrupted(c->env))
						return MR_CANCELED;
				}
				for (int64_t j = 0; j < cols; j++)
					sum[j] += (uint32_t) (x * ((row[j] ^ b.flip) - zero_b[j]));
			}
			for (int64_t j = 0; j < cols; j++)
				finish(f, at + i * n + j0 + j, sum[j], row_scales ? i : 0, j0 + j);
		}
	return MR_OK;
}

static mr_code
run_product(nn_run_call *c, int kb, int za, int zb, const q_finish *f)
{
	nn_tensor	ta = c->in[0],
				tb = c->in[kb];
	const nn_tensor *operands[2] = {&ta, &tb};
	q_bytes		a = bytes_of(c, 0, za),
				b = bytes_of(c, kb, zb);
	nn_shape	outer = {0};
	nn_bcast	w;
	int64_t		k = ta.shape.dims[ta.shape.rank - 1];
	int64_t		m = ta.shape.rank > 1 ? ta.shape.dims[ta.shape.rank - 2] : 1;
	int64_t		n = tb.shape.rank > 1 ? tb.shape.dims[tb.shape.rank - 1] : 1;
	int64_t		index[NN_MAX_RANK] = {0};
	bool		row_scales = f->x_scale && c->in[1].elements > 1;

	/* Drop the matrix dimensions, broadcast what is before them. */
	ta.shape.rank -= ta.shape.rank > 1 ? 2 : 1;
	tb.shape.rank -= tb.shape.rank > 1 ? 2 : 1;
	outer.rank = ta.shape.rank > tb.shape.rank ? ta.shape.rank : tb.shape.rank;
	for (int i = 0; i < outer.rank; i++)
		outer.dims[i] = c->out[0].shape.dims[i];
	nn_bcast_init(&w, &outer, 2, operands);
	for (int64_t at = 0; at < c->out[0].elements; at += m * n)
	{
		q_bytes		pa = a,
					pb = b;

		for (int i = 0; i < outer.rank; i++)
		{
			pa.data += index[i] * w.stride[0][i] * m * k;
			pb.data += index[i] * w.stride[1][i] * k * n;
		}
		NN_TRY(product(c, m, k, n, pa, pb, row_scales, f, at));
		for (int i = outer.rank - 1; i >= 0; i--)
		{
			if (++index[i] < outer.dims[i])
				break;
			index[i] = 0;
		}
	}
	return MR_OK;
}

mr_code
nn_run_matmul_integer(nn_run_call *c)
{
	q_finish	f = finish_as_is(c);

	return run_product(c, 1, 2, 3, &f);
}

mr_code
nn_run_qlinear_matmul(nn_run_call *c)
{
	q_finish	f = finish_scaled(c);

	return run_product(c, 3, 2, 5, &f);
}

/* ---- ConvInteger, QLinearConv ---- */

/* Weights are input kw, the zero points zx and zw. */
static mr_code
infer_conv(nn_infer_call *c, int kw, int zx, int zw, int dtype)
{
	const nn_value *x = nn_in(c, 0),
			   *w = nn_in(c, kw);
	nn_shape	s = x->shape;
	int64_t		groups;

	NN_TRY(need_8bit(c, 0));
	NN_TRY(need_8bit(c, kw));
	NN_TRY(nn_get_int(c, "group", 1, &groups));
	if ((s.rank != 3 && s.rank != 4) || w->shape.rank != s.rank)
		return nn_infer_fail(c, MR_UNSUPPORTED, "only 1-D and 2-D convolutions are supported, the input has %d dimensions, the weights %d",
							 s.rank, w->shape.rank);
	if (groups < 1 || w->elements < 1 || groups > s.dims[1] || s.dims[1] % groups || w->shape.dims[0] % groups ||
		s.dims[1] / groups != w->shape.dims[1])
		return nn_infer_fail(c, MR_INVALID, "weights of %lld x %lld channels and %lld groups do not fit %lld input channels",
							 (long long) w->shape.dims[0], (long long) w->shape.dims[1], (long long) groups,
							 (long long) s.dims[1]);
	if (nn_in(c, zx) && (nn_in(c, zx)->dtype != x->dtype || nn_in(c, zx)->elements != 1))
		return nn_infer_fail(c, MR_INVALID, "the input's zero point does not fit");
	if (nn_in(c, zw) && nn_in(c, zw)->dtype != w->dtype)
		return nn_infer_fail(c, MR_INVALID, "the weights' zero point has another type");
	NN_TRY(need_count(c, zw, w->shape.dims[0]));
	NN_TRY(nn_infer_window(c, w->shape.dims + 2, &s));
	s.dims[1] = w->shape.dims[0];
	c->p->i[nn_w_groups] = groups;
	return nn_set_out(c, 0, dtype, &s);
}

mr_code
nn_infer_conv_integer(nn_infer_call *c)
{
	return infer_conv(c, 1, 2, 3, nn_int32);
}

mr_code
nn_infer_qlinear_conv(nn_infer_call *c)
{
	const nn_value *w = nn_in(c, 3),
			   *y_zero = nn_in(c, 7),
			   *bias = nn_in(c, 8);

	NN_TRY(need_8bit(c, 7));
	NN_TRY(infer_conv(c, 3, 2, 5, y_zero->dtype));
	NN_TRY(need_pair(c, 1, nn_in(c, 0)->dtype, 1));
	NN_TRY(need_pair(c, 4, w->dtype, w->shape.dims[0]));
	NN_TRY(need_pair(c, 6, y_zero->dtype, 1));
	if (bias && (bias->dtype != nn_int32 || bias->elements != w->shape.dims[0]))
		return nn_infer_fail(c, MR_INVALID, "the bias does not fit the weights");
	return MR_OK;
}

static mr_code
run_conv(nn_run_call *c, const nn_tensor *w, q_bytes qx, q_bytes qw, const int32_t *bias, const q_finish *f)
{
	const nn_shape *xs = &c->in[0].shape,
			   *ys = &c->out[0].shape;
	const int64_t *p = c->p->i;
	int64_t		ic = w->shape.dims[1],
				oc = ys->dims[1],
				per_group = oc / p[nn_w_groups];
	int64_t		ih = xs->rank == 4 ? xs->dims[2] : 1,
				iw = xs->dims[xs->rank - 1],
				oh = ys->rank == 4 ? ys->dims[2] : 1,
				ow = ys->dims[ys->rank - 1];
	int64_t		kh = p[nn_w_kh],
				kw = p[nn_w_kw];
	int32_t		zero_x = zero_of(&qx, 0);
	int64_t		tiles = (ow + TILE - 1) / TILE;
	int64_t		work = 0;

	/* one tile of an output line at a time; what lies outside is the zero point */
	for (int64_t t = 0; t < ys->dims[0] * oc * oh * tiles; t++)
	{
		int64_t		x0 = t % tiles * TILE,
					y = t / tiles % oh,
					o = t / tiles / oh % oc,
					n = t / tiles / oh / oc;
		int64_t		cols = ow - x0 < TILE ? ow - x0 : TILE;
		int32_t		zero_w = zero_of(&qw, o);
		uint32_t	sum[TILE];

		for (int64_t j = 0; j < cols; j++)
			sum[j] = bias ? (uint32_t) bias[o] : 0;
		if ((work += cols * ic * kh * kw) >= NN_STOP_WORK)
		{
			work = 0;
			if (mr_interrupted(c->env))
				return MR_CANCELED;
		}
		for (int64_t tap = 0; tap < ic * kh * kw; tap++)
		{
			int64_t		i = tap / (kh * kw),
						sy = y * p[nn_w_sh] - p[nn_w_pt] + tap / kw % kh * p[nn_w_dh],
						sx = x0 * p[nn_w_sw] - p[nn_w_pl] + tap % kw * p[nn_w_dw];
			int32_t		v = (qw.data[o * ic * kh * kw + tap] ^ qw.flip) - zero_w;
			const uint8_t *line = qx.data + ((n * xs->dims[1] + o / per_group * ic + i) * ih + sy) * iw;

			if (sy < 0 || sy >= ih)
				continue;
			for (int64_t j = 0; j < cols; j++, sx += p[nn_w_sw])
				if (sx >= 0 && sx < iw)
					sum[j] += (uint32_t) (v * ((line[sx] ^ qx.flip) - zero_x));
		}
		for (int64_t j = 0; j < cols; j++)
			finish(f, ((n * oc + o) * oh + y) * ow + x0 + j, sum[j], 0, o);
	}
	return MR_OK;
}

mr_code
nn_run_conv_integer(nn_run_call *c)
{
	q_finish	f = finish_as_is(c);

	return run_conv(c, &c->in[1], bytes_of(c, 0, 2), bytes_of(c, 1, 3), NULL, &f);
}

mr_code
nn_run_qlinear_conv(nn_run_call *c)
{
	q_finish	f = finish_scaled(c);

	return run_conv(c, &c->in[3], bytes_of(c, 0, 2), bytes_of(c, 3, 5), c->n_in > 8 ? c->in[8].data : NULL, &f);
}
