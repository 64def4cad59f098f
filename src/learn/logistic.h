/*
 * logistic.h
 *	  What the files of logistic regression share: the problem being solved.
 */
#ifndef MILLRACE_LEARN_LOGISTIC_H
#define MILLRACE_LEARN_LOGISTIC_H

#include "learn/learner.h"

typedef struct lrn_logistic
{
	const mr_env *env;
	const lrn_matrix *m;
	const int32_t *y;
	const float *row_weight;	/* or NULL */
	const lrn_kernels *kernels;
	int			k;				/* rows of weights: 1 or n_classes */
	int			d;
	bool		intercept;
	double		sum_weight;		/* S */
	const double *class_weight; /* by class id */
	double	   *mean;			/* d; zero without intercept */
	double	   *scale;			/* d */
	double	   *penalty;		/* d: factor of u^2 / (2 S) */
	double	   *w;				/* k x d: weights for raw columns */
	double	   *b;				/* k: intercepts for raw columns */
	double	   *grad;			/* k x (d + 1) */
	double	   *scratch;		/* k x LRN_BLOCK */
	float	  **tail;			/* d columns of the last, padded block */
	int64_t		tail_first;		/* its first row */
	struct lrn_hessian *hessian;	/* filled beside the gradient, or NULL */
	mr_status  *st;
} lrn_logistic;

/* Value and gradient at u: k x d weights, then k intercepts if there are any. */
extern mr_code lrn_logistic_value(void *p, const double *u, double *f, double *g);

/* Second derivatives while the rows go by (logistic_newton.c). */
typedef struct lrn_hessian
{
	double	   *share;			/* k x LRN_BLOCK: weight times probability */
	double	   *z;				/* d + 1 vectors of a block: centred columns, ones */
	double	   *hz;				/* the same times a curvature */
	double	   *h;				/* LRN_BLOCK: that curvature */
	double	   *inverse;		/* LRN_BLOCK: 1 / weight */
	double	   *pair;			/* k (k + 1) / 2 of ld x ld: sums for pairs of classes */
	size_t		ld;				/* lrn_padded(d + 1) */
	double	   *matrix;			/* unknowns x lrn_padded(unknowns) */
	void	   *memory;
} lrn_hessian;

/* A block's share is there: add its rows, from row first of col on. */
extern mr_code lrn_hessian_add(const lrn_logistic *p, float *const *col, int64_t first, int64_t row, int n);

/* Newton's method by Cholesky's factor; parameters as lrn_lbfgs()'s. */
extern mr_code lrn_logistic_newton(lrn_logistic *p, size_t n, double *u, const lrn_params *params,
								   lrn_report *report);
extern double lrn_newton_memory(int k, int d);

#endif							/* MILLRACE_LEARN_LOGISTIC_H */
