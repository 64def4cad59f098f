/*
 * knn.h
 *	  What the files of nearest neighbours share.
 */
#ifndef MILLRACE_LEARN_KNN_H
#define MILLRACE_LEARN_KNN_H

#include "learn/learner.h"

/* Numbers of all points together: a pass over them stays below 10 ms. */
#define LRN_KNN_NUMBERS		16777216

/* A model's points, as training hands them over; arrays are the caller's. */
typedef struct lrn_points
{
	lrn_info	info;
	int			metric;			/* lrn_metric */
	int			weights;		/* lrn_neighbour_weights */
	int			n_neighbors;
	int64_t		rows;
	const double *shift;		/* features */
	const double *scale;
	const lrn_matrix *m;		/* the rows, not yet shifted and scaled */
	const lrn_target *t;
} lrn_points;

extern mr_code lrn_knn_write(const mr_env *env, const lrn_points *k, size_t limit, uint8_t **file,
							 size_t *len, mr_status *st);
extern bool lrn_knn_sane(const lrn_info *info);
extern mr_code lrn_knn_check(lrn_reader *r, const lrn_info *info, mr_status *st);
extern mr_code lrn_knn_compile(const mr_env *env, lrn_reader *r, const lrn_info *info,
							   uint8_t **file, size_t *len, mr_status *st);
extern mr_code lrn_knn_open(const lrn_flat_header *h, lrn_model *m, mr_status *st);
extern double lrn_knn_row_ns(const lrn_model *m);
extern void lrn_knn_predict(const lrn_model *m, const float *rows, int64_t n, float *out);

#endif							/* MILLRACE_LEARN_KNN_H */
