/*
 * ops_moments.c
 *	  Normalisations: batch, instance, group, mean-variance, local response.
 *
 * Means and variances are sums in double.  Batch norm is an affine map here;
 * its statistics are inputs, training is refused.
 */
#include <math.h>

#include "nn/ops_util.h"

#define MAX_WINDOW 65536		/* of LRN */

/* Mean and 1 / sqrt(variance + epsilon) of n values. */
static void
moments(const float *x, int64_t n, double epsilon, double *mean, double *scale)
{
	double		sum[4] = {0, 0, 0, 0},
				var[4] = {0, 0, 0, 0};
	double		m;
	int64_t		i;

	for (i = 0; i + 4 <= n; i += 4)
		for (int k = 0; k < 4; k++)
			sum[k] += x[i + k];
	for (; i < n; i++)
		sum[0] += x[i];
	m = (sum[0] + sum[1] + sum[2] + sum[3]) / (n ? (double) n : 1);
	for (i = 0; i + 4 <= n; i += 4)
		for (int k = 0; k < 4; k++)
			var[k] += (x[i + k] - m) * (x[i + k] - m);
	for (; i < n; i++)
		var[0] += (x[i] - m) * (x[i] - m);
	*mean = m;
	*scale = 1 / sqrt((var[0] + var[1] + var[2] + var[3]) / (n ? (double) n : 1) + epsilon);
}

/* x, scale, bias, mean, variance; inference only.  f[0] = epsilon. */
mr_code
nn_infer_batchnorm(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	int64_t		training;

	NN_TRY(nn_get_float(c, "epsilon", 1e-5f, &c->p->f[0]));
	NN_TRY(nn_get_int(c, "training_mode", 0, &training));
	if (training || c->n_out > 1)
		return nn_infer_fail(c, MR_UNSUPPORTED, "training mode is not supported");
	for (int k = 0; k < 5; k++)
		NN_TRY(nn_need_float(c, k));
	if (x->shape.rank < 2)
		return nn_infer_fail(c, MR_INVALID, "input of %d dimensions", x->shape.rank);
	for (int k = 1; k < 5; k++)
		if (nn_in(c, k)->elements != x->shape.dims[1])
			return nn_infer_fail(c, MR_INVALID, "input %d has %lld values for %lld channels", k,
								 (long long) nn_in(c, k)->elements, (long long) x->shape.dims[1]);
	return nn_set_out(c, 0, nn_float32, &x->shape);
}

mr_code
nn_run_batchnorm(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	int64_t		ch = x->shape.dims[1];
	int64_t		planes = x->shape.dims[0] * ch;
	int64_t		cells = planes ? x->elements / planes : 0;
	int64_t		work = 0;

	for (int64_t n = 0; n < planes; n++)
	{
		int64_t		k = n % ch;
		float		scale = ((float *) c->in[1].data)[k] / sqrtf(((float *) c->in[4].data)[k] + c->p->f[0]);
		float		shift = ((float *) c->in[2].data)[k] - ((float *) c->in[3].data)[k] * scale;
		const float *p = (const float *) x->data + n * cells;
		float	   *q = (float *) c->out[0].data + n * cells;

		if (nn_stop(c, &work, cells))
			return MR_CANCELED;
		for (int64_t i = 0; i < cells; i++)
			q[i] = p[i] * scale + shift;
	}
	return MR_OK;
}

/* x, scale, bias. */
mr_code
nn_infer_instancenorm(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);

	NN_TRY(nn_get_float(c, "epsilon", 1e-5f, &c->p->f[0]));
	for (int k = 0; k < 3; k++)
		NN_TRY(nn_need_float(c, k));
	if (x->shape.rank < 3 || nn_in(c, 1)->elements != x->shape.dims[1] ||
		nn_in(c, 2)->elements != x->shape.dims[1])
		return nn_infer_fail(c, MR_INVALID, "scale and bias do not fit the input");
	return nn_set_out(c, 0, nn_float32, &x->shape);
}

mr_code
nn_run_instancenorm(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	int64_t		ch = x->shape.dims[1];
	int64_t		planes = x->shape.dims[0] * ch;
	int64_t		cells = planes ? x->elements / planes : 0;
	int64_t		work = 0;

	for (int64_t n = 0; n < planes; n++)
	{
		const float *p = (const float *) x->data + n * cells;
		float	   *q = (float *) c->out[0].data + n * cells;
		double		mean,
					scale;
		float		f,
					shift;

		if (nn_stop(c, &work, cells * 4))
			return MR_CANCELED;
		moments(p, cells, c->p->f[0], &mean, &scale);
		f = (float) (((float *) c->in[1].data)[n % ch] * scale);
		shift = ((float *) c->in[2].data)[n % ch];
		for (int64_t i = 0; i < cells; i++)
			q[i] = (p[i] - (float) mean) * f + shift;
	}
	return MR_OK;
}

/* ---- GroupNormalization: i[0] = groups, i[1]: scale and bias are per group ---- */

mr_code
nn_infer_groupnorm(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	int64_t		groups,
				want;

	for (int k = 0; k < 3; k++)
		NN_TRY(nn_need_float(c, k));
	NN_TRY(nn_get_float(c, "epsilon", 1e-5f, &c->p->f[0]));
	NN_TRY(nn_get_int(c, "num_groups", 0, &groups));
	if (x->shape.rank < 2 || groups < 1 || groups > x->shape.dims[1] || x->shape.dims[1] % groups)
		return nn_infer_fail(c, MR_INVALID, "%lld groups do not divide the channels", (long long) groups);
	c->p->i[0] = groups;
	c->p->i[1] = c->n->opset < 21;
	want = c->p->i[1] ? groups : x->shape.dims[1];
	if (nn_in(c, 1)->elements != want || nn_in(c, 2)->elements != want)
		return nn_infer_fail(c, MR_INVALID, "scale and bias must have %lld values", (long long) want);
	return nn_set_out(c, 0, nn_float32, &x->shape);
}

