/*
 * calibrate_file.c
 *	  Maps of a calibrated classifier in model bytes and prediction files.
 *
 * In model bytes they stand before the body, whose algorithm knows nothing of
 * them; a bit of the header's task says so (file.c).  The section: u32 bytes
 * that follow, u32 kind (1 sigmoid, 2 isotonic); then for each map f64 a and f64
 * b, or a varint of n >= 1 points, n f32 x, ascending, and n f64 y, not
 * descending, in 0 .. 1.  All finite.
 *
 * In a prediction file they stand behind the algorithm's sections.
 */
#include "learn/calibrate.h"

#include <math.h>
#include <string.h>

mr_code
lrn_calibration_add(const mr_env *env, lrn_calibration kind, const lrn_map *map,
					uint8_t **file, size_t *len, mr_status *st)
{
	lrn_writer	maps = {.env = env},
				w;
	lrn_info	info;
	lrn_reader	body;
	mr_code		code = lrn_file_open(*file, *len, &info, &body, st);

	if (code)
		return code;
	lrn_put_u32(&maps, kind);
	for (int c = 0; c < lrn_n_maps(info.n_classes); c++)
	{
		if (kind == LRN_CALIBRATION_SIGMOID)
		{
			lrn_put_f64(&maps, map[c].a);
			lrn_put_f64(&maps, map[c].b);
			continue;
		}
		lrn_put_varint(&maps, map[c].n);
		for (uint32_t i = 0; i < map[c].n; i++)
			lrn_put_f32(&maps, map[c].x[i]);
		for (uint32_t i = 0; i < map[c].n; i++)
			lrn_put_f64(&maps, map[c].y[i]);
	}
	lrn_file_begin(&w, env, 0);
	w.calibrated = true;
	lrn_put_u32(&w, (uint32_t) maps.len);
	lrn_put(&w, maps.data, maps.len);
	lrn_put(&w, body.p, (size_t) (body.end - body.p));
	if (maps.failed)
		w.failed = maps.failed;
	code = lrn_file_end(&w, &info, st);
	mr_free(env, maps.data);
	if (code)
	{
		mr_free(env, w.data);
		return code;
	}
	mr_free(env, *file);
	*file = w.data;
	*len = w.len;
	return MR_OK;
}

/* Points of one isotonic map, checked if st; their total grows. */
static bool
points_are_sane(lrn_reader *r, uint64_t *total)
{
	uint64_t	n = lrn_get_varint(r);
	double		before = -INFINITY;

	if (r->bad || n < 1 || n > (uint64_t) (r->end - r->p) / (sizeof(float) + sizeof(double)))
		return false;
	*total += n;
	for (uint64_t i = 0; i < n; i++)
	{
		double		x = lrn_get_f32(r);

		if (!isfinite(x) || !(x > before))
			return false;
		before = x;
	}
	before = 0;
	for (uint64_t i = 0; i < n; i++)
	{
		double		y = lrn_get_f64(r);

		if (!(y >= before && y <= 1))
			return false;
		before = y;
	}
	return true;
}

/* Whether the section is as it must be; how many points it has. */
static bool
section_is_sane(lrn_reader *r, const lrn_info *info, uint32_t *kind, uint64_t *points)
{
	*kind = lrn_get_u32(r);
	*points = 0;
	if (info->task != LRN_CLASSIFY || info->n_classes < 2 || info->n_outputs != info->n_classes)
		return false;
	for (int c = 0; c < lrn_n_maps(info->n_classes); c++)
		if (*kind == LRN_CALIBRATION_SIGMOID)
		{
			double		a = lrn_get_f64(r),
						b = lrn_get_f64(r);

			if (r->bad || !isfinite(a) || !isfinite(b))
				return false;
		}
		else if (*kind != LRN_CALIBRATION_ISOTONIC || !points_are_sane(r, points))
			return false;
	return !r->bad && r->p == r->end && *points < UINT32_MAX;
}

mr_code
lrn_calibration_check(lrn_reader r, const lrn_info *info, mr_status *st)
{
	uint32_t	kind;
	uint64_t	points;

	return section_is_sane(&r, info, &kind, &points) ? MR_OK : lrn_corrupt(st, "Its calibration is damaged");
}

/* The section of a prediction file: a head, then arrays of eights. */
typedef struct flat_calibration
{
	uint32_t	kind;
	uint32_t	n_maps;
	uint32_t	n_points;
	uint32_t	unused[13];
} flat_calibration;

static size_t
eights(size_t n)
{
	return (n + 7) & ~(size_t) 7;
}

