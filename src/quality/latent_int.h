/*
 * latent_int.h
 *	  What the files of latent space share and nobody else sees.
 */
#ifndef MILLRACE_QUALITY_LATENT_INT_H
#define MILLRACE_QUALITY_LATENT_INT_H

#include "quality/latent.h"

#define QLT_LANES	16			/* of every vector, whatever the registers hold: sums have one order */
#define QLT_GROUP	32			/* points side by side when distances are measured */
#define QLT_QUERIES	4			/* that meet them at once */
#define QLT_FAR		1e18f		/* where points that only fill a vector are: no force reaches that far */

/* A symmetric sparse matrix: row i is row[i] .. row[i + 1] - 1, a multiple of QLT_LANES, filled with zeros at i. */
typedef struct qlt_edges
{
	int64_t		n;
	int64_t    *row;			/* n + 1 */
	int32_t    *to;
	float	   *p;				/* all of them add up to 1 */
} qlt_edges;

/* ---- kernels: one source, compiled per instruction set, equal bits ---- */

typedef struct qlt_kernels
{
	/* Squared distances of QLT_QUERIES queries (d each) to groups of points x[group][d][QLT_GROUP]; out: queries x stride. */
	void		(*distances) (const float *x, int groups, int d, const float *const *q, float *out, size_t stride);
	/* Which of n distances, a multiple of QLT_GROUP, are below worst: their numbers, ascending; returns how many. */
	int			(*below) (const float *d, int n, float worst, int32_t *at);
	int			(*below_each) (const float *d, const float *limit, int n, int32_t *at);
	/* p = exp(-beta d), their sum and that of p d; k a multiple of 8. */
	void		(*affinities) (const float *d, int k, double beta, double *p, double *sum, double *sum_pd);
	/* Rows from .. to - 1: force[c][i] = sum of p (y_i - y_j) / (1 + |y_i - y_j|^2); y, force: dims x stride. */
	void		(*attract) (const qlt_edges *e, const float *y, size_t stride, int dims, int64_t from, int64_t to, float *force);
	/* Point i and all n (a multiple of QLT_LANES, filled with QLT_FAR): force[c] = sum of (y_i - y_j) q^2; returns
	 * the sum of q = 1 / (1 + |y_i - y_j|^2), i itself among them. */
	double		(*repel) (const float *y, size_t stride, int dims, int64_t n, int64_t i, float *force);
	/* QLT_LANES transforms side by side, x[n][re, im][QLT_LANES], n a power of two from 4 on; turn: n x (cos, -sin).
	 * Returns where the answer is, x or scratch. */
	float	   *(*fft) (float *x, float *scratch, int n, const float *turn, bool inverse);
	/* A strip of a spectrum times the kernels of t-SNE; see tsne_grid.c. */
	void		(*spectrum) (const float *in, int n, const float *table, float *plus, float *minus, float *z);
	/* Cubic splines: spread n points on the grid, and gather the forces there. */
	void		(*spread) (const float *x, const float *y, int64_t n, const float *origin, float scale, float *grid, size_t width);
	void		(*gather) (const float *x, const float *y, int64_t n, const float *origin, float scale, const float *grid, size_t width,
						   float *fx, float *fy);
} qlt_kernels;

extern const qlt_kernels qlt_kernels_portable;
#if defined(__x86_64__)
extern const qlt_kernels qlt_kernels_avx2;
extern const qlt_kernels qlt_kernels_avx512;
#endif
extern const qlt_kernels *qlt_kernels_for(nn_isa isa);

/* ---- shared by the steps (latent.c) ---- */

extern mr_code qlt_latent_no_memory(mr_status *st);
extern mr_code qlt_latent_canceled(mr_status *st);

/* The vectors feature by feature: col[j], of dims, begins at columns + j x n. */
extern mr_code qlt_columns(const qlt_work *w, const qlt_vectors *v, float *columns, float **col, mr_status *st);

/* About the columns' means, and so that the largest number is 1: distances neither overflow nor vanish. */
extern mr_code qlt_normalise(const qlt_work *w, const qlt_vectors *v, float *out, mr_status *st);

/* A sum in a fixed order. */
static inline float
qlt_sum_lanes(const float *v)
{
	return (((v[0] + v[8]) + (v[4] + v[12])) + ((v[2] + v[10]) + (v[6] + v[14]))) +
		(((v[1] + v[9]) + (v[5] + v[13])) + ((v[3] + v[11]) + (v[7] + v[15])));
}

/* Natural logarithm of a positive number, and the n-th roots of 1: the same on every processor, as libm's need not be. */
extern double qlt_log(double x);
extern void qlt_root_of_unity(int p, int n, double *cosine, double *sine);

/* ---- t-SNE ---- */

/* P of the k nearest neighbours (tsne_affinity.c); index and distance as qlt_neighbours() gives them, reordered. */
extern mr_code qlt_affinities(const qlt_work *w, const qlt_kernels *kernels, int64_t n, int k, double perplexity,
							  int32_t *index, float *distance, qlt_edges *e, mr_status *st);
extern double qlt_affinities_memory(int64_t n, int k);
extern void qlt_edges_free(const mr_env *env, qlt_edges *e);

/* Repulsion by interpolation on a grid (tsne_grid.c), of two dimensions. */
typedef struct qlt_grid qlt_grid;

extern mr_code qlt_grid_begin(const qlt_work *w, const qlt_kernels *kernels, qlt_grid **grid, mr_status *st);
/* force: 2 x stride, as qlt_kernels.repel; *z: the sum over all pairs of different points. */
extern mr_code qlt_grid_repel(qlt_grid *g, const float *y, size_t stride, int64_t n, float *force, double *z, mr_status *st);
extern void qlt_grid_end(qlt_grid *g);
extern double qlt_grid_memory(void);

#endif							/* MILLRACE_QUALITY_LATENT_INT_H */
