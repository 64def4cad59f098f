/*
 * svm.h
 *	  The RBF machine's parts: rows of the kernel matrix and the solver of one
 *	  pair of classes.
 */
#ifndef MILLRACE_SVM_H
#define MILLRACE_SVM_H

#include "learn/learn_int.h"

#define SVM_PAD(n)	(((size_t) (n) + LRN_TILE - 1) & ~(size_t) (LRN_TILE - 1))

/*
 * The most recently used rows of the kernel matrix (svm_cache.c), in memory of
 * the caller.  A slot holds one row of stride floats.
 */
typedef struct svm_cache
{
	float	   *pool;
	size_t		floats;			/* of the pool */
	size_t		stride;
	int			n_slots;		/* that fit, at least 2 */
	int			used;
	int32_t    *slot_of;		/* by row, -1 = absent */
	int32_t    *row_of;			/* by slot */
	int32_t    *older;			/* by slot; ends with -1 */
	int32_t    *newer;
	int32_t    *moved;			/* by slot, while compacting */
	int32_t		newest;
	int32_t		oldest;
} svm_cache;

/* Empty, for rows of n numbers. */
extern void svm_cache_reset(svm_cache *c, int n);
/* The row's place, now the newest; *fresh: it has to be computed. */
extern float *svm_cache_row(svm_cache *c, int row, bool *fresh);
/* Keep of each row, and of the rows themselves, only keep[0 .. n - 1] (ascending). */
extern void svm_cache_compact(svm_cache *c, const int32_t *keep, int n);

/*
 * The dual of one pair: minimise a'Qa / 2 - sum a, 0 <= a_i <= C_i, y'a = 0,
 * Q_ij = y_i y_j K_ij.  Rows with y = +1 come first.  Arrays are the caller's
 * (svm_buffers), as long as the longest pair padded to tiles.
 */
typedef struct svm_problem
{
	const mr_env *env;
	const lrn_kernels *kernels;
	lrn_progress progress;
	void	   *progress_arg;
	int			n;
	int			n_positive;
	int			d;
	double		tol;
	int64_t		max_iter;		/* 0 = no limit */
	float	   *tiles;			/* all rows */
	float	   *near;			/* the active ones */
	float	   *x;				/* d: one row */
	float	   *row;			/* a kernel row that is not cached */
	double	   *a;				/* by row: the solution */
	double	   *C;				/* by row */
	double	   *f;				/* by active row: sum_j y_j a_j K - y */
	double	   *f_all;			/* by row, while rows are brought back */
	float	   *up;				/* by active row: 0, or -inf: may not go up */
	float	   *low;			/* by active row: 0, or inf: may not go down */
	int32_t    *active;			/* ascending */
	int32_t    *keep;
	svm_cache	cache;
	/* result */
	double		rho;
	int64_t		iterations;
	bool		converged;
} svm_problem;

extern mr_code svm_solve(svm_problem *p, mr_status *st);

/* ---- files (svm_file.c) ---- */

/* What svm_write() writes; rows by class, coefficients against other classes. */
typedef struct svm_parts
{
	const double *mean;
	const double *scale;
	const double *rho;
	const uint32_t *count;		/* support vectors a class */
	float	   *const *col;		/* the matrix */
	const int32_t *row;			/* n_rows: their rows in it, class by class */
	int64_t		n_rows;
	const float *coef;			/* n_rows x (n_classes - 1) */
} svm_parts;

/* A value in the kernel's coordinates; so far out, all is 0 anyway. */
static inline float
svm_coordinate(float x, double mean, double scale)
{
	double		v = ((double) x - mean) * scale;

	return (float) (v > LRN_SVM_FAR ? LRN_SVM_FAR : v < -LRN_SVM_FAR ? -LRN_SVM_FAR : v);
}

static inline bool
svm_is_support(const float *coef, int n_classes)
{
	for (int o = 0; o < n_classes - 1; o++)
		if (coef[o] != 0)
			return true;
	return false;
}

extern mr_code svm_write(const mr_env *env, const lrn_info *info, const svm_parts *s,
						 uint8_t **file, size_t *len, mr_status *st);
extern bool svm_is_sane(const lrn_info *info);
extern mr_code svm_check(lrn_reader *r, const lrn_info *info, mr_status *st);
extern mr_code svm_compile(const mr_env *env, lrn_reader *r, const lrn_info *info,
						   uint8_t **file, size_t *file_len, mr_status *st);
extern mr_code svm_open(const lrn_flat_header *h, lrn_model *m, mr_status *st);
extern double svm_row_ns(const lrn_model *m);
extern void svm_predict(const lrn_model *m, const float *rows, int64_t n, float *out);

#endif							/* MILLRACE_SVM_H */
