/*
 * tsne.c
 *	  t-SNE: points on a plane (or in space) so that those which were near are near.
 *
 * The objective is van der Maaten and Hinton's (2008), the descent scikit-learn's: 250 iterations with exaggerated
 * attraction and momentum 0.5, the rest with momentum 0.8, gains of each coordinate, a step of n / exaggeration / 4
 * (Belkina et al., "Automated optimized parameters for t-SNE", 2019), and a start along the principal components.
 * Attraction is summed over the neighbours; repulsion on a grid (tsne_grid.c) where points are many and the map is a
 * plane, else over all pairs.
 *
 * Vectors longer than LONG are reduced to REDUCED principal components before neighbours are looked for.  Equal
 * vectors stay together but for rounding: they have the same neighbours and start at the same place.
 *
 * Memory: copies of the vectors, 24 bytes a neighbour, some numbers a point, a grid of at most 50 MB; all of it is
 * known before (qlt_tsne_memory).
 */
#include "quality/latent_int.h"

#include "learn/learn_int.h"

#include <math.h>
#include <string.h>

#define LONG			100
#define REDUCED			50
#define EXPLORATION		250		/* iterations with exaggeration */
#define CHECK			50		/* iterations between two looks at the gradient */
#define FEW				1500	/* points up to which all pairs are faster than the grid */

typedef struct descent
{
	const qlt_work *w;
	const qlt_tsne_options *o;
	const qlt_kernels *kernels;
	int64_t		n;
	size_t		stride;
	int			dims;			/* of the map */
	qlt_edges	edges;
	qlt_grid   *grid;			/* NULL: all pairs */
	float	   *y;				/* dims x stride, as all these */
	float	   *attraction;
	float	   *repulsion;
	float	   *update;
	float	   *gain;
	mr_status  *st;
} descent;

static int
neighbours_of(const qlt_tsne_options *o, int64_t n)
{
	double		k = floor(3 * o->perplexity + 1);

	return k < (double) n - 1 ? (int) k : (int) (n - 1);
}

static size_t
stride_of(int64_t n)
{
	return ((size_t) n + QLT_LANES - 1) & ~(size_t) (QLT_LANES - 1);
}

static bool
by_grid(const qlt_tsne_options *o, int64_t n)
{
	return o->n_components == 2 && n > FEW;
}

double
qlt_tsne_memory(const qlt_tsne_options *o, int64_t n, int dims)
{
	double		k = n < 2 ? 0 : neighbours_of(o, n),
				start = (double) n * 4 * o->n_components + qlt_principal_memory(n, dims, dims > LONG ? REDUCED : o->n_components);
	int			reduced = dims > LONG ? REDUCED : dims;

	return start + (double) n * dims * 4 + (double) n * reduced * 4 + (double) n * k * 8 + qlt_affinities_memory(n, (int) k) +
		qlt_neighbours_memory(n, n, reduced, (int) k) + (double) stride_of(n) * o->n_components * 20 + (by_grid(o, n) ? qlt_grid_memory() : 0);
}

/* Nearly normal, and the same on every machine: no logarithm is involved. */
static double
normal(lrn_rng *rng)
{
	double		sum = 0;

	for (int i = 0; i < 12; i++)
		sum += (double) (lrn_rng_next(rng) >> 11) * 0x1p-53;
	return sum - 6;
}

/* Deviation 1e-4 along the first axis; directions in which nothing differs are drawn. */
static mr_code
start(descent *s, const qlt_vectors *v)
{
	float	   *scores = mr_alloc(s->w->env, (size_t) s->n * (size_t) s->dims * sizeof(float));
	double		deviation[3] = {0},
				scale;
	lrn_rng		rng;
	mr_code		code = MR_OK;

	if (scores == NULL)
		return qlt_latent_no_memory(s->st);
	if (s->o->init == QLT_INIT_PCA)
		code = qlt_principal(s->w, v, s->dims, s->o->random_state, scores, deviation, s->st);
	lrn_rng_seed(&rng, s->o->random_state, 0);
	scale = deviation[0] > 0 ? 1e-4 / (deviation[0] * sqrt((double) (s->n - 1) / (double) s->n)) : 0;
	for (int c = 0; c < s->dims && code == MR_OK; c++)
		for (int64_t i = 0; i < s->n; i++)
			s->y[(size_t) c * s->stride + (size_t) i] = (float) (deviation[c] > 0 ?
															   (double) scores[(size_t) i * (size_t) s->dims + (size_t) c] * scale : 1e-4 * normal(&rng));
	mr_free(s->w->env, scores);
	return code;
}