mr_code
nn_run_groupnorm(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	int64_t		groups = c->p->i[0];
	int64_t		ch = x->shape.dims[1];
	int64_t		per = ch / groups;
	int64_t		planes = x->shape.dims[0] * ch;
	int64_t		cells = planes ? x->elements / planes : 0;
	int64_t		work = 0;

	for (int64_t n = 0; n < x->shape.dims[0] * groups; n++)
	{
		const float *p = (const float *) x->data + n * per * cells;
		float	   *q = (float *) c->out[0].data + n * per * cells;
		double		mean,
					scale;

		if (nn_stop(c, &work, per * cells * 4))
			return MR_CANCELED;
		moments(p, per * cells, c->p->f[0], &mean, &scale);
		for (int64_t k = 0; k < per; k++)
		{
			int64_t		at = c->p->i[1] ? n % groups : n % groups * per + k;
			float		f = (float) (((float *) c->in[1].data)[at] * scale);
			float		shift = ((float *) c->in[2].data)[at];

			for (int64_t i = k * cells; i < (k + 1) * cells; i++)
				q[i] = (p[i] - (float) mean) * f + shift;
		}
	}
	return MR_OK;
}

/* ---- MeanVarianceNormalization over any axes: i[0] = their bits ---- */

mr_code
nn_infer_mvn(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	int64_t		axes[NN_MAX_RANK] = {0, 2, 3};
	int			n;

	NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_get_ints(c, "axes", NN_MAX_RANK, axes, &n));
	for (int i = 0; i < (n < 0 ? 3 : n); i++)
	{
		NN_TRY(nn_norm_axis(c, &axes[i], x->shape.rank));
		c->p->i[0] |= 1 << axes[i];
	}
	return nn_set_out(c, 0, nn_float32, &x->shape);
}

/* Offset of cell k among the dimensions whose bits are set, or are not. */
static int64_t
cell_offset(const nn_shape *s, int64_t bits, int64_t k)
{
	int64_t		stride = 1,
				off = 0;

	for (int i = s->rank - 1; i >= 0; i--)
	{
		if (bits >> i & 1)
		{
			off += k % s->dims[i] * stride;
			k /= s->dims[i];
		}
		stride *= s->dims[i];
	}
	return off;
}

mr_code
nn_run_mvn(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	const float *p = x->data;
	float	   *q = c->out[0].data;
	int64_t		bits = c->p->i[0];
	int64_t		cells = 1,
				run = 1,
				work = 0;

	if (x->elements == 0)
		return MR_OK;
	for (int i = 0; i < x->shape.rank; i++)
		cells *= bits >> i & 1 ? x->shape.dims[i] : 1;
	/* the innermost reduced dimensions are contiguous runs */
	for (int i = x->shape.rank - 1; i >= 0 && (bits >> i & 1); i--)
		run *= x->shape.dims[i];
	for (int64_t o = 0; o < x->elements / cells; o++)
	{
		int64_t		base = cell_offset(&x->shape, ~bits, o);
		double		sum = 0,
					var = 0;
		float		mean,
					f;

		for (int pass = 0; pass < 3; pass++)
			for (int64_t k = 0; k < cells; k += run)
			{
				int64_t		at = base + cell_offset(&x->shape, bits, k);

				if (nn_stop(c, &work, run + 8))
					return MR_CANCELED;
				mean = (float) (sum / (double) cells);
				f = (float) (1 / (sqrt(var / (double) cells) + 1e-9));
				for (int64_t i = at; i < at + run; i++)
					if (pass == 0)
						sum += p[i];
					else if (pass == 1)
						var += (double) (p[i] - mean) * (p[i] - mean);
					else
						q[i] = (p[i] - mean) * f;
			}
	}
	return MR_OK;
}

/* i[0] = size; f = alpha, beta, bias. */
mr_code
nn_infer_lrn(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);

	NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_get_int(c, "size", 0, &c->p->i[0]));
	NN_TRY(nn_get_float(c, "alpha", 1e-4f, &c->p->f[0]));
	NN_TRY(nn_get_float(c, "beta", 0.75f, &c->p->f[1]));
	NN_TRY(nn_get_float(c, "bias", 1, &c->p->f[2]));
	if (c->p->i[0] < 1 || c->p->i[0] > MAX_WINDOW || x->shape.rank < 2)
		return nn_infer_fail(c, MR_INVALID, "bad size or rank");
	return nn_set_out(c, 0, nn_float32, &x->shape);
}

mr_code
nn_run_lrn(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	int64_t		ch = x->shape.dims[1];
	int64_t		planes = x->shape.dims[0] * ch;
	int64_t		cells = planes ? x->elements / planes : 0;
	int64_t		size = c->p->i[0];

	for (int64_t n = 0; n < planes; n++)
	{
		int64_t		k = n % ch;
		int64_t		lo = k - (size - 1) / 2,
					hi = k + size / 2;

		lo = lo < 0 ? 0 : lo;
		hi = hi >= ch ? ch - 1 : hi;
		if (mr_interrupted(c->env))
			return MR_CANCELED;
		for (int64_t i = 0; i < cells; i++)
		{
			float		sum = 0;

			for (int64_t j = lo; j <= hi; j++)
			{
				float		v = ((const float *) x->data)[(n - k + j) * cells + i];

				sum += v * v;
			}
			((float *) c->out[0].data)[n * cells + i] = ((const float *) x->data)[n * cells + i] /
				powf(c->p->f[2] + c->p->f[0] / (float) size * sum, c->p->f[1]);
		}
	}
	return MR_OK;
}
