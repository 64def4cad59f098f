/*
 * ops_matrix.c
 *	  Matrix products, softmax and reductions on plain tensors.
 *
 * Products with constant weights for one row go to packed kernels by the
 * planner; these loops are the reference and serve everything else.
 */
#include <math.h>
#include <string.h>

#include "nn/ops_impl.h"

/* ---- Gemm: i[0] = transA, i[1] = transB; f = alpha, beta ---- */

mr_code
nn_infer_gemm(nn_infer_call *c)
{
	nn_value   *a = nn_in(c, 0),
			   *b = nn_in(c, 1),
			   *bias = nn_in(c, 2);
	nn_shape	s = {2, {0}};
	nn_shape	with;

	for (int k = 0; k < 3; k++)
		NN_TRY(nn_need_float(c, k));
	NN_TRY(nn_get_int(c, "transA", 0, &c->p->i[0]));
	NN_TRY(nn_get_int(c, "transB", 0, &c->p->i[1]));
	NN_TRY(nn_get_float(c, "alpha", 1, &c->p->f[0]));
	NN_TRY(nn_get_float(c, "beta", 1, &c->p->f[1]));
	c->p->i[0] = c->p->i[0] != 0;
	c->p->i[1] = c->p->i[1] != 0;
	if (a->shape.rank != 2 || b->shape.rank != 2 ||
		a->shape.dims[!c->p->i[0]] != b->shape.dims[c->p->i[1]])
		return nn_infer_fail(c, MR_INVALID, "the matrices do not fit");
	s.dims[0] = a->shape.dims[c->p->i[0]];
	s.dims[1] = b->shape.dims[!c->p->i[1]];
	if (bias)
	{
		NN_TRY(nn_broadcast(c, &s, &bias->shape, &with));
		if (!nn_shape_equal(&s, &with))
			return nn_infer_fail(c, MR_INVALID, "the bias does not fit");
	}
	return nn_set_out(c, 0, nn_float32, &s);
}

/* y (m x n, zeroed or biased) += alpha * a b, any strides of a and b. */
static mr_code
product(nn_run_call *c, int64_t m, int64_t k, int64_t n, const float *a, int64_t ar, int64_t ac,
		const float *b, int64_t br, int64_t bc, float *y, float alpha)
{
	int64_t		work = 0;

	for (int64_t i = 0; i < m; i++)
		for (int64_t l = 0; l < k; l++)
		{
			float		f = alpha * a[i * ar + l * ac];
			const float *row = b + l * br;

			if ((work += n) >= NN_STOP_WORK)
			{
				work = 0;
				if (mr_interrupted(c->env))
					return MR_CANCELED;
			}
			for (int64_t j = 0; j < n; j++)
				y[i * n + j] += f * row[j * bc];
		}
	return MR_OK;
}

mr_code
nn_run_gemm(nn_run_call *c)
{
	const nn_tensor *a = &c->in[0];
	const nn_tensor *b = &c->in[1];
	nn_tensor  *y = &c->out[0];
	int64_t		m = y->shape.dims[0],
				n = y->shape.dims[1],
				k = a->shape.dims[!c->p->i[0]];

	memset(y->data, 0, (size_t) y->elements * sizeof(float));
	if (c->n_in > 2 && c->in[2].data)
	{
		const nn_tensor *operands[1] = {&c->in[2]};
		nn_bcast	w;

		nn_bcast_init(&w, &y->shape, 1, operands);
		for (int64_t i = 0; i < m; i++)
			for (int64_t j = 0; j < n; j++)
				((float *) y->data)[i * n + j] = c->p->f[1] *
					((const float *) c->in[2].data)[i * w.stride[0][0] + j * w.stride[0][1]];
	}
	return product(c, m, k, n, a->data, c->p->i[0] ? 1 : k, c->p->i[0] ? m : 1,
				   b->data, c->p->i[1] ? 1 : n, c->p->i[1] ? k : 1, y->data, c->p->f[0]);
}

/* ---- MatMul: numpy rules ---- */

