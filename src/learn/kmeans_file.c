/*
 * kmeans_file.c
 *	  Model bytes and prediction files of k-means.
 *
 * Body: f64 mean and scale of each feature, then f64 centres, centre by centre,
 * in the coordinates (x - mean) * scale.  All finite, scales above 0.
 */
#include "learn/kmeans.h"

#include <math.h>
#include <string.h>

mr_code
lrn_kmeans_write(const mr_env *env, int d, int k, const double *mean, const double *scale,
				 const double *centre, uint8_t **file, size_t *len, mr_status *st)
{
	lrn_info	info = {LRN_KMEANS, LRN_CLUSTER, d, 0, k};
	lrn_writer	w;
	mr_code		code;

	lrn_file_begin(&w, env, 0);
	for (int j = 0; j < d; j++)
		lrn_put_f64(&w, mean[j]);
	for (int j = 0; j < d; j++)
		lrn_put_f64(&w, scale[j]);
	for (size_t i = 0; i < (size_t) k * (size_t) d; i++)
		lrn_put_f64(&w, centre[i]);
	code = lrn_file_end(&w, &info, st);
	if (code)
	{
		mr_free(env, w.data);
		return code;
	}
	*file = w.data;
	*len = w.len;
	return MR_OK;
}

bool
lrn_kmeans_sane(const lrn_info *info)
{
	return info->n_classes == 0;
}

mr_code
lrn_kmeans_check(lrn_reader *r, const lrn_info *info, mr_status *st)
{
	size_t		d = (size_t) info->n_features,
				doubles = d * ((size_t) info->n_outputs + 2);
	lrn_reader	all = *r;

	if ((size_t) (r->end - r->p) != doubles * sizeof(double))
		return lrn_corrupt(st, "Its length does not fit its shape");
	for (size_t i = 0; i < doubles; i++)
	{
		double		v = lrn_get_f64(&all);

		/* float32 must hold what a prediction file keeps in it */
		if (!isfinite(v) || (i >= d && i < 2 * d && !(v > 0)) || (i >= 2 * d && fabs(v) > 3e38))
			return lrn_corrupt(st, "It holds a number that is out of range");
	}
	return MR_OK;
}

/* Sections: shift, scale (f64 a feature), centres (f32, feature by feature, padded to eights). */
mr_code
lrn_kmeans_compile(const mr_env *env, lrn_reader *r, const lrn_info *info,
				   uint8_t **file, size_t *len, mr_status *st)
{
	size_t		d = (size_t) info->n_features,
				k = (size_t) info->n_outputs,
				padded = (k + 7) & ~(size_t) 7,
				at = lrn_aligned(sizeof(lrn_flat_header));
	lrn_flat_header h;
	uint8_t    *out;
	double	   *shift;
	float	   *centre;
	mr_code		code = lrn_kmeans_check(r, info, st);

	if (code)
		return code;
	memset(&h, 0, sizeof(h));
	h.padded = (uint32_t) padded;
	h.section[0] = at;
	h.section[1] = h.section[0] + lrn_aligned(d * sizeof(double));
	h.section[2] = h.section[1] + lrn_aligned(d * sizeof(double));
	*len = h.section[2] + lrn_aligned(d * padded * sizeof(float));
	out = mr_alloc(env, *len);
	if (out == NULL)
		return lrn_out_of_memory(st);
	memset(out, 0, *len);
	memcpy(out, &h, sizeof(h));
	for (int s = 0; s < 2; s++)
	{
		shift = (double *) (out + h.section[s]);
		for (size_t j = 0; j < d; j++)
			shift[j] = lrn_get_f64(r);
	}
	centre = (float *) (out + h.section[2]);
	for (size_t c = 0; c < k; c++)
		for (size_t j = 0; j < d; j++)
			centre[j * padded + c] = (float) lrn_get_f64(r);
	*file = out;
	return MR_OK;
}

mr_code
lrn_kmeans_open(const lrn_flat_header *h, lrn_model *m, mr_status *st)
{
	if (h->padded != ((h->n_outputs + 7) & ~7u))
		return lrn_corrupt(st, "Its shape is out of range");
	if (!lrn_section_fits(h, 0, h->n_features, sizeof(double)) ||
		!lrn_section_fits(h, 1, h->n_features, sizeof(double)) ||
		!lrn_section_fits(h, 2, (uint64_t) h->n_features * h->padded, sizeof(float)))
		return lrn_corrupt(st, "A section lies outside the file");
	m->shift = lrn_section(h, 0);
	m->scale = lrn_section(h, 1);
	m->weights = lrn_section(h, 2);
	m->padded = (int) h->padded;
	return MR_OK;
}

void
lrn_kmeans_predict(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	lrn_kernels_for(m->isa)->kmeans_rows(m, rows, n, out);
}
