/*
 * ops_loss.c
 *	  NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss.
 *
 * Inputs: scores (N, C, d...), labels (N, d...), weights of the C classes (may be
 * omitted).  params.i[0]: reduction, i[1]: a label is ignored, i[2]: that label.
 * Positions d are taken in blocks, so that classes are read in long rows.
 */
#include <math.h>

#include "nn/ops_util.h"

#define BLOCK 256				/* positions at a time */

enum reduction
{
	reduce_none, reduce_sum, reduce_mean
};

/* op->arg 1: softmax first, and its logarithm as a second output. */
mr_code
nn_infer_loss(nn_infer_call *c)
{
	static const char *const reductions[] = {"none", "sum", "mean"};
	nn_value   *x = nn_in(c, 0),
			   *label = nn_in(c, 1),
			   *weight = nn_in(c, 2);
	nn_shape	s = x->shape;
	int			reduction = nn_get_choice(c, "reduction", "mean", 3, reductions);

	NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_need_index(c, 1));
	NN_TRY(nn_need_float(c, 2));
	if (reduction < 0)
		return nn_infer_fail(c, MR_INVALID, "attribute reduction must be none, sum or mean");
	if (s.rank < 2 || label->shape.rank != s.rank - 1)
		return nn_infer_fail(c, MR_INVALID, "labels of %d dimensions for scores of %d", label->shape.rank, s.rank);
	for (int i = 0; i < s.rank; i++)
		if (i != 1 && s.dims[i] != label->shape.dims[i - (i > 1)])
			return nn_infer_fail(c, MR_INVALID, "the labels do not fit the scores");
	if (weight && (weight->shape.rank != 1 || weight->elements != s.dims[1]))
		return nn_infer_fail(c, MR_INVALID, "the weights do not fit the %lld classes", (long long) s.dims[1]);
	c->p->i[0] = reduction;
	c->p->i[1] = nn_find_attr(c->n, "ignore_index") != NULL;
	NN_TRY(nn_get_int(c, "ignore_index", 0, &c->p->i[2]));
	NN_TRY(nn_set_out(c, 1, nn_float32, &s));
	s = label->shape;
	if (reduction != reduce_none)
		s.rank = 0;
	return nn_set_out(c, 0, nn_float32, &s);
}

/* Of n neighbouring positions with classes `pitch` apart: the greatest score plus
 * the logarithm of the sum of exponentials. */
static void
log_sums(const float *x, int64_t classes, int64_t pitch, int n, float out[BLOCK])
{
	float		top[BLOCK];
	double		sum[BLOCK];

	for (int j = 0; j < n; j++)
	{
		top[j] = -INFINITY;
		sum[j] = 0;
	}
	for (int64_t k = 0; k < classes; k++)
		for (int j = 0; j < n; j++)
			top[j] = x[k * pitch + j] > top[j] ? x[k * pitch + j] : top[j];
	for (int64_t k = 0; k < classes; k++)
		for (int j = 0; j < n; j++)
			sum[j] += expf(x[k * pitch + j] - top[j]);
	for (int j = 0; j < n; j++)
		out[j] = top[j] + (float) log(sum[j]);
}

mr_code
nn_run_loss(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	const nn_tensor *label = &c->in[1];
	const float *weight = c->n_in > 2 ? c->in[2].data : NULL;
	float	   *each = c->p->i[0] == reduce_none ? c->out[0].data : NULL;
	float	   *log_prob = c->n_out > 1 ? c->out[1].data : NULL;
	bool		softmax = c->op->arg != 0;
	int64_t		classes = x->shape.dims[1];
	int64_t		inner = 1;
	double		sum = 0,
				weights = 0;
	int64_t		work = 0;

	for (int i = 2; i < x->shape.rank; i++)
		inner *= x->shape.dims[i];
	for (int64_t n = 0; n < x->shape.dims[0]; n++)
		for (int64_t from = 0; from < inner; from += BLOCK)
		{
			int			m = (int) (inner - from < BLOCK ? inner - from : BLOCK);
			int64_t		base = n * classes * inner + from;
			const float *p = (const float *) x->data + base;
			float		shift[BLOCK] = {0};

			if (nn_stop(c, &work, m * (softmax ? classes * 16 : 4)))
				return MR_CANCELED;
			if (softmax)
				log_sums(p, classes, inner, m, shift);
			for (int64_t k = 0; log_prob && k < classes; k++)
				for (int j = 0; j < m; j++)
					log_prob[base + k * inner + j] = p[k * inner + j] - shift[j];
			for (int j = 0; j < m; j++)
			{
				int64_t		t = nn_index_at(label, n * inner + from + j);
				float		w = 0,
							loss = 0;

				if (!c->p->i[1] || t != c->p->i[2])
				{
					if (t < 0 || t >= classes)
						return nn_bad_index(c, t, classes);
					w = weight ? weight[t] : 1;
					loss = -(p[t * inner + j] - shift[j]) * w;
				}
				sum += loss;
				weights += w;
				if (each)
					each[n * inner + from + j] = loss;
			}
		}
	if (each == NULL && c->out[0].data)
		*(float *) c->out[0].data = (float) (c->p->i[0] == reduce_mean ? sum / weights : sum);
	return MR_OK;
}
