/*
 * latent_clusters.c
 *	  Silhouettes, and clusters by the learning room's k-means.
 *
 * For silhouettes the points are put in the order of their labels, so that a query's distances to a label are one
 * stretch.  Memory: two copies of the vectors.
 */
#include "learn/learn_int.h"
#include "quality/latent_int.h"

#include <math.h>
#include <string.h>

#define TILE	16				/* groups of points at once */

typedef struct silhouettes
{
	const qlt_work *w;
	const qlt_kernels *kernels;
	int64_t		n;
	size_t		d;
	int64_t    *order;			/* points by label */
	int64_t    *first;			/* of each label, and one more */
	int64_t		labels;
	float	   *x;				/* in their order: groups x d x QLT_GROUP */
	const float *rows;			/* as they were */
	double	   *sum;			/* QLT_QUERIES x labels */
	float		distance[QLT_QUERIES * TILE * QLT_GROUP];
} silhouettes;

/* Sums of the distances from the queries to the points of each label. */
static mr_code
sum_distances(silhouettes *s, const float *const *q, mr_status *st)
{
	int64_t		groups = (s->n + QLT_GROUP - 1) / QLT_GROUP,
				step = 1 + 60000 / (int64_t) (s->d * QLT_GROUP);

	step = step < TILE ? step : TILE;
	memset(s->sum, 0, QLT_QUERIES * (size_t) s->labels * sizeof(double));
	for (int64_t g = 0, label[QLT_QUERIES] = {0}; g < groups; g += step)
	{
		int64_t		take = groups - g < step ? groups - g : step,
					begin = g * QLT_GROUP,
					end = begin + take * QLT_GROUP < s->n ? begin + take * QLT_GROUP : s->n;

		s->kernels->distances(s->x + (size_t) g * s->d * QLT_GROUP, (int) take, (int) s->d, q, s->distance, (size_t) take * QLT_GROUP);
		for (int a = 0; a < QLT_QUERIES; a++)
		{
			const float *distance = s->distance + (size_t) (a * take) * QLT_GROUP;

			for (int64_t i = begin; i < end;)
			{
				int64_t		last = s->first[label[a] + 1] < end ? s->first[label[a] + 1] : end;
				double		sum = 0;

				for (; i < last; i++)
					sum += (double) sqrtf(distance[i - begin]);
				s->sum[(size_t) a * (size_t) s->labels + (size_t) label[a]] += sum;
				if (i == s->first[label[a] + 1])
					label[a]++;
			}
		}
		if (mr_interrupted(s->w->env))
			return qlt_latent_canceled(st);
	}
	return MR_OK;
}

static double
silhouette(const silhouettes *s, const double *sum, int64_t own)
{
	int64_t		size = s->first[own + 1] - s->first[own];
	double		a,
				b = INFINITY;

	if (size < 2)
		return 0;
	a = sum[own] / (double) (size - 1);
	for (int64_t l = 0; l < s->labels; l++)
		if (l != own)
			b = fmin(b, sum[l] / (double) (s->first[l + 1] - s->first[l]));
	return fmax(a, b) > 0 ? (b - a) / fmax(a, b) : 0;
}

/* By label, in their order: merge sort from below. */
static mr_code
sort_points(silhouettes *s, const int32_t *label, mr_status *st)
{
	int64_t    *from = mr_alloc(s->w->env, (size_t) s->n * sizeof(int64_t)),
			   *to = s->order,
			   *swap;

	if (from == NULL)
		return qlt_latent_no_memory(st);
	for (int64_t i = 0; i < s->n; i++)
		s->order[i] = i;
	for (int64_t width = 1; width < s->n; width *= 2)
	{
		swap = from;
		from = to;
		to = swap;
		for (int64_t at = 0; at < s->n; at += 2 * width)
		{
			int64_t		a = at,
						a_end = at + width < s->n ? at + width : s->n,
						b = a_end,
						b_end = at + 2 * width < s->n ? at + 2 * width : s->n;

			for (int64_t o = at; o < b_end; o++)
				to[o] = a < a_end && (b == b_end || label[from[a]] <= label[from[b]]) ? from[a++] : from[b++];
		}
		if (mr_interrupted(s->w->env))
		{
			mr_free(s->w->env, s->order == from ? to : from);
			return qlt_latent_canceled(st);
		}
	}
	if (to != s->order)
	{
		memcpy(s->order, to, (size_t) s->n * sizeof(int64_t));
		mr_free(s->w->env, to);
	}
	else
		mr_free(s->w->env, from);
	return MR_OK;
}