/* The symmetric P of v's neighbours. */
static mr_code
affinities(descent *s, const qlt_vectors *v, double perplexity)
{
	const mr_env *env = s->w->env;
	int			k = neighbours_of(s->o, s->n);
	size_t		entries = (size_t) s->n * (size_t) k;
	int32_t    *index = mr_alloc(env, entries * sizeof(int32_t));
	float	   *distance = mr_alloc(env, entries * sizeof(float));
	mr_code		code = index && distance ? MR_OK : qlt_latent_no_memory(s->st);

	if (code == MR_OK)
		code = qlt_neighbours(s->w, v, v, k, true, 0, index, distance, s->st);
	if (code == MR_OK)
		code = qlt_affinities(s->w, s->kernels, s->n, k, perplexity, index, distance, &s->edges, s->st);
	mr_free(env, index);
	mr_free(env, distance);
	return code;
}

static mr_code
repel_all(descent *s, double *z)
{
	*z = 0;
	for (int64_t i = 0; i < s->n; i++)
	{
		float		force[3];

		*z += s->kernels->repel(s->y, s->stride, s->dims, (int64_t) s->stride, i, force) - 1;
		for (int c = 0; c < s->dims; c++)
			s->repulsion[(size_t) c * s->stride + (size_t) i] = force[c];
		if (mr_interrupted(s->w->env))
			return qlt_latent_canceled(s->st);
	}
	return MR_OK;
}

/* One step; *length: of the gradient times the gains. */
static mr_code
step(descent *s, float exaggeration, float momentum, float rate, double *length)
{
	const int64_t block = 1024;
	double		z,
				square = 0;
	float		share;
	mr_code		code;

	for (int64_t i = 0; i < s->n; i += block)
	{
		s->kernels->attract(&s->edges, s->y, s->stride, s->dims, i, i + block < s->n ? i + block : s->n, s->attraction);
		if (mr_interrupted(s->w->env))
			return qlt_latent_canceled(s->st);
	}
	code = s->grid ? qlt_grid_repel(s->grid, s->y, s->stride, s->n, s->repulsion, &z, s->st) : repel_all(s, &z);
	if (code)
		return code;
	share = z > 0 ? (float) (1 / z) : 0;
	for (int c = 0; c < s->dims; c++)
	{
		size_t		at = (size_t) c * s->stride;

		for (int64_t i = 0; i < s->n; i++, at++)
		{
			float		gradient = 4 * (exaggeration * s->attraction[at] - share * s->repulsion[at]),
						gain = s->update[at] * gradient < 0 ? s->gain[at] + 0.2f : s->gain[at] * 0.8f;

			s->gain[at] = gain < 0.01f ? 0.01f : gain;
			gradient *= s->gain[at];
			square += (double) (gradient * gradient);
			s->update[at] = momentum * s->update[at] - rate * gradient;
			s->y[at] += s->update[at];
		}
	}
	*length = sqrt(square);
	return mr_interrupted(s->w->env) ? qlt_latent_canceled(s->st) : MR_OK;
}

static mr_code
descend(descent *s, int *iterations)
{
	double		rate = s->o->learning_rate > 0 ? s->o->learning_rate : fmax((double) s->n / s->o->early_exaggeration / 4, 50);
	size_t		all = s->stride * (size_t) s->dims;

	for (*iterations = 0; *iterations < s->o->max_iter;)
	{
		bool		exploring = *iterations < EXPLORATION;
		double		length = 0;
		mr_code		code;

		if (*iterations == 0 || *iterations == EXPLORATION)
		{
			memset(s->update, 0, all * sizeof(float));
			for (size_t i = 0; i < all; i++)
				s->gain[i] = 1;
		}
		code = step(s, exploring ? (float) s->o->early_exaggeration : 1, exploring ? 0.5f : 0.8f, (float) rate, &length);
		if (code)
			return code;
		++*iterations;
		if (*iterations % CHECK == 0 && length <= s->o->min_grad_norm)
		{
			if (!exploring)
				break;
			*iterations = EXPLORATION < s->o->max_iter ? EXPLORATION : s->o->max_iter;
		}
	}
	return MR_OK;
}

