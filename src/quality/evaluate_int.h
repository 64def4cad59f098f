/*
 * evaluate_int.h
 *	  What evaluate.c and evaluate_curves.c share.
 */
#ifndef MILLRACE_QUALITY_EVALUATE_INT_H
#define MILLRACE_QUALITY_EVALUATE_INT_H

#include "quality/evaluate.h"

/* A guess of the class at hand. */
typedef struct qlt_seen
{
	float		score;
	int32_t		rank;			/* within its image */
	int32_t		order;			/* keeps the sort stable */
	uint16_t	matched[QLT_AREAS];
	uint16_t	ignored[QLT_AREAS];
} qlt_seen;

/* Sums over classes at a confidence. */
#define QLT_GRID 1000

typedef struct qlt_grid
{
	double		precision;
	double		recall;
	double		f1;
} qlt_grid;

/* A class's guesses, the most confident first, at one threshold: precision by
 * recall and recall of range `area`, into out; precision and recall have room for n. */
extern void qlt_accumulate(const qlt_seen *s, int64_t n, int64_t n_truth, int area, int k, qlt_precision *out,
						   double *precision, double *recall);

/* What is said of the curve at IoU 0.50: confidence along it, and its best point. */
extern void qlt_best_point(const qlt_seen *s, int64_t n, int64_t n_truth, int area, qlt_precision *out);

/* Mean recall over the thresholds with the best so many of each image. */
extern double qlt_recall_of_few(const qlt_seen *s, int64_t n, int64_t n_truth, int area, int few);

/* Adds a class's figures at each confidence of the grid to those of the others. */
extern void qlt_add_to_grid(const qlt_seen *s, int64_t n, int64_t n_truth, qlt_grid *sum);

/* Means of the classes that have objects, of e->at into e->mean. */
extern void qlt_average(qlt_evaluation *e, const qlt_grid *sum);

#endif							/* MILLRACE_QUALITY_EVALUATE_INT_H */
