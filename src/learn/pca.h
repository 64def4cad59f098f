/*
 * pca.h
 *	  What the files of PCA share.
 */
#ifndef MILLRACE_LEARN_PCA_H
#define MILLRACE_LEARN_PCA_H

#include "learn/learner.h"

/*
 * The k leading components (pca_random.c): mean of each column, values[k]
 * variances in descending order, vectors k x cols of unit length, *total the
 * variance of all columns, which is 0 where nothing varies.
 */
extern mr_code lrn_pca_random(const mr_env *env, const lrn_params *p, const lrn_matrix *m, int k,
							  double *mean, double *values, double *vectors, double *total,
							  int *iterations, mr_status *st);
extern double lrn_pca_random_memory(const lrn_params *p, int64_t rows, int cols);

#endif							/* MILLRACE_LEARN_PCA_H */