/* sum of p log(p / q), q = 1 / (1 + d^2) over the sum of all pairs. */
static mr_code
divergence(descent *s, double *kl)
{
	double		z,
				sum = 0,
				total = 0;
	mr_code		code = repel_all(s, &z);

	for (int64_t i = 0; i < s->n && code == MR_OK; i++)
	{
		for (int64_t e = s->edges.row[i]; e < s->edges.row[i + 1]; e++)
		{
			double		p = (double) s->edges.p[e],
						square = 1;

			if (p <= 0)
				continue;
			for (int c = 0; c < s->dims; c++)
			{
				double		off = (double) s->y[(size_t) c * s->stride + (size_t) i] - (double) s->y[(size_t) c * s->stride + (size_t) s->edges.to[e]];

				square += off * off;
			}
			sum += p * qlt_log(p * square);
			total += p;
		}
		if (i % 64 == 0 && mr_interrupted(s->w->env))
			code = qlt_latent_canceled(s->st);
	}
	*kl = z > 0 ? sum + total * qlt_log(z) : 0;
	return code;
}

/* n >= 3. */
static mr_code
embed(descent *s, const qlt_vectors *v, double perplexity, float *y, qlt_tsne_report *report)
{
	const mr_env *env = s->w->env;
	size_t		all = s->stride * (size_t) s->dims,
				size = (size_t) s->n * (size_t) v->dims * sizeof(float);
	float	   *work = mr_alloc(env, 5 * all * sizeof(float)),
			   *x = mr_alloc(env, size),
			   *reduced = NULL;
	qlt_vectors scaled = {x, s->n, v->dims};
	double		deviation[REDUCED];
	mr_code		code = work && x ? MR_OK : qlt_latent_no_memory(s->st);

	if (code == MR_OK)
		code = qlt_normalise(s->w, v, x, s->st);
	if (code == MR_OK && v->dims > LONG)
	{
		reduced = mr_alloc(env, (size_t) s->n * REDUCED * sizeof(float));
		code = reduced ? qlt_principal(s->w, &scaled, REDUCED, s->o->random_state, reduced, deviation, s->st) : qlt_latent_no_memory(s->st);
		scaled = (qlt_vectors) {reduced, s->n, REDUCED};
	}
	if (code == MR_OK)
	{
		s->y = work;
		s->attraction = s->y + all;
		s->repulsion = s->attraction + all;
		s->update = s->repulsion + all;
		s->gain = s->update + all;
		for (size_t i = 0; i < all; i++)
			s->y[i] = QLT_FAR;
		code = start(s, &scaled);
	}
	if (code == MR_OK)
		code = affinities(s, &scaled, perplexity);
	if (code == MR_OK && by_grid(s->o, s->n))
		code = qlt_grid_begin(s->w, s->kernels, &s->grid, s->st);
	if (code == MR_OK)
		code = descend(s, &report->iterations);
	if (code == MR_OK)
		code = divergence(s, &report->kl_divergence);
	for (int64_t i = 0; i < s->n && code == MR_OK; i++)
		for (int c = 0; c < s->dims; c++)
			y[(size_t) i * (size_t) s->dims + (size_t) c] = s->y[(size_t) c * s->stride + (size_t) i];
	if (s->grid)
		qlt_grid_end(s->grid);
	qlt_edges_free(env, &s->edges);
	mr_free(env, work);
	mr_free(env, x);
	mr_free(env, reduced);
	return code;
}

mr_code
qlt_tsne(const qlt_work *w, const qlt_tsne_options *o, const qlt_vectors *v, float *y, qlt_tsne_report *report, mr_status *st)
{
	qlt_tsne_report none;
	descent		s = {.w = w,.o = o,.kernels = qlt_kernels_for(w->isa),.n = v->n,.stride = stride_of(v->n),.dims = o->n_components,.st = st};
	double		perplexity = o->perplexity < (double) v->n ? o->perplexity : fmax(((double) v->n - 1) / 3, 1);
	mr_code		code = qlt_check(w, v, st);

	if (report == NULL)
		report = &none;
	*report = (qlt_tsne_report) {.perplexity = perplexity};
	if (code == MR_OK)
		code = qlt_check_limit(w, qlt_tsne_memory(o, v->n, v->dims), st);
	if (code)
		return code;
	if (v->n >= 3)
		return embed(&s, v, perplexity, y, report);
	/* one point is where it is, two are apart unless they are equal */
	memset(y, 0, (size_t) v->n * (size_t) o->n_components * sizeof(float));
	if (v->n == 2 && memcmp(v->x, v->x + v->dims, (size_t) v->dims * sizeof(float)) != 0)
	{
		y[0] = -1;
		y[o->n_components] = 1;
	}
	return MR_OK;
}
