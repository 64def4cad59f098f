/*
 * kmeans.h
 *	  What the files of k-means share: its data while it is trained.
 */
#ifndef MILLRACE_LEARN_KMEANS_H
#define MILLRACE_LEARN_KMEANS_H

#include "learn/learner.h"

#define LRN_KMEANS_BLOCK	256	/* rows of a partial sum */

typedef struct lrn_kmeans_run
{
	const mr_env *env;
	const lrn_kernels *kernels;
	const float *weight;		/* of rows, or NULL */
	int64_t		n;
	int64_t		groups;			/* of LRN_LANES rows; the last is padded with zeros */
	int			d;
	int			k;
	int			kp;				/* k rounded up to 8 */
	float	   *x;				/* groups x d x LRN_LANES */
	int32_t    *label;			/* of the padded rows; -1 before the first iteration */
	int32_t    *next;
	float	   *score;			/* what a pass gives a row */
	float	   *closest;		/* k-means++: squared distance to the nearest centre so far */
	float	   *trial;			/* k-means++: one of these a candidate, in fours */
	int			trials;
	double	   *centre;			/* k x d */
	double	   *best;			/* k x d: of the best start */
	double	   *sum;			/* k x d: of the rows of each cluster */
	double	   *mass;			/* k: their weight */
	double	   *moved_sum;		/* copies of both that empty clusters change */
	double	   *moved_mass;
	int64_t    *rows_in;		/* k: rows of each cluster */
	float	   *packed;			/* d x kp: centres as kernels read them */
	float	   *half_norm;		/* kp */
	double	   *blocks;			/* sums of a potential by LRN_KMEANS_BLOCK rows */
	double		norms;			/* weighted sum of |x|^2 */
	lrn_rng		rng;
	mr_status  *st;
} lrn_kmeans_run;

static inline double
lrn_kmeans_weight(const lrn_kmeans_run *r, int64_t i)
{
	return r->weight ? (double) r->weight[i] : 1;
}

/* Feature j of row i. */
static inline float
lrn_kmeans_value(const lrn_kmeans_run *r, int64_t i, int j)
{
	return r->x[((size_t) (i / LRN_LANES) * (size_t) r->d + (size_t) j) * LRN_LANES + (size_t) (i % LRN_LANES)];
}

/* Groups whose products take well below 10 ms. */
static inline int64_t
lrn_kmeans_step(const lrn_kmeans_run *r, int columns)
{
	int64_t		work = (int64_t) LRN_LANES * r->d * columns;

	return work < 1000000 ? 1000000 / work : 1;
}

/* Candidates that k-means++ tries for each next centre (kmeans_start.c). */
extern int	lrn_kmeans_trials(int k);
/* Choose the first centres. */
extern mr_code lrn_kmeans_start(lrn_kmeans_run *r);

extern mr_code lrn_kmeans_write(const mr_env *env, int d, int k, const double *mean, const double *scale,
								const double *centre, uint8_t **file, size_t *len, mr_status *st);
extern bool lrn_kmeans_sane(const lrn_info *info);
extern mr_code lrn_kmeans_check(lrn_reader *r, const lrn_info *info, mr_status *st);
extern mr_code lrn_kmeans_compile(const mr_env *env, lrn_reader *r, const lrn_info *info,
								  uint8_t **file, size_t *len, mr_status *st);
extern mr_code lrn_kmeans_open(const lrn_flat_header *h, lrn_model *m, mr_status *st);
extern void lrn_kmeans_predict(const lrn_model *m, const float *rows, int64_t n, float *out);

#endif							/* MILLRACE_LEARN_KMEANS_H */