/* Points in order, their labels' stretches, and a row for each label. */
static mr_code
arrange(silhouettes *s, const int32_t *label, qlt_silhouette_row **rows, mr_status *st)
{
	mr_code		code = sort_points(s, label, st);

	for (int64_t i = 0; i < s->n && code == MR_OK; i++)
		if (i == 0 || label[s->order[i]] != label[s->order[i - 1]])
			s->first[s->labels++] = i;
	s->first[s->labels] = s->n;
	if (code)
		return code;
	*rows = mr_alloc(s->w->env, (size_t) s->labels * sizeof(qlt_silhouette_row) + 1);
	s->sum = mr_alloc(s->w->env, QLT_QUERIES * (size_t) s->labels * sizeof(double) + 1);
	if (*rows == NULL || s->sum == NULL)
		return qlt_latent_no_memory(st);
	for (int64_t l = 0; l < s->labels; l++)
		(*rows)[l] = (qlt_silhouette_row) {label[s->order[s->first[l]]], s->first[l + 1] - s->first[l], 0, 0};
	memset(s->x, 0, ((size_t) s->n + QLT_GROUP) * s->d * sizeof(float));
	for (int64_t i = 0; i < s->n; i++)
	{
		for (size_t j = 0; j < s->d; j++)
			s->x[((size_t) (i / QLT_GROUP) * s->d + j) * QLT_GROUP + (size_t) (i % QLT_GROUP)] = s->rows[(size_t) s->order[i] * s->d + j];
		if (i % 1024 == 0 && mr_interrupted(s->w->env))
			return qlt_latent_canceled(st);
	}
	return MR_OK;
}