/* The shape of a times b: a vector is a row before, a column behind, and leaves no dimension. */
mr_code
nn_infer_product(nn_infer_call *c, nn_shape a, nn_shape b, nn_shape *out)
{
	bool		row = a.rank == 1,
				column = b.rank == 1;
	int64_t		m,
				n;

	if (a.rank == 0 || b.rank == 0)
		return nn_infer_fail(c, MR_INVALID, "scalars cannot be multiplied");
	if (row)
	{
		a.dims[1] = a.dims[0];
		a.dims[0] = 1;
		a.rank = 2;
	}
	if (column)
	{
		b.dims[1] = 1;
		b.rank = 2;
	}
	if (a.dims[a.rank - 1] != b.dims[b.rank - 2])
		return nn_infer_fail(c, MR_INVALID, "the matrices do not fit: %lld columns against %lld rows",
							 (long long) a.dims[a.rank - 1], (long long) b.dims[b.rank - 2]);
	m = a.dims[a.rank - 2];
	n = b.dims[b.rank - 1];
	a.rank -= 2;
	b.rank -= 2;
	NN_TRY(nn_broadcast(c, &a, &b, out));
	if (!row)
		out->dims[out->rank++] = m;
	if (!column)
		out->dims[out->rank++] = n;
	return MR_OK;
}

mr_code
nn_infer_matmul(nn_infer_call *c)
{
	nn_shape	s;

	NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_need_float(c, 1));
	NN_TRY(nn_infer_product(c, nn_in(c, 0)->shape, nn_in(c, 1)->shape, &s));
	return nn_set_out(c, 0, nn_float32, &s);
}

mr_code
nn_run_matmul(nn_run_call *c)
{
	nn_tensor	a = c->in[0],
				b = c->in[1];
	const nn_tensor *operands[2] = {&a, &b};
	nn_shape	outer = {0};
	nn_bcast	w;
	int64_t		m = 1,
				n = 1,
				k = a.shape.dims[a.shape.rank - 1];
	int64_t		index[NN_MAX_RANK] = {0};
	int			rank;

	/* Drop the matrix dimensions, broadcast what is before them. */
	if (a.shape.rank > 1)
		m = a.shape.dims[a.shape.rank - 2];
	if (b.shape.rank > 1)
		n = b.shape.dims[b.shape.rank - 1];
	a.shape.rank -= a.shape.rank > 1 ? 2 : 1;
	b.shape.rank -= b.shape.rank > 1 ? 2 : 1;
	rank = a.shape.rank > b.shape.rank ? a.shape.rank : b.shape.rank;
	outer.rank = rank;
	for (int i = 0; i < rank; i++)
		outer.dims[i] = c->out[0].shape.dims[i];
	nn_bcast_init(&w, &outer, 2, operands);
	memset(c->out[0].data, 0, (size_t) c->out[0].elements * sizeof(float));
	for (float *y = c->out[0].data; y < (float *) c->out[0].data + c->out[0].elements; y += m * n)
	{
		int64_t		ia = 0,
					ib = 0;

		for (int i = 0; i < rank; i++)
		{
			ia += index[i] * w.stride[0][i];
			ib += index[i] * w.stride[1][i];
		}
		NN_TRY(product(c, m, k, n, (const float *) a.data + ia * m * k, k, 1,
					   (const float *) b.data + ib * k * n, n, 1, y, 1));
		for (int i = rank - 1; i >= 0; i--)
		{
			if (++index[i] < outer.dims[i])
				break;
			index[i] = 0;
		}
	}
	return MR_OK;
}

/* ---- Softmax, LogSoftmax (op->arg 1): i[0] rows, i[1] n, i[2] inner ---- */