/* Bytes of the whole section. */
static uint64_t
flat_size(uint32_t kind, uint64_t n_maps, uint64_t n_points)
{
	return sizeof(flat_calibration) + (kind == LRN_CALIBRATION_SIGMOID ? 2 * eights(n_maps) * sizeof(double) :
									   eights(n_maps + 1) * sizeof(uint32_t) + 2 * n_points * sizeof(double));
}

/* Where the arrays of a section lie. */
static void
point_to(const flat_calibration *f, lrn_model *m)
{
	const uint8_t *at = (const uint8_t *) (f + 1);

	m->calibration.kind = (lrn_calibration) f->kind;
	if (f->kind == LRN_CALIBRATION_SIGMOID)
	{
		m->calibration.a = (const double *) at;
		m->calibration.b = m->calibration.a + eights(f->n_maps);
		return;
	}
	m->calibration.first = (const uint32_t *) at;
	m->calibration.x = (const double *) (at + eights((size_t) f->n_maps + 1) * sizeof(uint32_t));
	m->calibration.y = m->calibration.x + f->n_points;
}

mr_code
lrn_calibration_compile(const mr_env *env, lrn_reader r, const lrn_info *info,
						uint8_t **file, size_t *file_len, mr_status *st)
{
	size_t		n_maps = (size_t) lrn_n_maps(info->n_classes),
				start = lrn_aligned(*file_len),
				len;
	uint32_t	kind;
	uint64_t	points;
	lrn_reader	all = r;
	flat_calibration *f;
	lrn_model	at;
	uint8_t    *out;

	if (!section_is_sane(&all, info, &kind, &points) || start / 64 > UINT32_MAX)
		return lrn_corrupt(st, "Its calibration is damaged");
	len = start + flat_size(kind, n_maps, points);
	out = mr_alloc(env, len);
	if (out == NULL)
		return lrn_out_of_memory(st);
	memcpy(out, *file, *file_len);
	memset(out + *file_len, 0, len - *file_len);
	mr_free(env, *file);
	*file = out;
	*file_len = len;
	((lrn_flat_header *) out)->calibration = (uint32_t) (start / 64);
	f = (flat_calibration *) (out + start);
	f->kind = kind;
	f->n_maps = (uint32_t) n_maps;
	f->n_points = (uint32_t) points;
	point_to(f, &at);
	(void) lrn_get_u32(&r);
	points = 0;
	for (size_t c = 0; c < n_maps; c++)
		if (kind == LRN_CALIBRATION_SIGMOID)
		{
			((double *) at.calibration.a)[c] = lrn_get_f64(&r);
			((double *) at.calibration.b)[c] = lrn_get_f64(&r);
		}
		else
		{
			uint64_t	n = lrn_get_varint(&r);

			for (uint64_t i = 0; i < n; i++)
				((double *) at.calibration.x)[points + i] = lrn_get_f32(&r);
			for (uint64_t i = 0; i < n; i++)
				((double *) at.calibration.y)[points + i] = lrn_get_f64(&r);
			points += n;
			((uint32_t *) at.calibration.first)[c + 1] = (uint32_t) points;
		}
	return MR_OK;
}

mr_code
lrn_calibration_open(const lrn_flat_header *h, lrn_model *m, mr_status *st)
{
	uint64_t	start = (uint64_t) h->calibration * 64;
	const flat_calibration *f = (const flat_calibration *) ((const uint8_t *) h + start);
	uint64_t	maps = (uint64_t) lrn_n_maps(m->info.n_classes);

	if (m->info.task != LRN_CLASSIFY || m->info.n_outputs != m->info.n_classes ||
		start < sizeof(*h) || start > h->file_len || h->file_len - start < sizeof(*f) ||
		(f->kind != LRN_CALIBRATION_SIGMOID && f->kind != LRN_CALIBRATION_ISOTONIC) || f->n_maps != maps ||
		h->file_len - start != flat_size(f->kind, maps, f->n_points))
		return lrn_corrupt(st, "Its calibration is damaged");
	point_to(f, m);
	if (f->kind == LRN_CALIBRATION_SIGMOID)
		return MR_OK;
	/* Each map has a point, and they fill the arrays. */
	for (uint64_t c = 0; c < maps; c++)
		if (m->calibration.first[c] >= m->calibration.first[c + 1])
			return lrn_corrupt(st, "Its calibration is damaged");
	if (m->calibration.first[0] != 0 || m->calibration.first[maps] != f->n_points)
		return lrn_corrupt(st, "Its calibration is damaged");
	return MR_OK;
}
