/*
 * linear_svm.h
 *	  The linear machine's problem: one class against the rest.
 *
 * minimise  |w|^2 / 2 + b^2 / 2 + sum_i C_i loss(y_i (w.x_i + b)),  y_i = +-1,
 *
 * which is liblinear's and scikit-learn's LinearSVC; without intercept b = 0.
 */
#ifndef MILLRACE_LINEAR_SVM_H
#define MILLRACE_LINEAR_SVM_H

#include "learn/learn_int.h"

typedef struct lsvm_problem
{
	const mr_env *env;
	const lrn_params *params;
	const lrn_matrix *m;
	const int32_t *y;
	const float *weight;		/* of rows, or NULL */
	const lrn_kernels *kernels;
	int			d;
	/* x' = (x - shift) * scale is what the penalty means: raw columns, or
	 * standardised ones */
	double	   *shift;
	double	   *scale;
	double	   *mean;			/* of x, d */
	double	   *deviation;
	/* the class at hand */
	int32_t		class;
	double		positive;		/* C of its rows, and of the others */
	double		negative;
	mr_status  *st;
} lsvm_problem;

/* The solution for x': w (d) and b.  Iterations and convergence are added to the report. */
extern mr_code lsvm_solve_squared(lsvm_problem *p, double *w, double *b, lrn_report *report);
extern mr_code lsvm_solve_hinge(lsvm_problem *p, double *w, double *b, lrn_report *report);

/* Bytes that each takes. */
extern double lsvm_squared_memory(int cols);
extern double lsvm_hinge_memory(int64_t rows, int cols);

#endif							/* MILLRACE_LINEAR_SVM_H */
