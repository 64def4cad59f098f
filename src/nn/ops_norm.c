/*
 * ops_norm.c
 *	  LayerNormalization.  Over the last dimension with constant scale and bias it
 *	  goes to a step of its own (step_norm.c).
 */
#include <math.h>

#include "nn/ops_impl.h"

mr_code
nn_infer_layernorm(nn_infer_call *c)
{
	const nn_value *x = nn_in(c, 0);
	nn_shape	mean = x->shape;
	int64_t		axis,
				stash;
	int64_t		rows = 1,
				width = 1;
	nn_shape	row = {0},
				with;

	for (int k = 0; k < c->n_in; k++)
		NN_TRY(nn_need_float(c, k));
	NN_TRY(nn_get_int(c, "axis", -1, &axis));
	NN_TRY(nn_get_int(c, "stash_type", 1, &stash));
	NN_TRY(nn_get_float(c, "epsilon", 1e-5f, &c->p->f[0]));
	NN_TRY(nn_norm_axis(c, &axis, x->shape.rank));
	for (int i = 0; i < x->shape.rank; i++)
	{
		if (i < axis)
		{
			rows *= x->shape.dims[i];
			continue;
		}
		width *= x->shape.dims[i];
		row.dims[row.rank++] = x->shape.dims[i];
		mean.dims[i] = 1;
	}
	for (int k = 1; k < 3; k++)
	{
		const nn_value *v = nn_in(c, k);

		if (v == NULL)
			continue;
		NN_TRY(nn_broadcast(c, &row, &v->shape, &with));
		if (!nn_shape_equal(&with, &row))
			return nn_infer_fail(c, MR_INVALID, "scale or bias does not fit");
	}
	c->p->i[nn_n_rows] = rows;
	c->p->i[nn_n_width] = width;
	c->p->i[nn_n_rank] = row.rank;
	NN_TRY(nn_set_out(c, 0, nn_float32, &x->shape));
	NN_TRY(nn_set_out(c, 1, nn_float32, &mean));
	return nn_set_out(c, 2, nn_float32, &mean);
}

mr_code
nn_run_layernorm(nn_run_call *c)
{
	int64_t		rows = c->p->i[nn_n_rows],
				width = c->p->i[nn_n_width];
	bool		rms = c->p->i[nn_n_rms] != 0;
	const nn_tensor *operands[2] = {&c->in[1], c->n_in > 2 && c->in[2].data ? &c->in[2] : &c->in[1]};
	float	   *means = c->n_out > 1 ? c->out[1].data : NULL,
			   *inverses = c->n_out > 2 ? c->out[2].data : NULL;
	nn_shape	row = {(int32_t) c->p->i[nn_n_rank], {0}};
	nn_bcast	w;

	if (row.rank == 0)
		row.rank = 1;
	for (int i = 0; i < row.rank; i++)
		row.dims[i] = c->in[0].shape.dims[c->in[0].shape.rank - row.rank + i];
	nn_bcast_init(&w, &row, 2, operands);
	for (int64_t r = 0; r < rows; r++)
	{
		const float *x = (const float *) c->in[0].data + r * width;
		float	   *y = (float *) c->out[0].data + r * width;
		double		mean = 0,
					var = 0;
		float		f;
		int64_t		index[NN_MAX_RANK] = {0},
					off[3] = {0};
		int64_t		cols = row.dims[row.rank - 1];

		if ((r * width) % NN_STOP_WORK < width && mr_interrupted(c->env))
			return MR_CANCELED;
		if (width == 0)
			break;
		for (int64_t i = 0; i < width && !rms; i++)
			mean += x[i];
		mean /= (double) width;
		for (int64_t i = 0; i < width; i++)
			var += (x[i] - mean) * (x[i] - mean);
		f = (float) (1 / sqrt(var / (double) width + c->p->f[0]));
		for (int64_t at = 0;; at += cols)
		{
			const float *s = (const float *) operands[0]->data + off[0],
					   *b = (const float *) operands[1]->data + off[1];

			for (int64_t i = 0; i < cols; i++)
				y[at + i] = (float) (x[at + i] - mean) * f * s[i * w.stride[0][w.rank - 1]] +
					(operands[1] == operands[0] ? 0 : b[i * w.stride[1][w.rank - 1]]);
			if (!nn_bcast_next(&w, 2, index, off))
				break;
		}
		if (means)
			means[r] = (float) mean;
		if (inverses)
			inverses[r] = f;
	}
	return MR_OK;
}
