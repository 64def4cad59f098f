/*
 * linear_file.c
 *	  Model bytes and prediction files of logistic regression, linear SVM, ridge
 *	  and PCA: outputs = bias + weights (x - mean), in the first followed by a
 *	  softmax.
 *
 * Body: u32 flags (1 = mean, 2 = variances), u32 rows of weights (1 for the
 * two-class model, else one an output); f64 mean a feature if flagged; f64
 * weights row by row; f64 bias a row; if flagged f64 explained variance and
 * f64 its ratio a row.  All finite.
 */
#include "learn/learner.h"

#include <math.h>
#include <string.h>

#define HAS_MEAN		1
#define HAS_VARIANCE	2

mr_code
lrn_linear_write(const mr_env *env, const lrn_info *info, const double *mean,
				 const double *weights, int n_rows, const double *bias,
				 const double *variance, const double *ratio,
				 uint8_t **file, size_t *len, mr_status *st)
{
	lrn_writer	w;
	mr_code		code;

	lrn_file_begin(&w, env, 0);
	lrn_put_u32(&w, (mean ? HAS_MEAN : 0) | (variance ? HAS_VARIANCE : 0));
	lrn_put_u32(&w, (uint32_t) n_rows);
	for (int j = 0; mean && j < info->n_features; j++)
		lrn_put_f64(&w, mean[j]);
	for (size_t i = 0; i < (size_t) n_rows * (size_t) info->n_features; i++)
		lrn_put_f64(&w, weights[i]);
	for (int c = 0; c < n_rows; c++)
		lrn_put_f64(&w, bias[c]);
	for (int c = 0; variance && c < n_rows; c++)
		lrn_put_f64(&w, variance[c]);
	for (int c = 0; variance && c < n_rows; c++)
		lrn_put_f64(&w, ratio[c]);
	code = lrn_file_end(&w, info, st);
	if (code)
	{
		mr_free(env, w.data);
		return code;
	}
	*file = w.data;
	*len = w.len;
	return MR_OK;
}

typedef struct linear_shape
{
	uint32_t	flags;
	uint32_t	rows;
	size_t		mean;			/* doubles in each part */
	size_t		weights;
} linear_shape;

/* Shape and exact length; all numbers finite. */
static mr_code
shape_of(lrn_reader *r, const lrn_info *info, linear_shape *s, mr_status *st)
{
	lrn_reader	all;
	size_t		doubles;

	s->flags = lrn_get_u32(r);
	s->rows = lrn_get_u32(r);
	if (r->bad || (s->flags & ~(uint32_t) (HAS_MEAN | HAS_VARIANCE)) ||
		s->rows != (info->n_classes == 2 ? 1 : (uint32_t) info->n_outputs))
		return lrn_corrupt(st, "Its shape is out of range");
	s->mean = s->flags & HAS_MEAN ? (size_t) info->n_features : 0;
	s->weights = (size_t) s->rows * (size_t) info->n_features;
	doubles = s->mean + s->weights + s->rows + (s->flags & HAS_VARIANCE ? 2 * (size_t) s->rows : 0);
	if ((size_t) (r->end - r->p) != doubles * sizeof(double))
		return lrn_corrupt(st, "Its length does not fit its shape");
	all = *r;
	for (size_t i = 0; i < doubles; i++)
		if (!isfinite(lrn_get_f64(&all)))
			return lrn_corrupt(st, "It holds a number that is not finite");
	return MR_OK;
}

mr_code
lrn_linear_check(lrn_reader *r, const lrn_info *info, mr_status *st)
{
	linear_shape s;

	return shape_of(r, info, &s, st);
}

/*
 * Weights are turned to feature-major float32 so that eight outputs lie side
 * by side; sums run in double, the mean is float32.
 */
