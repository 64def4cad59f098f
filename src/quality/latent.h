/*
 * latent.h
 *	  Points of latent space: who is near whom, maps of them, how well classes stand apart.
 *
 * Pure C.  Vectors are rows of float32, n x dims; everything is Euclidean, so that vectors of unit length rank as their
 * cosines do.  NaN and infinity are MR_INVALID.  Work memory comes from env and goes back to it; it is computed before
 * and held to max_memory (MR_LIMIT).  Every loop asks mr_interrupted() within 10 ms (MR_CANCELED).
 * The same input gives the same bits on every instruction set.
 */
#ifndef MILLRACE_QUALITY_LATENT_H
#define MILLRACE_QUALITY_LATENT_H

#include <stdint.h>

#include "core/env.h"
#include "core/status.h"
#include "nn/isa.h"

/* What every function here is told about how to work. */
typedef struct qlt_work
{
	const mr_env *env;
	size_t		max_memory;		/* bytes, 0 = no limit */
	nn_isa		isa;			/* sets that this processor lacks give the best it has */
} qlt_work;

typedef struct qlt_vectors
{
	const float *x;				/* n x dims */
	int64_t		n;
	int			dims;
} qlt_vectors;

/* What the glue asks before anything costs: MR_LIMIT where bytes are more than max_memory, MR_INVALID at NaN and infinity. */
extern mr_code qlt_check_limit(const qlt_work *w, double bytes, mr_status *st);
extern mr_code qlt_check(const qlt_work *w, const qlt_vectors *v, mr_status *st);

/*
 * The k nearest of each query among the points, by exact distances (neighbours.c): index (0-based) and squared
 * distance, queries x k each, nearest first, equal ones by index.  When skip_self is set, query i is point
 * first + i, which is not its own neighbour.  Fewer than k points: the rest is index -1, distance infinite.
 */
extern mr_code qlt_neighbours(const qlt_work *w, const qlt_vectors *points, const qlt_vectors *queries, int k,
							  bool skip_self, int64_t first, int32_t *index, float *distance, mr_status *st);
extern double qlt_neighbours_memory(int64_t points, int64_t queries, int dims, int k);

/* A query that is nearer to a point than the point's limit: squared distance. */
typedef struct qlt_near
{
	int32_t		point;
	int32_t		query;
	float		distance;
} qlt_near;

/*
 * Both ways at once: the k nearest points of each query as qlt_neighbours(), and for each point the queries whose squared
 * distance is below within[point], at least the k nearest of these.  near: from env, *n_near of them, in no order.
 */
extern mr_code qlt_neighbours_both(const qlt_work *w, const qlt_vectors *points, const qlt_vectors *queries, int k, const float *within,
								   int32_t *index, float *distance, qlt_near **near, int64_t *n_near, mr_status *st);

/* ---- lists of neighbours that are kept (neighbour_lists.c) ---- */

/* k for each of n items, which ascend: by (distance, item), 0 with infinity where there are fewer. */
typedef struct qlt_lists
{
	int64_t		n;
	int			k;
	int64_t    *item;
	int64_t    *neighbour;		/* n x k */
	float	   *distance;		/* n x k, not squared */
} qlt_lists;

/* The place of a number among n ascending ones, -1 where it is not there. */
extern int64_t qlt_place(const int64_t *item, int64_t n, int64_t wanted);
extern bool qlt_ascending(const int64_t *item, int64_t n);

/* Those of current items (ascending) that name only current ones; to has room for all. */
extern mr_code qlt_lists_keep(const qlt_work *w, const qlt_lists *from, const int64_t *current, int64_t n_current, qlt_lists *to, mr_status *st);

/*
 * from and empty lists for fresh items (ascending, none of from's), then pairs: of[i] has neighbour[i] at distance[i], taken
 * where it is among the k nearest of its list and not there yet.  to has room for all.
 */
extern mr_code qlt_lists_grow(const qlt_work *w, const qlt_lists *from, const int64_t *fresh, int64_t n_fresh, const int64_t *of,
							  const int64_t *neighbour, const float *distance, int64_t pairs, qlt_lists *to, mr_status *st);

/* ---- t-SNE (tsne.c) ---- */

typedef enum qlt_init
{
	QLT_INIT_PCA,
	QLT_INIT_RANDOM
} qlt_init;