mr_code
nn_infer_softmax(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	int64_t		axis,
				rows = 1,
				n = 1,
				inner = 1;

	NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_get_int(c, "axis", c->n->opset < 13 ? 1 : -1, &axis));
	if (c->n->opset < 13 && axis == x->shape.rank)
		axis = x->shape.rank;	/* allowed: rows of one */
	else
		NN_TRY(nn_norm_axis(c, &axis, x->shape.rank));
	for (int i = 0; i < x->shape.rank; i++)
	{
		if (i < axis)
			rows *= x->shape.dims[i];
		else if (i == axis || c->n->opset < 13)	/* before 13: flattened to 2-D */
			n *= x->shape.dims[i];
		else
			inner *= x->shape.dims[i];
	}
	c->p->i[0] = rows;
	c->p->i[1] = n;
	c->p->i[2] = inner;
	return nn_set_out(c, 0, nn_float32, &x->shape);
}

#define SOFTMAX_COLUMNS 256		/* of a softmax along an inner axis, at a time */

/* Softmax of w columns of n values, `pitch` apart, at x, into y. */
static void
softmax_columns(const nn_kernels *k, const float *x, float *y, int64_t n, int64_t pitch, size_t w, bool is_log)
{
	static const nn_act none = {nn_act_none, 0, 0},
				exponential = {nn_act_exp, 0, 0};
	float		top[SOFTMAX_COLUMNS],
				sum[SOFTMAX_COLUMNS] = {0},
				e[SOFTMAX_COLUMNS];

	memcpy(top, x, w * sizeof(float));
	for (int64_t i = 1; i < n; i++)
		k->binary_flat(nn_max, top, x + i * pitch, top, w, none);
	for (int64_t i = 0; i < n; i++)
	{
		float	   *to = is_log ? e : y + i * pitch;

		k->binary_flat(nn_sub, x + i * pitch, top, to, w, exponential);
		k->binary_flat(nn_add, sum, to, sum, w, none);
	}
	for (size_t j = 0; is_log && j < w; j++)
		top[j] += logf(sum[j]);
	for (int64_t i = 0; i < n; i++)
		k->binary_flat(is_log ? nn_sub : nn_div, is_log ? x + i * pitch : y + i * pitch, is_log ? top : sum,
					   y + i * pitch, w, none);
}

mr_code
nn_run_softmax(nn_run_call *c)
{
	int64_t		rows = c->p->i[0],
				n = c->p->i[1],
				inner = c->p->i[2];
	const float *x = c->in[0].data;
	float	   *y = c->out[0].data;
	bool		is_log = c->op->arg != 0;

	if (c->out[0].elements == 0)
		return MR_OK;
	if (inner == 1 && c->kernels)
	{
		int64_t		some = NN_STOP_WORK / n / 16 + 1;	/* rows */

		for (int64_t r = 0; r < rows; r += some)
		{
			if (mr_interrupted(c->env))
				return MR_CANCELED;
			c->kernels->softmax(x + r * n, y + r * n, (size_t) (rows - r < some ? rows - r : some), (size_t) n, is_log);
		}
		return MR_OK;
	}
	for (int64_t r = 0; r < rows; r++)
	{
		for (int64_t k = 0; c->kernels && k < inner; k += SOFTMAX_COLUMNS)
		{
			if (mr_interrupted(c->env))
				return MR_CANCELED;
			softmax_columns(c->kernels, x + r * n * inner + k, y + r * n * inner + k, n, inner,
							(size_t) (inner - k < SOFTMAX_COLUMNS ? inner - k : SOFTMAX_COLUMNS), is_log);
		}
		if (c->kernels)
			continue;
		if (mr_interrupted(c->env))
			return MR_CANCELED;
		for (int64_t k = 0; k < inner; k++)
		{
			const float *p = x + r * n * inner + k;
			float	   *q = y + r * n * inner + k;
			float		top = p[0];
			float		log_sum;
			double		sum = 0;

			for (int64_t i = 1; i < n; i++)
				top = p[i * inner] > top ? p[i * inner] : top;
			for (int64_t i = 0; i < n; i++)
				sum += expf(p[i * inner] - top);
			log_sum = (float) log(sum);
			for (int64_t i = 0; i < n; i++)
				q[i * inner] = is_log ? p[i * inner] - top - log_sum : (float) (expf(p[i * inner] - top) / sum);
		}
	}
	return MR_OK;
}