mr_code
lrn_linear_compile(const mr_env *env, lrn_reader *r, const lrn_info *info,
				   uint8_t **file, size_t *file_len, mr_status *st)
{
	linear_shape s;
	lrn_flat_header h;
	size_t		d = (size_t) info->n_features;
	size_t		padded,
				len;
	uint8_t    *out;
	float	   *mean,
			   *weights;
	double	   *bias;
	lrn_reader	means;
	mr_code		code = shape_of(r, info, &s, st);

	if (code)
		return code;
	memset(&h, 0, sizeof(h));
	h.flags = info->algorithm == LRN_LOGISTIC_REGRESSION && s.rows == 1 ? LRN_FLAT_SIGMOID : 0;
	padded = ((h.flags & LRN_FLAT_SIGMOID ? 1 : (size_t) info->n_outputs) + 7) & ~(size_t) 7;
	h.padded = (uint32_t) padded;
	len = lrn_aligned(sizeof(h));
	if (s.mean)
	{
		h.section[0] = len;
		len += lrn_aligned(d * sizeof(float));
	}
	h.section[1] = len;
	len += lrn_aligned(d * padded * sizeof(float));
	h.section[2] = len;
	len += lrn_aligned(padded * sizeof(double));

	out = mr_alloc(env, len);
	if (out == NULL)
		return lrn_out_of_memory(st);
	memset(out, 0, len);
	memcpy(out, &h, sizeof(h));
	mean = (float *) (out + h.section[0]);
	weights = (float *) (out + h.section[1]);
	bias = (double *) (out + h.section[2]);
	for (size_t j = 0; j < s.mean; j++)
		mean[j] = (float) lrn_get_f64(r);
	means = *r;
	means.p -= s.mean * sizeof(double);
	for (size_t c = 0; c < s.rows; c++)
	{
		lrn_reader	again = means;

		for (size_t j = 0; j < d; j++)
		{
			weights[j * padded + c] = (float) lrn_get_f64(r);
			/* What the mean loses as a float32 goes into the bias. */
			if (s.mean)
				bias[c] += (double) weights[j * padded + c] * ((double) mean[j] - lrn_get_f64(&again));
		}
	}
	for (size_t c = 0; c < s.rows; c++)
		bias[c] += lrn_get_f64(r);
	/* One machine tells two classes apart: the first's score is the negative. */
	if (info->algorithm == LRN_LINEAR_SVM && s.rows == 1)
	{
		for (size_t j = 0; j < d; j++)
		{
			weights[j * padded + 1] = weights[j * padded];
			weights[j * padded] = -weights[j * padded];
		}
		bias[1] = bias[0];
		bias[0] = -bias[0];
	}
	*file = out;
	*file_len = len;
	return MR_OK;
}

mr_code
lrn_linear_open(const lrn_flat_header *h, lrn_model *m, mr_status *st)
{
	uint64_t	rows = h->flags & LRN_FLAT_SIGMOID ? 1 : h->n_outputs;

	if (h->padded != ((rows + 7) & ~(uint64_t) 7) || (h->flags & ~(uint32_t) LRN_FLAT_SIGMOID) ||
		((h->flags & LRN_FLAT_SIGMOID) && (h->n_outputs != 2 || h->algorithm != LRN_LOGISTIC_REGRESSION)))
		return lrn_corrupt(st, "Its shape is out of range");
	if ((h->section[0] && !lrn_section_fits(h, 0, h->n_features, sizeof(float))) ||
		!lrn_section_fits(h, 1, (uint64_t) h->n_features * h->padded, sizeof(float)) ||
		!lrn_section_fits(h, 2, h->padded, sizeof(double)))
		return lrn_corrupt(st, "A section lies outside the file");
	m->mean = lrn_section(h, 0);
	m->weights = lrn_section(h, 1);
	m->bias = lrn_section(h, 2);
	m->padded = (int) h->padded;
	m->sigmoid = h->flags & LRN_FLAT_SIGMOID;
	m->softmax = m->info.algorithm == LRN_LOGISTIC_REGRESSION && !m->sigmoid;
	return MR_OK;
}

mr_code
lrn_pca_variance(const uint8_t *bytes, size_t len, double *variance, double *ratio, mr_status *st)
{
	lrn_info	info;
	lrn_reader	r;
	linear_shape s;
	mr_code		code = lrn_file_open(bytes, len, &info, &r, st);

	if (code == MR_OK && info.algorithm != LRN_PCA)
		code = mr_fail(st, MR_INVALID, "model is a %s, not a pca", lrn_algorithm_name(info.algorithm));
	if (code == MR_OK)
		code = shape_of(&r, &info, &s, st);
	if (code)
		return code;
	if (!(s.flags & HAS_VARIANCE))
		return lrn_corrupt(st, "Its variances are absent");
	r.p += (s.mean + s.weights + s.rows) * sizeof(double);
	for (uint32_t c = 0; c < s.rows; c++)
	{
		double		v = lrn_get_f64(&r);

		if (variance)
			variance[c] = v;
	}
	for (uint32_t c = 0; c < s.rows; c++)
	{
		double		v = lrn_get_f64(&r);

		if (ratio)
			ratio[c] = v;
	}
	return MR_OK;
}

mr_code
lrn_linear_coefficients(const mr_env *env, lrn_reader *r, const lrn_info *info,
						lrn_coefficients *out, mr_status *st)
{
	linear_shape s;
	mr_code		code = shape_of(r, info, &s, st);
	double	   *p;

	if (code)
		return code;
	p = mr_alloc(env, (s.weights + s.rows + s.mean) * sizeof(double));
	if (p == NULL)
		return lrn_out_of_memory(st);
	out->rows = (int) s.rows;
	out->weight = p;
	out->bias = p + s.weights;
	out->mean = s.mean ? out->bias + s.rows : NULL;
	for (size_t i = 0; i < s.mean; i++)
		out->mean[i] = lrn_get_f64(r);
	for (size_t i = 0; i < s.weights; i++)
		out->weight[i] = lrn_get_f64(r);
	for (size_t i = 0; i < s.rows; i++)
		out->bias[i] = lrn_get_f64(r);
	return MR_OK;
}