typedef struct qlt_tsne_options
{
	double		perplexity;		/* 30; where there are not so many points, a third of them */
	double		early_exaggeration; /* 12, in the first 250 iterations */
	double		learning_rate;	/* 0 = auto: n / early_exaggeration / 4, at least 50 */
	double		min_grad_norm;	/* 1e-7: stop where the gradient is shorter */
	int			max_iter;		/* 1000 */
	int			n_components;	/* 2 or 3 */
	qlt_init	init;
	uint64_t	random_state;	/* 0 */
} qlt_tsne_options;

typedef struct qlt_tsne_report
{
	double		kl_divergence;	/* of the answer, with the exact sum of all pairs; 0 for fewer than 3 points */
	double		perplexity;		/* the one taken */
	int			iterations;
} qlt_tsne_report;

extern void qlt_tsne_init(qlt_tsne_options *o);

/*
 * An option by scikit-learn's name (sklearn.manifold.TSNE), its value as text: MR_INVALID for one that is not known
 * or out of range.  "n_iter" is max_iter's older name; learning_rate may be "auto".
 */
extern mr_code qlt_tsne_set(qlt_tsne_options *o, const char *name, const char *value, mr_status *st);

/* y: n x n_components.  NULL report allowed. */
extern mr_code qlt_tsne(const qlt_work *w, const qlt_tsne_options *o, const qlt_vectors *v, float *y,
						qlt_tsne_report *report, mr_status *st);
extern double qlt_tsne_memory(const qlt_tsne_options *o, int64_t n, int dims);

/* ---- principal components (principal.c) ---- */

/*
 * scores: n x k along the k directions of largest variance, in float; deviation: k, zeros where there are fewer
 * directions.  Signs as scikit-learn's svd_flip.
 */
extern mr_code qlt_principal(const qlt_work *w, const qlt_vectors *v, int k, uint64_t seed, float *scores,
							 double *deviation, mr_status *st);
extern double qlt_principal_memory(int64_t n, int dims, int k);

/* ---- figures (latent_figures.c, latent_clusters.c) ---- */

/*
 * Of lists of neighbours (n x k, 0-based, -1 at the end of short ones): the share that has the point's own label
 * among its first at_most, NaN where there is none.
 */
extern mr_code qlt_agreement(const qlt_work *w, int64_t n, int k, const int32_t *index, const int32_t *label, int at_most,
							 float *share, mr_status *st);

/* Adds to pairs (classes x classes) how often points of one class (0 .. classes - 1) have neighbours of another. */
extern mr_code qlt_confusion(const qlt_work *w, int64_t n, int k, const int32_t *index, const int32_t *class, int classes,
							 int at_most, int64_t *pairs, mr_status *st);

/*
 * Local outlier factor (Breunig et al., 2000) of lists of neighbours with their distances (not squared), as
 * scikit-learn's LocalOutlierFactor: about 1 within a cloud, larger where neighbours lie closer to each other.
 * No neighbourhood counts as denser than one whose mean distance is floor times the median of those above 0: without that (0),
 * whatever is near a few equal points is far out.
 */
extern mr_code qlt_outlier_factors(const qlt_work *w, int64_t n, int k, const int32_t *index, const float *distance,
								   double floor, double *factor, mr_status *st);

/* Median + deviations times 1.4826 times the median deviation from it, of the factors' logarithms; and back. */
extern mr_code qlt_outlier_limit(const qlt_work *w, int64_t n, const double *factor, double deviations, double *limit, mr_status *st);

/* One label's points, how many of them were looked at, and the mean of their silhouettes. */
typedef struct qlt_silhouette_row
{
	int32_t		label;
	int64_t		points;
	int64_t		sampled;
	double		silhouette;		/* NaN where none was looked at, or there is but one label */
} qlt_silhouette_row;

/*
 * Silhouettes (Rousseeuw, 1987) of at most sample points, drawn by seed, each with regard to all points.  rows: one a
 * label, ascending, from env; *n_rows of them.
 */
extern mr_code qlt_silhouettes(const qlt_work *w, const qlt_vectors *v, const int32_t *label, int64_t sample, uint64_t seed,
							   qlt_silhouette_row **rows, int64_t *n_rows, mr_status *st);

/* k-means of the learning room: cluster (0 .. k - 1) of each vector. */
extern mr_code qlt_clusters(const qlt_work *w, const qlt_vectors *v, int k, uint64_t seed, int32_t *cluster, mr_status *st);

#endif							/* MILLRACE_QUALITY_LATENT_H */
