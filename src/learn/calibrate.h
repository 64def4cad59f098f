/*
 * calibrate.h
 *	  Scores of a classifier to probabilities, learnt from rows it was not
 *	  trained on: one map for the second of two classes, else one a class
 *	  against the rest, whose values are then divided by their sum.
 */
#ifndef MILLRACE_CALIBRATE_H
#define MILLRACE_CALIBRATE_H

#include "learn/learn_int.h"

/* One map; x and y come from env. */
typedef struct lrn_map
{
	double		a,				/* sigmoid: 1 / (1 + exp(a score + b)) */
				b;
	uint32_t	n;				/* isotonic: points, straight lines between */
	float	   *x;				/* ascending */
	double	   *y;				/* not descending */
} lrn_map;

/* Rows whose classes are known: is this one of the class? */
typedef struct lrn_scored_rows
{
	int64_t		n;
	const float *score;			/* every stride-th number */
	int			stride;
	const int32_t *class_id;
	int32_t		class;
	const float *weight;		/* or NULL */
} lrn_scored_rows;

/* Platt's sigmoid by Newton's method (calibrate_fit.c). */
extern mr_code lrn_fit_sigmoid(const mr_env *env, const lrn_scored_rows *rows, lrn_map *map, mr_status *st);
/* Isotonic regression by pooling adjacent violators; takes 40 bytes a row. */
extern mr_code lrn_fit_isotonic(const mr_env *env, const lrn_scored_rows *rows, lrn_map *map, mr_status *st);

static inline int
lrn_n_maps(int n_classes)
{
	return n_classes == 2 ? 1 : n_classes;
}

/* ---- the section of a file (calibrate_file.c) ---- */

/* Model bytes of a classifier and its maps -> model bytes of both. */
extern mr_code lrn_calibration_add(const mr_env *env, lrn_calibration kind, const lrn_map *map,
								   uint8_t **file, size_t *len, mr_status *st);
/* Is the section well formed?  r holds just it. */
extern mr_code lrn_calibration_check(lrn_reader r, const lrn_info *info, mr_status *st);
/* Append it, checked before, to a prediction file, and say so in its header. */
extern mr_code lrn_calibration_compile(const mr_env *env, lrn_reader r, const lrn_info *info,
									   uint8_t **file, size_t *file_len, mr_status *st);
extern mr_code lrn_calibration_open(const lrn_flat_header *h, lrn_model *m, mr_status *st);

/* ---- training (calibrate.c) ---- */

/* Bytes beyond those of training without it. */
extern double lrn_calibration_memory(const lrn_params *p, int64_t rows, int cols, int n_classes);
/* Train on all rows, then on all but each fold for the scores of that fold. */
extern mr_code lrn_train_calibrated(const mr_env *env, const lrn_params *p, const lrn_matrix *m,
									const lrn_target *t, lrn_report *report,
									uint8_t **file, size_t *len, mr_status *st);

#endif							/* MILLRACE_CALIBRATE_H */
