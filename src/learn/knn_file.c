/*
 * knn_file.c
 *	  Model bytes and prediction files of nearest neighbours.
 *
 * Body: u32 metric, weights, n_neighbors, points; f64 shift and scale of each
 * feature; f32 points, row by row, in the coordinates (x - shift) * scale, of
 * length 1 for the cosine; then one u32 class or f32 value a point.
 */
#include "learn/knn.h"

#include <math.h>
#include <string.h>

/* One row of the matrix as a point. */
static void
point_of(const lrn_points *k, int64_t row, float *out)
{
	double		square = 0,
				length = 1;

	for (int j = 0; j < k->info.n_features; j++)
	{
		double		v = ((double) k->m->col[j][row] - k->shift[j]) * k->scale[j];

		square += v * v;
	}
	if (k->metric == LRN_COSINE && square > 0)
		length = sqrt(square);
	for (int j = 0; j < k->info.n_features; j++)
		out[j] = (float) (((double) k->m->col[j][row] - k->shift[j]) * k->scale[j] / length);
}

mr_code
lrn_knn_write(const mr_env *env, const lrn_points *k, size_t limit, uint8_t **file, size_t *len, mr_status *st)
{
	int			d = k->info.n_features;
	lrn_writer	w;
	float		point[LRN_KNN_FEATURES];
	mr_code		code = MR_OK;

	lrn_file_begin(&w, env, limit);
	lrn_put_u32(&w, (uint32_t) k->metric);
	lrn_put_u32(&w, (uint32_t) k->weights);
	lrn_put_u32(&w, (uint32_t) k->n_neighbors);
	lrn_put_u32(&w, (uint32_t) k->rows);
	for (int j = 0; j < d; j++)
		lrn_put_f64(&w, k->shift[j]);
	for (int j = 0; j < d; j++)
		lrn_put_f64(&w, k->scale[j]);
	for (int64_t i = 0; i < k->rows && code == MR_OK; i++)
	{
		point_of(k, i, point);
		for (int j = 0; j < d; j++)
			lrn_put_f32(&w, point[j]);
		if (i % 64 == 0 && mr_interrupted(env))
			code = lrn_canceled(st);
	}
	for (int64_t i = 0; i < k->rows; i++)
		if (k->info.task == LRN_CLASSIFY)
			lrn_put_u32(&w, (uint32_t) k->t->class_id[i]);
		else
			lrn_put_f32(&w, k->t->value[i]);
	if (code == MR_OK)
		code = lrn_file_end(&w, &k->info, st);
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
lrn_knn_sane(const lrn_info *info)
{
	return info->n_features <= LRN_KNN_FEATURES &&
		(info->task == LRN_CLASSIFY ? info->n_classes == info->n_outputs : info->n_outputs == 1);
}

typedef struct knn_shape
{
	uint32_t	metric;
	uint32_t	weights;
	uint32_t	n_neighbors;
	uint32_t	points;
} knn_shape;

static bool
shape_is_sane(const knn_shape *s, uint64_t d)
{
	return s->metric <= LRN_MANHATTAN && s->weights <= LRN_WEIGHTS_DISTANCE &&
		s->points >= 1 && s->points <= LRN_KNN_NUMBERS / d &&
		s->n_neighbors >= 1 && s->n_neighbors <= LRN_KNN_MOST && s->n_neighbors <= s->points;
}

/* Shape, exact length, numbers finite, classes in range; r then stands on the shift. */
static mr_code
shape_of(lrn_reader *r, const lrn_info *info, knn_shape *s, mr_status *st)
{
	uint64_t	d = (uint64_t) info->n_features;
	lrn_reader	all;

	s->metric = lrn_get_u32(r);
	s->weights = lrn_get_u32(r);
	s->n_neighbors = lrn_get_u32(r);
	s->points = lrn_get_u32(r);
	if (r->bad || !shape_is_sane(s, d))
		return lrn_corrupt(st, "Its shape is out of range");
	if ((uint64_t) (r->end - r->p) != 2 * d * sizeof(double) + s->points * (d + 1) * sizeof(float))
		return lrn_corrupt(st, "Its length does not fit its shape");
	all = *r;
	for (uint64_t j = 0; j < 2 * d; j++)
	{
		double		v = lrn_get_f64(&all);

		if (!isfinite(v) || (j >= d && !(v > 0)))
			return lrn_corrupt(st, "It holds a number that is out of range");
	}
	for (uint64_t i = 0; i < s->points * d; i++)
		if (!isfinite(lrn_get_f32(&all)))
			return lrn_corrupt(st, "It holds a number that is not finite");
	for (uint32_t i = 0; i < s->points; i++)
		if (info->task == LRN_CLASSIFY ? lrn_get_u32(&all) >= (uint32_t) info->n_classes : !isfinite(lrn_get_f32(&all)))
			return lrn_corrupt(st, "A point's target is out of range");
	return MR_OK;
}

mr_code
lrn_knn_check(lrn_reader *r, const lrn_info *info, mr_status *st)
{
	knn_shape	s;

	return shape_of(r, info, &s, st);
}

/* Sections: shift, scale (f64), points (f32, groups of LRN_LANES), targets (4 bytes a point). */
mr_code
lrn_knn_compile(const mr_env *env, lrn_reader *r, const lrn_info *info,
				uint8_t **file, size_t *len, mr_status *st)
{
	size_t		d = (size_t) info->n_features,
				groups;
	knn_shape	s;
	lrn_flat_header h;
	uint8_t    *out;
	float	   *points;
	uint32_t   *target;
	mr_code		code = shape_of(r, info, &s, st);

	if (code)
		return code;
	groups = ((size_t) s.points + LRN_LANES - 1) / LRN_LANES;
	memset(&h, 0, sizeof(h));
	h.metric = s.metric;
	h.weighting = s.weights;
	h.n_neighbors = s.n_neighbors;
	h.n_points = s.points;
	h.section[0] = lrn_aligned(sizeof(h));
	h.section[1] = h.section[0] + lrn_aligned(d * sizeof(double));
	h.section[2] = h.section[1] + lrn_aligned(d * sizeof(double));
	h.section[3] = h.section[2] + lrn_aligned(groups * LRN_LANES * d * sizeof(float));
	*len = h.section[3] + lrn_aligned(s.points * sizeof(uint32_t));
	out = mr_alloc(env, *len);
	if (out == NULL)
		return lrn_out_of_memory(st);
	memset(out, 0, *len);
	memcpy(out, &h, sizeof(h));
	for (int i = 0; i < 2; i++)
	{
		double	   *v = (double *) (out + h.section[i]);

		for (size_t j = 0; j < d; j++)
			v[j] = lrn_get_f64(r);
	}
	points = (float *) (out + h.section[2]);
	for (size_t i = 0; i < s.points; i++)
		for (size_t j = 0; j < d; j++)
			points[(i / LRN_LANES * d + j) * LRN_LANES + i % LRN_LANES] = lrn_get_f32(r);
	target = (uint32_t *) (out + h.section[3]);
	for (uint32_t i = 0; i < s.points; i++)
		target[i] = lrn_get_u32(r);
	*file = out;
	return MR_OK;
}

mr_code
lrn_knn_open(const lrn_flat_header *h, lrn_model *m, mr_status *st)
{
	knn_shape	s = {h->metric, h->weighting, h->n_neighbors, h->n_points};
	uint64_t	d = h->n_features,
				groups;

	if (!shape_is_sane(&s, d))
		return lrn_corrupt(st, "Its shape is out of range");
	groups = ((uint64_t) s.points + LRN_LANES - 1) / LRN_LANES;
	if (!lrn_section_fits(h, 0, d, sizeof(double)) || !lrn_section_fits(h, 1, d, sizeof(double)) ||
		!lrn_section_fits(h, 2, groups * LRN_LANES * d, sizeof(float)) ||
		!lrn_section_fits(h, 3, s.points, sizeof(uint32_t)))
		return lrn_corrupt(st, "A section lies outside the file");
	m->shift = lrn_section(h, 0);
	m->scale = lrn_section(h, 1);
	m->points = lrn_section(h, 2);
	m->labels = lrn_section(h, 3);
	m->values = lrn_section(h, 3);
	m->n_points = s.points;
	m->n_neighbors = (int) s.n_neighbors;
	m->metric = (int) s.metric;
	m->by_distance = s.weights == LRN_WEIGHTS_DISTANCE;
	for (uint32_t i = 0; i < s.points && m->info.task == LRN_CLASSIFY; i++)
		if (m->labels[i] >= h->n_classes)
			return lrn_corrupt(st, "A point's class is out of range");
	return MR_OK;
}

double
lrn_knn_row_ns(const lrn_model *m)
{
	return (double) m->n_points * (m->info.n_features + 2) * 0.5 + m->n_neighbors * 20 + 1000;
}

void
lrn_knn_predict(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	lrn_kernels_for(m->isa)->knn_rows(m, rows, n, out);
}