/* A place in the order of labels -> its label's number. */
static int64_t
label_at(const silhouettes *s, int64_t place)
{
	int64_t		lo = 0,
				hi = s->labels;

	while (hi - lo > 1)
	{
		int64_t		mid = (lo + hi) / 2;

		if (s->first[mid] <= place)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

static mr_code
measure(silhouettes *s, int64_t sample, uint64_t seed, qlt_silhouette_row *rows, mr_status *st)
{
	int64_t		place[QLT_QUERIES],
				left = sample < s->n ? sample : s->n;
	int			waiting = 0;
	lrn_rng		rng;

	lrn_rng_seed(&rng, seed, 0);
	for (int64_t i = 0; i < s->n && left > 0; i++)
	{
		const float *q[QLT_QUERIES];
		mr_code		code;

		/* selection sampling (Knuth, TAOCP 2, algorithm S): each place is as likely */
		if (lrn_rng_below(&rng, (uint32_t) (s->n - i)) >= left)
			continue;
		left--;
		place[waiting++] = i;
		if (waiting < QLT_QUERIES && left > 0)
			continue;
		for (int a = 0; a < QLT_QUERIES; a++)
			q[a] = s->rows + (size_t) s->order[place[a < waiting ? a : 0]] * s->d;
		code = sum_distances(s, q, st);
		if (code)
			return code;
		for (int a = 0; a < waiting; a++)
		{
			int64_t		l = label_at(s, place[a]);

			rows[l].sampled++;
			rows[l].silhouette += silhouette(s, s->sum + (size_t) a * (size_t) s->labels, l);
		}
		waiting = 0;
	}
	for (int64_t l = 0; l < s->labels; l++)
		rows[l].silhouette = s->labels > 1 && rows[l].sampled ? rows[l].silhouette / (double) rows[l].sampled : NAN;
	return MR_OK;
}

mr_code
qlt_silhouettes(const qlt_work *w, const qlt_vectors *v, const int32_t *label, int64_t sample, uint64_t seed,
				qlt_silhouette_row **rows, int64_t *n_rows, mr_status *st)
{
	const mr_env *env = w->env;
	size_t		n = (size_t) v->n,
				d = (size_t) v->dims;
	silhouettes *s;
	float	   *scaled;
	mr_code		code = qlt_check(w, v, st);

	*rows = NULL;
	*n_rows = 0;
	if (code == MR_OK)
		code = qlt_check_limit(w, ((double) v->n * 2 + QLT_GROUP) * v->dims * 4 + (double) v->n * 24 + sizeof(silhouettes), st);
	if (code || v->n == 0)
		return code;
	s = mr_alloc(env, sizeof(silhouettes));
	if (s == NULL)
		return qlt_latent_no_memory(st);
	*s = (silhouettes) {.w = w,.kernels = qlt_kernels_for(w->isa),.n = v->n,.d = d};
	s->rows = scaled = mr_alloc(env, n * d * sizeof(float));
	s->x = mr_alloc(env, (n + QLT_GROUP) * d * sizeof(float));
	s->order = mr_alloc(env, n * sizeof(int64_t));
	s->first = mr_alloc(env, (n + 1) * sizeof(int64_t));
	if (scaled == NULL || s->x == NULL || s->order == NULL || s->first == NULL)
		code = qlt_latent_no_memory(st);
	if (code == MR_OK)
		code = qlt_normalise(w, v, scaled, st);
	if (code == MR_OK)
		code = arrange(s, label, rows, st);
	if (code == MR_OK)
		code = measure(s, sample, seed, *rows, st);
	*n_rows = s->labels;
	mr_free(env, scaled);
	mr_free(env, s->x);
	mr_free(env, s->order);
	mr_free(env, s->first);
	mr_free(env, s->sum);
	mr_free(env, s);
	if (code)
	{
		mr_free(env, *rows);
		*rows = NULL;
	}
	return code;
}

/* ---- clusters ---- */

/* The nearest centre of each row; prediction gives the distances to all. */
static mr_code
assign(const qlt_work *w, const qlt_vectors *v, const uint8_t *file, size_t len, int k, int32_t *cluster, mr_status *st)
{
	const int64_t block = 256;
	lrn_model	model;
	float	   *out = mr_alloc(w->env, (size_t) (block * k) * sizeof(float));
	mr_code		code = out ? lrn_open(file, len, &model, st) : qlt_latent_no_memory(st);

	for (int64_t i = 0; i < v->n && code == MR_OK; i += block)
	{
		int64_t		take = v->n - i < block ? v->n - i : block;

		lrn_predict(&model, v->x + (size_t) i * (size_t) v->dims, take, out);
		for (int64_t r = 0; r < take; r++)
		{
			cluster[i + r] = 0;
			for (int c = 1; c < k; c++)
				if (out[r * k + c] < out[r * k + cluster[i + r]])
					cluster[i + r] = c;
		}
		if (mr_interrupted(w->env))
			code = qlt_latent_canceled(st);
	}
	mr_free(w->env, out);
	return code;
}

mr_code
qlt_clusters(const qlt_work *w, const qlt_vectors *v, int k, uint64_t seed, int32_t *cluster, mr_status *st)
{
	const mr_env *env = w->env;
	size_t		n = (size_t) v->n,
				d = (size_t) v->dims,
				size;
	lrn_params	p;
	lrn_report	report;
	float	  **col = NULL,
			   *columns = NULL;
	uint8_t    *bytes = NULL,
			   *file = NULL;
	mr_code		code = qlt_check(w, v, st);

	if (code == MR_OK && (k < 1 || k > v->n))
		code = mr_fail(st, MR_INVALID, "there are %lld vectors, not enough for %d clusters", (long long) v->n, k);
	if (code == MR_OK)
		code = qlt_check_limit(w, (double) v->n * v->dims * 4, st);
	if (code)
		return code;
	col = mr_alloc(env, d * sizeof(float *));
	columns = mr_alloc(env, n * d * sizeof(float));
	if (col == NULL || columns == NULL)
		code = qlt_latent_no_memory(st);
	if (code == MR_OK)
		code = qlt_columns(w, v, columns, col, st);
	if (code == MR_OK)
	{
		lrn_matrix	m = {v->n, v->dims, col, NULL, NULL};

		lrn_params_init(&p, LRN_KMEANS);
		p.n_clusters = k;
		p.random_state = seed;
		p.max_memory = w->max_memory;
		p.fit_only = true;
		p.standardize = false;	/* distances as the vectors have them */
		p.n_init = 3;
		code = lrn_train(env, &p, &m, NULL, &report, &bytes, &size, st);
	}
	if (code == MR_OK)
		code = lrn_compile(env, bytes, size, &file, &size, st);
	if (code == MR_CORRUPT)		/* sums of such numbers are not finite */
		code = mr_fail(st, MR_INVALID, "vectors reach too far for clusters");
	if (code == MR_OK)
		code = assign(w, v, file, size, k, cluster, st);
	mr_free(env, col);
	mr_free(env, columns);
	mr_free(env, bytes);
	mr_free(env, file);
	return code;
}
