/*
 * svm_file.c
 *	  Model bytes and prediction files of the RBF machine.
 *
 * Body: a feature's f64 mean and f64 scale (the square root of gamma / ln 2,
 * divided by the deviation where columns were standardised); u32 support vectors a
 * class; f64 rho a pair (0-1, 0-2, ..., 1-2, ...); then the vectors class by
 * class, each its f32 coordinates (x - mean) * scale and an f32 coefficient for
 * each other class.  All finite.
 */
#include "learn/svm.h"

#include <math.h>
#include <string.h>

mr_code
svm_write(const mr_env *env, const lrn_info *info, const svm_parts *s, uint8_t **file, size_t *len, mr_status *st)
{
	lrn_writer	w;
	int			k = info->n_classes;
	mr_code		code;

	lrn_file_begin(&w, env, 0);
	for (int j = 0; j < info->n_features; j++)
	{
		lrn_put_f64(&w, s->mean[j]);
		lrn_put_f64(&w, s->scale[j]);
	}
	for (int c = 0; c < k; c++)
		lrn_put_u32(&w, s->count[c]);
	for (int i = 0; i < k * (k - 1) / 2; i++)
		lrn_put_f64(&w, s->rho[i]);
	for (int64_t i = 0; i < s->n_rows; i++)
	{
		const float *coef = s->coef + (size_t) i * (size_t) (k - 1);

		if (!svm_is_support(coef, k))
			continue;
		for (int j = 0; j < info->n_features; j++)
			lrn_put_f32(&w, svm_coordinate(s->col[j][s->row[i]], s->mean[j], s->scale[j]));
		for (int o = 0; o < k - 1; o++)
			lrn_put_f32(&w, coef[o]);
	}
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

bool
svm_is_sane(const lrn_info *info)
{
	return info->n_classes == info->n_outputs && info->n_classes >= 2 && info->n_classes <= LRN_SVM_CLASSES;
}

/* Pass the scaling, the counts and the pairs; sum the tiles they need. */
static bool
read_head(lrn_reader *r, const lrn_info *info, uint32_t *count, uint64_t *vectors, uint64_t *tiles)
{
	int			k = info->n_classes;
	bool		finite = true;

	for (int j = 0; j < 2 * info->n_features && !r->bad; j++)
		finite &= isfinite(lrn_get_f64(r)) != 0;
	*vectors = *tiles = 0;
	for (int c = 0; c < k; c++)
	{
		count[c] = lrn_get_u32(r);
		*vectors += count[c];
		*tiles += SVM_PAD(count[c]) / LRN_TILE;
	}
	for (int i = 0; i < k * (k - 1) / 2; i++)
		finite &= isfinite(lrn_get_f64(r)) != 0;
	return finite && !r->bad;
}

mr_code
svm_check(lrn_reader *r, const lrn_info *info, mr_status *st)
{
	uint32_t	count[LRN_SVM_CLASSES];
	uint64_t	vectors,
				tiles,
				floats = (uint64_t) info->n_features + (uint64_t) info->n_classes - 1;

	if (!read_head(r, info, count, &vectors, &tiles))
		return lrn_corrupt(st, "Its scaling or its borders are damaged");
	/* Fewer than 2^40 vectors of fewer than 2^17 numbers: no overflow. */
	if ((uint64_t) (r->end - r->p) != vectors * floats * sizeof(float))
		return lrn_corrupt(st, "Its length does not fit its number of support vectors");
	for (uint64_t i = 0; i < vectors * floats; i++)
	{
		float		v = lrn_get_f32(r);

		if (!isfinite(v) || (i % floats < (uint64_t) info->n_features && fabsf(v) > LRN_SVM_FAR))
			return lrn_corrupt(st, "A support vector holds a number that is out of range");
	}
	return MR_OK;
}

enum
{
	MEAN, SCALE, RHO, FIRST_TILE, TILES, COEF, SECTIONS
};

/* Vectors of a class fill whole tiles; those that pad have coefficients of 0. */
mr_code
svm_compile(const mr_env *env, lrn_reader *r, const lrn_info *info, uint8_t **file, size_t *file_len, mr_status *st)
{
	lrn_flat_header h;
	lrn_reader	all = *r;
	uint32_t	count[LRN_SVM_CLASSES];
	uint64_t	vectors,
				tiles;
	size_t		d = (size_t) info->n_features,
				k = (size_t) info->n_classes,
				size[SECTIONS],
				len = lrn_aligned(sizeof(h)),
				tile = 0;
	uint8_t    *out;
	double	   *mean,
			   *scale,
			   *rho;
	uint32_t   *first_tile;
	mr_code		code = svm_check(&all, info, st);

	if (code)
		return code;
	all = *r;
	(void) read_head(&all, info, count, &vectors, &tiles);
	memset(&h, 0, sizeof(h));
	h.number[0] = (uint32_t) tiles;
	size[MEAN] = size[SCALE] = d * sizeof(double);
	size[RHO] = k * (k - 1) / 2 * sizeof(double);
	size[FIRST_TILE] = (k + 1) * sizeof(uint32_t);
	size[TILES] = tiles * LRN_TILE * d * sizeof(float);
	size[COEF] = tiles * LRN_TILE * (k - 1) * sizeof(float);
	for (int i = 0; i < SECTIONS; i++)
	{
		h.section[i] = len;
		len += lrn_aligned(size[i]);
	}
	out = mr_alloc(env, len);
	if (out == NULL)
		return lrn_out_of_memory(st);
	memset(out, 0, len);
	memcpy(out, &h, sizeof(h));
	mean = (double *) (out + h.section[MEAN]);
	scale = (double *) (out + h.section[SCALE]);
	rho = (double *) (out + h.section[RHO]);
	first_tile = (uint32_t *) (out + h.section[FIRST_TILE]);
	for (size_t j = 0; j < d; j++)
	{
		mean[j] = lrn_get_f64(r);
		scale[j] = lrn_get_f64(r);
	}
	for (size_t c = 0; c < k; c++)
		(void) lrn_get_u32(r);
	for (size_t i = 0; i < k * (k - 1) / 2; i++)
		rho[i] = lrn_get_f64(r);
	for (size_t c = 0; c < k; c++)
	{
		first_tile[c] = (uint32_t) tile;
		for (uint32_t i = 0; i < count[c]; i++)
		{
			size_t		at = tile + i / LRN_TILE;
			float	   *x = (float *) (out + h.section[TILES]) + at * d * LRN_TILE + i % LRN_TILE;
			float	   *coef = (float *) (out + h.section[COEF]) + at * (k - 1) * LRN_TILE + i % LRN_TILE;

			for (size_t j = 0; j < d; j++)
				x[j * LRN_TILE] = lrn_get_f32(r);
			for (size_t o = 0; o < k - 1; o++)
				coef[o * LRN_TILE] = lrn_get_f32(r);
		}
		tile += SVM_PAD(count[c]) / LRN_TILE;
	}
	first_tile[k] = (uint32_t) tile;
	*file = out;
	*file_len = len;
	return MR_OK;
}

mr_code
svm_open(const lrn_flat_header *h, lrn_model *m, mr_status *st)
{
	uint64_t	d = h->n_features,
				k = h->n_classes,
				lanes = (uint64_t) h->number[0] * LRN_TILE;

	if (!lrn_section_fits(h, MEAN, d, sizeof(double)) || !lrn_section_fits(h, SCALE, d, sizeof(double)) ||
		!lrn_section_fits(h, RHO, k * (k - 1) / 2, sizeof(double)) ||
		!lrn_section_fits(h, FIRST_TILE, k + 1, sizeof(uint32_t)) ||
		!lrn_section_fits(h, TILES, lanes * d, sizeof(float)) ||
		!lrn_section_fits(h, COEF, lanes * (k - 1), sizeof(float)))
		return lrn_corrupt(st, "A section lies outside the file");
	m->shift = lrn_section(h, MEAN);
	m->scale = lrn_section(h, SCALE);
	m->svm.rho = lrn_section(h, RHO);
	m->svm.first_tile = lrn_section(h, FIRST_TILE);
	m->svm.tiles = lrn_section(h, TILES);
	m->svm.coef = lrn_section(h, COEF);
	for (uint64_t c = 0; c < k; c++)
		if (m->svm.first_tile[c] > m->svm.first_tile[c + 1])
			return lrn_corrupt(st, "Its support vectors are out of order");
	if (m->svm.first_tile[k] > h->number[0])
		return lrn_corrupt(st, "Its support vectors are out of order");
	return MR_OK;
}

/* Generous: 3 operations a coordinate, 30 for exp(), 3 a coefficient. */
double
svm_row_ns(const lrn_model *m)
{
	double		vectors = (double) m->svm.first_tile[m->info.n_classes] * LRN_TILE;

	return 1000 + vectors * (m->info.n_features + m->info.n_classes + 10) +
		m->info.n_features * 5 + (double) m->info.n_classes * m->info.n_classes * 10;
}

void
svm_predict(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	lrn_kernels_for(m->isa)->rbf_rows(m, rows, n, out);
}
